//! Which actor owns which job. An actor is made when its job is asked for and leaves memory when nobody asks or watches
//! for a while, or sooner if its place is needed; nothing is lost then, because what matters is stored.

pub(crate) mod census;
mod seats;

use crate::{
    actor::{Actor, Letter, Message, Reply, Shown, from_store},
    audit::Audit,
    auth::By,
    clock::Clock,
    error::Error,
    limit::Limit,
    quotas::Quotas,
    store::{JobKey, JobStore},
    telemetry::metrics,
};
use seats::{Seats, Tenure};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, mpsc::error::TrySendError, oneshot};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

/// What bounds the actors.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Jobs in memory at once.
    pub jobs: usize,
    /// Messages that may wait for one job.
    pub mailbox: usize,
    /// Silence after which a job leaves memory.
    pub idle: Duration,
    /// Numbers of directives, up to the newest of a job, whose losses are kept in detail.
    pub history: u64,
}

/// The actors of a server. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn JobStore>,
    clock: Clock,
    bounds: Mutex<Bounds>,
    audit: Audit,
    quotas: Quotas,
    /// Messages are sent under this lock, so that an actor whose mailbox is empty can leave without losing one.
    seats: Mutex<Seats>,
    tasks: TaskTracker,
}

impl Registry {
    /// No actor yet, no audit log and no quotas.
    pub fn new(store: Arc<dyn JobStore>, clock: Clock, bounds: Bounds) -> Self {
        Self::with(store, clock, bounds, Audit::default(), Quotas::default())
    }

    /// No actor yet.
    pub fn with(
        store: Arc<dyn JobStore>,
        clock: Clock,
        bounds: Bounds,
        audit: Audit,
        quotas: Quotas,
    ) -> Self {
        let tasks = TaskTracker::new();
        let bounds = Mutex::new(bounds);
        let shared = Shared { store, clock, bounds, audit, quotas, seats: Mutex::default(), tasks };
        Self { shared: Arc::new(shared) }
    }

    /// Other bounds: for the number of jobs at once, for a job from when it is loaded next.
    pub fn rebind(&self, bounds: Bounds) {
        *self.shared.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    /// Asks a job something and waits for the answer.
    ///
    /// # Errors
    /// What the job answers, [`Error::LimitReached`] if too many wait for it or if it is not in memory and every job there
    /// has a trainer, [`Error::Draining`].
    pub async fn ask<T>(&self, key: &JobKey, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, Error> {
        self.ask_as(By::default(), key, message).await
    }

    /// The same, with who asks for the audit log.
    ///
    /// # Errors
    /// As [`Registry::ask`].
    pub async fn ask_as<T>(
        &self,
        by: By,
        key: &JobKey,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(key, Letter { by, span: Span::current(), message: message(reply) })?;
        answer.await.unwrap_or_else(|_| Err(lost(key)))
    }

    /// A page of jobs, damaged ones included, in the order of their names; those in memory as they are there.
    ///
    /// # Errors
    /// [`Error::StoreUnavailable`].
    pub async fn page(&self, tenant: &str, after: Option<&str>, limit: usize) -> Result<Vec<Shown>, Error> {
        let Shared { store, clock, .. } = &*self.shared;
        let listed = store.list(tenant, after, limit).await;
        let mut page = Vec::new();
        for listed in listed.map_err(|e| from_store(&JobKey::new(tenant, ""), e))? {
            let key = JobKey::new(tenant, listed.name);
            let live = if self.is_live(&key) { self.ask(&key, Message::Show).await.ok() } else { None };
            page.push(live.unwrap_or_else(|| Shown::stored(&key, listed.stored, clock)));
        }
        Ok(page)
    }

    /// Sets the gauges of the jobs in memory.
    pub fn measure(&self) {
        let now = self.shared.clock.now();
        let census = self.shared.lock().census(now);
        census.publish();
    }

    /// Removes a job if it ended longer ago than `keep`; whether it did.
    ///
    /// # Errors
    /// As [`Registry::ask`].
    pub async fn expire(&self, key: &JobKey, keep: Duration) -> Result<bool, Error> {
        self.ask(key, |reply| Message::Expire(keep, reply)).await
    }

    /// Takes no more messages, and waits until those that were taken are answered.
    pub async fn close(&self) {
        {
            self.shared.lock().close();
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn is_live(&self, key: &JobKey) -> bool {
        self.shared.lock().is_taken(key)
    }

    fn send(&self, key: &JobKey, letter: Letter) -> Result<(), Error> {
        let mut seats = self.shared.lock();
        if seats.is_closed() {
            return Err(Error::Draining);
        }
        if !seats.is_open(key) {
            self.start(key, &mut seats)?;
        }
        seats.post(key, letter).map_err(|error| match error {
            TrySendError::Full(()) => Error::LimitReached { limit: Limit::Mailbox },
            TrySendError::Closed(()) => lost(key),
        })
    }

    fn start(&self, key: &JobKey, seats: &mut Seats) -> Result<(), Error> {
        let Shared { store, clock, audit, quotas, tasks, .. } = &*self.shared;
        let bounds = *self.shared.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        if !seats.make_room(bounds.jobs, clock.now()) {
            return Err(Error::LimitReached { limit: Limit::Jobs });
        }
        let (mailbox, messages) = mpsc::channel(bounds.mailbox);
        let (number, tenure) = seats.take(key, mailbox);
        metrics::jobs_live(seats.taken());
        let place = Place { shared: self.shared.clone(), key: key.clone(), number, tenure };
        let (audit, quotas) = (audit.clone(), quotas.clone());
        let actor = Actor::new(key.clone(), store.clone(), *clock, audit, quotas, bounds.history);
        tasks.spawn(run(actor, messages, place, bounds.idle));
        Ok(())
    }
}

/// Handles messages until the job is idle, its place is needed or the registry closes.
async fn run(mut actor: Actor, mut messages: mpsc::Receiver<Letter>, place: Place, idle: Duration) {
    loop {
        match tokio::time::timeout(idle, messages.recv()).await {
            Ok(None) => return,
            Ok(Some(letter)) => {
                let span = letter.span.clone();
                actor.handle(letter).instrument(span).await;
                place.tenure.handled(actor.needed_until(), actor.standing());
                if !actor.is_empty() {
                    continue;
                }
            }
            Err(_) if actor.is_watched() => continue,
            Err(_) => {}
        }
        if place.leave(|| messages.is_empty()) {
            return;
        }
    }
}

/// An actor's entry in the registry. Dropping it, in a panic too, gives the place free: the next message makes a new
/// actor, which loads the job as it was stored.
struct Place {
    shared: Arc<Shared>,
    key: JobKey,
    number: u64,
    tenure: Arc<Tenure>,
}

impl Place {
    /// Gives the place free, unless a message has come in the meantime.
    fn leave(&self, mailbox_is_empty: impl Fn() -> bool) -> bool {
        let mut seats = self.shared.lock();
        let leaves = mailbox_is_empty();
        if leaves {
            seats.leave(&self.key, self.number);
        }
        leaves
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().leave(&self.key, self.number);
        if std::thread::panicking() {
            tracing::error!(job = %self.key, "the job's actor has panicked; the next request loads the job again");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lost(key: &JobKey) -> Error {
    Error::Defect { detail: format!("the actor of job {key} ended without an answer") }
}

#[cfg(test)]
mod tests;
