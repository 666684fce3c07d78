//! Numbers for people.

/// At most so many digits that count: `0.022`, `1.5e-5`.
pub(in crate::cli) fn digits(x: f64, count: usize) -> String {
    let rounded: f64 = format!("{x:.*e}", count.saturating_sub(1)).parse().unwrap_or(x);
    let plain = x == 0.0 || (1e-3..1e5).contains(&rounded.abs()) || !x.is_finite();
    if plain { format!("{rounded}") } else { format!("{rounded:e}") }
}

/// `12,000`.
pub(in crate::cli) fn steps(n: u64) -> String {
    let digits = n.to_string();
    let comma = |i: usize| i > 0 && (digits.len() - i).is_multiple_of(3);
    digits.char_indices().flat_map(|(i, d)| comma(i).then_some(',').into_iter().chain([d])).collect()
}

/// A share as `6.1 %`.
pub(in crate::cli) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let said =
            [0.0, 0.1, 0.02199999, 1e-4, 1.54321e-5, 10.0, 99999.0, 123_456.0, -0.5].map(|x| digits(x, 3));
        assert_eq!(said, ["0", "0.1", "0.022", "1e-4", "1.54e-5", "10", "1e5", "1.23e5", "-0.5"]);
        assert_eq!(digits(f64::NAN, 3), "NaN");
        assert_eq!([0, 999, 1000, 1_234_567].map(steps), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(0.0614), "6.1 %");
    }
}
