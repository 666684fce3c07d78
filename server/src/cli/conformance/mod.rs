//! `autolrs conformance`: whether a server, or a client, keeps what the protocol promises. The half for servers plays a
//! trainer and an operator; the half for clients plays a server for a small training program.

mod client;
mod segment;
mod server;
mod verdict;

use super::{
    client::{ClientError, Target, block_on},
    jobs::{Output, print},
    render,
};
use crate::exit::{self, Failure};
use autolrs_client::EndpointConfig;
use clap::Args;
use std::ffi::OsString;
pub(super) use verdict::Broken;
use verdict::Verdict;

/// What the command promises.
const FORMS: &str = "\
`autolrs conformance --server URL` checks a server that speaks the protocol autolrs.v1 by playing a trainer and an \
operator. The jobs that it makes are \
named conformance-RUN-N, have the label autolrs-conformance=RUN, and are cancelled and deleted at the end, also after \
Ctrl-C; no other job is touched.

`autolrs conformance --client -- COMMAND ARGS...` checks a client: it starts COMMAND once for every check, with a server \
of its own in AUTOLRS_SERVER and a job in AUTOLRS_JOB. What the program must train is said in proto/README.md.

The exit code is 0 if every check passed or was skipped, 1 if one failed or something of it was left on the server.

Output: `table` is for people and may change. `json` is for programs and only grows: {\"checks\": [{\"half\": \"server\" or \"client\", \"name\", \
\"place\", \"promise\", \"outcome\": \"pass\", \"fail\" or \"skip\", \"expected\", \"came\", \"reason\"}], \"passed\", \
\"failed\", \"skipped\", \"left\": [what could not be removed]}.";

/// What to check.
#[derive(Debug, Args)]
#[command(after_long_help = FORMS)]
pub struct ConformanceArgs {
    /// The server to check.
    #[command(flatten)]
    target: Target,
    /// Check a client instead: the command after `--`.
    #[arg(long)]
    client: bool,
    /// A program that trains the toy problem.
    #[arg(last = true, requires = "client", value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Run this check alone; may be repeated.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// List the checks and run none: name, where the promise is made, and the promise. Both halves, or with --client one.
    #[arg(long)]
    list: bool,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Who is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Server,
    Client,
}

impl Half {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

/// What is promised, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    pub(super) half: Half,
    pub(super) name: &'static str,
    /// A part of the proto, or a number of the invariants.
    pub(super) place: &'static str,
    pub(super) promise: &'static str,
}

/// A check that was run.
pub(super) struct Checked {
    pub(super) promise: Promise,
    pub(super) verdict: Verdict,
}

/// What was run.
#[derive(Default)]
pub(super) struct Ran {
    pub(super) checked: Vec<Checked>,
    /// What could not be removed.
    pub(super) left: Vec<String>,
    pub(super) interrupted: bool,
}

impl Ran {
    /// How many passed, failed, were skipped.
    pub(super) fn counts(&self) -> [usize; 3] {
        let count = |wanted: fn(&Verdict) -> bool| self.checked.iter().filter(|c| wanted(&c.verdict)).count();
        [
            count(|verdict| verdict.is_ok()),
            count(|verdict| matches!(verdict, Err(Broken::Fails { .. }))),
            count(|verdict| matches!(verdict, Err(Broken::Skipped(_)))),
        ]
    }
}

/// Why the command fails.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// No check has the name.
    #[error("--only: there is no check {0:?}; `autolrs conformance --list` shows them")]
    Unknown(String),
    /// --client alone.
    #[error("--client checks a program: autolrs conformance --client -- COMMAND ARGS...")]
    NoCommand,
    /// --client with --server.
    #[error("--server and --client exclude each other: the program's server is the kit's own")]
    ServerToo,
    /// The server can't be reached, or stdout not be written.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Checks failed; they were printed.
    #[error("{0} of {1} checks failed")]
    Failed(usize, usize),
    /// Jobs are left.
    #[error("could not be removed: {0}")]
    Left(String),
    /// Ctrl-C.
    #[error("interrupted after {0} checks")]
    Interrupted(usize),
}

impl Failure for ConformanceError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Unknown(_) | Self::NoCommand | Self::ServerToo => exit::USAGE,
            Self::Client(error) => error.exit_code(),
            Self::Failed(..) | Self::Left(_) | Self::Interrupted(_) => exit::FAILED,
        }
    }
}

/// Checks and prints.
///
/// # Errors
/// See [`ConformanceError`].
pub fn run(args: &ConformanceArgs) -> Result<(), ConformanceError> {
    let chosen = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let servers = server::CHECKS.iter().map(|check| check.promise).filter(|_| !args.client);
    let clients = client::CHECKS.iter().map(|check| check.promise).filter(|_| args.client || args.list);
    let all: Vec<Promise> = servers.chain(clients).collect();
    if let Some(unknown) = args.only.iter().find(|&only| all.iter().all(|promise| promise.name != only)) {
        return Err(ConformanceError::Unknown(unknown.clone()));
    }
    if args.list {
        let listed: Vec<Promise> = all.into_iter().filter(|promise| chosen(promise.name)).collect();
        return Ok(print(&match args.output {
            Output::Table => render::conformance::list(&listed),
            Output::Json => render::conformance::list_json(&listed),
        })?);
    }
    if args.client {
        // What the environment says is for other commands.
        if args.target.server != EndpointConfig::from_env().server {
            return Err(ConformanceError::ServerToo);
        }
        if args.command.is_empty() {
            return Err(ConformanceError::NoCommand);
        }
    }
    let ran = block_on(async {
        if args.client {
            let checks = client::CHECKS.iter().filter(|check| chosen(check.promise.name));
            return client::run(&args.command, checks, interrupt()).await;
        }
        let checks = server::CHECKS.iter().filter(|check| chosen(check.promise.name));
        server::run(&args.target, checks, interrupt()).await
    })?;
    print(&match args.output {
        Output::Table => render::conformance::table(&ran),
        Output::Json => render::conformance::json(&ran),
    })?;
    let [_, failed, _] = ran.counts();
    match (failed, ran.left.first()) {
        _ if ran.interrupted => Err(ConformanceError::Interrupted(ran.checked.len())),
        (0, None) => Ok(()),
        (0, Some(left)) => Err(ConformanceError::Left(left.clone())),
        (failed, _) => Err(ConformanceError::Failed(failed, ran.checked.len())),
    }
}

/// Ctrl-C; never, where the signal can't be had.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}
