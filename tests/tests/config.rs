//! `autolrs config`: what is wrong is said at once, what is in force with who set it; the example file is the defaults.

use autolrs_tests::command::{Ran, autolrs_with};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

fn prints(args: &[&str], env: &[(&str, &str)]) -> String {
    let Ran { code, out, err } = autolrs_with(args, env);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
    out
}

/// The settings of `config print --output json` by key.
fn settings(args: &[&str], env: &[(&str, &str)]) -> serde_json::Map<String, Value> {
    let text = prints(&[&["config", "print", "--output", "json"], args].concat(), env);
    let printed: Value = serde_json::from_str(&text).expect("JSON");
    let all = printed["settings"].as_array().expect("a list");
    all.iter().map(|one| (one["key"].as_str().unwrap().to_owned(), one.clone())).collect()
}

#[test]
fn check_says_everything_that_is_wrong_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("autolrs.toml");
    fs::write(
        &file,
        "lisen = \"127.0.0.1:1\"\ndrain = 20\nmax_jobs = 0\nmailbox = \n[limits]\nidle = \"1s\"\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let env = [("AUTOLRS_DATADIR", "/tmp"), ("AUTOLRS_MAX_MESSAGE", "1TiB")];
    let args = ["config", "check", "--config", file, "--listen", "0.0.0.0:7461", "--log-level", "a=b=c"];
    let ran = autolrs_with(&args, &env);
    let err = &ran.err;
    assert_eq!((ran.code, ran.out.as_str()), (Some(64), ""), "{err}");
    let expected = [
        format!("config is not TOML at {file}:4: "),
        format!("lisen is not a key of this version (in {file}:1); did you mean listen?"),
        format!("limits is not a key of this version (in {file}:5)"),
        "AUTOLRS_DATADIR is not a variable of this version; did you mean AUTOLRS_DATA_DIR?".into(),
        "listen is beyond loopback (0.0.0.0:7461)".into(),
        "log_level must be ".into(),
        "max_message must be a size with its unit from 64KiB to 64MiB, such as 4MiB, is \"1TiB\" (from AUTOLRS_MAX_MESSAGE)"
            .into(),
        format!("max_jobs must be a whole number from 1 to 10000000, is \"0\" (from {file}:3)"),
        format!("drain must be a duration with its unit from 0s to 10m, such as 20s, is \"20\" (from {file}:2)"),
    ];
    for line in &expected {
        assert!(err.contains(line.as_str()), "{line:?} is not in {err}");
    }
    assert_eq!(err.lines().count(), 1 + expected.len(), "{err}");
    // The server says the same and does not start.
    let serve = [&["serve"], &args[2..]].concat();
    assert_eq!(autolrs_with(&serve, &env), ran);
    let ran = autolrs_with(&["config", "check", "--lisen", "x"], &[]);
    assert!(ran.code == Some(64) && ran.err.contains("'--listen'"), "a flag is asked about too: {ran:?}");
    assert_eq!(prints(&["config", "check"], &[]), "the configuration is usable\n");
}

