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
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output().expect("the binary runs"));
    let ran = ran.await.expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ran { code: ran.status.code(), out: text(ran.stdout), err: text(ran.stderr) }
}
