//! Stores that fail on purpose, over one that works.

use super::{Disk, Health, JobKey, JobStore, Listed, RowKey, RowWrite, StoreError, Stored, WholeJob};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};
use tokio::sync::{Mutex, watch};

/// What a failing store says.
fn failed() -> StoreError {
    StoreError::Unavailable("it fails on purpose".to_owned())
}

/// What becomes of the last write before a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastWrite {
    /// It is durable, and the caller heard so.
    Answered,
    /// It is durable, but the crash came before the answer.
    Unheard,
}

/// What [`Faults`] decides about one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    /// Nothing happens, and the caller gets an error.
    Fails,
    /// It happens, and the caller gets an error.
    Unheard,
}

/// When to fail.
trait Faults: Send + Sync + 'static {
    fn read(&mut self) -> Fate;
    fn write(&mut self) -> Fate;
    /// Called after a write that was not refused; `false` if the store is down from now on.
    fn written(&mut self) -> bool {
        true
    }
}

/// A crash at a write.
struct Freeze {
    written: u64,
    durable: u64,
    last: LastWrite,
}

impl Faults for Freeze {
    fn read(&mut self) -> Fate {
        if self.written < self.durable { Fate::Works } else { Fate::Fails }
    }

    fn write(&mut self) -> Fate {
        match self.durable.saturating_sub(self.written) {
            0 => Fate::Fails,
            1 if self.last == LastWrite::Unheard => Fate::Unheard,
            _ => Fate::Works,
        }
    }

    fn written(&mut self) -> bool {
        self.written += 1;
        self.written < self.durable
    }
}

/// A failure now and then.
struct Chance {
    /// Of 1,000 calls.
    failures: u64,
    /// State of splitmix64.
    random: u64,
}

impl Chance {
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Faults for Chance {
    fn read(&mut self) -> Fate {
        if self.draw() % 1000 < self.failures { Fate::Fails } else { Fate::Works }
    }

    fn write(&mut self) -> Fate {
        match self.read() {
            Fate::Fails if self.draw().is_multiple_of(2) => Fate::Unheard,
            fate => fate,
        }
    }
}

/// A store that fails when its [`Faults`] say so.
struct Faulty<F> {
    inner: Arc<dyn JobStore>,
    /// Held across a write, so that writes are counted in the order in which they happen.
    faults: Mutex<F>,
    health: watch::Sender<Health>,
    failures: AtomicU64,
}

impl<F: Faults> Faulty<F> {
    fn new(inner: Arc<dyn JobStore>, faults: F) -> Self {
        let health = watch::Sender::new(Health::Healthy);
        Self { inner, faults: Mutex::new(faults), health, failures: AtomicU64::new(0) }
    }

    fn fail(&self) -> StoreError {
        self.failures.fetch_add(1, SeqCst);
        failed()
    }

    async fn read<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match self.faults.lock().await.read() {
            Fate::Works => read.await,
            Fate::Fails | Fate::Unheard => Err(self.fail()),
        }
    }

    async fn write<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut faults = self.faults.lock().await;
        let fate = faults.write();
        if fate == Fate::Fails {
            return Err(self.fail());
        }
        let answer = write.await?;
        if !faults.written() {
            self.health.send_replace(Health::Unavailable(failed().to_string()));
        }
        if fate == Fate::Works { Ok(answer) } else { Err(self.fail()) }
    }
}

/// Forwards a [`JobStore`] to `self.0: Faulty<_>`.
macro_rules! faulty_store {
    ($store:ty) => {
        #[async_trait]
        impl JobStore for $store {
            async fn load(&self, job: &JobKey) -> Result<Option<Stored>, StoreError> {
                self.0.read(self.0.inner.load(job)).await
            }

            async fn save(
                &self,
                job: &JobKey,
                expected: Option<u64>,
                snapshot: Bytes,
                rows: Vec<RowWrite>,
            ) -> Result<u64, StoreError> {
                self.0.write(self.0.inner.save(job, expected, snapshot, rows)).await
            }

            async fn remove(&self, job: &JobKey) -> Result<bool, StoreError> {
                self.0.write(self.0.inner.remove(job)).await
            }

            async fn list(
                &self,
                tenant: &str,
                after: Option<&str>,
                limit: usize,
            ) -> Result<Vec<Listed>, StoreError> {
                self.0.read(self.0.inner.list(tenant, after, limit)).await
            }

            async fn next_tenant(&self, after: Option<&str>) -> Result<Option<String>, StoreError> {
                self.0.read(self.0.inner.next_tenant(after)).await
            }

            async fn row(&self, job: &JobKey, key: RowKey) -> Result<Option<Bytes>, StoreError> {
                self.0.read(self.0.inner.row(job, key)).await
            }

            async fn row_at_or_before(
                &self,
                job: &JobKey,
                key: RowKey,
            ) -> Result<Option<(RowKey, Bytes)>, StoreError> {
                self.0.read(self.0.inner.row_at_or_before(job, key)).await
            }

            async fn rows(
                &self,
                job: &JobKey,
                first: RowKey,
                last: RowKey,
                limit: usize,
            ) -> Result<Vec<(RowKey, Bytes)>, StoreError> {
                self.0.read(self.0.inner.rows(job, first, last, limit)).await
            }

            async fn next_whole(&self, after: Option<&JobKey>) -> Result<Option<WholeJob>, StoreError> {
                self.0.read(self.0.inner.next_whole(after)).await
            }

            async fn restore(
                &self,
                job: &JobKey,
                stored: Stored,
                rows: Vec<(RowKey, Bytes)>,
            ) -> Result<(), StoreError> {
                self.0.write(self.0.inner.restore(job, stored, rows)).await
            }

            fn health(&self) -> watch::Receiver<Health> {
                self.0.health.subscribe()
            }

            fn heartbeat(&self) -> Instant {
                self.0.inner.heartbeat()
            }

            fn disk(&self) -> Option<Disk> {
                self.0.inner.disk()
            }

            async fn close(&self) {
                self.0.inner.close().await;
            }
        }
    };
}

/// A store that crashes: after a number of writes nothing is written any more and every call fails, as if the process
/// or its disk were gone. The store below then holds what a restarted process would find.
pub struct Freezing(Faulty<Freeze>);

impl Freezing {
    /// Crashes when `durable` writes are durable. A write that is refused does not count.
    pub fn new(inner: Arc<dyn JobStore>, durable: u64, last: LastWrite) -> Self {
        Self(Faulty::new(inner, Freeze { written: 0, durable, last }))
    }

    /// How many calls have failed because of the crash.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(SeqCst)
    }
}

faulty_store!(Freezing);

/// A store whose calls fail at random. Half of the writes that fail have happened all the same.
pub struct Flaky(Faulty<Chance>);

impl Flaky {
    /// Fails `failures` of 1,000 calls; the same seed and calls give the same failures.
    pub fn new(inner: Arc<dyn JobStore>, failures: u64, seed: u64) -> Self {
        Self(Faulty::new(inner, Chance { failures, random: seed }))
    }

    /// How many calls have failed.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(SeqCst)
    }
}

faulty_store!(Flaky);
