//! A store in memory whose next save can go wrong in a chosen way.

use crate::store::{
    Disk, Health, JobKey, JobStore, Listed, RowKey, RowWrite, StoreError, Stored, WholeJob,
    memory::MemoryStore,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::{sync::Mutex, time::Instant};
use tokio::sync::watch;

/// What happens to the next save.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mishap {
    /// It fails and has not happened.
    Lost,
    /// It fails although it has happened.
    Unanswered,
    /// It never returns.
    Hangs,
    /// The caller's task panics.
    Panics,
}

#[derive(Default)]
pub(super) struct Trap {
    inner: MemoryStore,
    next: Mutex<Option<Mishap>>,
}

impl Trap {
    pub(super) fn set(&self, mishap: Mishap) {
        *self.next.lock().unwrap() = Some(mishap);
    }
}

#[async_trait]
impl JobStore for Trap {
    async fn load(&self, job: &JobKey) -> Result<Option<Stored>, StoreError> {
        self.inner.load(job).await
    }

    async fn save(
        &self,
        job: &JobKey,
        expected: Option<u64>,
        snapshot: Bytes,
        rows: Vec<RowWrite>,
    ) -> Result<u64, StoreError> {
        let mishap = self.next.lock().unwrap().take();
        let away = || Err(StoreError::Unavailable("as the test wants".to_owned()));
        match mishap {
            None => self.inner.save(job, expected, snapshot, rows).await,
            Some(Mishap::Lost) => away(),
            Some(Mishap::Unanswered) => {
                self.inner.save(job, expected, snapshot, rows).await.unwrap();
                away()
            }
            Some(Mishap::Hangs) => std::future::pending().await,
            Some(Mishap::Panics) => panic!("as the test wants"),
        }
    }

    async fn remove(&self, job: &JobKey) -> Result<bool, StoreError> {
        self.inner.remove(job).await
    }

    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(tenant, after, limit).await
    }

    async fn next_tenant(&self, after: Option<&str>) -> Result<Option<String>, StoreError> {
        self.inner.next_tenant(after).await
    }

    async fn row(&self, job: &JobKey, key: RowKey) -> Result<Option<Bytes>, StoreError> {
        self.inner.row(job, key).await
    }

    async fn row_at_or_before(
        &self,
        job: &JobKey,
        key: RowKey,
    ) -> Result<Option<(RowKey, Bytes)>, StoreError> {
        self.inner.row_at_or_before(job, key).await
    }

    async fn rows(
        &self,
        job: &JobKey,
        first: RowKey,
        last: RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Bytes)>, StoreError> {
        self.inner.rows(job, first, last, limit).await
    }

    async fn next_whole(&self, after: Option<&JobKey>) -> Result<Option<WholeJob>, StoreError> {
        self.inner.next_whole(after).await
    }

    async fn restore(
        &self,
        job: &JobKey,
        stored: Stored,
        rows: Vec<(RowKey, Bytes)>,
    ) -> Result<(), StoreError> {
        self.inner.restore(job, stored, rows).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.inner.health()
    }

    fn heartbeat(&self) -> Instant {
        self.inner.heartbeat()
    }

    fn disk(&self) -> Option<Disk> {
        None
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
