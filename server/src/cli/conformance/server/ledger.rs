//! What every directive must satisfy, whatever the policy: judged against what the trainer has done so far.

use crate::cli::conformance::{
    segment::{Segment, run},
    verdict::{Broken, Verdict, expect, short},
};
use autolrs_core::lr_pieces;
use autolrs_proto::v1::{
    Capabilities, Directive, Phase, Slot, SlotOp, directive::Action, done::Reason, run::Batches,
    slot_op::Kind,
};
use std::collections::BTreeSet;

/// What is known of a job before its next directive.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    /// Slots that the trainer holds.
    pub(super) slots: BTreeSet<Slot>,
    pub(super) session: u64,
    /// The newest directive so far.
    pub(super) seq: u64,
    /// Steps that count so far.
    pub(super) spent: u64,
    /// None: open.
    pub(super) budget: Option<u64>,
    pub(super) switch_every: u64,
    pub(super) capabilities: Capabilities,
    /// A stop rule or a rung ended the directive before.
    pub(super) cut: bool,
}

impl Ledger {
    /// Judges the next directive of the line.
    pub(super) fn judge(&self, directive: &Directive) -> Verdict {
        self.rules(directive).map_err(|broken| broken.at(format!("directive {}", directive.seq)))
    }

    fn rules(&self, directive: &Directive) -> Verdict {
        expect(directive.seq > self.seq, format!("a seq above {}", self.seq), directive.seq)?;
        expect(directive.session == self.session, format!("session {}", self.session), directive.session)?;
        if self.cut {
            let restores = directive.slot_ops.iter().any(|op| op.kind() == Kind::Restore);
            let ops = short(&directive.slot_ops);
            expect(restores, "a restore after a directive that was ended early", ops)?;
        }
        self.action(directive, true)
    }

    fn action(&self, directive: &Directive, main: bool) -> Verdict {
        let slots = operate(&self.slots, &directive.slot_ops)?;
        match &directive.action {
            None => Err(Broken::new("an action: run or done", "none")),
            Some(Action::Done(done)) => {
                expect(done.reason() != Reason::Unspecified, "a reason for the end", "none")?;
                let failed = done.reason() == Reason::Failed;
                let named = done.failure() != autolrs_proto::v1::Failure::Unspecified;
                expect(failed == named, "a failure exactly with REASON_FAILED", short(done))
            }
            Some(Action::Run(_)) => self.segment(directive, &slots, main),
        }
    }

    fn segment(&self, directive: &Directive, slots: &BTreeSet<Slot>, main: bool) -> Verdict {
        let Some(run) = run(directive) else { return Ok(()) };
        expect(run.phase() != Phase::Unspecified, "a phase", "none")?;
        let trial = run.phase() == Phase::Trial;
        expect(trial == run.trial.is_some(), "a trial's number in trials alone", short(&run.trial))?;
        match run.batches() {
            Batches::Fresh => {}
            Batches::Replay => {
                expect(self.capabilities.replay, "BATCHES_FRESH for a trainer that can't replay", "REPLAY")?;
            }
            Batches::Unspecified => return Err(Broken::new("which batches", "none")),
        }
        let steps = run.lr.iter().try_fold(0_u64, |sum, piece| sum.checked_add(piece.steps));
        let steps = steps.ok_or_else(|| Broken::new("fewer than 2^64 steps", short(&run.lr)))?;
        expect(
            steps > 0 && run.lr.iter().all(|piece| piece.steps > 0),
            "at least one step in every piece",
            "none",
        )?;
        self.lrs(directive, main)?;
        if let Some(budget) = self.budget {
            let all = self.spent.saturating_add(steps);
            expect(all <= budget, format!("at most {budget} steps in all"), format!("{all} with these"))?;
        }
        let ascending = |list: &[u64]| list.is_sorted_by(|a, b| a < b);
        let rungs = ascending(&run.rungs) && run.rungs.last().is_none_or(|&last| last < steps);
        expect(rungs, format!("rungs that ascend, below {steps}"), short(&run.rungs))?;
        let validations =
            ascending(&run.validate_at) && run.validate_at.iter().all(|at| (1..=steps).contains(at));
        let expected = format!("validate_at that ascends, from 1 to {steps}");
        expect(validations, expected, short(&run.validate_at))?;
        let asks = run.validate_at.is_empty() || self.capabilities.validate;
        expect(asks, "no validate_at for a trainer that can't", short(&run.validate_at))?;
        self.fallbacks(directive, slots, steps, main)
    }

    /// Every LR of a directive of the line; both ends of each piece of a fallback, which may be very long.
    fn lrs(&self, directive: &Directive, main: bool) -> Verdict {
        let Some(run) = run(directive) else { return Ok(()) };
        let good = |lr: &f64| lr.is_finite() && *lr >= 0.0;
        if main {
            let segment = Segment::of(run, self.switch_every)?;
            expect(segment.stops_at_non_finite(), "non_finite among stop_if", short(&run.stop_if))?;
            let bad = segment.lrs.iter().find(|lr| !good(lr));
            return bad.map_or(Ok(()), |lr| Err(Broken::new("LRs that are finite and at least 0", lr)));
        }
        for piece in &run.lr {
            let decoded = crate::rpc::decode_piece(piece);
            let piece = decoded.ok_or_else(|| Broken::new("an LR piece of a known shape", short(piece)))?;
            expect(piece.is_valid(), "an LR piece in range", short(&piece))?;
            let ends = [0, piece.steps - 1].map(|i| lr_pieces::lr_at(&[piece], i).unwrap_or(f64::NAN));
            expect(ends.iter().all(good), "LRs that are finite and at least 0", short(&ends))?;
        }
        Ok(())
    }

    fn fallbacks(&self, directive: &Directive, slots: &BTreeSet<Slot>, steps: u64, main: bool) -> Verdict {
        let numbered = |child: &Directive| {
            expect(child.seq > directive.seq, format!("a fallback's seq above {}", directive.seq), child.seq)
        };
        let after = Self { slots: slots.clone(), ..self.clone() };
        match &directive.fallback {
            Some(fallback) => {
                numbered(fallback)?;
                let after = Self { spent: self.spent.saturating_add(steps), ..after.clone() };
                after.action(fallback, false).map_err(|broken| broken.at("its fallback"))?;
            }
            None if main => {
                let all = self.spent.saturating_add(steps);
                let last = self.budget.is_none_or(|budget| all == budget);
                let expected = "a fallback, unless the job ends with this directive";
                expect(last, expected, format!("none after {all} steps"))?;
            }
            None => {}
        }
        // It may follow after one step already.
        if let Some(on_stop) = &directive.fallback_on_stop {
            numbered(on_stop)?;
            let after = Self { spent: self.spent + 1, ..after };
            after.action(on_stop, false).map_err(|broken| broken.at("its fallback_on_stop"))?;
        }
        Ok(())
    }
}

/// The slots that are held after these operations.
pub(super) fn operate(held: &BTreeSet<Slot>, ops: &[SlotOp]) -> Verdict<BTreeSet<Slot>> {
    let mut held = held.clone();
    for op in ops {
        let slot = op.slot();
        expect(slot != Slot::Unspecified, "a slot", "none")?;
        match op.kind() {
            Kind::Save => drop(held.insert(slot)),
            Kind::Restore => {
                expect(held.contains(&slot), "restores of slots that were saved", slot.as_str_name())?;
            }
            Kind::Drop => expect(held.remove(&slot), "drops of slots that were saved", slot.as_str_name())?,
            Kind::Unspecified => return Err(Broken::new("a slot operation", "none")),
        }
    }
    Ok(held)
}
