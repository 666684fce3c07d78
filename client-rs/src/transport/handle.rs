//! The commands of a session.

use super::{Shared, shared::State};
use crate::{error::Error, session::Status};
use autolrs_core::{
    directive::{DoneReason, Phase, Slot, SlotOp},
    lr_pieces::Piece,
};
use std::sync::{Arc, MutexGuard};
use tracing::Span;

/// The commands of a session that never wait for the server. See [`crate::session::Machine`] for their order.
///
/// ```
/// # use autolrs_client::{blocking::Session, *};
/// # let spec = JobSpec {
/// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
/// # };
/// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
/// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
/// # let session = Session::open(alone)?;
/// // A handle can be cloned, to show progress elsewhere.
/// let handle = Handle::clone(&session);
/// let shown = std::thread::spawn(move || handle.snapshot().total_step);
/// assert_eq!(shown.join().unwrap(), 0);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

/// Where a session stands.
///
/// ```
/// # use autolrs_client::{blocking::Session, *};
/// # let spec = JobSpec {
/// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
/// # };
/// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
/// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
/// # let session = Session::open(alone)?;
/// let now: Snapshot = session.snapshot();
/// println!("{} of {} steps, next LR {}", now.offset, now.steps, now.lr);
/// assert_eq!((now.offset, now.steps, now.lr), (0, 3, 0.1));
/// # Ok::<(), Error>(())
/// ```
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
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.record(0.5), Status::GoOn);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn record(&self, loss: f64) -> Status {
        let mut state = self.0.lock();
        let status = state.machine.record(loss);
        self.after(status, state)
    }

    /// A step was run; its loss follows with [`Handle::losses`].
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.tick(), Status::WantLosses);
    /// session.losses(&[0.5]);
    /// assert_eq!(session.status(), Status::GoOn);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn tick(&self) -> Status {
        let mut state = self.0.lock();
        let status = state.machine.tick();
        self.after(status, state)
    }

    /// Losses of steps that were run, in order.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.tick();
    /// session.losses(&[0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn losses(&self, losses: &[f64]) {
        let waiting = {
            let mut state = self.0.lock();
            state.machine.losses(losses);
            state.follow();
            state.machine.waiting()
        };
        if waiting {
            self.0.wake();
        }
    }

    /// What the trainer has to do before its next step; never [`Status::LrChanged`].
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.status(), Status::GoOn);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn status(&self) -> Status {
        self.0.lock().machine.status()
    }

    /// How many losses of the directive must have been delivered by now.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.tick();
    /// assert_eq!(session.wanted(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn wanted(&self) -> u64 {
        self.0.lock().machine.wanted()
    }

    /// A validation loss of the state after the steps run so far: the answer to [`Status::Validate`], or one that is
    /// not asked for.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.record(0.5);
    /// session.validation(0.6);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn validation(&self, loss: f64) {
        let waiting = {
            let mut state = self.0.lock();
            state.machine.validation(loss);
            state.machine.waiting()
        };
        if waiting {
            self.0.wake();
        }
    }

    /// After a resume: the slot that the state which the trainer has loaded belongs into as well, before anything else;
    /// told once.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.take_resumed_slot(), None, "nothing was resumed");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take_resumed_slot(&self) -> Option<Slot> {
        self.0.lock().machine.take_resumed_slot()
    }

    /// The slot operations to be done before the next step, in order. They count as done from here on.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// for op in session.take_slot_ops() {
    ///     match op {
    ///         SlotOp::Save(slot) => println!("copy the state into {slot:?}"),
    ///         SlotOp::Restore(slot) => println!("copy {slot:?} into the state"),
    ///         SlotOp::Drop(slot) => println!("free {slot:?}"),
    ///     }
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take_slot_ops(&self) -> Vec<SlotOp> {
        self.0.lock().machine.take_slot_ops()
    }

    /// The LR of the next step.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.lr(), 0.1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn lr(&self) -> f64 {
        self.0.lock().machine.lr()
    }

    /// The LRs of the next steps, up to where something else than the LR can change; see
    /// [`crate::session::Machine::next_lrs`].
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.next_lrs(), [0.1]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn next_lrs(&self) -> Vec<f64> {
        self.0.lock().machine.next_lrs()
    }

    /// The LRs of the directive's steps that were not run yet.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.line(), [Piece::constant(3, 0.1)]);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn line(&self) -> Vec<Piece> {
        self.0.lock().machine.line()
    }

    /// The job's uid; 0 without a server.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.uid(), 0, "there is no server");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn uid(&self) -> u64 {
        self.0.lock().machine.uid()
    }

    /// Why nothing is left to do, if so.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.done(), None);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn done(&self) -> Option<DoneReason> {
        self.0.lock().machine.done()
    }

    /// Where the session stands.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// assert_eq!(session.snapshot().phase, Some(Phase::Stable));
    /// # Ok::<(), Error>(())
    /// ```
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

    /// The `tracing` span of the directive in force, to run its steps in. It has the fields `seq`, `phase`, `stage`,
    /// `trial` and `lr` (of its first step), and is within a span `session` with `job` and `session`.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.span().in_scope(|| session.record(0.5));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn span(&self) -> Span {
        self.0.lock().trace.directive().clone()
    }

    /// The session's state for the trainer's checkpoint; see [`crate::session::Machine`], "Checkpoints".
    ///
    /// # Errors
    /// [`Error::LossesMissing`] if losses of steps that were run are still to be delivered.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.record(0.5);
    /// let bytes = session.state()?;                    // goes into your checkpoint
    /// assert_eq!(session.state_slot(), None);          // beside the live state
    ///
    /// let resume = SessionConfig { resume: Some(bytes), ..SessionConfig::new("digits", JobSpec::default()) };
    /// assert_eq!(Session::open(resume)?.snapshot().offset, 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn state(&self) -> Result<Vec<u8>, Error> {
        Ok(self.0.lock().machine.export()?)
    }

    /// [`Handle::state`] without the steps whose losses are still to be delivered; see
    /// [`crate::session::Machine::export_delivered`].
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.tick();
    /// let bytes = session.state_delivered();
    /// let resume = SessionConfig { resume: Some(bytes), ..SessionConfig::new("digits", JobSpec::default()) };
    /// assert_eq!(Session::open(resume)?.snapshot().offset, session.delivered());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn state_delivered(&self) -> Vec<u8> {
        self.0.lock().machine.export_delivered()
    }

    /// How many losses of the directive have been delivered.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// session.record(0.5);
    /// session.tick();
    /// assert_eq!((session.snapshot().offset, session.delivered()), (2, 1));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn delivered(&self) -> u64 {
        self.0.lock().machine.delivered()
    }

    /// The slot whose content the trainer's checkpoint must hold in place of the live state; none: the live state.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// match session.state_slot() {
    ///     Some(slot) => println!("write the content of {slot:?}"),
    ///     None => println!("write the live state"),
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn state_slot(&self) -> Option<Slot> {
        self.0.lock().machine.export_slot()
    }

    /// Sentences for the user that have come up since the last call.
    ///
    /// ```
    /// # use autolrs_client::{blocking::Session, *};
    /// # let spec = JobSpec {
    /// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
    /// # };
    /// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
    /// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
    /// # let session = Session::open(alone)?;
    /// for notice in session.take_notices() {
    ///     println!("note: {notice}");
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn take_notices(&self) -> Vec<String> {
        let mut state = self.0.lock();
        let mut notices = std::mem::take(&mut state.notices);
        notices.extend(state.machine.take_notices());
        notices
    }

    fn after(&self, status: Status, mut state: MutexGuard<'_, State>) -> Status {
        if status == Status::Ended {
            // Where the job is gone, the end of it is in force at once.
            state.follow();
            drop(state);
            self.0.wake();
        }
        status
    }
}
