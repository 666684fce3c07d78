//! `autolrs`: the daemon and its command line. Exit codes: [`autolrs_server::exit`].

use autolrs_server::{
    cli::{self, Command, ServeArgs, end},
    serve::{self, ServeError},
};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(usage) => return cli::usage(&usage),
    };
    match cli.command {
        Command::Serve(args) => end(serve(args)),
        Command::Config(command) => end(cli::config::run(&command)),
        Command::Jobs(command) => end(cli::jobs::run(command)),
        Command::Store(command) => end(cli::store::run(command)),
        Command::Token(command) => end(cli::token::run(&command)),
        Command::Simulate(args) => end(cli::simulate::run(&args)),
        Command::Conformance(args) => end(cli::conformance::run(&args)),
        Command::Doctor(args) => end(cli::doctor::run(&args)),
        Command::Completions(args) => end(cli::manual::completions(&args)),
        Command::Man(args) => end(cli::manual::man(&args)),
        Command::Health(target) => end(cli::health::run(&target)),
    }
}

fn serve(args: ServeArgs) -> Result<(), ServeError> {
    serve::run(&args.config()?, move || args.settings())
}
