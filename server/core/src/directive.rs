//! Directives: what the trainer is told. A directive covers many steps; the trainer asks again at its end.

use crate::{
    lr_pieces::{self, Piece},
    stop_rules::{StopIf, switch_point},
};
use serde::{Deserialize, Serialize};

/// A named place where the trainer keeps a checkpoint of its own state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Slot {
    /// The state before a scan.
    Start,
    /// The newest state that a guard may restore.
    Safe,
    /// The one before [`Slot::Safe`].
    SafePrev,
    /// The state at the start of a stage.
    Stage,
    /// The state after the best trial of a search.
    Best,
}

/// What to do with a slot. Operations are done in order before a directive's action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotOp {
    /// Copy the trainer's state into the slot.
    Save(Slot),
    /// Copy the slot into the trainer's state, exact to the bit.
    Restore(Slot),
    /// Free the slot.
    Drop(Slot),
}

/// What a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Committed steps with a rising LR.
    Warmup,
    /// Search steps, rolled back after.
    Trial,
    /// Committed steps of a stage.
    Stable,
    /// Committed steps with an LR that falls to the end.
    Cooldown,
}

impl Phase {
    /// The word for it in logs, metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warmup => "warmup",
            Self::Trial => "trial",
            Self::Stable => "stable",
            Self::Cooldown => "cooldown",
        }
    }
}

/// Which training batches a segment uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Batches {
    /// The next ones of the stream.
    Fresh,
    /// Those that followed the save of the restored slot, once more (common random numbers).
    Replay,
}

/// A segment: LR pieces for a number of steps, and when to stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// What the steps are for; [`Phase::Trial`] steps are search steps, all others are committed.
    pub phase: Phase,
    /// Which batches to use.
    pub batches: Batches,
    /// The LR of every step; 1 to 65,536 steps, a fallback may have more.
    pub lr: Vec<Piece>,
    /// Rules that end the segment early; [`StopIf::NonFinite`] is always among them.
    pub stop_if: Vec<StopIf>,
    /// Number of the stage, from 0.
    pub stage: u32,
    /// Number of the trial inside the stage's search, from 0.
    pub trial: Option<u32>,
    /// Offsets at which the policy may end a trial early, ascending, below the steps. A rung takes effect where a stop
    /// at its offset would, see [`Run::is_rung`].
    pub rungs: Vec<u64>,
    /// Steps done at which the trainer measures a validation loss: ascending, 1 to the segment's steps.
    pub validate_at: Vec<u64>,
}

impl Run {
    /// Steps of the segment.
    pub fn steps(&self) -> u64 {
        lr_pieces::steps(&self.lr)
    }

    /// Whether a rung takes effect after `done` steps: the trainer waits there. Never at the end.
    pub fn is_rung(&self, done: u64, switch_every: u64) -> bool {
        let steps = self.steps();
        done < steps && self.rungs.iter().any(|&rung| switch_point(rung, switch_every, steps) == done)
    }

    /// Whether `validate_at` is what it must be.
    pub fn validates_in_order(&self) -> bool {
        let ascending = self.validate_at.is_sorted_by(|a, b| a < b);
        let within = |at: &u64| (1..=self.steps()).contains(at);
        ascending && self.validate_at.first().is_none_or(within) && self.validate_at.last().is_none_or(within)
    }
}

/// Why a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DoneReason {
    /// The budget is spent, or an operator finished the job.
    Finished,
    /// An operator cancelled the job.
    Cancelled,
    /// The policy could not go on.
    Failed(Failure),
}

impl DoneReason {
    /// The word for it in logs, metrics and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why a job failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The very first loss was NaN or infinite, at an LR close to 0: the model or the data is broken.
    LossNotFiniteAtStart,
    /// The loss broke again after every retry of the guard.
    Unstable,
    /// Every candidate of a search diverged, also after the range was lowered.
    AllCandidatesDiverged,
}

/// What follows the slot operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Train a segment.
    Run(Run),
    /// Nothing is left to do.
    Done(DoneReason),
}

/// One instruction to the trainer, with what to do when no answer comes after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Directive {
    /// Its number in the job, >= 1, never reused.
    pub seq: u64,
    /// Done in order before the action.
    pub slot_ops: Vec<SlotOp>,
    /// The segment, or the end.
    pub action: Action,
    /// Committed steps of the job before the action's first step.
    pub committed_step_at_start: u64,
    /// What to run after the end when no answer comes; absent: the job is done then.
    pub fallback: Option<Box<Self>>,
    /// What to run after an early stop when no answer comes; absent: go on at the last LR.
    pub fallback_on_stop: Option<Box<Self>>,
}

impl Directive {
    /// The segment, if it is not the end of the job.
    pub fn run(&self) -> Option<&Run> {
        match &self.action {
            Action::Run(run) => Some(run),
            Action::Done(_) => None,
        }
    }

    /// The fallback with this seq, at any depth below this directive.
    pub fn fallback_with(&self, seq: u64) -> Option<&Self> {
        let branches = [&self.fallback, &self.fallback_on_stop];
        branches
            .into_iter()
            .flatten()
            .find_map(|f| if f.seq == seq { Some(&**f) } else { f.fallback_with(seq) })
    }
}
