//! `autolrs token`: makes, shows and revokes the tokens of a token file. A server that runs sees the change by itself.

use super::{
    jobs::{Output, print},
    render,
};
use crate::{
    auth::{TokenError, Tokens, roles::Role},
    config::{Config, ConfigError},
    exit::{self, Failure},
};
use clap::{Args, Subcommand};
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

const ABOUT: &str = "\
A token is alrs_<id>_<secret>. The file holds ids and hashes, never a secret: what `create` prints is seen once. Give it \
to a client as AUTOLRS_TOKEN, never on a command line. A token is of one tenant and sees that tenant's jobs alone; the \
tenant * is the server itself (with the role admin: back up all jobs). Roles: read sees jobs, write trains, steers and \
ends them too, admin deletes them too.";

/// What to do with tokens.
#[derive(Debug, Subcommand)]
#[command(after_long_help = ABOUT)]
pub enum TokenCommand {
    /// Make a token and print it, once.
    Create {
        /// Whose jobs it is for; `*`: none, but the server itself.
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// What it may do.
        #[arg(long, value_enum)]
        role: Role,
        /// After this time it is refused (90days, 12h), or at this moment (2027-01-31T00:00:00Z); without: never.
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// Which file.
        #[command(flatten)]
        at: At,
    },
    /// Show the tokens, without their secrets.
    List {
        /// How to print.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
        /// Which file.
        #[command(flatten)]
        at: At,
    },
    /// Remove a token: the server refuses it from then on, and ends its streams.
    Revoke {
        /// Its id, as `list` shows it.
        id: String,
        /// Which file.
        #[command(flatten)]
        at: At,
    },
}

/// Which token file.
#[derive(Debug, Args)]
pub struct At {
    /// The token file, as for `autolrs serve` [env: AUTOLRS_TOKENS]
    #[arg(long, value_name = "FILE")]
    tokens: Option<String>,
    /// The server's TOML file, which may name it.
    #[arg(long, env = "AUTOLRS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl At {
    fn path(&self) -> Result<PathBuf, TokenCommandError> {
        // What else the settings say is of no concern here.
        let flags = self.tokens.iter().map(|path| ("tokens".into(), path.clone()));
        let flags = flags.chain([("insecure".into(), "true".into())]).collect();
        let env =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let config = Config::read(&flags, &env.collect(), self.config.as_deref())?;
        config.security.tokens.ok_or(TokenCommandError::NoFile)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum TokenCommandError {
    /// The settings can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody says where the file is.
    #[error("which token file? Name it with --tokens, AUTOLRS_TOKENS or the key `tokens` of --config")]
    NoFile,
    /// `--expires` can't be understood.
    #[error(
        "--expires must be a time such as 90days or a moment such as 2027-01-31T00:00:00Z that is not past, is {0:?}"
    )]
    Expires(String),
    /// The file can't be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// stdout is gone.
    #[error("{0}")]
    Out(#[from] super::client::ClientError),
}

impl Failure for TokenCommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::NoFile | Self::Expires(_) | Self::Token(TokenError::Tenant(_)) => {
                exit::USAGE
            }
            Self::Token(TokenError::Randomness(_)) | Self::Out(_) => exit::INTERNAL,
            Self::Token(_) => exit::FAILED,
        }
    }
}

/// Does it.
///
/// # Errors
/// See [`TokenCommandError`].
pub fn run(command: &TokenCommand) -> Result<(), TokenCommandError> {
    match command {
        TokenCommand::Create { tenant, role, expires, at } => {
            let path = at.path()?;
            let expires = expires.as_deref().map(moment).transpose()?;
            let token = Tokens::create(&path, tenant, *role, expires)?;
            // The result alone on stdout: it goes into a variable or a secret's file.
            eprintln!(
                "token {} for tenant {tenant} with role {role}; its secret is not seen again:",
                token.id()
            );
            Ok(print(&format!("{}\n", token.expose()))?)
        }
        TokenCommand::List { output, at } => {
            let tokens = Tokens::read(&at.path()?)?;
            let text = match output {
                Output::Table => render::token::table(&tokens),
                Output::Json => render::token::json(&tokens),
            };
            Ok(print(&text)?)
        }
        TokenCommand::Revoke { id, at } => {
            let record = Tokens::revoke(&at.path()?, id)?;
            Ok(print(&format!("{id} revoked (tenant {}, role {})\n", record.tenant, record.role))?)
        }
    }
}

fn moment(text: &str) -> Result<SystemTime, TokenCommandError> {
    let wrong = || TokenCommandError::Expires(text.into());
    let now = SystemTime::now();
    let after = |time: Duration| now.checked_add(time);
    let moment = match humantime::parse_duration(text) {
        Ok(time) => after(time),
        Err(_) => humantime::parse_rfc3339(text).ok(),
    };
    moment.filter(|moment| *moment > now).ok_or_else(wrong)
}
