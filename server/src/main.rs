//! `autolrs`: the daemon and its command line. Exit codes: [`exit`].

use autolrs_server::{
    cli::{self, Command},
    exit, serve,
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(usage) => return cli::usage(&usage),
    };
    match cli.command {
        Command::Serve(args) => match args.config() {
            Err(error) => cli::fail(&error, exit::USAGE),
            Ok(config) => match serve::run(&config, || args.settings()) {
                Ok(()) => ExitCode::from(exit::OK),
                Err(error) => cli::fail(&error, error.exit_code()),
            },
        },
        Command::Config(command) => match cli::config::run(&command) {
            Ok(()) => ExitCode::from(exit::OK),
            Err(error) => cli::fail(&error, error.exit_code()),
        },
        Command::Jobs(command) => cli::finish(cli::jobs::run(command)),
        Command::Store(command) => match cli::store::run(command) {
            Ok(()) => ExitCode::from(exit::OK),
            Err(error) => cli::fail(&error, error.exit_code()),
        },
        Command::Token(command) => match cli::token::run(&command) {
            Ok(()) => ExitCode::from(exit::OK),
            Err(error) => cli::fail(&error, error.exit_code()),
        },
        Command::Simulate(args) => match cli::simulate::run(&args) {
            Ok(()) => ExitCode::from(exit::OK),
            Err(error) => cli::fail(&error, error.exit_code()),
        },
        Command::Conformance(args) => match cli::conformance::run(&args) {
            Ok(()) => ExitCode::from(exit::OK),
            Err(error) => cli::fail(&error, error.exit_code()),
        },
        Command::Doctor(args) => cli::finish(cli::doctor::run(&args)),
        Command::Completions(args) => cli::finish(cli::manual::completions(&args)),
        Command::Man(args) => cli::finish(cli::manual::man(&args)),
        Command::Health(target) => cli::finish(cli::health::run(&target)),
    }
}
