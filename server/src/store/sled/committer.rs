//! The one thread that writes. It drains its inbox, writes everything found there as one batch, flushes, syncs, and
//! only then answers. (Never `flush_async`: under concurrent tasks it dead-locks, sled #1308.)

use super::{
    SledOptions,
    database::{Database, OpenError, guarded},
    disk::Directory,
    overlay::{Overlay, StageError},
    shared::Shared,
};
use crate::store::{Disk, Health, JobKey, RowWrite, StoreError, Stored};
use bytes::Bytes;
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};

/// Writes in one batch at most.
const MAX_BATCH: usize = 512;
/// How often the committer looks after itself when nothing is asked of it.
const TICK: Duration = Duration::from_secs(1);

/// A write, and where to answer.
pub(super) struct Command {
    pub(super) write: Write,
    /// The version of what was saved or restored; for a removal, how many jobs were removed: 0 or 1.
    pub(super) answer: oneshot::Sender<Result<u64, StoreError>>,
    /// Its share of the inbox's bytes.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// See [`crate::store::JobStore`].
pub(super) enum Write {
    Save { job: JobKey, expected: Option<u64>, snapshot: Bytes, rows: Vec<RowWrite> },
    Restore { job: JobKey, stored: Stored, rows: Vec<RowWrite> },
    Remove { job: JobKey },
}

/// The state of the thread.
pub(super) struct Committer {
    directory: Directory,
    options: SledOptions,
    shared: Arc<Shared>,
    /// `None` while the database is closed after a failure.
    database: Option<Database>,
    /// When to try to open it again.
    reopen_at: Instant,
    /// When to look at the disk's space again.
    measure_at: Instant,
}

impl Committer {
    /// With a database that is open, or one that failed to open and will be tried again.
    pub(super) fn new(
        directory: Directory,
        options: SledOptions,
        shared: Arc<Shared>,
        database: Option<Database>,
    ) -> Self {
        let reopen_at = Instant::now() + options.reopen_every;
        let measure_at = Instant::now();
        let mut committer = Self { directory, options, shared, database, reopen_at, measure_at };
        // A full disk is told before the first write.
        committer.tend();
        committer
    }

    /// Works until all senders of `inbox` are gone and everything in it is answered.
    pub(super) fn run(mut self, runtime: &Runtime, mut inbox: mpsc::Receiver<Command>) {
        runtime.block_on(async {
            let mut batch = Vec::new();
            loop {
                self.shared.beat();
                match timeout(TICK, inbox.recv_many(&mut batch, MAX_BATCH)).await {
                    Ok(0) => break,
                    Ok(_) => self.commit(std::mem::take(&mut batch)),
                    Err(_) => {}
                }
                self.tend();
            }
        });
        self.shared.close("it was closed");
        if let Some(database) = self.database.take() {
            database.let_go();
        }
    }

    fn commit(&mut self, batch: Vec<Command>) {
        let (writes, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|command| (command.write, (command.answer, command._permit))).unzip();
        let results = match self.write(&writes) {
            Ok(results) => results,
            Err(error) => vec![Err(error); writes.len()],
        };
        for ((answer, _permit), result) in answers.into_iter().zip(results) {
            // A caller that has gone away does not want to know.
            let _ = answer.send(result);
        }
    }

    /// Writes a batch. An error means that none of it is known to be on the disk.
    fn write(&mut self, writes: &[Write]) -> Result<Vec<Result<u64, StoreError>>, StoreError> {
        self.check_space()?;
        let Some(database) = &mut self.database else { return Err(self.shared.unavailable()) };
        match guarded(|| write(database, &self.shared, writes)) {
            Ok(results) => Ok(results),
            Err(reason) => Err(self.fail(&reason)),
        }
    }

    fn check_space(&self) -> Result<(), StoreError> {
        let free = self.directory.free().map_err(|e| {
            StoreError::Unavailable(format!(
                "the free space of {} is unknown: {e}",
                self.directory.path().display()
            ))
        })?;
        if free >= self.options.min_free_bytes {
            return Ok(());
        }
        let path = self.directory.path().to_owned();
        let full = StoreError::Full { path, free, needed: self.options.min_free_bytes };
        self.shared.set_health(Health::Unavailable(full.to_string()));
        Err(full)
    }

    /// Closes the database after a failure; it is opened again later.
    fn fail(&mut self, reason: &str) -> StoreError {
        tracing::error!(reason, path = %self.directory.path().display(), "the store failed");
        self.shared.close(&format!("{reason}; it is tried again every {:?}", self.options.reopen_every));
        if let Some(database) = self.database.take() {
            database.let_go();
        }
        self.reopen_at = Instant::now() + self.options.reopen_every;
        self.shared.unavailable()
    }

    /// What is to be done from time to time: open the database again, notice that there is no room, or room again.
    fn tend(&mut self) {
        if Instant::now() >= self.measure_at {
            self.measure();
        }
        if self.database.is_none() {
            if Instant::now() >= self.reopen_at {
                self.reopen();
            }
        } else if self.check_space().is_ok() && self.shared.is_unhealthy() {
            tracing::info!("the store has room again");
            self.shared.set_health(Health::Healthy);
        }
    }

    fn measure(&mut self) {
        self.measure_at = Instant::now() + TICK;
        let least = self.options.min_free_bytes;
        let disk = self.directory.free().map(|free| Disk { free, least });
        *self.shared.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk.ok();
    }

    fn reopen(&mut self) {
        match Database::open(&self.directory, &self.options) {
            Ok(database) => {
                tracing::info!(path = %self.directory.path().display(), "the store works again");
                self.shared.open(&database.db);
                self.database = Some(database);
            }
            Err(OpenError::Failed(reason)) => {
                self.fail(&format!("the database can't be opened: {reason}"));
            }
            Err(OpenError::Refused(error)) => {
                self.fail(&error.to_string());
            }
        }
    }
}

/// Stages, applies, flushes and syncs.
fn write(
    database: &mut Database,
    shared: &Shared,
    writes: &[Write],
) -> Result<Vec<Result<u64, StoreError>>, String> {
    let tree: &::sled::Tree = &database.db;
    let mut overlay = Overlay::new(tree, database.last_version);
    let mut results = Vec::with_capacity(writes.len());
    for write in writes {
        results.push(match stage(&mut overlay, write) {
            Ok(answer) => Ok(answer),
            Err(StageError::Refused(error)) => Err(error),
            Err(StageError::Failed(e)) => return Err(format!("the database can't be read: {e}")),
        });
    }
    let Some((batch, last_version)) = overlay.into_batch() else { return Ok(results) };
    let number = {
        // Readers see a batch as a whole, and know its number, so that they can wait until it is durable.
        let mut state = shared.state.write().unwrap_or_else(PoisonError::into_inner);
        state.applied += 1;
        tree.apply_batch(batch).map_err(|e| format!("the database can't be written: {e}"))?;
        state.applied
    };
    database.db.flush().map_err(|e| format!("the database can't be flushed: {e}"))?;
    database.files.sync().map_err(|e| format!("the database can't be synced: {e}"))?;
    database.last_version = last_version;
    database.mark.raise(last_version);
    shared.progress.send_modify(|progress| progress.durable = number);
    Ok(results)
}

fn stage(overlay: &mut Overlay<'_>, write: &Write) -> Result<u64, StageError> {
    match write {
        Write::Save { job, expected, snapshot, rows } => overlay.save(job, *expected, snapshot, rows),
        Write::Restore { job, stored, rows } => overlay.restore(job, stored, rows).map(|()| stored.version),
        Write::Remove { job } => Ok(u64::from(overlay.remove(job)?)),
    }
}
