//! `autolrs doctor`: looks at everything that a server needs, and says what to do about what is wrong. Every fault at once;
//! nothing is changed, and a probe file that is written is removed.

mod machine;
mod network;
mod secrets;
mod store;

use super::{
    ServeArgs,
    client::{ClientError, Target, block_on},
    jobs::{Output, print},
    render,
};
use crate::listen::Listen;
use clap::Args;

/// What the forms of output promise.
const FORMS: &str = "\
Give the flags, the environment and the --config that the server has, and run it as the server's user. It may run beside \
the server: a port or a store that the server itself has is in order.

Output: `table` is for people and may change. `json` is for programs and only grows: {\"checks\": [{\"check\", \
\"level\": ok, warn or fail, \"what\", \"remedy\": null or what to do}]}. The exit code is 1 if anything fails.";

/// What to look at.
#[derive(Debug, Args)]
#[command(after_long_help = FORMS)]
pub struct DoctorArgs {
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// As a client sees it.
    #[command(flatten)]
    target: Target,
    /// What the server is started with.
    #[command(flatten)]
    serve: ServeArgs,
}

/// What a check has found.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) level: Level,
    pub(super) what: String,
    /// What to do.
    pub(super) remedy: Option<String>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, what: what.into(), remedy: None }
    }

    fn warn(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Warn, what: what.into(), remedy: Some(remedy.into()) }
    }

    fn fail(check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Fail, what: what.into(), remedy: Some(remedy.into()) }
    }
}

/// Looks, and prints what was found.
///
/// # Errors
/// If something fails, or stdout can't be written.
pub fn run(args: &DoctorArgs) -> Result<(), ClientError> {
    // What is wrong with one setting must not hide what is wrong with the rest.
    let (config, problems) = args.serve.settings().best();
    let mut findings = Vec::new();
    for problem in &problems {
        let what = format!("{} {}", problem.key, problem.message);
        findings.push(Finding::fail(
            "configuration",
            what,
            "`autolrs serve --help` says what each setting takes",
        ));
    }
    if problems.is_empty() {
        findings.push(Finding::ok("configuration", "every setting can be used"));
    }
    let wrong = |key: &str| problems.iter().any(|problem| problem.key == key);
    findings.extend(block_on(async {
        let mut found = Vec::new();
        let serves = network::serves(&config, &args.target).await;
        if !wrong("listen") {
            found.push(network::port("port", &config.listen, "listen", serves));
        }
        if let Some(address) = config.http_listen.filter(|_| !wrong("http_listen")) {
            let ours = network::probes(address).await;
            found.push(network::port("probe port", &Listen::Tcp(address), "http-listen", ours));
        }
        found.extend(secrets::certificate(&config.security));
        found.extend(secrets::tokens(&config.security));
        if !wrong("data_dir") {
            // Before the store is opened: that touches the files whose times are looked at.
            found.push(machine::clock(&config.data_dir));
            found.push(store::store(&config, serves).await);
            found.extend(machine::disk(&config.data_dir, config.limits.disk_warning));
        }
        found.push(machine::descriptors(config.limits.max_connections));
        found.push(network::client(&args.target, serves).await);
        Ok(found)
    })?);
    print(&match args.output {
        Output::Table => render::doctor::table(&findings),
        Output::Json => render::doctor::json(&findings),
    })?;
    match findings.iter().filter(|finding| finding.level == Level::Fail).count() {
        0 => Ok(()),
        1 => Err(ClientError::Nothing("1 check failed".into())),
        n => Err(ClientError::Nothing(format!("{n} checks failed"))),
    }
}
