//! What the trainer's thread and the background task share.

use super::{finish::Caller, trace::Trace, trace_context::TraceContext};
use crate::{
    config::{OnOutage, SessionConfig},
    error::Error,
    session::{Due, Machine},
};
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

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
    caller: Caller,
    pid: u32,
}

pub(crate) struct State {
    pub(crate) machine: Machine,
    /// Why the last call failed, if it did.
    pub(crate) last_error: Option<Error>,
    waiting_since: Option<Instant>,
    pub(crate) notices: Vec<String>,
    told: Option<Error>,
    pub(crate) trace: Trace,
}

impl State {
    /// Another directive may be in force.
    pub(crate) fn follow(&mut self) {
        self.trace.follow(&self.machine);
    }

    /// Tells the user of an error, once.
    pub(crate) fn tell(&mut self, error: &Error) {
        if self.told.as_ref() != Some(error) {
            self.notices.push(error.to_string());
            self.told = Some(error.clone());
        }
    }
}

impl Shared {
    pub(crate) fn new(machine: Machine, config: &SessionConfig, context: TraceContext, trace: Trace) -> Self {
        Self {
            state: Mutex::new(State {
                machine,
                last_error: None,
                waiting_since: None,
                notices: Vec::new(),
                told: None,
                trace,
            }),
            changed: Condvar::new(),
            changed_async: Notify::new(),
            wake: Notify::new(),
            closing: watch::Sender::new(false),
            on_outage: config.on_outage,
            decision_timeout: config.decision_timeout,
            caller: Caller { endpoint: config.into(), job: config.job.clone(), trace: context },
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

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the job still goes on and this trainer speaks for it.
    pub(crate) fn may_finish(&self) -> Result<bool, Error> {
        let state = self.lock();
        if state.machine.done().is_some() || !state.machine.is_severed() {
            return Ok(state.machine.done().is_none());
        }
        Err(state.last_error.clone().unwrap_or_else(|| Error::ServerUnavailable {
            server: self.caller.endpoint.server.clone(),
            detail: "this trainer has none and goes on alone".into(),
        }))
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
                server: self.caller.endpoint.server.clone(),
                detail: format!("no directive within {} s", self.decision_timeout.as_secs_f32()),
            }));
        }
        // A machine that is severed has said why.
        if let Some(error) = state.last_error.clone().filter(|_| !state.machine.is_severed()) {
            state.tell(&error);
        }
        state.machine.handle_silence();
        state.trace.fallback(&state.machine);
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
