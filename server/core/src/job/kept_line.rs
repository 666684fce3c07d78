//! The LR of every step that was kept, read back from the records of the directives. The newest directive comes first:
//! each one says which it followed and how many steps had been kept before it, so what was rolled back, searched or
//! abandoned by a rewind drops out. A trial drops out too, unless training went on from its end: where the trainer stood
//! then, or from the slot that was saved there. The losses can be collected on the way, those of rolled-back stretches
//! among them.

use super::{DirectiveRecord, End, Job, Validation};
use crate::{
    directive::{Phase, Run, Slot, SlotOp},
    lr_pieces::{self, Piece},
};

/// Collects the kept line from its end to its start.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptLine {
    /// Newest first.
    pieces: Vec<Piece>,
    /// Steps that are not known yet.
    missing: u64,
    /// The directive before; 0: none.
    follows: u64,
    /// Where the state before the last record on the line came from.
    origin: Origin,
    /// Newest first; none: they are not asked for.
    stretches: Option<Vec<Stretch>>,
}

/// Where a state came from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    /// The end of the directive before.
    Before,
    /// A slot, saved by a directive further back.
    Slot(Slot),
    /// Not known: no record was added yet.
    Unknown,
}

impl Origin {
    /// Where the state after `ops` comes from, if `self` is where it comes from before them.
    fn after(self, ops: &[SlotOp]) -> Self {
        let restored = ops.iter().rposition(|op| matches!(op, SlotOp::Restore(_)));
        let Some(restored) = restored else { return self };
        let SlotOp::Restore(slot) = ops[restored] else { return self };
        self.of_slot(slot, &ops[..restored]).unwrap_or(Self::Slot(slot))
    }

    /// Where a slot's content comes from, if `ops` save it.
    fn of_slot(self, slot: Slot, ops: &[SlotOp]) -> Option<Self> {
        let saved = ops.iter().rposition(|op| *op == SlotOp::Save(slot))?;
        Some(self.after(&ops[..saved]))
    }
}

/// Committed steps of one directive, and what was measured in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// Its stage, from 0.
    pub stage: u32,
    /// What the steps were for.
    pub phase: Phase,
    /// Committed steps before its first.
    pub start_step: u64,
    /// Steps run.
    pub steps: u64,
    /// A guard rolled them back.
    pub lost: bool,
    /// LR of its last step.
    pub lr: f64,
    /// Training losses, down-sampled as in [`DirectiveRecord::losses`].
    pub losses: Vec<f64>,
    /// Validation losses.
    pub validations: Vec<Validation>,
}

impl Job {
    /// The kept line so far, with what is known of the directive under way.
    pub fn kept_line(&self) -> KeptLine {
        self.collect(None)
    }

    /// The same, which also collects the losses.
    pub fn kept_line_with_losses(&self) -> KeptLine {
        self.collect(Some(Vec::new()))
    }

    fn collect(&self, stretches: Option<Vec<Stretch>>) -> KeptLine {
        let origin = Origin::Unknown;
        let mut line = KeptLine { pieces: Vec::new(), missing: u64::MAX, follows: 0, origin, stretches };
        if let Some(current) = &self.current {
            line.add(&self.record(current, End::Open));
        }
        line
    }
}

impl KeptLine {
    /// The directive whose record must be added next; none: the line is whole.
    pub fn wants(&self) -> Option<u64> {
        (self.missing > 0 && self.follows > 0).then_some(self.follows)
    }

    /// Adds the record that [`KeptLine::wants`] names.
    pub fn add(&mut self, record: &DirectiveRecord) {
        self.follows = record.follows;
        let ops = &record.directive.slot_ops;
        let run = record.directive.run();
        if run.is_some_and(|run| run.phase == Phase::Trial) {
            match self.origin {
                Origin::Before => {}
                Origin::Slot(slot) => {
                    self.origin = Origin::Before.of_slot(slot, ops).unwrap_or(self.origin);
                    return;
                }
                Origin::Unknown => {
                    self.missing = record.kept_before;
                    self.origin = Origin::Before.after(ops);
                    return;
                }
            }
        }
        self.origin = Origin::Before.after(ops);
        let before = record.kept_before.min(self.missing);
        if let Some(run) = run {
            let kept = record.steps.min(self.missing - before);
            self.pieces.extend(lr_pieces::cut(&run.lr, kept).0.into_iter().rev());
            if let Some(stretches) = &mut self.stretches {
                stretches.extend(Stretch::of(record, run, kept == 0));
            }
        }
        self.missing = before;
    }

    /// The line from its start, in as few pieces as it needs.
    pub fn finish(self) -> Vec<Piece> {
        self.finish_with_losses().0
    }

    /// The same, with what was run in the order of the first steps; nothing unless it was asked for.
    pub fn finish_with_losses(self) -> (Vec<Piece>, Vec<Stretch>) {
        let mut stretches: Vec<Stretch> = self.stretches.into_iter().flatten().rev().collect();
        stretches.sort_by_key(|stretch| stretch.start_step);
        let mut line = Vec::new();
        for piece in self.pieces.into_iter().rev() {
            lr_pieces::push(&mut line, piece);
        }
        (line, stretches)
    }
}

impl Stretch {
    fn of(record: &DirectiveRecord, run: &Run, lost: bool) -> Option<Self> {
        let lr = lr_pieces::lr_at(&run.lr, record.steps.checked_sub(1)?)?;
        Some(Self {
            stage: run.stage,
            phase: run.phase,
            start_step: record.kept_before,
            steps: record.steps,
            lost,
            lr,
            losses: record.losses.clone(),
            validations: record.validations.clone(),
        })
    }
}
