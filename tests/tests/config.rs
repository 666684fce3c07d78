//! `autolrs config`: what is wrong is said at once, what is in force with who set it; the example file is the defaults.

use autolrs_tests::server::binary;
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// `autolrs ARGS` with these variables and no others of ours: exit code, stdout, stderr.
fn autolrs(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUTOLRS_")) {
        command.env_remove(name);
    }
    let ran = command.args(args).envs(env.iter().copied()).stdin(Stdio::null()).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

fn prints(args: &[&str], env: &[(&str, &str)]) -> String {
    let (code, out, err) = autolrs(args, env);
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
    let (code, out, err) = autolrs(&args, &env);
    assert_eq!((code, out.as_str()), (Some(64), ""), "{err}");
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
    assert_eq!(autolrs(&serve, &env), (code, out, err));
    let (code, _, err) = autolrs(&["config", "check", "--lisen", "x"], &[]);
    assert_eq!(code, Some(64));
    assert!(err.contains("'--listen'"), "a flag is asked about too: {err}");
    assert_eq!(prints(&["config", "check"], &[]), "the configuration is usable\n");
}

#[test]
fn print_says_who_set_what_and_its_toml_is_the_same_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("autolrs.toml");
    fs::write(&file, "# mine\n\ndata_dir = \"a \\\"b\\\"\"\nidle = \"5m\"\nmailbox = 1_0\n").unwrap();
    let args = ["--config", file.to_str().unwrap(), "--drain", "3s", "--insecure"];
    let env = [("AUTOLRS_IDLE", "1h 5m"), ("AUTOLRS_SERVER", "http://elsewhere:1")];
    let found = settings(&args, &env);
    let path = file.to_str().unwrap();
    for (key, value, origin) in [
        ("data_dir", json!("a \"b\""), json!({ "kind": "file", "path": path, "line": 3 })),
        ("mailbox", json!(10), json!({ "kind": "file", "path": path, "line": 5 })),
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
