//! The session machine: what one trainer knows of its job. There is no I/O here, no clock and no task: answers and
//! the passing of time are inputs, reports are outputs, so that a whole training run is a function call in a test.

mod checkpoint;
mod endings;
mod getters;
mod inputs;
mod segment;
mod slots;
mod track;

pub use checkpoint::{BadCheckpoint, Checkpoint, LossesMissing};
pub use endings::NotReady;
pub use inputs::Refused;

use autolrs_core::{
    directive::{Action, Directive, DoneReason, Run, Slot, SlotOp},
    job::{Opened, Report},
    lr_pieces::{self, Piece},
    spec::Budget,
};
use segment::{MAX_VALIDATIONS, Segment};
use slots::Slots;
use std::collections::VecDeque;
use track::Track;

/// The most losses in one report.
pub const MAX_LOSSES_PER_REPORT: usize = 4096;

/// One trainer's side of a job. Its methods by direction:
///
/// - **made by** [`Machine::open`], [`Machine::resume`], [`Machine::alone`], [`Machine::alone_with`] or
///   [`Machine::resume_alone`];
/// - **the trainer's commands**: [`Machine::take_resumed_slot`], [`Machine::take_slot_ops`], [`Machine::record`] or [`Machine::tick`] with
///   [`Machine::losses`], [`Machine::validation`], [`Machine::export`];
/// - **inputs**: [`Machine::handle_ack`], [`Machine::handle_refusal`], [`Machine::handle_silence`];
/// - **outputs**: [`Machine::due`], [`Machine::poll_report`], [`Machine::poll_heartbeat`],
///   [`Machine::take_notices`];
/// - **getters**: all others.
///
/// # The trainer's order of calls
/// 1. Do [`Machine::take_slot_ops`], in order. Stop if [`Machine::done`].
/// 2. Run a step at [`Machine::lr`] and call [`Machine::record`]. Losses that arrive later (from a device) are
///    given with [`Machine::losses`], in order, and the step itself with [`Machine::tick`]; use one way or the other.
///    On [`Status::WantLosses`] deliver at least [`Machine::wanted`] losses of the directive and look at
///    [`Machine::status`] again. On [`Status::Validate`] give a [`Machine::validation`] and look again: training goes on
///    as if it had not been measured. On [`Status::Ended`] deliver all losses and run no further step. A resumed trainer
///    looks at [`Machine::status`] before its first step.
/// 3. After the end, and at a rung of a trial, which may then go on: let reports flow until [`Machine::waiting`] is
///    false, then begin at 1. If no answer comes within
///    the time that training may stand still, or [`Machine::expects_answer`] is false, call
///    [`Machine::handle_silence`]: the fallback is in force then.
///
/// # What is sent
/// A report begins where the server said to go on, so a lost answer, a repeated report and a server that has lost its
/// memory need no care. Losses of a directive are kept until the server has closed and stored it
/// (`Ack.durable_seq`); the finishing report carries the last of them. One report is under way at a time.
///
/// # Fallbacks
/// A trainer that ran a fallback sends the finishing report of the directive before it first, then the fallback's
/// losses from offset 0: the server adopts what was really done. A fenced trainer, and one whose account of an end was
/// refused, never ask again; they run fallbacks to the end of the budget.
///
/// # Checkpoints
/// [`Machine::export`] gives bytes for the trainer's own checkpoint. [`Machine::export_slot`] says whose state the
/// checkpoint must hold: in a trial (or with a restore still to come, or after a guard has fired) not the live state
/// but the named slot's content; the trainer that loads it must put that content into its live state *and* into that
/// slot ([`Machine::take_resumed_slot`]), and hold no other slot. Loaded, such a checkpoint starts the search again; any other goes on at its offset.
/// Slot operations of the directive that were done before the checkpoint are not done again: restores are left out,
/// saves into slots that were lost with the process take the state at hand.
///
/// ```
/// # use autolrs_client::*;
/// use autolrs_client::{Budget, session::Machine};
/// let mut machine = Machine::alone("digits", Budget::Known(3), 0.1);
/// while machine.done().is_none() {
///     assert!(machine.take_slot_ops().is_empty());
///     while machine.record(/* the loss of a step at */ machine.lr()) != Status::Ended {}
///     machine.handle_silence();   // nobody answers
/// }
/// assert_eq!(machine.total_step(), 3);
/// ```
#[derive(Debug)]
pub struct Machine {
    job: String,
    uid: u64,
    session: u64,
    switch_every: u64,
    track: Track,
    /// Directives before the current one, oldest first: those that the server has not stored yet, and the last ones
    /// before a fallback that it has not adopted yet, from which a checkpoint must be able to go on.
    outbox: VecDeque<Segment>,
    slots: Slots,
    /// The slot that a loaded state belongs into, until the trainer has asked.
    resumed: Option<Slot>,
    link: Link,
    /// The trainer was told to deliver losses and has not gone on yet.
    paused: bool,
    done: Option<DoneReason>,
    total: u64,
    /// Directives that were entered after the first.
    entered: u64,
    committed_lr: Option<f64>,
    fallback_lr: f64,
    notices: Vec<String>,
    told_detached: bool,
    /// The trainer has taken up the directive in force.
    begun: bool,
}

