//! `autolrs config`: checks and shows what `autolrs serve` would run with.

use super::{ServeArgs, client::ClientError, jobs::print, render};
use crate::{
    config::ConfigError,
    exit::{self, Failure},
};
use clap::{Subcommand, ValueEnum};

/// What the forms of output promise.
const FORMS: &str = "\
Give the flags, the environment and the --config that the server has. A flag beats its environment variable, and that \
the file.

Output: `table` is for people and may change. `toml` is a file for `serve --config` that gives the same configuration. \
`json` is for programs and only grows: {\"settings\": [{\"key\", \"value\" (a number, a boolean or a string with its \
unit), \"origin\": {\"kind\": default, file, variable or flag, and \"path\" and \"line\", or \"name\"}}]}. Secrets are \
hidden; `toml` leaves them out.";

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
#[command(after_long_help = FORMS)]
pub enum ConfigCommand {
    /// Say everything that is wrong with it, at once; exit with 64 if something is.
    Check {
        /// The sources.
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// Print every setting with its value and who set it.
    Print {
        /// How to print.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
        /// The sources.
        #[command(flatten)]
        serve: ServeArgs,
    },
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For `autolrs serve --config`.
    Toml,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigCommandError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// stdout can't be written.
    #[error(transparent)]
    Print(#[from] ClientError),
}

impl Failure for ConfigCommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => exit::USAGE,
            Self::Print(error) => error.exit_code(),
        }
    }
}

/// Does it.
///
/// # Errors
/// Everything that is wrong with the configuration, at once.
pub fn run(command: &ConfigCommand) -> Result<(), ConfigCommandError> {
    match command {
        ConfigCommand::Check { serve } => {
            serve.config()?;
            print("the configuration is usable\n")?;
        }
        ConfigCommand::Print { output, serve } => {
            let settings = serve.settings();
            settings.config()?;
            print(&match output {
                Output::Table => render::config::table(&settings),
                Output::Json => render::config::json(&settings),
                Output::Toml => render::config::toml(&settings),
            })?;
        }
    }
    Ok(())
}
