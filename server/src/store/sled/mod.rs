//! Jobs in a directory of this machine, with sled. One thread writes ([`committer`]), any thread reads ([`reader`]).
//!
//! Reads run on tokio's blocking threads: sled keeps only a part of its pages in memory, so a read may wait for the
//! disk.

mod committer;
mod database;
mod disk;
mod import;
mod mark;
mod overlay;
mod reader;
mod record;
mod shared;
#[cfg(test)]
mod tests;

use self::{
    committer::{Command, Committer, Write},
    database::{Database, OpenError},
    disk::Directory,
    reader::ReadError,
    shared::{Progress, Shared},
};
use super::{Disk, Health, JobKey, JobStore, Listed, RowKey, RowWrite, StoreError, Stored, WholeJob};
use async_trait::async_trait;
use bytes::Bytes;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Writes that wait for the committer at most; more callers wait outside.
const INBOX: usize = 1024;
/// Bytes of the writes that wait for the committer at most, in KiB.
const INBOX_KIB: u32 = 64 << 10;

/// The knobs of a [`SledStore`].
#[derive(Debug, Clone)]
pub struct SledOptions {
    /// Memory for pages read from the disk, in bytes. Less means more reads when idle jobs wake. Default: 32 MiB, with which
    /// a store of 100,000 jobs stays below 200 MB.
    pub cache_bytes: u64,
    /// Writes are refused when fewer bytes are free: sled can't open a database on a full disk. Default: 64 MiB.
    pub min_free_bytes: u64,
    /// How often a failed database is opened again. Default: 10 s.
    pub reopen_every: Duration,
    /// Make a store where there is none. Default: yes.
    pub create: bool,
    /// Open a store that has lost its newest records, to save what is left. Default: no.
    pub accept_cut: bool,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            min_free_bytes: 64 << 20,
            reopen_every: Duration::from_secs(10),
            create: true,
            accept_cut: false,
        }
    }
}

/// A [`JobStore`] in a directory of this machine, which one process at a time can use.
pub struct SledStore {
    shared: Arc<Shared>,
    /// `None` once closed.
    inbox: Mutex<Option<mpsc::Sender<Command>>>,
    inbox_kib: Arc<Semaphore>,
    committer: Mutex<Option<JoinHandle<()>>>,
    cut: Option<StoreError>,
}

impl SledStore {
    /// Opens the store in `path`, creating it if need be. Blocks for as long as sled needs to read its log. If the
    /// database itself fails to open (the disk is full, say), the store starts as [`Health::Unavailable`] and tries
    /// again; so a server can start, say that it is not ready, and recover.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Directory`], [`StoreError::NoStore`]; and what never heals:
    /// [`StoreError::NewerStore`], [`StoreError::NotAStore`], [`StoreError::Cut`].
    pub fn open(path: &Path, options: SledOptions) -> Result<Self, StoreError> {
        let unusable =
            |e: std::io::Error| StoreError::Directory { path: path.to_owned(), reason: e.to_string() };
        if !options.create && !disk::holds_a_store(path) {
            return Err(StoreError::NoStore { path: path.to_owned() });
        }
        let directory = Directory::lock(path)?;
        let shared = Arc::new(Shared::new());
        let database = match Database::open(&directory, &options) {
            Ok(database) => Some(database),
            Err(OpenError::Refused(error)) => return Err(error),
            Err(OpenError::Failed(reason)) => {
                tracing::error!(reason, path = %path.display(), "the store can't be opened yet");
                shared.close(&format!("the database can't be opened: {reason}"));
                None
            }
        };
        if let Some(database) = &database {
            shared.open(&database.db);
        }
        let cut = database.as_ref().and_then(|database| database.cut.clone());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(unusable)?;
        let (sender, receiver) = mpsc::channel(INBOX);
        let committer = Committer::new(directory, options, shared.clone(), database);
        let thread = thread::Builder::new()
            .name("store-committer".to_owned())
            .spawn(move || committer.run(&runtime, receiver))
            .map_err(unusable)?;
        Ok(Self {
            shared,
            inbox: Mutex::new(Some(sender)),
            inbox_kib: Arc::new(Semaphore::new(INBOX_KIB as usize)),
            committer: Mutex::new(Some(thread)),
            cut,
        })
    }

    /// Opens a store that is there and works.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the database does not open, and those of
    /// [`SledStore::open`].
    pub async fn open_existing(path: &Path, options: SledOptions) -> Result<Self, StoreError> {
        let store = Self::open(path, SledOptions { create: false, ..options })?;
        if store.shared.is_open() {
            return Ok(store);
        }
        let error = store.shared.unavailable();
        store.close().await;
        Err(error)
    }

    /// [`StoreError::Cut`], if that was accepted.
    pub fn cut(&self) -> Option<&StoreError> {
        self.cut.as_ref()
    }

