//! What can go wrong in a store, in sentences that tell the operator what to do.

use super::{JobKey, MAX_RECORD};
use std::path::PathBuf;

/// Why a store refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The job is not at the version that the caller expected: someone else has saved, created or removed it. Load it
    /// and decide again.
    #[error("job {job} has changed in the store: expected {}, found {}", version(*expected), version(*found))]
    Conflict {
        /// Which job.
        job: JobKey,
        /// The version that the caller gave; `None`: no such job.
        expected: Option<u64>,
        /// The version in the store; `None`: no such job.
        found: Option<u64>,
    },
    /// The store can't be reached or failed. A write may or may not have happened.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Too little room is left to write safely; nothing was written.
    #[error(
        "only {} MiB are free at {}, and {} MiB are needed: make room there; writes go on by themselves within seconds",
        free >> 20, path.display(), needed.div_ceil(1 << 20)
    )]
    Full {
        /// The store's directory.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// A record of the job fails its checksum or can't be decoded.
    #[error(
        "job {job} is damaged in the store: {what}. Other jobs are not affected; restore a backup, or delete the job and \
         start it again"
    )]
    Damaged {
        /// Which job.
        job: JobKey,
        /// Which record, and what is wrong with it.
        what: String,
    },
    /// A record of the job was written by a newer release.
    #[error(
        "job {job} was written by a newer release (record format {found}, this one reads up to {known}): run that \
         release, or delete the job"
    )]
    NewerRecord {
        /// Which job.
        job: JobKey,
        /// The record's format.
        found: u16,
        /// The newest format that this release reads.
        known: u16,
    },
    /// The job's state has no encoding.
    #[error("job {job} can't be encoded for the store ({reason}): this is a bug, please report it")]
    Unencodable {
        /// Which job.
        job: JobKey,
        /// What the encoder said.
        reason: String,
    },
    /// A snapshot or row is longer than [`MAX_RECORD`].
    #[error("a record of job {job} has {len} bytes; at most {MAX_RECORD} are stored")]
    TooLarge {
        /// Which job.
        job: JobKey,
        /// Its length in bytes.
        len: usize,
    },
    /// Another process has the store.
    #[error(
        "the store at {path} is in use by {holder}: one process at a time can use it. Stop that one, give this one \
         another directory, or ask the running server instead"
    )]
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// Who holds it, as far as known.
        holder: String,
    },
    /// The whole store was written by a newer release.
    #[error(
        "the store at {path} has format {found}, this release reads up to {known}: run the newer release"
    )]
    NewerStore {
        /// The store's directory.
        path: PathBuf,
        /// The store's format.
        found: u32,
        /// The newest format that this release reads.
        known: u32,
    },
    /// The directory holds something else than a store.
    #[error("{path} is not an AutoLRS store ({what}): give the server a directory of its own")]
    NotAStore {
        /// The directory.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The end of the database was damaged and is gone.
    #[error(
        "the store at {path} has lost its newest records (it ends at version {found} and had {marked}): its file is \
         damaged, and jobs may be missing or older than their trainers know. Restore a backup; or take what is left with \
         `autolrs store export` and import that into a new directory"
    )]
    Cut {
        /// The store's directory.
        path: PathBuf,
        /// The last version that is there.
        found: u64,
        /// The last version that was on the disk.
        marked: u64,
    },
    /// There is no store.
    #[error(
        "there is no AutoLRS store in {path}: mount its volume, or give the --data-dir of a server that has run"
    )]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// The store has jobs, and must have none.
    #[error(
        "the store at {path} has jobs already ({job} is one): an import goes into a new store or an empty one. Give it \
         another directory"
    )]
    NotEmpty {
        /// The store's directory.
        path: PathBuf,
        /// One of the jobs.
        job: JobKey,
    },
    /// The directory can't be used.
    #[error("the store directory {path} can't be used: {reason}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
}

impl StoreError {
    /// Whether opening the store again may succeed, because what is wrong lies outside of it.
    pub fn heals(&self) -> bool {
        match self {
            Self::NewerStore { .. } | Self::NotAStore { .. } | Self::Cut { .. } => false,
            Self::Conflict { .. }
            | Self::Unavailable(_)
            | Self::Full { .. }
            | Self::Damaged { .. }
            | Self::NewerRecord { .. }
            | Self::Unencodable { .. }
            | Self::TooLarge { .. }
            | Self::Locked { .. }
            | Self::NoStore { .. }
            | Self::NotEmpty { .. }
            | Self::Directory { .. } => true,
        }
    }
}

fn version(version: Option<u64>) -> String {
    version.map_or_else(|| "no such job".to_owned(), |v| format!("version {v}"))
}
