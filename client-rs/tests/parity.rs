//! The blocking session has every method of the async one.

use std::{collections::BTreeSet, fs, path::Path};

fn methods<'a>(source: &'a str, start: &str) -> BTreeSet<&'a str> {
    let lines = source.lines().filter_map(|line| line.trim_start().strip_prefix(start));
    lines.map(|line| line.split(['(', '<']).next().unwrap_or_default()).collect()
}

#[test]
fn what_the_async_session_has_the_blocking_one_has_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let source = |file| fs::read_to_string(folder.join(file)).unwrap();
    let (waiting, blocking) = (source("transport/session.rs"), source("blocking.rs"));
    let (waiting, blocking) = (methods(&waiting, "pub async fn "), methods(&blocking, "pub fn "));
    assert!(waiting.contains("open") && waiting.contains("train"), "{waiting:?}");
    assert_eq!(waiting.difference(&blocking).collect::<Vec<_>>(), Vec::<&&str>::new());
}
