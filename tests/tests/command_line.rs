//! What the binary says of itself: its version, its manual, completions, and exit codes that are those it promises.

use autolrs_tests::{
    command::{Ran, autolrs},
    server::Server,
};
use std::{
    fs,
    io::Write,
    net::TcpListener,
    process::{Command, Stdio},
};

async fn says(args: &[&str]) -> String {
    let ran = autolrs(args).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    ran.out
}

/// The codes in the help, with what they mean.
fn promised(help: &str) -> Vec<i32> {
    let (_, table) = help.split_once("Exit codes:\n").expect("a table");
    table.lines().map_while(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

#[tokio::test]
async fn every_exit_code_that_is_promised_is_met() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let foreign = sled::open(folder.path().join("foreign/sled")).unwrap();
    foreign.insert("mine", "not a job").unwrap();
    drop(foreign);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--http-listen", "off", "--data-dir"];
    let met = [
        autolrs(["--version"]).await,
        autolrs(["health", "--server", "http://127.0.0.1:1"]).await,
        autolrs(["serve", "--drain", "soon"]).await,
        autolrs([&serve[..], &[&path("foreign")]].concat()).await,
        autolrs(["serve", "--listen", &port, "--data-dir", &path("new")]).await,
        // Nobody can write there: the machine fails it.
        to_a_full_device(&["config", "print"]),
    ];
    let codes: Vec<_> = met.iter().map(|ran| ran.code.expect("no signal")).collect();
    let help = says(&["--help"]).await;
    assert_eq!(codes, promised(&help), "{met:?}");
    assert_eq!(promised(&says(&["jobs", "list", "--help"]).await), codes, "in the help of every command");
    let manual = says(&["man"]).await;
    let (_, section) = manual.split_once(".SH \"EXIT STATUS\"").expect("a section");
    for code in codes {
        assert!(section.contains(&format!("\\fB{code}\\fR")), "{code} is not in {section}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for args in [&["config", "print"][..], &["man"], &["conformance", "--list"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ran = printing_to(writer, args);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

fn to_a_full_device(args: &[&str]) -> Ran {
    printing_to(fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"), args)
}

fn printing_to(stdout: impl Into<Stdio>, args: &[&str]) -> Ran {
    let mut command = Command::new(autolrs_tests::server::binary());
    let ran = command.args(args).stdout(stdout).stderr(Stdio::piped()).output().expect("it runs");
    Ran { code: ran.status.code(), out: String::new(), err: String::from_utf8(ran.stderr).unwrap() }
}

#[tokio::test]
async fn what_runs_is_said_by_the_command_and_by_a_metric() {
    let version = says(&["--version"]).await;
    let found = version.trim().strip_prefix("autolrs ").and_then(|rest| rest.strip_suffix(")"));
    let (release, rest) =
        found.and_then(|rest| rest.split_once(" (commit ")).expect("a release and a commit");
    let (commit, rustc) = rest.split_once(", rustc ").expect("a compiler");
    assert_eq!(release, env!("CARGO_PKG_VERSION"));
    assert!(commit == "unknown" || commit.len() == 12, "{commit}");
    assert!(rustc.starts_with("1."), "{rustc}");
    let server = Server::start().await;
    let metrics = server.probe("/metrics").await.1;
    let line = metrics.lines().find(|line| line.starts_with("autolrs_build_info{")).expect("the metric");
    for label in
        [format!("version=\"{release}\""), format!("commit=\"{commit}\""), format!("rustc=\"{rustc}\"")]
    {
        assert!(line.contains(&label) && line.ends_with(" 1"), "{line}");
    }
}

#[tokio::test]
async fn the_manual_has_every_setting_and_every_command() {
    let settings = says(&["config", "print"]).await;
    let serve = says(&["man", "serve"]).await.replace("\\-", "-");
    for key in settings.lines().skip(1).map(|line| line.split(' ').next().unwrap()) {
        let flag = format!("--{}", key.replace('_', "-"));
        let help = format!("[env: AUTOLRS_{}]", key.to_uppercase());
        assert!(serve.contains(&flag) && serve.contains(&help), "{flag} is not explained in the page");
    }
    let page = says(&["man", "jobs", "list"]).await;
    assert!(page.contains(".TH autolrs-jobs-list 1"), "{page}");
    let ran = autolrs(["man", "job"]).await;
    assert!(ran.code == Some(1) && ran.err.contains("no command \"job\""), "{ran:?}");
}

#[tokio::test]
async fn bash_completes_commands_and_flags() {
    let script = says(&["completions", "bash"]).await;
    for shell in ["zsh", "fish"] {
        assert!(says(&["completions", shell]).await.contains("http-listen"), "{shell}");
    }
    let mut bash = Command::new("bash");
    let mut bash = bash.arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash");
    let asked = "COMP_WORDS=(autolrs serve --data); COMP_CWORD=2; _autolrs autolrs --data serve; echo \"${COMPREPLY[@]}\"";
    write!(bash.stdin.take().unwrap(), "{script}\n{asked}\n").unwrap();
    let said = bash.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "--data-dir\n");
}
