//! Commands of the real binary that are run to their end.

use crate::server::binary;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// A command that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(120);

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
    let mut command = bare();
    command.args(args).envs(env.iter().copied());
    tokio::task::spawn_blocking(move || finish(&mut command)).await.expect("it ends")
}

/// The same, outside of a runtime.
pub fn autolrs_with(args: &[&str], variables: &[(&str, &str)]) -> Ran {
    finish(bare().args(args).envs(variables.iter().copied()))
}

/// The binary without the variables of ours that the tests' caller has.
pub fn bare() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AUTOLRS_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a command to its end. One that does not end is killed, and has no exit code.
pub fn finish(command: &mut Command) -> Ran {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the binary runs");
    let pid = Pid::from_child(&child);
    let (ended, until_then) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if until_then.recv_timeout(LONGEST) == Err(RecvTimeoutError::Timeout) {
            kill_process(pid, Signal::KILL).expect("killed");
        }
    });
    let ran = child.wait_with_output().expect("reaped");
    drop(ended);
    watchdog.join().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: ran.status.code(), out: text(ran.stdout), err: text(ran.stderr) }
}
