//! Durations and sizes as people write them. The unit is never left out: a bare number could mean anything.

use bytesize::ByteSize;
use std::{ops::RangeInclusive, time::Duration};

/// `20s`, `1h 30m`, `500ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    if is_bare(text) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// `64KiB`, `4MiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    if is_bare(text) {
        return None;
    }
    text.parse::<ByteSize>().ok().map(|size| size.as_u64())
}

/// What is accepted, for the error message.
pub(super) fn durations(range: &RangeInclusive<Duration>, example: &str) -> String {
    let [least, most] = [range.start(), range.end()].map(|&limit| humantime::format_duration(limit));
    format!("a duration with its unit from {least} to {most}, such as {example}")
}

/// What is accepted, for the error message.
pub(super) fn sizes(range: &RangeInclusive<u64>, example: &str) -> String {
    let [least, most] = [range.start(), range.end()].map(|&limit| match limit {
        limit if limit >= 1 << 50 => format!("{}PiB", limit >> 50),
        limit if limit >= 1 << 20 => format!("{}MiB", limit >> 20),
        limit => format!("{}KiB", limit >> 10),
    });
    format!("a size with its unit from {least} to {most}, such as {example}")
}

fn is_bare(text: &str) -> bool {
    text.chars().next_back().is_none_or(|last| !last.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_asked_for() {
        for (text, seconds) in [("20s", 20), ("1h 30m", 5400), ("10m", 600), ("1day", 86_400), ("0s", 0)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        for text in ["20", "", "s", "soon", "-1s", "1e3s", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!(
            [bytes("64KiB"), bytes("4MiB"), bytes("4 MiB")],
            [Some(65_536), Some(4 << 20), Some(4 << 20)]
        );
        for text in ["4194304", "", "MiB", "4 MiBs", "-1KiB", "lots"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn the_ranges_read_well() {
        let seconds = Duration::from_secs;
        assert_eq!(
            durations(&(seconds(1)..=seconds(600)), "30s"),
            "a duration with its unit from 1s to 10m, such as 30s"
        );
        assert_eq!(
            sizes(&(65_536..=64 << 20), "4MiB"),
            "a size with its unit from 64KiB to 64MiB, such as 4MiB"
        );
        assert_eq!(
            sizes(&(64 << 20..=1 << 50), "1GiB"),
            "a size with its unit from 64MiB to 1PiB, such as 1GiB"
        );
    }
}
