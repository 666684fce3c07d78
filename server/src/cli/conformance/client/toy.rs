//! The toy problem that a client's program trains: every loss tells which LR the steps before had, from which slot the
//! state came, and which batch was used. `proto/README.md` describes it.

use crate::cli::conformance::{
    segment::{Segment, run},
    verdict::Verdict,
};
use autolrs_core::stop_rules::Stop;
use autolrs_proto::v1::{Directive, Slot, SlotOp, run::Batches, slot_op::Kind};
use std::collections::BTreeMap;

/// Above this weight a training has diverged: its loss is NaN.
pub(super) const BREAKS_ABOVE: f64 = 1e6;

/// The training as it must be after every directive so far.
#[derive(Debug, Clone)]
pub(super) struct Toy {
    weight: f64,
    /// Batch of the next step.
    batch: u64,
    /// First batch that was never used.
    fresh: u64,
    slots: BTreeMap<Slot, (f64, u64)>,
}

/// What a directive's segment must give.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// Up to its end, if nothing but a stop rule ends it.
    pub(super) losses: Vec<f64>,
    pub(super) stop: Option<Stop>,
    /// The weight after each step.
    weights: Vec<f64>,
    pub(super) segment: Segment,
}

impl Toy {
    pub(super) fn new() -> Self {
        Self { weight: 1.0, batch: 0, fresh: 0, slots: BTreeMap::new() }
    }

    /// Does the slot operations; what the segment must give, if there is one.
    pub(super) fn begin(&mut self, directive: &Directive, switch_every: u64) -> Verdict<Option<Expected>> {
        let restored = self.operate(&directive.slot_ops);
        let Some(run) = run(directive) else { return Ok(None) };
        self.batch = match (run.batches(), restored) {
            (Batches::Replay, Some(batch)) => batch,
            _ => self.fresh,
        };
        let segment = Segment::of(run, switch_every)?;
        let (mut judge, mut end) = (segment.judge(), segment.steps());
        let (mut losses, mut weights, mut weight) = (Vec::new(), Vec::new(), self.weight);
        while (losses.len() as u64) < end {
            let batch = self.batch + losses.len() as u64;
            let loss = if weight > BREAKS_ABOVE { f64::NAN } else { weight + batch as f64 / 1000.0 };
            weight += segment.lrs[losses.len()];
            losses.push(loss);
            weights.push(weight);
            end = judge.push(loss).map_or(end, |stop| segment.end_after(stop, switch_every));
        }
        Ok(Some(Expected { losses, weights, stop: judge.stop(), segment }))
    }

    /// The directive has ended after so many steps.
    pub(super) fn ran(&mut self, expected: &Expected, steps: usize) {
        self.weight = steps.checked_sub(1).map_or(self.weight, |last| expected.weights[last]);
        self.batch += steps as u64;
        self.fresh = self.fresh.max(self.batch);
    }

    fn operate(&mut self, ops: &[SlotOp]) -> Option<u64> {
        let mut restored = None;
        for op in ops {
            match op.kind() {
                Kind::Save => drop(self.slots.insert(op.slot(), (self.weight, self.fresh))),
                Kind::Restore => {
                    if let Some((weight, batch)) = self.slots.get(&op.slot()) {
                        self.weight = *weight;
                        restored = Some(*batch);
                    }
                }
                Kind::Drop | Kind::Unspecified => drop(self.slots.remove(&op.slot())),
            }
        }
        restored
    }
}

impl Expected {
    /// The validation loss after so many steps: the weight.
    pub(super) fn validation(&self, offset: u64) -> Option<f64> {
        let last = usize::try_from(offset).ok()?.checked_sub(1)?;
        self.weights.get(last).copied()
    }
}