/// How the machine stands with its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// The server knows the current directive to be in force.
    Up,
    /// A fallback was adopted that the server does not know of yet. `heard`: it has answered since.
    Detached { heard: bool },
    /// Nothing is said any more.
    Severed,
}

/// What the trainer has to do before its next step.
///
/// ```
/// # use autolrs_client::session::*;
/// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
/// assert_eq!([machine.record(1.0), machine.record(1.0)], [Status::GoOn, Status::GoOn]);
/// assert_eq!(machine.record(1.0), Status::Ended);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Run it.
    GoOn,
    /// Run it at another LR than the last.
    LrChanged,
    /// Deliver losses first, see [`Machine::wanted`].
    WantLosses,
    /// Measure the validation loss of the state at hand, give it with [`Machine::validation`], and look at
    /// [`Machine::status`] again. Only for a trainer that said it can.
    Validate,
    /// Run none: deliver all losses and wait for the next directive, or, at a rung of a trial, for the word to go on.
    Ended,
}

/// When a report is due.
///
/// ```
/// # use autolrs_client::session::*;
/// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
/// assert_eq!(machine.due(), Due::Never, "there is no server");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At once: a directive has ended, or a full report is ready.
    Now,
    /// Within a second.
    Soon,
    /// Nothing new; a heartbeat now and then.
    Heartbeat,
    /// Nothing, for ever or until the trainer does something.
    Never,
}

impl Machine {
    /// The trainer's first session of a job. `fallback_lr` is the job's.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// use autolrs_core::{directive::*, job::Opened, lr_pieces::Piece};
    /// let run = Run {
    ///     phase: Phase::Stable, batches: Batches::Fresh, lr: vec![Piece::constant(2, 0.5)], stop_if: vec![],
    ///     stage: 0, trial: None, rungs: Vec::new(), validate_at: Vec::new(),
    /// };
    /// let directive = Directive {
    ///     seq: 1, slot_ops: vec![SlotOp::Save(Slot::Safe)], action: Action::Run(run), committed_step_at_start: 0,
    ///     fallback: None, fallback_on_stop: None,
    /// };
    /// let opened =
    ///     Opened { session: 1, directive, received_through: 0, slot_ops: vec![], uid: 7, switch_every: 1 };
    /// let mut machine = Machine::open("digits", 0.1, opened);
    /// assert_eq!(machine.take_slot_ops(), [SlotOp::Save(Slot::Safe)]);
    /// assert_eq!(machine.lr(), 0.5);
    /// machine.record(2.0);
    /// assert_eq!(machine.due(), Due::Soon);
    /// assert_eq!(machine.poll_report().unwrap().train_losses, [2.0]);
    /// ```
    pub fn open(job: impl Into<String>, fallback_lr: f64, opened: Opened) -> Self {
        let mut machine = Self::at(job.into(), fallback_lr, opened.switch_every, opened.directive.clone());
        machine.session = opened.session;
        machine.uid = opened.uid;
        machine.begin(&opened);
        machine
    }

