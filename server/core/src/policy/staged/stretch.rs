//! The segments of `staged`: what is run next, what ends it early, and what an unattended trainer does after it.

use super::{At, MAX_RETRIES, Staged};
use crate::{
    directive::{Batches, Phase, Run, Slot},
    lr_pieces::{self, MAX_RUN_STEPS, Piece, lr_at},
    plan::{FromSlot, Keep},
    policy::{
        Context,
        guard::{SafeSlots, directive_steps, slot_of},
        line::{Next, broken, committed, unattended, unattended_from, warm_hold_cool},
    },
    stop_rules::StopIf,
};

/// A forecast needs as many losses.
const MIN_TRIAL: u64 = 8;

impl Staged {
    /// tau'.
    pub(super) fn trial_steps(&self) -> u64 {
        let steps = libm::round(self.options.trial_fraction * self.options.tau as f64) as u64;
        steps.clamp(MIN_TRIAL, MAX_RUN_STEPS)
    }

    /// Steps of the planned cooldown that are still to come.
    fn cooldown_steps(&self, cx: &Context<'_>) -> u64 {
        let steps = libm::round(self.options.cooldown_fraction * cx.spec.budget.nominal() as f64) as u64;
        steps.min(cx.left())
    }

    /// Steps left before it.
    pub(super) fn hold_left(&self, cx: &Context<'_>) -> u64 {
        cx.left() - self.cooldown_steps(cx)
    }

    /// Cools down from the present LR over all that is left.
    pub(super) fn enter_cooldown(&mut self, cx: &Context<'_>) {
        let piece = Piece::cooldown(cx.left(), self.lr);
        self.at = At::Cooldown { piece, steps: cx.left(), slots: SafeSlots::new() };
    }

    /// Another line for the cooldown under way.
    pub(super) fn cool_down_from(&mut self, lr: f64, left: u64) {
        if let At::Cooldown { piece, steps, .. } = &mut self.at {
            (*piece, *steps) = (Piece::cooldown(left, lr), left);
        }
    }

    /// What is left of the cooldown under way, with `lr` as its highest LR, also after a restore.
    pub(super) fn rescale_cooldown(&mut self, lr: f64, cx: &Context<'_>) {
        let At::Cooldown { piece, steps, slots } = &mut self.at else { return };
        let rest = lr_pieces::cut(&[*piece], *steps - cx.left()).1;
        let from = lr_pieces::highest(&rest);
        if let Some(&[scaled]) = lr_pieces::scaled_to(&rest, lr).as_deref() {
            (*piece, *steps) = (scaled, cx.left());
            slots.map(|saved| (saved / from * lr).min(lr));
        }
    }

    /// The next segment of where it is; none at the end of the budget.
    pub(super) fn next(&mut self, cx: &Context<'_>) -> Option<Next> {
        if cx.left() == 0 {
            return None;
        }
        if matches!(self.at, At::Stage { .. }) && self.hold_left(cx) == 0 {
            self.enter_cooldown(cx);
        }
        Some(match &self.at {
            At::Search { .. } => self.trial(cx),
            &At::Stage { done } => self.hold(done, cx),
            At::Cooldown { .. } => self.cool(cx),
        })
    }

    /// An unattended trainer restores `STAGE` and goes on at the last LR.
    fn trial(&self, cx: &Context<'_>) -> Next {
        let (trial, lr) = match &self.at {
            At::Search { search, .. } => (search.trial(), search.lr(self.range)),
            At::Stage { .. } | At::Cooldown { .. } => (0, self.lr),
        };
        let steps = self.trial_steps();
        let run = Run {
            phase: Phase::Trial,
            batches: if cx.replay && trial > 0 { Batches::Replay } else { Batches::Fresh },
            lr: vec![Piece::constant(steps, lr)],
            stop_if: vec![StopIf::NonFinite],
            stage: self.stage,
            trial: Some(trial),
            validate_at: Vec::new(),
            rungs: vec![steps.div_ceil(4) - 1, steps.div_ceil(2) - 1],
        };
        let fallback = self.unattended_stage(cx.left() - steps, self.lr, cx);
        Next { keep: Vec::new(), run, or_else: Some(fallback.clone().into()), on_stop: fallback }
    }

