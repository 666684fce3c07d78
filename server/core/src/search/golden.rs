//! Golden section search (Kiefer 1953): the least value of a function of one variable inside an interval.

/// (sqrt 5 - 1) / 2: the share of the interval that each step keeps.
const KEPT: f64 = 0.618_033_988_749_894_9;

/// A point and the function's value there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minimum {
    /// Where.
    pub x: f64,
    /// The value; infinite if no point had a number.
    pub value: f64,
}

/// The best point that `steps + 2` evaluations in [lo, hi] meet; the interval shrinks to 0.618^steps of its width.
/// It is the minimum if the function falls, then rises. NaN counts as infinite.
pub fn minimize(mut f: impl FnMut(f64) -> f64, lo: f64, hi: f64, steps: u32) -> Minimum {
    let mut at = |x: f64| {
        let value = f(x);
        Minimum { x, value: if value.is_nan() { f64::INFINITY } else { value } }
    };
    let (mut lo, mut hi) = (lo, hi);
    let mut left = at(hi - KEPT * (hi - lo));
    let mut right = at(lo + KEPT * (hi - lo));
    let mut best = if right.value < left.value { right } else { left };
    for _ in 0..steps {
        let new = if right.value < left.value {
            lo = left.x;
            left = right;
            right = at(lo + KEPT * (hi - lo));
            right
        } else {
            hi = right.x;
            right = left;
            left = at(hi - KEPT * (hi - lo));
            left
        };
        if new.value < best.value {
            best = new;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_minimum_inside_and_at_either_end() {
        assert!((minimize(|x| (x - 0.3) * (x - 0.3), -1.0, 2.0, 40).x - 0.3).abs() < 1e-7);
        assert!((minimize(|x| x, -1.0, 2.0, 40).x + 1.0).abs() < 1e-7);
        assert!((minimize(|x| -x, -1.0, 2.0, 40).x - 2.0).abs() < 1e-7);
    }

    #[test]
    fn nan_is_never_the_best() {
        let f = |x: f64| if x > 0.5 { f64::NAN } else { -x };
        assert!((minimize(f, 0.0, 1.0, 40).x - 0.5).abs() < 1e-6);
        assert_eq!(minimize(|_| f64::NAN, 0.0, 1.0, 5).value, f64::INFINITY);
    }
}
