//! What the binary says of itself: the compiler, and the commit where one is known. Nothing here may fail a build: a crate
//! from a registry has no repository, and a machine may have no git.

use std::{env, fs, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=AUTOLRS_COMMIT");
    let rustc = env::var("RUSTC").ok().and_then(|rustc| said(Command::new(rustc).arg("--version")));
    // "rustc 1.90.0 (hash date)"
    let rustc = rustc.as_deref().and_then(|line| line.split(' ').nth(1)).unwrap_or("unknown").to_owned();
    let commit = given().or_else(packaged).or_else(checked_out).unwrap_or_else(|| "unknown".into());
    let commit = commit.get(..12).unwrap_or(&commit);
    println!("cargo:rustc-env=BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=BUILD_RUSTC={rustc}");
}

/// By whoever builds, a container build say.
fn given() -> Option<String> {
    env::var("AUTOLRS_COMMIT").ok().filter(|commit| is_commit(commit))
}

/// `cargo package` leaves a note in the crate.
fn packaged() -> Option<String> {
    let note = fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let commit = note.split_once("\"sha1\": \"")?.1.split_once('"')?.0;
    is_commit(commit).then(|| commit.to_owned())
}

/// Only for releases: else every commit would compile the server anew.
fn checked_out() -> Option<String> {
    if env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    let git = |args: &[&str]| said(Command::new("git").args(args));
    let commit = git(&["rev-parse", "HEAD"]).filter(|commit| is_commit(commit))?;
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    Some(commit)
}

fn is_commit(text: &str) -> bool {
    text.len() >= 7 && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
