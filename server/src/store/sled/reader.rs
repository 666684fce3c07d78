//! What is read from the database. All functions may wait for the disk.

use super::record;
use crate::store::{JobKey, Listed, RowKey, StoreError, Stored};
use ::sled::{IVec, Tree};
use bytes::Bytes;

/// Why a read failed.
pub(super) enum ReadError {
    /// The record is there but can't be trusted.
    Damaged(StoreError),
    /// The database failed.
    Failed(::sled::Error),
}

impl From<::sled::Error> for ReadError {
    fn from(error: ::sled::Error) -> Self {
        Self::Failed(error)
    }
}

/// A snapshot.
pub(super) fn load(tree: &Tree, job: &JobKey) -> Result<Option<Stored>, ReadError> {
    let name = record::snapshot(job);
    let Some(first) = tree.get(record::part(&name, 0))? else { return Ok(None) };
    let (version, snapshot) = join(tree, job, "its snapshot", &name, &first)?;
    Ok(Some(Stored { version, snapshot }))
}

/// A row.
pub(super) fn row(tree: &Tree, job: &JobKey, key: RowKey) -> Result<Option<Bytes>, ReadError> {
    let name = record::row(job, key);
    let Some(first) = tree.get(record::part(&name, 0))? else { return Ok(None) };
    Ok(Some(join(tree, job, &key.to_string(), &name, &first)?.1))
}

/// The greatest row of the kind of `key` that is not above it.
pub(super) fn row_at_or_before(
    tree: &Tree,
    job: &JobKey,
    key: RowKey,
) -> Result<Option<(RowKey, Bytes)>, ReadError> {
    let least = record::part(&record::row(job, key.first_of_kind()), 0);
    let greatest = record::part(&record::row(job, key), u32::MAX);
    let Some(last_part) = tree.range(least..=greatest).keys().next_back() else { return Ok(None) };
    let found = row_of(job, &last_part?)?;
    Ok(row(tree, job, found)?.map(|record| (found, record)))
}

/// At most `limit` rows from `first` through `last`.
pub(super) fn rows(
    tree: &Tree,
    job: &JobKey,
    first: RowKey,
    last: RowKey,
    limit: usize,
) -> Result<Vec<(RowKey, Bytes)>, ReadError> {
    let mut rows = Vec::new();
    let mut next = record::part(&record::row(job, first), 0);
    let end = record::part(&record::row(job, last), u32::MAX);
    while rows.len() < limit && next <= end {
        let Some(found) = tree.range(next.as_slice()..=end.as_slice()).next() else { break };
        let (key, value) = found?;
        let row = row_of(job, &key)?;
        let name = record::row(job, row);
        rows.push((row, join(tree, job, &row.to_string(), &name, &value)?.1));
        next = record::part(&name, u32::MAX);
    }
    Ok(rows)
}

/// The first job of a tenant after the name `after`.
pub(super) fn next_job(tree: &Tree, tenant: &str, after: Option<&str>) -> Result<Option<Listed>, ReadError> {
    let prefix = record::jobs_of(tenant);
    let start = match after {
        Some(name) => record::part(&record::snapshot(&JobKey::new(tenant, name)), u32::MAX),
        None => prefix.clone(),
    };
    let Some(found) = tree.range(start..).next() else { return Ok(None) };
    let (key, first) = found?;
    if !key.starts_with(&prefix) {
        return Ok(None);
    }
    let Some(name) = record::job_of_key(&prefix, &key) else {
        return Err(::sled::Error::Unsupported(format!("a key that no release writes: {key:?}")).into());
    };
    let job = JobKey::new(tenant, name.clone());
    let stored = match join(tree, &job, "its snapshot", &record::snapshot(&job), &first) {
        Ok((version, snapshot)) => Ok(Stored { version, snapshot }),
        Err(ReadError::Damaged(error)) => Err(error),
        Err(failed) => return Err(failed),
    };
    Ok(Some(Listed { name, stored }))
}

fn join(
    tree: &Tree,
    job: &JobKey,
    which: &str,
    name: &[u8],
    first: &IVec,
) -> Result<(u64, Bytes), ReadError> {
    record::join(name, first, |key| tree.get(key))?.map_err(|what| damaged(job, format!("{which}: {what}")))
}

fn row_of(job: &JobKey, key: &[u8]) -> Result<RowKey, ReadError> {
    record::row_of_key(&record::rows_of(job), key)
        .ok_or_else(|| damaged(job, format!("a row with the unknown key {key:?}")))
}

fn damaged(job: &JobKey, what: String) -> ReadError {
    ReadError::Damaged(StoreError::Damaged { job: job.clone(), what })
}
