//! What a job leaves in history, and the books it keeps.

use super::{Mode, commits::Commits};
use crate::{
    directive::{Action, Directive, Phase, Slot, SlotOp},
    policy::{CommitNote, PolicyState, SlotEntry, Spent, StageEndNote, TrialNote},
    spec::Budget,
    stop_rules::Stop,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Steps by kind and what the slots hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Steps by kind.
    pub spent: Spent,
    /// The trainer's slots.
    pub slots: BTreeMap<Slot, SlotEntry>,
    /// Search steps that the trainer's state holds: those of a trial, until a restore.
    pub tried: u64,
}

impl Books {
    /// Enters the start of directive `seq`: its slot operations, and whose steps its state holds. Training that goes on
    /// from a trial keeps that trial's steps: they move from search to committed.
    pub(super) fn begin(&mut self, seq: u64, slot_ops: &[SlotOp], action: &Action) {
        for &op in slot_ops {
            self.operate(op, seq);
        }
        let trial = matches!(action, Action::Run(run) if run.phase == Phase::Trial);
        if !trial {
            let kept = std::mem::take(&mut self.tried).min(self.spent.search);
            self.spent.search -= kept;
            self.spent.committed += kept;
        }
    }

    /// A restore moves steps from committed to lost.
    fn operate(&mut self, op: SlotOp, seq: u64) {
        match op {
            SlotOp::Save(slot) => {
                let (committed, tried) = (self.spent.committed, self.tried);
                self.slots.insert(slot, SlotEntry { seq, committed, tried });
            }
            SlotOp::Drop(slot) => {
                self.slots.remove(&slot);
            }
            SlotOp::Restore(slot) => {
                let (committed, tried) = (self.spent.committed, 0);
                let held = self.slots.get(&slot).copied().unwrap_or(SlotEntry { seq, committed, tried });
                self.spent.lost += committed.saturating_sub(held.committed);
                self.spent.committed = committed.min(held.committed);
                self.tried = held.tried;
            }
        }
    }

    /// Enters steps that were run.
    pub(super) fn run(&mut self, phase: Phase, steps: u64) {
        match phase {
            Phase::Trial => {
                self.spent.search += steps;
                self.tried += steps;
            }
            Phase::Warmup | Phase::Stable | Phase::Cooldown => self.spent.committed += steps,
        }
    }
}

/// A row of history, stored in one write with the job.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A directive, when it is given and again when it is closed. Key: seq.
    Directive(Box<DirectiveRecord>),
    /// What a rewind to a directive needs. Key: seq.
    Checkpoint(Box<Checkpoint>),
    /// That checkpoint is too old to be kept. Key: seq.
    DropCheckpoint(u64),
    /// A trial. Key: (stage, trial).
    Trial(TrialNote),
    /// A commit. Key: stage.
    Commit(CommitNote),
    /// What came of a commit. Key: stage.
    StageEnd(StageEndNote),
    /// The job starts again: remove all its rows before those that follow.
    Clear,
}

/// A directive and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DirectiveRecord {
    /// What was asked for.
    pub directive: Directive,
    /// The session it was given to first.
    pub session: u64,
    /// Number of the directive before; 0: none.
    pub follows: u64,
    /// Committed steps that the trainer's state held before its first step.
    pub kept_before: u64,
    /// How it ended.
    pub end: End,
    /// Steps run.
    pub steps: u64,
    /// The losses, down-sampled: means of equal bins, at most 128.
    pub losses: Vec<f64>,
    /// Validation losses.
    pub validations: Vec<super::Validation>,
}

/// How a directive ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It has not.
    Open,
    /// At its last step.
    Completed,
    /// A stop rule matched.
    Stopped(Stop),
    /// An operator's request took effect.
    Interrupted,
    /// The policy ended the trial at a rung.
    Rung,
    /// No answer came at a rung: the trainer went on with its fallback.
    NoAnswer,
    /// The trainer never saw it: it had adopted the predecessor's fallback.
    Void,
    /// The trainer came back without the slots that it needs.
    Abandoned,
    /// The trainer's account of its end was refused; it went on with its fallback.
    Disputed,
}

/// The job at the start of a directive: what a rewind needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub(super) directive: Directive,
    pub(super) follows: u64,
    pub(super) before: Books,
    pub(super) budget: Budget,
    pub(super) policy: PolicyState,
    pub(super) mode: Mode,
    pub(super) commits: Commits,
}

impl Checkpoint {
    /// The directive's number, the row's key.
    pub fn seq(&self) -> u64 {
        self.directive.seq
    }
}
