//! What goes into a job and what comes out of it.

use super::record::{Checkpoint, Row};
use crate::{
    directive::{Directive, DoneReason, Slot, SlotOp},
    spec::ResolvedSpec,
    stop_rules::Stop,
};
use serde::{Deserialize, Serialize};

/// An input of a job. Besides its spec, events are all that its decisions depend on.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A trainer asks to speak for the job.
    Open(Open),
    /// A trainer reports losses.
    Report(Report),
    /// An operator ends the job early and in order.
    Finish(Finish),
    /// An operator ends the job without training on.
    Cancel(Cancel),
    /// An operator changes its course.
    Update(super::Update),
}

/// A trainer asks to speak for the job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Open {
    /// Where the trainer's checkpoint stands; none: it starts from its initial state.
    pub resume: Option<Resume>,
    /// Take over from a session that is active.
    pub takeover: bool,
    /// Forget everything and start again.
    pub restart: bool,
    /// With `restart`: the spec to start again with.
    pub new_spec: Option<ResolvedSpec>,
    /// The trainer can give the same batches once more.
    pub replay: bool,
    /// The trainer measures validation losses when asked.
    pub validate: bool,
    /// Another one for every session that a trainer wants, the same in every copy of the request, at most
    /// [`super::MAX_NONCE`] bytes; empty: none.
    pub nonce: String,
    /// The trainer's process.
    pub holder: Holder,
    /// The present session was heard in the last 60 s (the caller's clock says so).
    pub active: bool,
    /// The checkpoint of the directive that [`super::Job::needs_checkpoint`] names, if the store still holds it.
    pub checkpoint: Option<Box<Checkpoint>>,
}

/// Where a trainer's checkpoint stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The job it was made under.
    pub uid: u64,
    /// Directive under way, or the oldest one whose losses were not acknowledged.
    pub seq: u64,
    /// Its steps done.
    pub offset: u64,
    /// Slots that the trainer still holds.
    pub slots: Vec<Slot>,
}

/// The process that holds a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Host name.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
}

/// Losses of one directive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// The session that speaks.
    pub session: u64,
    /// The directive, or a fallback that the trainer has adopted.
    pub seq: u64,
    /// Offset of the first loss.
    pub first_offset: u64,
    /// Consecutive losses; NaN and infinite are allowed.
    pub train_losses: Vec<f64>,
    /// Validation losses in any order.
    pub validations: Vec<Validation>,
    /// The segment has ended with the last of `train_losses`.
    pub finished: bool,
    /// Why it ended before its last step.
    pub stopped_because: Option<StoppedBecause>,
    /// The trainer stands at a rung after the last of `train_losses`, and waits.
    pub at_rung: bool,
}

/// A validation loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps of the directive done when it was measured.
    pub offset: u64,
    /// Loss units; NaN and infinite are allowed.
    pub loss: f64,
}

/// Why a segment ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoppedBecause {
    /// A stop rule matched.
    Rule(Stop),
    /// The trainer obeyed an interrupt; its number.
    Interrupt(u64),
    /// No answer came at a rung, and the trainer went on with the fallback.
    NoAnswer,
}

/// An operator ends the job early and in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// The same id has one effect.
    pub request_id: String,
    /// Steps of the cooldown; none: see [`super::Job`].
    pub cooldown_steps: Option<u64>,
}

/// An operator ends the job without training on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// The same id has one effect.
    pub request_id: String,
    /// A trainer was heard in the last 60 s (the caller's clock says so); if not, the job ends at once.
    pub live: bool,
}

/// What an event does: an answer, and rows to store with the job.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects {
    /// For whoever sent the event.
    pub answer: Answer,
    /// History, to be stored in the same write as the job.
    pub rows: Vec<Row>,
}

/// The answer to an event.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and most are acks")]
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To [`Event::Open`].
    Opened(Box<Opened>),
    /// To [`Event::Report`].
    Ack(Ack),
    /// To an operator's event.
    Accepted,
}

/// A session was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// Its number.
    pub session: u64,
    /// What to carry out, from the resume's offset on.
    pub directive: Directive,
    /// Losses of the directive that are held.
    pub received_through: u64,
    /// Done before anything else.
    pub slot_ops: Vec<SlotOp>,
    /// The job's uid.
    pub uid: u64,
    /// Steps between switch points.
    pub switch_every: u64,
}

/// The answer to a report.
#[derive(Debug, Clone, PartialEq)]
pub struct Ack {
    /// The session that it is for.
    pub session: u64,
    /// The directive that it is about.
    pub seq: u64,
    /// Losses of `seq` that are held; send on from here.
    pub received_through: u64,
    /// Directives up to this are closed and stored; 0: none.
    pub durable_seq: u64,
    /// What follows `seq`, once decided.
    pub directive: Option<Directive>,
    /// End the segment at the next switch point and report this number.
    pub interrupt: Option<u64>,
    /// The trainer that stands at a rung of `seq` after this many steps goes on.
    pub go_on: Option<u64>,
}

/// Why an event was refused. A refused event has changed nothing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A field is out of range.
    #[error("{field} {description}")]
    InvalidField {
        /// Path of the field in the request.
        field: &'static str,
        /// What it must be.
        description: String,
    },
    /// The reported end does not follow from the reported losses.
    #[error("the losses of directive {seq} say: {expected}; the trainer says: {reported}")]
    StopMismatch {
        /// The directive.
        seq: u64,
        /// What the losses say.
        expected: String,
        /// What the trainer says.
        reported: String,
    },
    /// A newer session speaks for the job.
    #[error(
        "session {newest} speaks for the job now, not session {session}; stop this trainer or open a session with takeover"
    )]
    Fenced {
        /// The old session.
        session: u64,
        /// The newest.
        newest: u64,
    },
    /// Another trainer was heard lately.
    #[error(
        "another trainer speaks for the job (host {}, process {}); stop it, wait 60 s, or open with takeover",
        holder.host, holder.pid
    )]
    SessionActive {
        /// Its process.
        holder: Holder,
    },
    /// The job has progressed and the trainer brings no checkpoint.
    #[error(
        "the job has done {total_steps_done} steps and the trainer brings no checkpoint; resume from one, open with restart, or use another name"
    )]
    ResumeRequired {
        /// Its steps so far.
        total_steps_done: u64,
    },
    /// The job has ended.
    #[error("the job has ended ({0:?}); open with restart, or use another name")]
    Ended(DoneReason),
    /// Its LR and its budget can't change while trials are run.
    #[error("the job is searching: update it once the search is over, or finish it now")]
    UpdateInSearch,
    /// Its budget can't change any more; why.
    #[error("the job's budget can't change any more: {0}")]
    BudgetFixed(&'static str),
    /// The job can't go back that far.
    #[error(
        "the checkpoint is at directive {seq}, which the job keeps no more; resume from a newer one, at directive {oldest} or later"
    )]
    CheckpointTooOld {
        /// The checkpoint's.
        seq: u64,
        /// The oldest usable one after it.
        oldest: u64,
    },
    /// The checkpoint is not of this job's past.
    #[error(
        "the checkpoint does not belong to this job: {0}; use the job's own checkpoint, or open with restart"
    )]
    CheckpointMismatch(String),
    /// The job never gave that directive or session.
    #[error("the job never gave directive {seq} to session {session}")]
    UnknownDirective {
        /// The session in the report.
        session: u64,
        /// The directive in the report.
        seq: u64,
    },
}
