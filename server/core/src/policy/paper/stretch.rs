//! The segments of `paper`: what is run next, what ends it early, and what an unattended trainer does after it.

use super::{At, MAX_RETRIES, Paper};
use crate::{
    directive::{Batches, Phase, Run, Slot},
    lr_pieces::{self, MAX_RUN_STEPS, Piece},
    plan::Keep,
    policy::{
        Context,
        guard::{directive_steps, slot_of},
        line::{Next, broken, committed, unattended, unattended_from},
    },
    stop_rules::StopIf,
};

impl Paper {
    /// The next segment of where it is; none at the end of the budget.
    pub(super) fn next(&mut self, cx: &Context<'_>) -> Option<Next> {
        let (left, trial_steps) = (cx.left(), self.trial_steps());
        if left == 0 {
            return None;
        }
        Some(match &mut self.at {
            At::Search { search, .. } => {
                let (lr, trial) = (search.lr(self.range), search.trial());
                let run = Run {
                    phase: Phase::Trial,
                    batches: Batches::Fresh,
                    lr: vec![Piece::constant(trial_steps, lr)],
                    stop_if: vec![StopIf::NonFinite],
                    stage: self.stage,
                    trial: Some(trial),
                    rungs: Vec::new(),
                    validate_at: self.validate_at(trial_steps),
                };
                self.trial(run, left)
            }
            At::Warmup { steps, done } => {
                *steps = (*steps).min(*done + left);
                let (steps, done) = (*steps, *done);
                let (_, warmup) = lr_pieces::cut(&[Piece::warmup(steps, self.lr)], done);
                let (head, mut rest) = lr_pieces::cut(&warmup, MAX_RUN_STEPS);
                rest.extend(hold(left - (steps - done), self.lr));
                self.committed(Phase::Warmup, head, rest, Vec::new(), cx)
            }
            At::Stage { done } => {
                let steps = (self.tau - *done).min(left);
                let rest = hold(left - steps, self.lr);
                self.committed(Phase::Stable, hold(steps, self.lr), rest, Vec::new(), cx)
            }
            At::Hold { slots } => {
                let mut keep: Vec<Keep> = slots.save(()).into_iter().collect();
                if cx.slots.contains_key(&Slot::Stage) {
                    keep.push(Keep::Drop(Slot::Stage));
                }
                let steps = directive_steps(cx.spec.budget.nominal()).min(left);
                let rest = hold(left - steps, self.lr);
                self.committed(Phase::Stable, hold(steps, self.lr), rest, keep, cx)
            }
        })
    }

    /// An unattended trainer restores `STAGE` and holds the last LR.
    fn trial(&self, run: Run, left: u64) -> Next {
        let line = hold(left - run.steps(), self.lr);
        let fallback = unattended_from(Slot::Stage, Phase::Stable, self.stage, line, Slot::Stage);
        Next { keep: Vec::new(), run, or_else: Some(fallback.clone().into()), on_stop: fallback }
    }

    fn committed(
        &self,
        phase: Phase,
        head: Vec<Piece>,
        rest: Vec<Piece>,
        keep: Vec<Keep>,
        cx: &Context<'_>,
    ) -> Next {
        let (slot, last_resort) = match &self.at {
            At::Hold { slots } => (slot_of(slots.unattended()), slot_of(slots.oldest())),
            _ => (Slot::Stage, Slot::Stage),
        };
        let mut run = committed(phase, self.stage, head);
        let on_stop = if cx.spec.guard && self.retries < MAX_RETRIES {
            let third = hold(lr_pieces::steps(&rest), self.diverged.below(self.lr, 3.0));
            unattended_from(slot, phase, self.stage, third, last_resort)
        } else {
            broken(slot)
        };
        // A loss that still rises after as many restores does not explode: a lower LR is no help.
        if cx.spec.guard && phase != Phase::Warmup && self.retries < MAX_RETRIES {
            run.stop_if.extend(self.standing.guard(self.bound));
        }
        Next { keep, run, or_else: unattended(phase, self.stage, rest, slot), on_stop }
    }
}

fn hold(steps: u64, lr: f64) -> Vec<Piece> {
    if steps == 0 { Vec::new() } else { vec![Piece::constant(steps, lr)] }
}