    async fn write(&self, write: Write, bytes: usize) -> Result<u64, StoreError> {
        let gone = |_| self.shared.unavailable();
        let kib = u32::try_from(bytes >> 10).unwrap_or(INBOX_KIB).clamp(1, INBOX_KIB);
        let permit =
            self.inbox_kib.clone().acquire_many_owned(kib).await.map_err(|_| self.shared.unavailable())?;
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inbox = inbox.ok_or_else(|| self.shared.unavailable())?;
        let (answer, result) = oneshot::channel();
        inbox
            .send(Command { write, answer, _permit: permit })
            .await
            .map_err(|_| self.shared.unavailable())?;
        drop(inbox);
        result.await.map_err(gone)?
    }

    /// Reads on a blocking thread, then waits until everything that was seen is durable.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&::sled::Tree) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        let (result, seen) = tokio::task::spawn_blocking(move || shared.read(read))
            .await
            .map_err(|e| StoreError::Unavailable(format!("a read was broken off: {e}")))??;
        let mut progress = self.shared.progress.subscribe();
        let is_known = |now: &Progress| now.generation != seen.generation || now.durable >= seen.durable;
        match progress.wait_for(is_known).await {
            Ok(now) if now.generation == seen.generation => result,
            _ => Err(self.shared.unavailable()),
        }
    }
}

#[async_trait]
impl JobStore for SledStore {
    async fn load(&self, job: &JobKey) -> Result<Option<Stored>, StoreError> {
        let job = job.clone();
        self.read(move |tree| reader::load(tree, &job)).await
    }

    async fn save(
        &self,
        job: &JobKey,
        expected: Option<u64>,
        snapshot: Bytes,
        rows: Vec<RowWrite>,
    ) -> Result<u64, StoreError> {
        let bytes = bytes(&snapshot, &rows);
        self.write(Write::Save { job: job.clone(), expected, snapshot, rows }, bytes).await
    }

    async fn remove(&self, job: &JobKey) -> Result<bool, StoreError> {
        Ok(self.write(Write::Remove { job: job.clone() }, 0).await? > 0)
    }

    async fn list(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let (tenant, mut after) = (tenant.to_owned(), after.map(str::to_owned));
        self.read(move |tree| {
            let mut page: Vec<Listed> = Vec::new();
            while page.len() < limit {
                let Some(job) = reader::next_job(tree, &tenant, after.as_deref())? else { break };
                after = Some(job.name.clone());
                page.push(job);
            }
            Ok(page)
        })
        .await
    }

    async fn next_tenant(&self, after: Option<&str>) -> Result<Option<String>, StoreError> {
        let after = after.map(str::to_owned);
        self.read(move |tree| reader::next_tenant(tree, after.as_deref())).await
    }

    async fn row(&self, job: &JobKey, key: RowKey) -> Result<Option<Bytes>, StoreError> {
        let job = job.clone();
        self.read(move |tree| reader::row(tree, &job, key)).await
    }

    async fn row_at_or_before(
        &self,
        job: &JobKey,
        key: RowKey,
    ) -> Result<Option<(RowKey, Bytes)>, StoreError> {
        let job = job.clone();
        self.read(move |tree| reader::row_at_or_before(tree, &job, key)).await
    }

    async fn rows(
        &self,
        job: &JobKey,
        first: RowKey,
        last: RowKey,
        limit: usize,
    ) -> Result<Vec<(RowKey, Bytes)>, StoreError> {
        let job = job.clone();
        self.read(move |tree| reader::rows(tree, &job, first, last, limit)).await
    }

    async fn next_whole(&self, after: Option<&JobKey>) -> Result<Option<WholeJob>, StoreError> {
        let after = after.cloned();
        self.read(move |tree| reader::next_whole(tree, after.as_ref())).await
    }

    async fn restore(
        &self,
        job: &JobKey,
        stored: Stored,
        rows: Vec<(RowKey, Bytes)>,
    ) -> Result<(), StoreError> {
        let rows: Vec<_> = rows.into_iter().map(|(key, record)| RowWrite::Put { key, record }).collect();
        let bytes = bytes(&stored.snapshot, &rows);
        self.write(Write::Restore { job: job.clone(), stored, rows }, bytes).await?;
        Ok(())
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    fn heartbeat(&self) -> Instant {
        self.shared.last_beat()
    }

    fn disk(&self) -> Option<Disk> {
        *self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn close(&self) {
        drop(self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take());
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = committer {
            match tokio::task::spawn_blocking(move || thread.join()).await {
                Ok(Ok(())) => {}
                _ => tracing::error!("the store's committer thread panicked"),
            }
        }
    }
}

/// What a write holds in memory.
fn bytes(snapshot: &Bytes, rows: &[RowWrite]) -> usize {
    rows.iter().fold(snapshot.len(), |sum, row| match row {
        RowWrite::Put { record, .. } => sum.saturating_add(record.len()),
        RowWrite::Delete(_) | RowWrite::Clear => sum,
    })
}