    /// A trainer without a server: all steps of the budget at `fallback_lr`. It never asks for a server.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let machine = session::Machine::alone("digits", Budget::Known(3), 0.1);
    /// assert_eq!((machine.steps(), machine.lr()), (3, 0.1));
    /// ```
    pub fn alone(job: impl Into<String>, budget: Budget, fallback_lr: f64) -> Self {
        let line = vec![Piece::constant(budget.limit().max(1), fallback_lr)];
        let steps = budget.known().map_or("all".into(), |steps| steps.to_string());
        let notice = format!("no server: {steps} steps at the fallback LR {fallback_lr}, without a schedule");
        Self::severed(job.into(), line, fallback_lr, notice)
    }

    /// A trainer without a server that replays a schedule: it runs `line`, of at least one step, without guards.
    /// `fallback_lr` is the job's.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let line = vec![Piece::constant(3, 0.2), Piece::cooldown(2, 0.2)];
    /// let machine = session::Machine::alone_with("digits", line, 0.1);
    /// assert_eq!((machine.steps(), machine.lr()), (5, 0.2));
    /// ```
    pub fn alone_with(job: impl Into<String>, line: Vec<Piece>, fallback_lr: f64) -> Self {
        let steps = lr_pieces::steps(&line);
        let notice = format!("no server: {steps} steps of the schedule, without guards");
        Self::severed(job.into(), line, fallback_lr, notice)
    }

    fn severed(job: String, line: Vec<Piece>, fallback_lr: f64, notice: String) -> Self {
        let directive = track::unnumbered(line, 0, 0, None);
        let mut machine = Self::at(job, fallback_lr, 1, directive);
        machine.link = Link::Severed;
        machine.notices.push(notice);
        machine
    }

    fn at(job: String, fallback_lr: f64, switch_every: u64, directive: Directive) -> Self {
        Self {
            job,
            uid: 0,
            session: 0,
            switch_every,
            track: Track::new(directive, switch_every),
            outbox: VecDeque::new(),
            slots: Slots::default(),
            resumed: None,
            link: Link::Up,
            paused: false,
            done: None,
            total: 0,
            entered: 0,
            committed_lr: None,
            fallback_lr,
            notices: Vec::new(),
            told_detached: false,
            begun: true,
        }
    }

    /// Takes the directive of an opened session from its start.
    fn begin(&mut self, opened: &Opened) {
        self.track = Track::new(opened.directive.clone(), self.switch_every);
        self.slots.push(opened.directive.seq, opened.slot_ops.iter().copied());
        self.slots.push(opened.directive.seq, opened.directive.slot_ops.iter().copied());
        self.done = reason(&opened.directive);
    }

    /// A step was run and this was its loss.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.record(0.5), Status::GoOn);
    /// ```
    pub fn record(&mut self, loss: f64) -> Status {
        let before = self.step();
        self.track.losses(&[loss]);
        self.settle(true);
        self.status_after(before)
    }

