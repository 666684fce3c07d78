//! What the committer and the readers share: the database while it is open, and how much of it is durable.

use super::{database::guarded, reader::ReadError};
use crate::store::{Disk, Health, StoreError};
use std::{
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// What the committer and the readers share.
pub(super) struct Shared {
    pub(super) state: RwLock<State>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) health: watch::Sender<Health>,
    pub(super) disk: Mutex<Option<Disk>>,
    born: Instant,
    /// The last heartbeat, in milliseconds since `born`.
    beat: AtomicU64,
}

/// The database as readers see it. Only the committer takes the lock for writing.
pub(super) struct State {
    db: Option<::sled::Db>,
    /// Why there is no database.
    reason: String,
    /// The number of the newest batch that readers can see.
    pub(super) applied: u64,
}

/// What readers wait for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// How often the database was closed: what was read before the last time may be lost.
    pub(super) generation: u64,
    /// The number of the newest batch that is on the disk.
    pub(super) durable: u64,
}

impl Shared {
    pub(super) fn new() -> Self {
        let reason = "it was not opened yet".to_owned();
        Self {
            state: RwLock::new(State { db: None, reason: reason.clone(), applied: 0 }),
            progress: watch::Sender::new(Progress::default()),
            health: watch::Sender::new(Health::Unavailable(reason)),
            disk: Mutex::new(None),
            born: Instant::now(),
            beat: AtomicU64::new(0),
        }
    }

    /// Lets readers in, to a database that is durable as it is.
    pub(super) fn open(&self, db: &::sled::Db) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.progress.send_modify(|progress| progress.durable = state.applied);
        state.db = Some(db.clone());
        drop(state);
        self.set_health(Health::Healthy);
    }

    /// Locks readers out. Returns when none is left inside.
    pub(super) fn close(&self, reason: &str) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.db = None;
        state.reason = reason.to_owned();
        self.progress.send_modify(|progress| progress.generation += 1);
        drop(state);
        self.set_health(Health::Unavailable(reason.to_owned()));
    }

    /// Reads, and tells what must become durable before the result may be shown.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&::sled::Tree) -> Result<T, ReadError>,
    ) -> Result<(Result<T, StoreError>, Progress), StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = &state.db else { return Err(StoreError::Unavailable(state.reason.clone())) };
        let generation = self.progress.borrow().generation;
        let result = guarded(|| match read(db) {
            Ok(value) => Ok(Ok(value)),
            Err(ReadError::Damaged(error)) => Ok(Err(error)),
            Err(ReadError::Failed(e)) => Err(e.to_string()),
        });
        let result = result
            .map_err(|reason| StoreError::Unavailable(format!("the database can't be read: {reason}")))?;
        Ok((result, Progress { generation, durable: state.applied }))
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).db.is_some()
    }

    pub(super) fn unavailable(&self) -> StoreError {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let reason = if state.db.is_some() { "it was closed for a moment, try again" } else { &state.reason };
        StoreError::Unavailable(reason.to_owned())
    }

    pub(super) fn set_health(&self, health: Health) {
        self.health.send_if_modified(|now| {
            let changed = *now != health;
            *now = health;
            changed
        });
    }

    pub(super) fn is_unhealthy(&self) -> bool {
        *self.health.borrow() != Health::Healthy
    }

    /// The committer is alive.
    pub(super) fn beat(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(now, Relaxed);
    }
    /// When the committer last was alive.
    pub(super) fn last_beat(&self) -> Instant {
        self.born + Duration::from_millis(self.beat.load(Relaxed))
    }
}
