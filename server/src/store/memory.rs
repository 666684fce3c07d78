//! Jobs in memory: the model that the other stores are compared with.

use super::{
    Disk, Health, JobKey, JobStore, Listed, MAX_RECORD, RowKey, RowWrite, StoreError, Stored, WholeJob,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::watch;

/// A [`JobStore`] that forgets everything with its process.
#[derive(Debug)]
pub struct MemoryStore {
    jobs: Mutex<Jobs>,
    health: watch::Sender<Health>,
}

#[derive(Debug, Default)]
struct Jobs {
    by_key: BTreeMap<JobKey, Entry>,
    last_version: u64,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    stored: Stored,
    rows: BTreeMap<RowKey, Bytes>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self { jobs: Mutex::default(), health: watch::Sender::new(Health::Healthy) }
    }
}

impl MemoryStore {
    fn jobs(&self) -> Result<MutexGuard<'_, Jobs>, StoreError> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if jobs.closed { Err(StoreError::Unavailable("it was closed".to_owned())) } else { Ok(jobs) }
    }
}

#[async_trait]
impl JobStore for MemoryStore {
    async fn load(&self, job: &JobKey) -> Result<Option<Stored>, StoreError> {
        Ok(self.jobs()?.by_key.get(job).map(|entry| entry.stored.clone()))
    }

    async fn save(
        &self,
        job: &JobKey,
        expected: Option<u64>,
        snapshot: Bytes,
        rows: Vec<RowWrite>,
    ) -> Result<u64, StoreError> {
        let mut jobs = self.jobs()?;
        let records = rows.iter().filter_map(|row| match row {
            RowWrite::Put { record, .. } => Some(record),
            RowWrite::Delete(_) | RowWrite::Clear => None,
        });
        check_sizes(job, records.chain([&snapshot]))?;
        let found = jobs.by_key.get(job).map(|entry| entry.stored.version);
        if found != expected {
            return Err(StoreError::Conflict { job: job.clone(), expected, found });
        }
        jobs.last_version += 1;
        let stored = Stored { version: jobs.last_version, snapshot };
        let mut kept = jobs.by_key.remove(job).map(|entry| entry.rows).unwrap_or_default();
        for row in rows {
            match row {
                RowWrite::Put { key, record } => drop(kept.insert(key, record)),
                RowWrite::Delete(key) => drop(kept.remove(&key)),
                RowWrite::Clear => kept.clear(),
            }
        }
        jobs.by_key.insert(job.clone(), Entry { stored, rows: kept });
        Ok(jobs.last_version)
    }

    async fn remove(&self, job: &JobKey) -> Result<bool, StoreError> {
        Ok(self.jobs()?.by_key.remove(job).is_some())
    }

    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let start = match after {
            Some(name) => Bound::Excluded(JobKey::new(tenant, name)),
            None => Bound::Included(JobKey::new(tenant, "")),
        };
        let jobs = self.jobs()?;
        let of_tenant =
            jobs.by_key.range((start, Bound::Unbounded)).take_while(|(key, _)| key.tenant == tenant);
        Ok(of_tenant
            .take(limit)
            .map(|(key, entry)| Listed { name: key.name.clone(), stored: Ok(entry.stored.clone()) })
            .collect())
    }

    async fn next_tenant(&self, after: Option<&str>) -> Result<Option<String>, StoreError> {
        let jobs = self.jobs()?;
        let tenants = jobs.by_key.keys().map(|key| &key.tenant);
        Ok(tenants.into_iter().find(|tenant| after.is_none_or(|after| tenant.as_str() > after)).cloned())
    }

    async fn row(&self, job: &JobKey, key: RowKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.jobs()?.by_key.get(job).and_then(|entry| entry.rows.get(&key).cloned()))
    }

    async fn row_at_or_before(
        &self,
        job: &JobKey,
        key: RowKey,
    ) -> Result<Option<(RowKey, Bytes)>, StoreError> {
        let jobs = self.jobs()?;
        let found =
            jobs.by_key.get(job).and_then(|entry| entry.rows.range(key.first_of_kind()..=key).next_back());
        Ok(found.map(|(key, record)| (*key, record.clone())))
    }

    async fn rows(
        &self,
        job: &JobKey,
        first: RowKey,
        last: RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Bytes)>, StoreError> {
        let jobs = self.jobs()?;
        let Some(entry) = jobs.by_key.get(job).filter(|_| first <= last) else { return Ok(Vec::new()) };
        Ok(entry.rows.range(first..=last).take(limit).map(|(key, record)| (*key, record.clone())).collect())
    }

    async fn next_whole(&self, after: Option<&JobKey>) -> Result<Option<WholeJob>, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let jobs = self.jobs()?;
        Ok(jobs.by_key.range((start, Bound::Unbounded)).next().map(|(key, entry)| WholeJob {
            key: key.clone(),
            stored: Some(entry.stored.clone()),
            rows: entry.rows.iter().map(|(key, record)| (*key, record.clone())).collect(),
            damage: Vec::new(),
        }))
    }

    async fn restore(
        &self,
        job: &JobKey,
        stored: Stored,
        rows: Vec<(RowKey, Bytes)>,
    ) -> Result<(), StoreError> {
        let mut jobs = self.jobs()?;
        check_sizes(job, rows.iter().map(|(_, record)| record).chain([&stored.snapshot]))?;
        if let Some(entry) = jobs.by_key.get(job) {
            let found = Some(entry.stored.version);
            return Err(StoreError::Conflict { job: job.clone(), expected: None, found });
        }
        jobs.last_version = jobs.last_version.max(stored.version);
        jobs.by_key.insert(job.clone(), Entry { stored, rows: rows.into_iter().collect() });
        Ok(())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn heartbeat(&self) -> Instant {
        Instant::now()
    }

    fn disk(&self) -> Option<Disk> {
        None
    }

    async fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.health.send_replace(Health::Unavailable("it was closed".to_owned()));
    }
}

fn check_sizes<'r>(job: &JobKey, records: impl Iterator<Item = &'r Bytes>) -> Result<(), StoreError> {
    match records.map(Bytes::len).max() {
        Some(len) if len > MAX_RECORD => Err(StoreError::TooLarge { job: job.clone(), len }),
        _ => Ok(()),
    }
}