    /// The LR that the guard of a stage goes on with.
    pub(super) fn next_lower(&self) -> f64 {
        self.diverged.below(self.lr, 3.0)
    }

    /// The committed steps of a stage.
    fn hold(&self, done: u64, cx: &Context<'_>) -> Next {
        let planned = self.options.tau.saturating_sub(done).max(1);
        let steps = planned.min(self.hold_left(cx)).min(MAX_RUN_STEPS);
        let left = cx.left() - steps;
        let on_stop = match (cx.spec.guard, self.retries < MAX_RETRIES) {
            (false, _) => broken(Slot::Stage),
            (true, true) => self.unattended_stage(left, self.next_lower(), cx),
            (true, false) => cooled(Slot::Stage, self.stage, left, self.next_lower(), Slot::Stage),
        };
        let head = vec![Piece::constant(steps, self.lr)];
        let rest = hold_and_cool(left, self.cooldown_steps(cx), self.lr);
        let or_else = unattended(Phase::Stable, self.stage, rest, Slot::Stage);
        Next { keep: Vec::new(), run: self.guarded(head, cx), or_else, on_stop }
    }

    /// The next part of the cooldown.
    fn cool(&mut self, cx: &Context<'_>) -> Next {
        let (left, guard, stage, retries) = (cx.left(), cx.spec.guard, self.stage, self.retries);
        let mut keep = Vec::new();
        let (head, rest, on_stop, slot) = match &mut self.at {
            At::Cooldown { piece, steps, slots } => {
                let line = lr_pieces::cut(&[*piece], *steps - left).1;
                let (head, rest) = lr_pieces::cut(&line, directive_steps(cx.spec.budget.nominal()));
                keep.extend(slots.save(lr_at(&head, 0).unwrap_or(piece.start)));
                let (slot, oldest) = (slot_of(slots.unattended()), slot_of(slots.oldest()));
                let lr = self.diverged.below(slots.unattended().map_or(piece.start, |(_, lr)| lr), 2.0);
                let on_stop = if guard && retries < MAX_RETRIES {
                    cooled(slot, stage, lr_pieces::steps(&rest), lr, oldest)
                } else {
                    broken(slot)
                };
                (head, rest, on_stop, slot)
            }
            At::Search { .. } | At::Stage { .. } => {
                (vec![Piece::cooldown(left, self.lr)], Vec::new(), broken(Slot::Stage), Slot::Stage)
            }
        };
        if cx.slots.contains_key(&Slot::Stage) {
            keep.push(Keep::Drop(Slot::Stage));
        }
        let or_else = unattended(Phase::Cooldown, self.stage, rest, slot);
        // A falling LR breaks nothing but by a loss that is no number.
        Next { keep, run: committed(Phase::Cooldown, self.stage, head), or_else, on_stop }
    }

    fn guarded(&self, head: Vec<Piece>, cx: &Context<'_>) -> Run {
        let mut run = committed(Phase::Stable, self.stage, head);
        if cx.spec.guard {
            run.stop_if.extend(self.standing.guard(self.bound));
        }
        run
    }

    /// `STAGE`, then `left` steps at `lr` with the planned cooldown.
    fn unattended_stage(&self, left: u64, lr: f64, cx: &Context<'_>) -> FromSlot {
        let line = hold_and_cool(left, self.cooldown_steps(cx), lr);
        unattended_from(Slot::Stage, Phase::Stable, self.stage, line, Slot::Stage)
    }
}

/// `slot`, then a cooldown over `left` steps.
fn cooled(slot: Slot, stage: u32, left: u64, lr: f64, last_resort: Slot) -> FromSlot {
    let line = if left == 0 { Vec::new() } else { vec![Piece::cooldown(left, lr)] };
    unattended_from(slot, Phase::Cooldown, stage, line, last_resort)
}

/// `lr`, with the cooldown at the end of the `total` steps.
fn hold_and_cool(total: u64, cooldown: u64, lr: f64) -> Vec<Piece> {
    warm_hold_cool(total, 0, cooldown, lr, |_, steps| vec![Piece::constant(steps, lr)])
}
