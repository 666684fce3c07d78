//! All jobs in one file, independent of any store: how stores are backed up, moved and compacted. The file's form is
//! described at `StoreService.Backup` in the proto; records go in as they are stored, so those of other releases too.

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use self::{
    read::Reader,
    write::{Exporter, Part},
};
use super::{JobKey, MAX_RECORD};

/// The format that this release writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// The first line, before the format's number.
const HEAD: &str = "autolrs export ";
/// The longest body of a frame: a record, and names around it.
const MAX_BODY: usize = MAX_RECORD + (1 << 20);

/// First byte of a frame's body.
const JOB: u8 = 1;
const ROW: u8 = 2;
const END: u8 = 3;

/// A record that can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The job.
    pub job: JobKey,
    /// Which record, and what is wrong with it.
    pub what: String,
}

/// What an export holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Jobs.
    pub jobs: u64,
    /// Rows of all jobs.
    pub rows: u64,
    /// Bytes of all snapshots and rows.
    pub bytes: u64,
}

/// Why a file is not a whole export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is something else.
    #[error("it is not an export of autolrs")]
    NotAnExport,
    /// A newer release wrote it.
    #[error("it has export format {found}, this release reads up to {FORMAT}: use the newer release")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// The end is missing.
    #[error("it is cut off: it ends within the frame at byte {at}, after {jobs} jobs")]
    Cut {
        /// Where the frame begins that is not whole.
        at: u64,
        /// Jobs that begin before it.
        jobs: u64,
    },
    /// The bytes are not what was written.
    #[error("it is damaged: the frame at byte {at} {what}")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Io(#[from] std::io::Error),
}
