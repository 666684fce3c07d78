//! What the trainer's thread and the background task share.

use crate::{
    config::{OnOutage, SessionConfig},
    error::Error,
    session::{Due, Machine, Status},
};
use autolrs_core::directive::{DoneReason, Phase, Slot, SlotOp};
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, watch};

/// The machine and what wakes those who wait for it.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// For a thread that waits for the machine to change.
    changed: Condvar,
    /// For a task that does.
    changed_async: Notify,
    /// For the background task.
    wake: Notify,
    closing: watch::Sender<bool>,
    on_outage: OnOutage,
    decision_timeout: Duration,
    server: String,
    pid: u32,
}

pub(crate) struct State {
    pub(crate) machine: Machine,
    /// Why the last call failed, if it did.
    pub(crate) last_error: Option<Error>,
    waiting_since: Option<Instant>,
    notices: Vec<String>,
    told: Option<Error>,
}

impl State {
    /// Tells the user of an error, once.
    pub(crate) fn tell(&mut self, error: &Error) {
        if self.told.as_ref() != Some(error) {
            self.notices.push(error.to_string());
            self.told = Some(error.clone());
        }
    }
}

impl Shared {
    pub(crate) fn new(machine: Machine, config: &SessionConfig) -> Self {
        Self {
            state: Mutex::new(State {
                machine,
                last_error: None,
                waiting_since: None,
                notices: Vec::new(),
                told: None,
            }),
            changed: Condvar::new(),
            changed_async: Notify::new(),
            wake: Notify::new(),
            closing: watch::Sender::new(false),
            on_outage: config.on_outage,
            decision_timeout: config.decision_timeout,
            server: config.server.clone(),
            pid: std::process::id(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to go on in a forked child, where the background task does not exist and the lock may be held for ever.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.pid == std::process::id() { Ok(()) } else { Err(Error::Forked) }
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    pub(crate) fn is_due_now(&self) -> bool {
        self.lock().machine.due() == Due::Now
    }

    pub(crate) async fn closed(&self) {
        // An error would mean that the sender is gone; it lives as long as `self`.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Waits until the trainer has something to send, at most this long.
    pub(crate) async fn wake_within(&self, at_most: Duration) {
        let _ = tokio::time::timeout(at_most, self.wake.notified()).await;
    }

    /// The machine has changed.
    pub(crate) fn announce(&self) {
        self.changed.notify_all();
        self.changed_async.notify_waiters();
    }

    /// Lets the background task look at once.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(crate) fn close(&self) {
        if self.check_process().is_err() {
            return;
        }
        self.closing.send_replace(true);
        self.wake();
    }

    /// Whether the next directive is in force (None), or how long to wait for it at most. Adopts the fallback, or
    /// fails, when that time is over.
    pub(crate) fn wait_for_next(&self) -> Result<Option<Duration>, Error> {
        self.check_process()?;
        let mut state = self.lock();
        let state = &mut *state;
        if !state.machine.waiting() {
            state.waiting_since = None;
            return state.machine.ready().map(|()| None).map_err(Error::from);
        }
        let waited = state.waiting_since.get_or_insert_with(Instant::now).elapsed();
        let left = self.decision_timeout.saturating_sub(waited);
        if state.machine.expects_answer() && !left.is_zero() {
            return Ok(Some(left));
        }
        state.waiting_since = None;
        if self.on_outage == OnOutage::Raise {
            return Err(state.last_error.clone().unwrap_or_else(|| Error::ServerUnavailable {
                server: self.server.clone(),
                detail: format!("no directive within {} s", self.decision_timeout.as_secs_f32()),
            }));
        }
        // A machine that is severed has said why.
        if let Some(error) = state.last_error.clone().filter(|_| !state.machine.is_severed()) {
            state.tell(&error);
        }
        state.machine.handle_silence();
        Ok(None)
    }

    /// Waits on this thread for a change of the machine.
    pub(crate) fn wait_for_change(&self, at_most: Duration, until: impl Fn(&Machine) -> bool) -> bool {
        let state = self.lock();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, at_most, |state| !until(&state.machine))
            .unwrap_or_else(PoisonError::into_inner);
        until(&state.machine)
    }

    /// The same for a task.
    pub(crate) async fn changed_within(&self, at_most: Duration, until: impl Fn(&Machine) -> bool) -> bool {
        let change = async {
            loop {
                let notified = self.changed_async.notified();
                if until(&self.lock().machine) {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(at_most, change).await.is_ok()
    }
}

/// The commands of a session that never wait for the server. See [`Machine`] for their order.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

/// Where a session stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Number of the directive in force; 0 for one that the client made itself.
    pub seq: u64,
    /// What its steps are for; none once the job is done.
    pub phase: Option<Phase>,
    /// Its stage, from 0.
    pub stage: u32,
    /// Its trial, from 0; none outside a search.
    pub trial: Option<u32>,
    /// Whether its batches are those that followed the save of the restored slot, once more.
    pub replay: bool,
    /// Its steps.
    pub steps: u64,
    /// Its steps that were run.
    pub offset: u64,
    /// The LR of the next step; after the end the last committed one.
    pub lr: f64,
    /// Why nothing is left to do, if so.
    pub done: Option<DoneReason>,
    /// Steps whose outcome is kept.
    pub committed_step: u64,
    /// All steps: committed, of searches, and rolled back.
    pub total_step: u64,
    /// Runs a fallback that the server does not know of.
    pub detached: bool,
}

impl Handle {
    /// A step was run and this was its loss.
    pub fn record(&self, loss: f64) -> Status {
        let status = self.0.lock().machine.record(loss);
        self.after(status)
    }

    /// A step was run; its loss follows with [`Handle::losses`].
    pub fn tick(&self) -> Status {
        let status = self.0.lock().machine.tick();
        self.after(status)
    }

    /// Losses of steps that were run, in order.
    pub fn losses(&self, losses: &[f64]) {
        let waiting = {
            let mut state = self.0.lock();
            state.machine.losses(losses);
            state.machine.waiting()
        };
        if waiting {
            self.0.wake();
        }
    }

    /// What the trainer has to do before its next step; never [`Status::LrChanged`].
    pub fn status(&self) -> Status {
        self.0.lock().machine.status()
    }

    /// How many losses of the directive must have been delivered by now.
    pub fn wanted(&self) -> u64 {
        self.0.lock().machine.wanted()
    }

    /// A validation loss of the state after the steps run so far.
    pub fn validation(&self, loss: f64) {
        self.0.lock().machine.validation(loss);
    }

    /// The slot operations to be done before the next step, in order. They count as done from here on.
    pub fn take_slot_ops(&self) -> Vec<SlotOp> {
        self.0.lock().machine.take_slot_ops()
    }

    /// The LR of the next step.
    pub fn lr(&self) -> f64 {
        self.0.lock().machine.lr()
    }

    /// Why nothing is left to do, if so.
    pub fn done(&self) -> Option<DoneReason> {
        self.0.lock().machine.done()
    }

    /// Where the session stands.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.0.lock();
        let m = &state.machine;
        Snapshot {
            seq: m.seq(),
            phase: m.phase(),
            stage: m.stage(),
            trial: m.trial(),
            replay: m.replay(),
            steps: m.steps(),
            offset: m.offset(),
            lr: m.lr(),
            done: m.done(),
            committed_step: m.committed_step(),
            total_step: m.total_step(),
            detached: m.is_detached(),
        }
    }

    /// The session's state for the trainer's checkpoint; see [`Machine`], "Checkpoints".
    ///
    /// # Errors
    /// [`Error::LossesMissing`] if losses of steps that were run are still to be delivered.
    pub fn state(&self) -> Result<Vec<u8>, Error> {
        Ok(self.0.lock().machine.export()?)
    }

    /// The slot whose content the trainer's checkpoint must hold in place of the live state; none: the live state.
    pub fn state_slot(&self) -> Option<Slot> {
        self.0.lock().machine.export_slot()
    }

    /// Sentences for the user that have come up since the last call.
    pub fn take_notices(&self) -> Vec<String> {
        let mut state = self.0.lock();
        let mut notices = std::mem::take(&mut state.notices);
        notices.extend(state.machine.take_notices());
        notices
    }

    fn after(&self, status: Status) -> Status {
        if status == Status::Ended {
            self.0.wake();
        }
        status
    }
}
