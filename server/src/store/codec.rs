//! Records: a core type in an envelope that says what it is and proves that it is whole.
//!
//! ```text
//! "ALRS" | CRC-32 of all that follows | format: u16 | kind: u8 | payload (postcard)
//! ```
//! Numbers have their big end first. The first ten bytes keep their place in every future format, so that any release
//! can tell a damaged record from a newer one. Floats keep their bits, NaN and infinities too.

use super::{JobKey, RowKey, StoreError};
use serde::{Serialize, de::DeserializeOwned};

/// The format that this release writes, and the newest that it reads.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 4] = *b"ALRS";
const CRC: std::ops::Range<usize> = 4..8;
const VERSION: std::ops::Range<usize> = 8..10;
const KIND: usize = 10;
const HEADER: usize = 11;

/// What a record holds. The numbers are part of the format and are never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A job's snapshot.
    Snapshot = 1,
    /// A row [`RowKey::Directive`].
    Directive = 2,
    /// A row [`RowKey::Checkpoint`].
    Checkpoint = 3,
    /// A row [`RowKey::Trial`].
    Trial = 4,
    /// A row [`RowKey::Commit`].
    Commit = 5,
    /// A row [`RowKey::StageEnd`].
    StageEnd = 6,
}

impl From<RowKey> for Kind {
    fn from(key: RowKey) -> Self {
        match key {
            RowKey::Directive { .. } => Self::Directive,
            RowKey::Checkpoint { .. } => Self::Checkpoint,
            RowKey::Trial { .. } => Self::Trial,
            RowKey::Commit { .. } => Self::Commit,
            RowKey::StageEnd { .. } => Self::StageEnd,
        }
    }
}

/// Why a record can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not what was written.
    #[error("the {kind:?} record {what}")]
    Damaged {
        /// What was to be read.
        kind: Kind,
        /// What is wrong with it.
        what: String,
    },
    /// The record is whole, but a newer release wrote it.
    #[error("the {kind:?} record has format {found}, this release reads up to {FORMAT}")]
    NewerFormat {
        /// What was to be read.
        kind: Kind,
        /// Its format.
        found: u16,
    },
    /// The value has no encoding (a sequence of unknown length, say): a bug of the type.
    #[error("a {kind:?} record can't be encoded: {reason}")]
    Unencodable {
        /// What was to be written.
        kind: Kind,
        /// What the encoder said.
        reason: String,
    },
}

impl CodecError {
    /// The same, naming the job.
    pub fn of(self, job: &JobKey) -> StoreError {
        let job = job.clone();
        match self {
            Self::NewerFormat { found, .. } => StoreError::NewerRecord { job, found, known: FORMAT },
            Self::Damaged { .. } => StoreError::Damaged { job, what: self.to_string() },
            Self::Unencodable { reason, .. } => StoreError::Unencodable { job, reason },
        }
    }
}

/// Puts a value into its envelope.
///
/// # Errors
/// [`CodecError::Unencodable`].
pub fn encode<T: Serialize + ?Sized>(kind: Kind, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut record = MAGIC.to_vec();
    record.extend([0; 4]);
    record.extend(FORMAT.to_be_bytes());
    record.push(kind as u8);
    let mut record = postcard::to_extend(value, record)
        .map_err(|e| CodecError::Unencodable { kind, reason: e.to_string() })?;
    let crc = crc32fast::hash(&record[CRC.end..]);
    record[CRC].copy_from_slice(&crc.to_be_bytes());
    Ok(record)
}

/// Takes a value out of its envelope.
///
/// # Errors
/// [`CodecError::Damaged`] for anything that [`encode`] did not write for this kind, and [`CodecError::NewerFormat`].
pub fn decode<T: DeserializeOwned>(kind: Kind, record: &[u8]) -> Result<T, CodecError> {
    let damaged = |what: String| CodecError::Damaged { kind, what };
    if record.len() < HEADER {
        return Err(damaged(format!("is cut off: {} bytes, {HEADER} are the least", record.len())));
    }
    if record[..CRC.start] != MAGIC {
        return Err(damaged("does not begin as a record does".to_owned()));
    }
    if record[CRC] != crc32fast::hash(&record[CRC.end..]).to_be_bytes() {
        return Err(damaged("does not match its checksum".to_owned()));
    }
    match u16::from_be_bytes([record[VERSION.start], record[VERSION.start + 1]]) {
        FORMAT => {}
        0 => return Err(damaged("has format 0, which never was".to_owned())),
        found => return Err(CodecError::NewerFormat { kind, found }),
    }
    if record[KIND] != kind as u8 {
        return Err(damaged(format!("is of another kind ({})", record[KIND])));
    }
    match postcard::take_from_bytes(&record[HEADER..]) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(damaged(format!("has {} bytes too many", rest.len()))),
        Err(e) => Err(damaged(format!("can't be decoded: {e}"))),
    }
}
