//! What a word that nobody knows may have been meant to be.

/// Likeness from 0 to 1 (Jaro-Winkler) from which on a word is worth asking about.
const LIKE: f64 = 0.85;

/// The known word that is most like this one; none: all are too different.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &'a str| (strsim::jaro_winkler(&word.to_ascii_lowercase(), other), other);
    let best = known.into_iter().map(likeness).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKE).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["listen", "http_listen", "data_dir", "max_message"];
        for (word, meant) in [
            ("lisen", Some("listen")),
            ("DATADIR", Some("data_dir")),
            ("max_message_bytes", Some("max_message")),
            ("http", Some("http_listen")),
            ("x", None),
            ("", None),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
    }
}
