//! What the commands of `autolrs jobs` print: tables for people, JSON and CSV for programs.

use autolrs_proto::v1::{PaperPolicy, ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    server::{Server, binary},
    trainer::{Model, advance, open, spec},
};
use serde_json::Value;
use std::process::{Command, Stdio};

/// `autolrs jobs ARGS`: exit code, stdout and stderr.
async fn jobs(server: &Server, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(binary());
    command.arg("jobs").args(args).args(["--server", &server.url()]).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output().expect("the binary runs")).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ran.status.code(), text(ran.stdout), text(ran.stderr))
}

/// What a command printed that ended well.
async fn says(server: &Server, args: &[&str]) -> String {
    let (code, out, err) = jobs(server, args).await;
    assert_eq!((code, err.as_str()), (Some(0), ""), "{args:?}");
    out
}

async fn json(server: &Server, args: &[&str]) -> Value {
    let text = says(server, &[args, &["--output", "json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A table as rows of fields, by their names.
fn csv(text: &str) -> Vec<std::collections::BTreeMap<&str, &str>> {
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), head.len(), "{line}");
            head.iter().copied().zip(fields).collect()
        })
        .collect()
}

/// A job of the real server, run to its end.
async fn finished(server: &Server, name: &str, policy: Policy) {
    let opened = open(server, name, spec(1500, policy)).await.unwrap();
    let (mut model, mut directive) = (Model::default(), opened.directive.unwrap());
    while let Some(report) = model.carry_out(name, opened.session, &directive) {
        directive = advance(server, report).await.unwrap().directive.expect("the next directive");
    }
}

async fn with_two_jobs() -> Server {
    let server = Server::start().await;
    finished(&server, "scanned", Policy::Scan(ScanPolicy::default())).await;
    let paper =
        PaperPolicy { tau: Some(100), tau_max: Some(200), candidates: Some(3), ..PaperPolicy::default() };
    finished(&server, "papered", Policy::Paper(paper)).await;
    server
}

#[tokio::test]
async fn json_has_one_shape_everywhere() {
    let server = with_two_jobs().await;
    let list = json(&server, &["list"]).await;
    let names: Vec<_> = list["jobs"].as_array().unwrap().iter().map(|job| job["name"].as_str()).collect();
    assert_eq!(names, [Some("papered"), Some("scanned")]);
    let mut shown = json(&server, &["show", "scanned"]).await;
    let stages = json(&server, &["stages", "scanned"]).await;
    assert_eq!(shown["stages"], stages["stages"]);
    shown.as_object_mut().unwrap().remove("stages");
    assert_eq!(shown, list["jobs"][1]);
    let watched = says(&server, &["watch", "scanned", "--output", "json"]).await;
    assert_eq!(
        (watched.lines().count(), serde_json::from_str::<Value>(&watched).unwrap()),
        (1, shown.clone())
    );
    assert_eq!(json(&server, &["cancel", "scanned"]).await, shown, "a job that has ended stays as it is");
    assert_eq!((shown["state"].as_str(), shown["total_steps"].as_u64()), (Some("finished"), Some(1500)));
    let steps = &shown["steps"];
    let overhead = steps["search"].as_f64().unwrap() / 1500.0;
    assert_eq!(shown["overhead"].as_f64(), Some(overhead));
    let deleted = json(&server, &["delete", "scanned"]).await;
    assert_eq!(deleted, serde_json::json!({ "name": "scanned", "deleted": true }));
}

#[tokio::test]
async fn csv_has_the_numbers_of_json() {
    let server = with_two_jobs().await;
    let text = says(&server, &["list", "--output", "csv"]).await;
    let (rows, jobs) = (csv(&text), json(&server, &["list"]).await);
    for (row, job) in rows.iter().zip(jobs["jobs"].as_array().unwrap()) {
        assert_eq!((Some(row["name"]), Some(row["state"])), (job["name"].as_str(), job["state"].as_str()));
        assert_eq!(row["lr"].parse().ok(), job["lr"].as_f64());
        assert_eq!(row["search"].parse().ok(), job["steps"]["search"].as_u64());
    }
    assert_eq!(rows.len(), 2);
    let text = says(&server, &["stages", "papered", "--output", "csv"]).await;
    let (rows, stages) = (csv(&text), json(&server, &["stages", "papered"]).await);
    let trials: Vec<_> = stages["stages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|stage| stage["trials"].as_array().unwrap().iter().map(move |trial| (stage, trial)))
        .collect();
    let rows: Vec<_> = rows.iter().filter(|row| !row["trial"].is_empty()).collect();
    assert!(rows.len() == trials.len() && rows.len() > 3);
    for (row, (stage, trial)) in rows.iter().zip(trials) {
        let both =
            |field: &str, value: &Value| assert_eq!(row[field].parse().ok(), value.as_f64(), "{field}");
        both("stage", &stage["stage"]);
        both("forecast", &stage["forecast"]);
        both("lr", &trial["lr"]);
        both("score", &trial["score"]);
    }
}

#[tokio::test]
async fn what_people_read_is_plain_in_a_pipe_and_fits_80_columns() {
    let server = with_two_jobs().await;
    for args in [
        &["list"][..],
        &["show", "papered"],
        &["stages", "papered"],
        &["stages", "scanned"],
        &["watch", "scanned"],
    ] {
        let text = says(&server, args).await;
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{args:?}: {text:?}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{args:?}: {text}");
    }
    let list = says(&server, &["list"]).await;
    assert!(list.starts_with("NAME     STATE     POLICY"), "{list}");
    let show = says(&server, &["show", "papered"]).await;
    assert!(show.contains("\nsteps       1,500 of 1,500 steps: ") && show.contains("\nSTAGE "), "{show}");
}

#[tokio::test]
async fn a_terminal_gets_colours_unless_it_does_not_want_them() {
    let server = with_two_jobs().await;
    let url = server.url();
    // `script` of util-linux gives the command a terminal.
    let on_terminal = async |no_color: &str| {
        let line = format!("{} jobs list --server {url}", binary().display());
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env("NO_COLOR", no_color)
            .stdin(Stdio::null());
        let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        String::from_utf8(ran.expect("script is there").stdout).unwrap()
    };
    assert!(on_terminal("").await.contains("\u{1b}[32mfinished\u{1b}[0m"));
    let plain = on_terminal("1").await;
    assert!(plain.contains("finished") && !plain.contains('\u{1b}'), "{plain:?}");
}

#[tokio::test]
async fn every_command_tells_its_exit_codes_and_uses_them() {
    let mut server = Server::start().await;
    for command in ["list", "show", "stages", "watch", "plot", "export", "cancel", "finish", "delete"] {
        let (code, out, _) = jobs(&server, &[command, "--help"]).await;
        assert!(code == Some(0) && out.contains("Exit codes:\n  0   done\n"), "{command}: {out}");
        if command != "list" {
            let file = if command == "plot" { &["-o", "a.svg"][..] } else { &[] };
            let (code, out, err) = jobs(&server, &[&[command, "nobody"], file].concat()).await;
            assert_eq!((code, out.as_str()), (Some(1), ""), "{command}");
            assert!(err.lines().count() == 1 && err.contains("[JOB_NOT_FOUND]"), "{command}: {err}");
        }
    }
    let (code, _, err) = jobs(&server, &["list", "--output", "xml"]).await;
    assert!(code == Some(64) && err.contains("table"), "{err}");
    server.kill();
    let (code, _, err) = jobs(&server, &["list"]).await;
    assert!(code == Some(1) && err.contains("is `autolrs serve` running there?"), "{err}");
}