#[test]
fn print_says_who_set_what_and_its_toml_is_the_same_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("autolrs.toml");
    fs::write(&file, "# mine\n\ndata_dir = \"a \\\"b\\\"\"\nidle = \"5m\"\nmailbox = 1_0\n").unwrap();
    let args = ["--config", file.to_str().unwrap(), "--drain", "3s", "--insecure"];
    let env = [
        ("AUTOLRS_IDLE", "1h 5m"),
        ("AUTOLRS_SERVER", "http://elsewhere:1"),
        // No number of TOML or JSON, but one of ours.
        ("AUTOLRS_MAX_JOBS", "064"),
    ];
    let found = settings(&args, &env);
    let path = file.to_str().unwrap();
    for (key, value, origin) in [
        ("data_dir", json!("a \"b\""), json!({ "kind": "file", "path": path, "line": 3 })),
        ("mailbox", json!(10), json!({ "kind": "file", "path": path, "line": 5 })),
        ("max_jobs", json!(64), json!({ "kind": "variable", "name": "AUTOLRS_MAX_JOBS" })),
        ("idle", json!("1h 5m"), json!({ "kind": "variable", "name": "AUTOLRS_IDLE" })),
        ("drain", json!("3s"), json!({ "kind": "flag", "name": "--drain" })),
        ("insecure", json!(true), json!({ "kind": "flag", "name": "--insecure" })),
        ("log_format", json!("text"), json!({ "kind": "default" })),
    ] {
        assert_eq!(found[key], json!({ "key": key, "value": value, "origin": origin }));
    }

    let table = prints(&[&["config", "print"][..], &args].concat(), &env);
    assert_eq!(table.lines().count(), 1 + found.len(), "a line each:\n{table}");
    let idle: Vec<_> =
        table.lines().find(|line| line.starts_with("idle ")).unwrap().split_whitespace().collect();
    assert_eq!(idle, ["idle", "1h", "5m", "AUTOLRS_IDLE"]);

    let toml = prints(&[&["config", "print", "--output", "toml"][..], &args].concat(), &env);
    let copy = folder.path().join("copy.toml");
    fs::write(&copy, toml).unwrap();
    let values = |found: &serde_json::Map<String, Value>| -> Vec<Value> {
        found.values().map(|setting| setting["value"].clone()).collect()
    };
    let again = settings(&["--config", copy.to_str().unwrap()], &[]);
    assert_eq!(values(&again), values(&found));
    assert!(again.values().all(|setting| setting["origin"]["kind"] == "file"), "{again:?}");
}

#[test]
fn the_example_file_has_every_key_with_its_default() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config.example.toml");
    let example = fs::read_to_string(example).unwrap();
    let is_setting = |line: &&str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let in_force: Vec<_> =
        example.lines().filter_map(|line| line.strip_prefix("# ")).filter(is_setting).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("autolrs.toml");
    fs::write(&file, in_force.join("\n")).unwrap();
    let (defaults, found) = (settings(&[], &[]), settings(&["--config", file.to_str().unwrap()], &[]));
    for (key, default) in &defaults {
        assert_eq!(found[key]["origin"]["kind"], "file", "{key} is not in the example");
        assert_eq!(found[key]["value"], default["value"], "{key}");
    }
}

/// Names that only tests of unknown names use.
const INVENTED: [&str; 3] = ["AUTOLRS_DATADIR", "AUTOLRS_TYPO", "AUTOLRS_X"];

/// Every variable of ours that a text file here names.
fn variables(place: &Path, found: &mut BTreeSet<String>) {
    if place.is_dir() {
        for entry in fs::read_dir(place).unwrap().map(|entry| entry.unwrap()) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with('.') && !["target", "node_modules"].contains(&&*name) {
                variables(&entry.path(), found);
            }
        }
        return;
    }
    let Ok(text) = fs::read_to_string(place) else { return };
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    for (at, _) in text.match_indices("AUTOLRS_").filter(|(at, _)| !text[..*at].ends_with(is_name)) {
        let rest = &text[at..];
        let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        if !name.ends_with('_') && !INVENTED.contains(&name) {
            found.insert(name.to_owned());
        }
    }
}

#[test]
fn every_variable_that_is_named_anywhere_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeSet::new();
    for place in
        ["Makefile", "README.md", "deploy", "proto", "client-rs", "python-client", "server", "tests", ".ci"]
    {
        variables(&root.join(place), &mut found);
    }
    for name in ["AUTOLRS_DATA_DIR", "AUTOLRS_JOB", "AUTOLRS_TEST_DEVICE"] {
        assert!(found.contains(name), "{name} is not in {found:?}");
    }
    let env: Vec<_> = found.iter().map(|name| (name.as_str(), "?")).collect();
    let ran = autolrs_with(&["config", "check", "--config", "/nonexistent"], &env);
    let unknown: Vec<_> =
        ran.err.lines().filter(|line| line.contains("is not a variable of this version")).collect();
    assert!(ran.code == Some(64) && unknown.is_empty(), "{unknown:?}");
}
