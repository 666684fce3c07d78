//! The high-water mark: the last version that was put on the disk, in a file beside sled's. Where sled's log is damaged,
//! sled takes it to end there, without a word; a store that ends below its mark has lost records.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

const FILE: &str = "mark";
/// Version and CRC-32 of it.
const LEN: usize = 12;

/// The file, open.
pub(super) struct Mark(File);

impl Mark {
    /// Opens or creates the file in sled's directory.
    ///
    /// # Errors
    /// Those of open(2).
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Self(options.open(database.join(FILE))?))
    }

    /// The last version that was put on the disk; 0 if nobody knows.
    pub(super) fn version(&self) -> u64 {
        let mut bytes = [0; LEN];
        let read = self.0.read_exact_at(&mut bytes, 0);
        let (version, crc) = bytes.split_at(8);
        let known = read.is_ok() && crc == crc32fast::hash(version).to_be_bytes();
        let number = version.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        if known { number } else { 0 }
    }

    /// Notes a version that is on the disk. The note itself need not be there: what a power loss leaves is an older one.
    pub(super) fn raise(&self, version: u64) {
        let version = version.to_be_bytes();
        let crc = crc32fast::hash(&version).to_be_bytes();
        if let Err(error) = self.0.write_all_at(&[&version[..], &crc].concat(), 0) {
            tracing::warn!(%error, "the store's mark can't be written; a loss of its newest records would not be noticed");
        }
    }
}
