//! A store that may not be there yet: its volume is not mounted, another process still has it, its disk is full. The server
//! starts all the same, says why it is not serving, and serves when the store is there.

use super::{Disk, Health, JobKey, JobStore, Listed, RowKey, RowWrite, StoreError, Stored, WholeJob};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause between two attempts: an attempt costs a few system calls.
const PAUSE: Duration = Duration::from_secs(1);

type Opened = Result<Arc<dyn JobStore>, StoreError>;

/// A [`JobStore`] that is opened in the background; until then all it says is [`StoreError::Unavailable`].
pub struct LateStore {
    inner: OnceLock<Arc<dyn JobStore>>,
    health: watch::Sender<Health>,
    /// The last sign of life while there is no store: an attempt that hangs is one that is stuck.
    beat: Mutex<Instant>,
    closed: CancellationToken,
    /// Set when no attempt will ever succeed.
    refused: watch::Sender<Option<StoreError>>,
}

impl LateStore {
    /// Begins to open the store, and returns when the first attempt has ended, or after `patience`.
    ///
    /// # Errors
    /// One that does not heal ([`StoreError::heals`]).
    pub async fn open(
        open: impl Fn() -> Opened + Send + Sync + 'static,
        patience: Duration,
    ) -> Result<Arc<Self>, StoreError> {
        let away = Health::Unavailable("it is being opened".to_owned());
        let late = Arc::new(Self {
            inner: OnceLock::new(),
            health: watch::Sender::new(away.clone()),
            beat: Mutex::new(Instant::now()),
            closed: CancellationToken::new(),
            refused: watch::Sender::new(None),
        });
        let (mut health, mut refused) = (late.health.subscribe(), late.refused.subscribe());
        tokio::spawn(late.clone().keep_trying(Arc::new(open)));
        let first = async {
            tokio::select! {
                _ = health.wait_for(|health| *health != away) => {}
                _ = refused.wait_for(Option::is_some) => {}
            }
        };
        // After that it goes on in the background.
        let _ = tokio::time::timeout(patience, first).await;
        match late.refused.borrow().clone() {
            Some(error) => Err(error),
            None => Ok(late.clone()),
        }
    }

    /// Waits for an error that does not heal.
    pub async fn refused(&self) -> StoreError {
        let mut refused = self.refused.subscribe();
        match refused.wait_for(Option::is_some).await.ok().and_then(|error| error.clone()) {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    async fn keep_trying(self: Arc<Self>, open: Arc<dyn Fn() -> Opened + Send + Sync>) {
        loop {
            *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            let open = open.clone();
            let attempt = tokio::task::spawn_blocking(move || open()).await;
            match attempt.unwrap_or_else(|e| Err(StoreError::Unavailable(e.to_string()))) {
                Ok(store) => return self.take(store).await,
                Err(error) if error.heals() => {
                    let reason = format!("{error}; it is tried again every {PAUSE:?}");
                    self.set_health(Health::Unavailable(reason));
                }
                Err(error) => {
                    self.refused.send_replace(Some(error));
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.closed.cancelled() => return,
            }
        }
    }

    /// From now on this is the store; says what it says of its health.
    async fn take(&self, store: Arc<dyn JobStore>) {
        let mut health = store.health();
        if self.closed.is_cancelled() || self.inner.set(store.clone()).is_err() {
            return store.close().await;
        }
        loop {
            let now = health.borrow_and_update().clone();
            self.set_health(now);
            if health.changed().await.is_err() {
                return;
            }
        }
    }

    fn set_health(&self, health: Health) {
        self.health.send_if_modified(|now| {
            let changed = *now != health;
            *now = health;
            changed
        });
    }

    fn inner(&self) -> Result<&Arc<dyn JobStore>, StoreError> {
        self.inner.get().ok_or_else(|| match &*self.health.borrow() {
            Health::Unavailable(reason) => StoreError::Unavailable(reason.clone()),
            Health::Healthy => StoreError::Unavailable("it was opened this moment: try again".to_owned()),
        })
    }
}

#[async_trait]
impl JobStore for LateStore {
    async fn load(&self, job: &JobKey) -> Result<Option<Stored>, StoreError> {
        self.inner()?.load(job).await
    }

    async fn save(
        &self,
        job: &JobKey,
        expected: Option<u64>,
        snapshot: Bytes,
        rows: Vec<RowWrite>,
    ) -> Result<u64, StoreError> {
        self.inner()?.save(job, expected, snapshot, rows).await
    }

    async fn remove(&self, job: &JobKey) -> Result<bool, StoreError> {
        self.inner()?.remove(job).await
    }

    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        self.inner()?.list(tenant, after, limit).await
    }

    async fn next_tenant(&self, after: Option<&str>) -> Result<Option<String>, StoreError> {
        self.inner()?.next_tenant(after).await
    }

    async fn row(&self, job: &JobKey, key: RowKey) -> Result<Option<Bytes>, StoreError> {
        self.inner()?.row(job, key).await
    }

    async fn row_at_or_before(
        &self,
        job: &JobKey,
        key: RowKey,
    ) -> Result<Option<(RowKey, Bytes)>, StoreError> {
        self.inner()?.row_at_or_before(job, key).await
    }

    async fn rows(
        &self,
        job: &JobKey,
        first: RowKey,
        last: RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Bytes)>, StoreError> {
        self.inner()?.rows(job, first, last, limit).await
    }

    async fn next_whole(&self, after: Option<&JobKey>) -> Result<Option<WholeJob>, StoreError> {
        self.inner()?.next_whole(after).await
    }

    async fn restore(
        &self,
        job: &JobKey,
        stored: Stored,
        rows: Vec<(RowKey, Bytes)>,
    ) -> Result<(), StoreError> {
        self.inner()?.restore(job, stored, rows).await
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn heartbeat(&self) -> Instant {
        match self.inner.get() {
            Some(store) => store.heartbeat(),
            None => *self.beat.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn disk(&self) -> Option<Disk> {
        self.inner.get()?.disk()
    }

    async fn close(&self) {
        self.closed.cancel();
        if let Some(store) = self.inner.get() {
            store.close().await;
        }
    }
}
