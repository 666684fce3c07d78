//! What is read from the database. All functions may wait for the disk.

use super::record;
use crate::store::{JobKey, Listed, RowKey, StoreError, Stored, WholeJob};
use ::sled::{IVec, Tree};
use bytes::Bytes;

/// Why a read failed.
pub(super) enum ReadError {
    /// The record is there but can't be trusted.
    Damaged(StoreError),
    /// The database failed.
    Failed(::sled::Error),
}

impl ReadError {
    /// What callers are told.
    pub(super) fn into_store(self) -> StoreError {
        match self {
            Self::Damaged(error) => error,
            Self::Failed(e) => StoreError::Unavailable(format!("the database can't be read: {e}")),
        }
    }
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
        return Err(foreign(&key));
    };
    let job = JobKey::new(tenant, name.clone());
    let stored = match join(tree, &job, "its snapshot", &record::snapshot(&job), &first) {
        Ok((version, snapshot)) => Ok(Stored { version, snapshot }),
        Err(ReadError::Damaged(error)) => Err(error),
        Err(failed) => return Err(failed),
    };
    Ok(Some(Listed { name, stored }))
}

/// The first tenant after `after` that has a job.
pub(super) fn next_tenant(tree: &Tree, after: Option<&str>) -> Result<Option<String>, ReadError> {
    let Some(found) = tree.range(record::tenants_after(after)).next() else { return Ok(None) };
    let (key, _) = found?;
    let owner = record::owner_of_key(&key).ok_or_else(|| foreign(&key))?;
    Ok(Some(owner.tenant))
}

/// The first job after `after`, with all that can be read of it.
pub(super) fn next_whole(tree: &Tree, after: Option<&JobKey>) -> Result<Option<WholeJob>, ReadError> {
    let Some(key) = next_owner(tree, after)? else { return Ok(None) };
    let mut damage = Vec::new();
    let missing = || damaged(&key, "its snapshot is missing".to_owned());
    let stored = load(tree, &key).and_then(|stored| stored.ok_or_else(missing));
    let stored = or_note(stored, &mut damage)?;
    let mut rows = Vec::new();
    let rows_of = record::rows_of(&key);
    let (mut next, end) = (rows_of.clone(), record::end_of(&rows_of));
    while let Some(found) = tree.range(next.as_slice()..end.as_slice()).next() {
        let (part, value) = found?;
        let Some(row) = or_note(row_of(&key, &part), &mut damage)? else {
            next = [&part, &[0][..]].concat();
            continue;
        };
        let name = record::row(&key, row);
        let record = join(tree, &key, &row.to_string(), &name, &value);
        rows.extend(or_note(record, &mut damage)?.map(|(_, record)| (row, record)));
        next = record::part(&name, u32::MAX);
    }
    Ok(Some(WholeJob { key, stored, rows, damage }))
}

/// The first job after `after` of which there is a snapshot or a row.
fn next_owner(tree: &Tree, after: Option<&JobKey>) -> Result<Option<JobKey>, ReadError> {
    let mut first = None;
    for space in record::all_after(after) {
        let Some(found) = tree.range(space).next() else { continue };
        let (key, _) = found?;
        let owner = record::owner_of_key(&key).ok_or_else(|| foreign(&key))?;
        first = Some(first.map_or(owner.clone(), |first: JobKey| first.min(owner)));
    }
    Ok(first)
}

/// Takes damage down, and leaves the damaged thing out.
fn or_note<T>(read: Result<T, ReadError>, damage: &mut Vec<String>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(ReadError::Damaged(StoreError::Damaged { what, .. })) => {
            damage.push(what);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn foreign(key: &[u8]) -> ReadError {
    ::sled::Error::Unsupported(format!("a key that no release writes: {key:?}")).into()
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
