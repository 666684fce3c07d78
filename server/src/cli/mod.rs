//! The command line.

mod calls;
pub mod client;
pub mod config;
pub mod conformance;
pub mod doctor;
pub mod health;
pub mod jobs;
pub mod manual;
mod plot;
pub mod render;
pub mod simulate;
pub mod store;
pub mod token;
mod watch;

use crate::{
    build,
    config::{Config, ConfigError, Settings, knobs::KNOBS},
    exit::{self, Failure},
};
use clap::{Arg, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use client::Target;
use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    process::ExitCode,
};

/// Schedules the learning rate of training runs: the daemon, and what people ask it.
#[derive(Debug, Parser)]
#[command(name = "autolrs", version = build::LINE, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server. A flag beats its environment variable, and that the file.
    Serve(ServeArgs),
    /// Check and show what `serve` would run with.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Ask a running server about jobs.
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Check, export and import the store of a server that does not run; back up the one of a server that does.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Make, show and revoke the tokens of a server that asks for them.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Play a job on a synthetic or recorded loss surface, without a server: what its policy would do and what it costs.
    Simulate(simulate::SimulateArgs),
    /// Check that a server, or a client, keeps what the protocol promises.
    Conformance(conformance::ConformanceArgs),
    /// Exit with 0 if the server is serving, else with 1: for container probes.
    Health(Target),
    /// Look at everything that a server needs, and say what to do about what is wrong; exit with 1 if something is.
    Doctor(doctor::DoctorArgs),
    /// Print a shell's completions of this command line: `autolrs completions bash > /etc/bash_completion.d/autolrs`.
    Completions(manual::CompletionsArgs),
    /// Print a manual page: `autolrs man serve | man -l -`.
    Man(manual::ManArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A TOML file with any of the settings below (`data_dir = "..."`).
    #[arg(long, env = "AUTOLRS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

impl ServeArgs {
    /// The configuration from these flags, the environment and the file.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn config(&self) -> Result<Config, ConfigError> {
        self.settings().config()
    }

    /// Every setting with its origin.
    pub fn settings(&self) -> Settings {
        Settings::collect(&self.flags.0, &environment(), self.config.as_deref())
    }
}

/// The variables that are text.
fn environment() -> HashMap<String, String> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect()
}

/// The flags that were given, by key. They are made from the table of knobs, and read with the other sources, so that
/// all mistakes are told at once.
#[derive(Debug, Default)]
struct Flags(BTreeMap<String, String>);

impl Args for Flags {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(KNOBS.iter().map(|knob| -> Arg { knob.arg() }))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &str| matches.get_one::<String>(key).cloned();
        Ok(Self(KNOBS.iter().filter_map(|knob| Some((knob.key.to_owned(), given(knob.key)?))).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The command line that was given. The exit codes stand in the help of every command.
///
/// # Errors
/// What clap has to say: a mistake, the help, the version.
pub fn parse() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches()?)
}

/// The definition of the command line.
fn command() -> clap::Command {
    everywhere(Cli::command())
}

fn everywhere(command: clap::Command) -> clap::Command {
    command.after_help(exit::help()).mut_subcommands(everywhere)
}

/// Prints what clap has to say: help and version to stdout, mistakes to stderr.
pub fn usage(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    // A closed pipe is no reason to fail.
    drop(error.print());
    ExitCode::from(if asked { exit::OK } else { exit::USAGE })
}

/// The end of a command.
pub fn end(result: Result<(), impl Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::from(exit::OK),
        // Whoever read the output has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::from(exit::OK),
        Err(error) => {
            eprintln!("autolrs: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn is_closed_pipe(error: &dyn std::error::Error) -> bool {
    std::iter::successors(error.source(), |error| error.source())
        .filter_map(|source| source.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_are_read_by_key() {
        let cli = Cli::try_parse_from(["autolrs", "serve", "--data-dir", "x", "--insecure", "--idle=5s"]);
        let Command::Serve(args) = cli.unwrap().command else { panic!("not serve") };
        let flags: Vec<_> = args.flags.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(flags, [("data_dir", "x"), ("idle", "5s"), ("insecure", "true")]);
    }
}
