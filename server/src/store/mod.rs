//! Where jobs live. A [`JobStore`] keeps one snapshot and some history rows per job, as opaque bytes under a
//! [`JobKey`]; [`codec`] turns the core's types into those bytes. A store knows nothing of learning rates.
//!
//! Every implementation passes the same conformance suite (`conformance`, feature `test-support`).

pub mod codec;
#[cfg(any(test, feature = "test-support"))]
pub mod conformance;
mod error;
pub mod export;
#[cfg(any(test, feature = "test-support"))]
pub mod faulty;
mod key;
mod late;
#[cfg(any(test, feature = "test-support"))]
pub mod memory;
mod sled;

pub use self::{
    error::StoreError,
    key::{JobKey, RowKey},
    late::LateStore,
    sled::{SledOptions, SledStore},
};
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Instant;
use tokio::sync::watch;

/// The longest snapshot or row that a store accepts, in bytes.
pub const MAX_RECORD: usize = 16 << 20;

/// A snapshot as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Names this save among all saves of the store. It grows with every save of a job and is never used again, not
    /// even after the job was removed and created anew.
    pub version: u64,
    /// What was saved.
    pub snapshot: Bytes,
}

/// One job of a page of [`JobStore::list`].
#[derive(Debug, Clone)]
pub struct Listed {
    /// The job's name.
    pub name: String,
    /// Its snapshot; an error if this one record is damaged. The other jobs of the page are not affected.
    pub stored: Result<Stored, StoreError>,
}

/// A job with everything that a store keeps of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeJob {
    /// Which job.
    pub key: JobKey,
    /// Its snapshot; none if it can't be trusted.
    pub stored: Option<Stored>,
    /// Its rows that can be trusted, in the order of their keys.
    pub rows: Vec<(RowKey, Bytes)>,
    /// For each record that can't be trusted: which, and what is wrong with it.
    pub damage: Vec<String>,
}

/// A change to a job's history rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowWrite {
    /// Writes a row, over the one that may be there.
    Put {
        /// Which row.
        key: RowKey,
        /// Its new content.
        record: Bytes,
    },
    /// Removes a row; nothing happens if there is none.
    Delete(RowKey),
    /// Removes all rows of the job.
    Clear,
}

/// Whether a store can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes work.
    Healthy,
    /// Writes, and maybe reads, fail for the reason given, a sentence for the operator. The store goes on trying.
    Unavailable(String),
}

/// Space on a store's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that may still be written there.
    pub free: u64,
    /// With less the store writes nothing.
    pub least: u64,
}

/// Keeps jobs. Object safe; calls may be made from any task, in any number at once.
///
/// What a caller may rely on:
/// - A write that returned `Ok` is on the disk: it survives `kill -9` and the loss of power.
/// - A write that returned [`StoreError::Unavailable`] may or may not have happened; [`JobStore::load`] tells, by the
///   version. Any other error means that nothing was changed.
/// - The snapshot and the rows of one `save` are there together or not at all.
/// - A read never shows what could still be lost.
#[async_trait]
pub trait JobStore: Send + Sync + 'static {
    /// The newest snapshot of a job, or `None` if there is no such job.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the record can't be trusted, [`StoreError::Unavailable`].
    async fn load(&self, job: &JobKey) -> Result<Option<Stored>, StoreError>;

    /// Saves a snapshot, applies `rows` in their order, and returns the new version. `expected` is the version that
    /// the snapshot was derived from, or `None` for a job that must not exist yet.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the job is at another version; [`StoreError::TooLarge`]; [`StoreError::Full`];
    /// [`StoreError::Damaged`] if the present version can't be read; [`StoreError::Unavailable`].
    async fn save(
        &self,
        job: &JobKey,
        expected: Option<u64>,
        snapshot: Bytes,
        rows: Vec<RowWrite>,
    ) -> Result<u64, StoreError>;

    /// Removes a job and its rows, whatever its version and even if it is damaged. Durable when it returns; `false`
    /// if there was no such job.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Unavailable`].
    async fn remove(&self, job: &JobKey) -> Result<bool, StoreError>;

    /// At most `limit` jobs of a tenant in the order of their names' bytes, beginning after the name `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, StoreError>;

    /// The first tenant after `after`, in the order of their bytes, that has a job.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn next_tenant(&self, after: Option<&str>) -> Result<Option<String>, StoreError>;

    /// One row, or `None` if there is no such row.
    ///
    /// # Errors
    /// As [`JobStore::load`].
    async fn row(&self, job: &JobKey, key: RowKey) -> Result<Option<Bytes>, StoreError>;

    /// The greatest row of the same kind that is not above `key`.
    ///
    /// # Errors
    /// As [`JobStore::load`].
    async fn row_at_or_before(
        &self,
        job: &JobKey,
        key: RowKey,
    ) -> Result<Option<(RowKey, Bytes)>, StoreError>;

    /// At most `limit` rows from `first` through `last`, in the order of their keys.
    ///
    /// # Errors
    /// As [`JobStore::load`].
    async fn rows(
        &self,
        job: &JobKey,
        first: RowKey,
        last: RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Bytes)>, StoreError>;

    /// The first job after `after`, in the order of tenants and names, with all its rows as they are at one moment.
    /// Damage does not keep the rest from being read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    async fn next_whole(&self, after: Option<&JobKey>) -> Result<Option<WholeJob>, StoreError>;

    /// Puts a job as another store had it, version included; it must not exist here. Later saves of any job get higher
    /// versions.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the job exists; the others of [`JobStore::save`].
    async fn restore(
        &self,
        job: &JobKey,
        stored: Stored,
        rows: Vec<(RowKey, Bytes)>,
    ) -> Result<(), StoreError>;

    /// Tells when the store stops working and when it works again.
    fn health(&self) -> watch::Receiver<Health>;

    /// When the part that writes last showed that it is alive: about every second, except while it waits for the disk.
    /// A time long past means that it is stuck.
    fn heartbeat(&self) -> Instant;

    /// What is left on its disk, as of about a second ago; `None` if it has none.
    fn disk(&self) -> Option<Disk>;

    /// Finishes the writes already asked for, flushes, and lets go of the disk. Later calls fail with
    /// [`StoreError::Unavailable`]; closing again does nothing.
    async fn close(&self);
}
