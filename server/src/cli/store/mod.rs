//! `autolrs store`: checks, exports and imports a store that no server uses, and backs up one that a server uses.

mod backup;
mod file;
mod offline;

use super::{
    client::{ClientError, Target},
    jobs::{Output, print},
    render,
};
use crate::{
    config::{Config, ConfigError},
    exit::{self, Failure},
    store::{
        JobKey, StoreError,
        export::{Count, Damage, ExportError},
    },
};
use clap::{Args, Subcommand};
use std::{collections::BTreeMap, io, path::PathBuf};

/// What the forms of output promise.
const FORMS: &str = "\
An export is one file with all jobs of all tenants, checksummed and versioned; the form is described at \
StoreService.Backup in the proto. A file that a command writes appears under its name only when it is whole. What is \
damaged in a store is named, left out of the export, and makes the exit code 1; the rest is in the file.

To make a store smaller: export, then import into a new directory.

Output: `table` is for people and may change. `json` is for programs and only grows: {\"jobs\", \"rows\", \"bytes\", \
\"damaged\": [{\"tenant\", \"job\", \"problems\"}], \"lost\": null or what the store says of records that it has lost}; \
verify adds \"disk_bytes\", the others \"file\".";

/// What to do with a store.
#[derive(Debug, Subcommand)]
#[command(after_long_help = FORMS)]
pub enum StoreCommand {
    /// Read and decode every record of every job; exit with 1 if one is damaged.
    Verify {
        /// Which store, and how to print.
        #[command(flatten)]
        at: At,
    },
    /// Write all jobs to a file.
    Export {
        /// The file, which is replaced.
        file: PathBuf,
        /// Which store, and how to print.
        #[command(flatten)]
        at: At,
    },
    /// Make a store from a file: all of it or nothing. The store must be new or without jobs.
    Import {
        /// A file that `export` or `backup` has written.
        file: PathBuf,
        /// Which store, and how to print.
        #[command(flatten)]
        at: At,
    },
    /// Write all jobs of a running server to a file; the server goes on meanwhile.
    Backup {
        /// The file, which is replaced.
        file: PathBuf,
        /// How to print.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
        /// The server.
        #[command(flatten)]
        target: Target,
    },
}

/// Which store, and how to print.
#[derive(Debug, Args)]
pub struct At {
    /// Where the jobs are stored, as for `autolrs serve` [env: AUTOLRS_DATA_DIR] [default: autolrs-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The server's TOML file, which may name the directory.
    #[arg(long, env = "AUTOLRS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

impl At {
    /// The directory that `autolrs serve` would use.
    fn directory(&self) -> Result<PathBuf, ConfigError> {
        let flags: BTreeMap<_, _> =
            self.data_dir.iter().map(|dir| ("data_dir".into(), dir.clone())).collect();
        Ok(Config::read(&flags, &super::environment(), self.config.as_deref())?.data_dir)
    }
}

/// What a command has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) count: Count,
    /// Bytes that the store takes on the disk.
    pub(super) disk_bytes: Option<u64>,
    /// The file that was written or read.
    pub(super) file: Option<PathBuf>,
    /// That the store's newest records are lost.
    pub(super) lost: Option<String>,
    /// By job, what is damaged.
    pub(super) damaged: BTreeMap<JobKey, Vec<String>>,
}

impl Found {
    fn add(&mut self, damaged: impl IntoIterator<Item = Damage>) {
        for Damage { job, what } in damaged {
            self.damaged.entry(job).or_default().push(what);
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreCommandError {
    /// The settings can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can't be used.
    #[error("{error}{}", other_way(error))]
    Store {
        /// What it says.
        #[from]
        error: StoreError,
    },
    /// The file is not a whole export.
    #[error("{} can't be imported: {error}; nothing was changed", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ExportError,
    },
    /// What was written or received is not a whole export.
    #[error("the export is not whole, {} was not written: {error}", path.display())]
    NotWhole {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: ExportError,
    },
    /// A file can't be opened.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file can't be written.
    #[error("{} can't be written: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The server did not answer as it should.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was found was printed, but the store has held more.
    #[error("{0}")]
    Lost(String),
    /// Something is damaged; it was printed.
    #[error("{0} damaged; everything else is whole")]
    Damaged(String),
}

fn other_way(error: &StoreError) -> &'static str {
    match error {
        StoreError::Locked { .. } => ": `autolrs store backup FILE --server URL` works while it runs",
        _ => "",
    }
}

impl Failure for StoreCommandError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Read { .. } => exit::USAGE,
            Self::Store { error: StoreError::NotEmpty { .. } } => exit::FAILED,
            Self::Store { error } if !error.heals() => exit::UNFIT,
            Self::Store { .. } => exit::UNAVAILABLE,
            Self::Export { .. } | Self::NotWhole { .. } | Self::Lost(_) | Self::Damaged(_) => exit::FAILED,
            Self::Write { .. } => exit::INTERNAL,
            Self::Client(error) => error.exit_code(),
        }
    }
}

/// Does it and prints what was found.
///
/// # Errors
/// See [`StoreCommandError`].
pub fn run(command: StoreCommand) -> Result<(), StoreCommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (found, output) = runtime.map_err(ClientError::Io)?.block_on(async {
        Ok::<_, StoreCommandError>(match command {
            StoreCommand::Verify { at } => (offline::verify(&at.directory()?).await?, at.output),
            StoreCommand::Export { file, at } => (offline::export(&at.directory()?, file).await?, at.output),
            StoreCommand::Import { file, at } => (offline::import(&at.directory()?, file).await?, at.output),
            StoreCommand::Backup { file, output, target } => (backup::backup(&target, file).await?, output),
        })
    })?;
    print(&match output {
        Output::Table => render::store::table(&found),
        Output::Json => render::store::json(&found),
    })?;
    match (found.lost, found.damaged.len()) {
        (Some(lost), _) => Err(StoreCommandError::Lost(lost)),
        (None, 0) => Ok(()),
        (None, 1) => Err(StoreCommandError::Damaged("1 job is".into())),
        (None, n) => Err(StoreCommandError::Damaged(format!("{n} jobs are"))),
    }
}