    /// A step was run; its loss follows with [`Machine::losses`].
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.tick(), Status::WantLosses);
    /// machine.losses(&[0.5]);
    /// assert_eq!(machine.status(), Status::GoOn);
    /// ```
    pub fn tick(&mut self) -> Status {
        let before = self.step();
        self.settle(true);
        self.status_after(before)
    }

    /// Losses of steps that were run, in order. More than steps were run are ignored.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.tick();
    /// machine.losses(&[0.5, 0.4]);   // the second is of no step that was run
    /// assert!(machine.export().is_ok());
    /// ```
    pub fn losses(&mut self, losses: &[f64]) {
        self.track.losses(losses);
        self.settle(self.paused);
    }

    /// What the trainer has to do before its next step; never [`Status::LrChanged`]. A directive that came while the
    /// trainer was at something else is not begun by its status: [`Status::Ended`] until [`Machine::take_slot_ops`].
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.status(), Status::GoOn);
    /// ```
    pub fn status(&mut self) -> Status {
        if self.begun { self.status_after(self.track.lr()) } else { Status::Ended }
    }

    /// A validation loss of the state after the steps run so far. On [`Status::Validate`] it is the answer; one that is
    /// not asked for may come at any time. The first one after a step stands.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.record(0.5);
    /// machine.validation(0.6);
    /// ```
    pub fn validation(&mut self, loss: f64) {
        let asked = self.track.owes_validation();
        let kept = self.track.validate(loss);
        if asked {
            self.settle(true);
        }
        if !kept {
            let notice = format!(
                "more than {MAX_VALIDATIONS} validation losses in one directive: not all are reported"
            );
            self.notices.push(notice);
        }
    }

    /// The slot that the state which the trainer has loaded belongs into as well, before anything else; told once.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.take_resumed_slot(), None, "nothing was resumed");
    /// ```
    pub fn take_resumed_slot(&mut self) -> Option<Slot> {
        self.resumed.take()
    }

    /// The slot operations to be done before the next step, in order. They count as done from here on.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(machine.take_slot_ops().is_empty());
    /// ```
    pub fn take_slot_ops(&mut self) -> Vec<SlotOp> {
        self.begun = true;
        self.slots.take(self.total)
    }

    /// When a report is due.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert_eq!(machine.due(), Due::Never, "there is no server");
    /// ```
    pub fn due(&self) -> Due {
        let Some(segment) = self.next_segment() else { return Due::Never };
        let untold_end = segment.seq == self.track.seq() && self.done.is_some();
        let asks = segment.end.is_some() || segment.at_rung;
        if untold_end || asks || segment.unsent_losses() >= MAX_LOSSES_PER_REPORT {
            Due::Now
        } else if segment.unsent_losses() > 0 || !segment.unsent_validations().is_empty() {
            Due::Soon
        } else {
            Due::Heartbeat
        }
    }

    /// The next report, of the oldest directive that the server has not stored.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(machine.poll_report().is_none(), "there is no server");
    /// ```
    pub fn poll_report(&mut self) -> Option<Report> {
        self.next_segment()?;
        let unsent = self.outbox.iter_mut().find(|segment| !segment.stored);
        Some(unsent.unwrap_or(&mut self.track.segment).report(self.session))
    }

    /// An empty report, to be heard.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(machine.poll_heartbeat().is_none(), "there is no server");
    /// ```
    pub fn poll_heartbeat(&self) -> Option<Report> {
        self.next_segment().map(|segment| segment.heartbeat(self.session))
    }

    /// Sentences for the user that have come up since the last call.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// assert!(machine.take_notices()[0].starts_with("no server"));
    /// ```
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn next_segment(&self) -> Option<&Segment> {
        if self.link == Link::Severed {
            return None;
        }
        // The end of a job has nothing to report, but one that a fallback brought must become known.
        let tells = self.done.is_none() || self.link != Link::Up;
        let current = Some(&self.track.segment).filter(|segment| segment.seq > 0 && tells);
        self.outbox.iter().find(|segment| !segment.stored).or(current)
    }

    fn step(&mut self) -> Option<f64> {
        let lr = self.track.step()?;
        self.begun = true;
        self.total += 1;
        if !self.track.in_trial() {
            self.committed_lr = Some(lr);
        }
        Some(lr)
    }

    fn settle(&mut self, heed: bool) {
        let before = self.track.offset();
        self.track.settle(heed);
        self.total -= before - self.track.offset();
        if self.track.is_unwanted() && self.done.is_none() {
            self.end_here();
        }
    }

    fn status_after(&mut self, before: Option<f64>) -> Status {
        let status = if self.done.is_some() { Status::Ended } else { self.track.status(before) };
        self.paused = status == Status::WantLosses;
        status
    }

    fn run(&self) -> Option<&Run> {
        self.track.run()
    }
}

fn reason(directive: &Directive) -> Option<DoneReason> {
    match directive.action {
        Action::Done(reason) => Some(reason),
        Action::Run(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
