//! The jobs in memory, by name and in the order in which they were last asked. Whoever needs a place takes that of the job
//! that was asked longest ago, unless that job is busy or its trainer was heard a moment ago.

use super::census::{Census, Published, Standing};
use crate::{actor::Letter, store::JobKey, telemetry::metrics};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc::{Sender, error::TrySendError};

/// Jobs that are looked at to find one that may leave: those that may not go to the end of the queue, so the next search
/// begins behind them.
const LOOKS: usize = 1024;

/// The jobs in memory.
#[derive(Default)]
pub(super) struct Seats {
    by_job: HashMap<Arc<JobKey>, Seat>,
    /// By the time they were last asked, in messages.
    queue: BTreeMap<u64, Arc<JobKey>>,
    /// Messages so far, and places taken so far.
    asked: u64,
    started: u64,
    closed: bool,
}

struct Seat {
    number: u64,
    asked: u64,
    mailbox: Sender<Letter>,
    tenure: Arc<Tenure>,
}

/// What tells whether an actor may leave, without asking it.
#[derive(Default)]
pub(super) struct Tenure {
    /// Messages that were sent to it and are not handled yet.
    waiting: AtomicU64,
    /// Until then it should stay, in milliseconds since 1970.
    needed_until: AtomicU64,
    standing: Published,
}

impl Tenure {
    /// The actor has handled a message.
    pub(super) fn handled(&self, needed_until: u64, standing: Option<Standing>) {
        self.standing.set(standing);
        self.needed_until.store(needed_until, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Release);
    }

    fn may_leave(&self, now: u64) -> bool {
        self.waiting.load(Ordering::Acquire) == 0 && self.needed_until.load(Ordering::Relaxed) < now
    }
}

impl Seats {
    /// No more messages: the actors end when those that wait are handled.
    pub(super) fn close(&mut self) {
        (self.closed, self.by_job, self.queue) = (true, HashMap::new(), BTreeMap::new());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn is_taken(&self, key: &JobKey) -> bool {
        self.by_job.contains_key(key)
    }

    pub(super) fn taken(&self) -> usize {
        self.by_job.len()
    }

    /// Counts them at a moment in milliseconds since 1970.
    pub(super) fn census(&self, now: u64) -> Census {
        let mut census = Census::default();
        for Seat { tenure, .. } in self.by_job.values() {
            census.add(&tenure.standing, tenure.waiting.load(Ordering::Relaxed), now);
        }
        census
    }

    /// Whether a message to the job finds its actor.
    pub(super) fn is_open(&self, key: &JobKey) -> bool {
        self.by_job.get(key).is_some_and(|seat| !seat.mailbox.is_closed())
    }

    /// Sends a message to a job in memory.
    pub(super) fn post(&mut self, key: &JobKey, letter: Letter) -> Result<(), TrySendError<()>> {
        let Some(seat) = self.by_job.get(key) else { return Err(TrySendError::Closed(())) };
        seat.tenure.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = seat.mailbox.try_send(letter).map_err(|error| match error {
            TrySendError::Full(_) => TrySendError::Full(()),
            TrySendError::Closed(_) => TrySendError::Closed(()),
        });
        if sent.is_err() {
            seat.tenure.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.requeue(key);
        sent
    }

    /// A place for a job that is not in memory: its actor's number and what it is to publish.
    pub(super) fn take(&mut self, key: &JobKey, mailbox: Sender<Letter>) -> (u64, Arc<Tenure>) {
        self.asked += 1;
        self.started += 1;
        let (key, tenure) = (Arc::new(key.clone()), Arc::new(Tenure::default()));
        let seat = Seat { number: self.started, asked: self.asked, mailbox, tenure: tenure.clone() };
        self.queue.insert(self.asked, key.clone());
        if let Some(closed) = self.by_job.insert(key, seat) {
            self.queue.remove(&closed.asked);
        }
        (self.started, tenure)
    }

    /// Gives the place of this actor free, if it is still its own.
    pub(super) fn leave(&mut self, key: &JobKey, number: u64) {
        if self.by_job.get(key).is_some_and(|seat| seat.number == number) {
            self.remove(key);
        }
    }

    /// Whether fewer than `places` are taken, if need be after a job has left. An actor whose mailbox is dropped ends.
    pub(super) fn make_room(&mut self, places: usize, now: u64) -> bool {
        for _ in 0..LOOKS {
            if self.taken() < places {
                return true;
            }
            let Some((_, oldest)) = self.queue.first_key_value() else { return false };
            let oldest = oldest.clone();
            if self.by_job.get(&oldest).is_some_and(|seat| seat.tenure.may_leave(now)) {
                self.remove(&oldest);
            } else {
                self.requeue(&oldest);
            }
        }
        self.taken() < places
    }

    fn requeue(&mut self, key: &JobKey) {
        self.asked += 1;
        let Some(seat) = self.by_job.get_mut(key) else { return };
        if let Some(key) = self.queue.remove(&seat.asked) {
            seat.asked = self.asked;
            self.queue.insert(self.asked, key);
        }
    }

    fn remove(&mut self, key: &JobKey) {
        if let Some(seat) = self.by_job.remove(key) {
            self.queue.remove(&seat.asked);
            metrics::jobs_live(self.taken());
        }
    }
}
