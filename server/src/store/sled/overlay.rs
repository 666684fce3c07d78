//! The writes of one batch, over the database as it is. A later write of the batch sees the earlier ones.

use super::record;
use crate::store::{JobKey, MAX_RECORD, RowWrite, StoreError, Stored};
use ::sled::{Batch, IVec, Tree};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Why a write was not staged.
pub(super) enum StageError {
    /// This one is refused; the others of the batch go on.
    Refused(StoreError),
    /// The database failed.
    Failed(::sled::Error),
}

impl From<StoreError> for StageError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<::sled::Error> for StageError {
    fn from(error: ::sled::Error) -> Self {
        Self::Failed(error)
    }
}

/// Staged writes. A refused write leaves nothing behind.
pub(super) struct Overlay<'t> {
    tree: &'t Tree,
    /// `None`: the key is removed.
    staged: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The version given last.
    last_version: u64,
}

impl<'t> Overlay<'t> {
    /// Nothing staged yet; versions go on after `last_version`.
    pub(super) fn new(tree: &'t Tree, last_version: u64) -> Self {
        Self { tree, staged: BTreeMap::new(), last_version }
    }

    /// Stages [`crate::store::JobStore::save`].
    pub(super) fn save(
        &mut self,
        job: &JobKey,
        expected: Option<u64>,
        snapshot: &Bytes,
        rows: &[RowWrite],
    ) -> Result<u64, StageError> {
        check_sizes(job, snapshot, rows)?;
        let found = self.version(job)?;
        if found != expected {
            return Err(StoreError::Conflict { job: job.clone(), expected, found }.into());
        }
        let version = self.last_version + 1;
        self.write(job, version, snapshot, rows)?;
        self.last_version = version;
        Ok(version)
    }

    /// Stages [`crate::store::JobStore::restore`].
    pub(super) fn restore(
        &mut self,
        job: &JobKey,
        stored: &Stored,
        rows: &[RowWrite],
    ) -> Result<(), StageError> {
        check_sizes(job, &stored.snapshot, rows)?;
        if let found @ Some(_) = self.version(job)? {
            return Err(StoreError::Conflict { job: job.clone(), expected: None, found }.into());
        }
        self.write(job, stored.version, &stored.snapshot, rows)?;
        self.last_version = self.last_version.max(stored.version);
        Ok(())
    }

    fn write(
        &mut self,
        job: &JobKey,
        version: u64,
        snapshot: &Bytes,
        rows: &[RowWrite],
    ) -> Result<(), ::sled::Error> {
        self.put(&record::snapshot(job), version, snapshot)?;
        for row in rows {
            match row {
                RowWrite::Put { key, record } => self.put(&record::row(job, *key), version, record)?,
                RowWrite::Delete(key) => self.delete_below(&record::row(job, *key))?,
                RowWrite::Clear => self.delete_below(&record::rows_of(job))?,
            }
        }
        Ok(())
    }

    /// Stages [`crate::store::JobStore::remove`].
    pub(super) fn remove(&mut self, job: &JobKey) -> Result<bool, ::sled::Error> {
        let name = record::snapshot(job);
        let found = self.get(&record::part(&name, 0))?.is_some();
        self.delete_below(&name)?;
        self.delete_below(&record::rows_of(job))?;
        Ok(found)
    }

    /// Everything staged, as one batch, and the version given last; `None` if nothing is staged.
    pub(super) fn into_batch(mut self) -> Option<(Batch, u64)> {
        if self.staged.is_empty() {
            return None;
        }
        self.staged.extend(
            record::split(&record::meta(super::database::COUNTER), self.last_version, &[])
                .into_iter()
                .map(|(key, value)| (key, Some(value))),
        );
        let mut batch = Batch::default();
        for (key, value) in self.staged {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Some((batch, self.last_version))
    }

    fn version(&self, job: &JobKey) -> Result<Option<u64>, StageError> {
        let name = record::snapshot(job);
        let Some(first) = self.get(&record::part(&name, 0))? else { return Ok(None) };
        let damaged = |what| StoreError::Damaged { job: job.clone(), what: format!("its snapshot: {what}") };
        Ok(Some(record::version(&name, &first).map_err(damaged)?))
    }

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, ::sled::Error> {
        match self.staged.get(key) {
            Some(staged) => Ok(staged.as_deref().map(IVec::from)),
            None => self.tree.get(key),
        }
    }

    /// Stages a record in place of the one that may be there, which may have more parts.
    fn put(&mut self, name: &[u8], version: u64, content: &[u8]) -> Result<(), ::sled::Error> {
        if self.get(&record::part(name, 0))?.is_some() {
            self.delete_below(name)?;
        }
        let parts = record::split(name, version, content);
        self.staged.extend(parts.into_iter().map(|(key, value)| (key, Some(value))));
        Ok(())
    }

    fn delete_below(&mut self, prefix: &[u8]) -> Result<(), ::sled::Error> {
        let staged = self.staged.range_mut(prefix.to_vec()..);
        for (_, value) in staged.take_while(|(key, _)| key.starts_with(prefix)) {
            *value = None;
        }
        for key in self.tree.scan_prefix(prefix).keys() {
            self.staged.insert(key?.to_vec(), None);
        }
        Ok(())
    }
}

fn check_sizes(job: &JobKey, snapshot: &Bytes, rows: &[RowWrite]) -> Result<(), StoreError> {
    let rows = rows.iter().map(|row| match row {
        RowWrite::Put { record, .. } => record.len(),
        RowWrite::Delete(_) | RowWrite::Clear => 0,
    });
    match rows.chain([snapshot.len()]).max() {
        Some(len) if len > MAX_RECORD => Err(StoreError::TooLarge { job: job.clone(), len }),
        _ => Ok(()),
    }
}
