//! The last stretch of a job that no policy steers any more: a fallback that the trainer adopted, or the cooldown
//! that an operator asked for.

use crate::{
    directive::{Action, Directive, DoneReason, Failure, Phase, Slot, SlotOp},
    lr_pieces::{self, MAX_RUN_STEPS, Piece},
    plan::{FromSlot, Keep, Plan},
    policy::line::{committed, scaled},
};

/// Stops after which a coda ends: a loss that never recovers must not restore a slot for ever.
const MAX_STOPS: u32 = 5;

/// The next segment of `line` (at least one step) and what remains of the line. A segment that breaks restores `SAFE`,
/// saved at its start, and runs what it may still run of the line at half the LR.
pub(super) fn go_on(line: &[Piece], phase: Phase, stage: u32) -> (Plan, Vec<Piece>) {
    let (head, rest) = lr_pieces::cut(line, MAX_RUN_STEPS);
    let plan = Plan::go_on([Keep::Save(Slot::Safe)], committed(phase, stage, head));
    (with_fallbacks(plan, &rest, phase, stage), rest)
}

/// As [`go_on`], from a slot.
pub(super) fn from_slot(slot: Slot, line: &[Piece], phase: Phase, stage: u32) -> (FromSlot, Vec<Piece>) {
    let (head, rest) = lr_pieces::cut(line, MAX_RUN_STEPS);
    let mut plan = FromSlot::run(slot, [Keep::Save(Slot::Safe)], committed(phase, stage, head));
    if !rest.is_empty() {
        plan = plan.or_else(Plan::go_on([], committed(phase, stage, rest.clone())));
    }
    (plan.on_stop(after_stop(&rest, phase, stage)), rest)
}

fn with_fallbacks(plan: Plan, rest: &[Piece], phase: Phase, stage: u32) -> Plan {
    let plan = plan.on_stop(after_stop(rest, phase, stage));
    if rest.is_empty() { plan } else { plan.or_else(Plan::go_on([], committed(phase, stage, rest.to_vec()))) }
}

fn after_stop(rest: &[Piece], phase: Phase, stage: u32) -> FromSlot {
    if rest.is_empty() {
        return FromSlot::done(Slot::Safe, DoneReason::Finished);
    }
    FromSlot::run(Slot::Safe, [], committed(phase, stage, scaled(rest, 0.5)))
}

/// What follows a stop in a coda that was stopped `before`, and what remains of the line: the directive's own
/// `fallback_on_stop`, in parts if it is too long for one; without one, or after too many stops, the job has failed.
pub(super) fn stopped(directive: &Directive, slot: Slot, before: u32) -> (FromSlot, Vec<Piece>) {
    let own = directive.fallback_on_stop.as_deref().filter(|_| before < MAX_STOPS);
    if let Some(run) = own.and_then(Directive::run).filter(|run| run.steps() > MAX_RUN_STEPS) {
        let slot = own.and_then(restored).unwrap_or(slot);
        return from_slot(slot, &run.lr, run.phase, run.stage);
    }
    let failed = || FromSlot::done(slot, DoneReason::Failed(Failure::Unstable));
    (own.and_then(again).unwrap_or_else(failed), Vec::new())
}

fn restored(directive: &Directive) -> Option<Slot> {
    directive.slot_ops.iter().find_map(|op| match *op {
        SlotOp::Restore(slot) => Some(slot),
        SlotOp::Save(_) | SlotOp::Drop(_) => None,
    })
}

/// A directive that starts with a restore as a plan once more.
fn again(directive: &Directive) -> Option<FromSlot> {
    let restore = directive.slot_ops.iter().position(|op| matches!(op, SlotOp::Restore(_)))?;
    let SlotOp::Restore(slot) = directive.slot_ops[restore] else { return None };
    let keep = directive.slot_ops[restore + 1..].iter().filter_map(|op| match *op {
        SlotOp::Save(slot) => Some(Keep::Save(slot)),
        SlotOp::Drop(slot) => Some(Keep::Drop(slot)),
        SlotOp::Restore(_) => None,
    });
    let plan = match &directive.action {
        Action::Run(run) => FromSlot::run(slot, keep, run.clone()),
        Action::Done(reason) => FromSlot::done(slot, *reason),
    };
    match directive.fallback_on_stop.as_deref().and_then(again) {
        Some(next) => Some(plan.on_stop(next)),
        None => Some(plan),
    }
}

/// The line of an operator's cooldown inside a search: a fifth of it warm-up, the rest cooldown.
pub(super) fn warm_and_cool(steps: u64, lr: f64) -> Vec<Piece> {
    let warmup = steps / 5;
    let pieces = [Piece::warmup(warmup, lr), Piece::cooldown(steps - warmup, lr)];
    pieces.into_iter().filter(|piece| piece.steps > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directive of a long line, with what it does after a stop.
    fn directive(steps: u64) -> Directive {
        let at = |seq, slot_ops, fallback_on_stop| Directive {
            seq,
            slot_ops,
            action: Action::Run(committed(Phase::Stable, 0, vec![Piece::constant(steps, 0.1)])),
            committed_step_at_start: 0,
            fallback: None,
            fallback_on_stop,
        };
        at(1, Vec::new(), Some(Box::new(at(2, vec![SlotOp::Restore(Slot::Safe)], None))))
    }

    #[test]
    fn a_loss_that_never_recovers_ends_the_job() {
        for steps in [10, 10 * MAX_RUN_STEPS] {
            let after = |stops| stopped(&directive(steps), Slot::Safe, stops).0;
            assert!((0..MAX_STOPS).all(|stops| after(stops).plan().run().is_some()));
            let failed = FromSlot::done(Slot::Safe, DoneReason::Failed(Failure::Unstable));
            assert_eq!(after(MAX_STOPS), failed);
        }
    }
}
