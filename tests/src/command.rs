//! Commands of the real binary that are run to their end.

use crate::server::binary;
use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

/// What a command has printed, and its exit code.
#[derive(Debug, Clone, PartialEq)]
pub struct Ran {
    /// Exit code; none after a signal.
    pub code: Option<i32>,
    /// stdout.
    pub out: String,
    /// stderr.
    pub err: String,
}

/// `autolrs ARGS`, run to its end.
pub async fn autolrs<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Ran {
    autolrs_as(args, &[]).await
}

/// The same with these environment variables.
pub async fn autolrs_as<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>, env: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(binary());
    command.args(args).envs(env.iter().copied());
    tokio::task::spawn_blocking(move || finish(&mut command)).await.expect("it ends")
}

/// The same with these variables and no others of ours.
pub fn autolrs_with(args: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUTOLRS_")) {
        command.env_remove(name);
    }
    finish(command.args(args).envs(variables.iter().copied()))
}

fn finish(command: &mut Command) -> Ran {
    let ran = command.stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: ran.status.code(), out: text(ran.stdout), err: text(ran.stderr) }
}
