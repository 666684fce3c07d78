//! Every public function and type has an example in its documentation; `cargo test --doc` runs them.

use std::{fs, path::Path};

const PUBLIC: [&str; 5] = ["pub fn ", "pub async fn ", "pub struct ", "pub enum ", "pub trait "];

/// Where there is none, as (line, item).
fn without_example(source: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut example = false;
    for (number, line) in source.lines().enumerate() {
        let line = line.trim_start();
        if let Some(doc) = line.strip_prefix("///") {
            example |= doc.trim_start().starts_with("```");
        } else if PUBLIC.iter().any(|item| line.starts_with(item)) {
            if !example {
                found.push((number + 1, line));
            }
            example = false;
        } else if line.is_empty() {
            example = false;
        }
    }
    found
}

fn check(folder: &Path, checked: &mut usize) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check(&path, checked);
        } else {
            let source = fs::read_to_string(&path).unwrap();
            assert_eq!(without_example(&source), [], "{}: write examples for these", path.display());
            *checked += PUBLIC.iter().map(|item| source.matches(item).count()).sum::<usize>();
        }
    }
}

#[test]
fn every_public_item_has_an_example() {
    let mut checked = 0;
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut checked);
    assert!(checked > 80, "only {checked} items were found");
}

#[test]
fn one_without_is_found() {
    let source = "/// A.\n///\n/// ```\n/// ```\npub fn a() {}\n\n/// B.\n#[must_use]\npub struct B;\n";
    assert_eq!(without_example(source), [(9, "pub struct B;")]);
}
