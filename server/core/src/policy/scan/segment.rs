//! The segments of a stretch: what is run next, what ends it early, and what an unattended trainer does after it.

use super::stretch::{At, DECAY, MAX_RETRIES, Mark, Stretch, falling};
use crate::{
    directive::{Phase, Slot},
    lr_pieces::{self, MAX_RUN_STEPS, Piece, Shape, lr_at},
    plan::{FromSlot, Keep},
    policy::{
        Context,
        guard::{directive_steps, slot_of},
        line::{Next, PhasedLine, broken, committed, unattended, unattended_from, warm_hold_cool},
    },
    stop_rules::StopIf,
};

/// A warm-up that breaks at a third of the LR too is more likely to have met noise that no branch saw: each time this
/// many times the noise is held for possible. Runs that met a burst went on to break 4 to 6 times without.
const NOISIER: u32 = 4;
/// Losses in the mean that guards the warm-up.
const MEAN_OF: u32 = 10;
/// Steps of a phase, or after a restore, before a loss is judged by its limit.
const LIMIT_FROM: u64 = 20;
/// The same by what the branches had reached.
const DEAD_FROM: u64 = 40;

impl Stretch {
    /// The next segment; none at the end of the budget.
    pub(super) fn next(&mut self, cx: &Context<'_>) -> Option<Next> {
        self.settle(cx);
        let longest = match self.at {
            At::Warmup { .. } => MAX_RUN_STEPS,
            At::Stable | At::Cooldown { .. } => {
                directive_steps(cx.spec.budget.nominal().max(cx.spent.committed))
            }
        };
        let (phase, head, rest) = self.line(cx).split(longest)?;
        let stage = u32::from(phase != Phase::Warmup);
        let keep = if phase == Phase::Warmup { Vec::new() } else { self.save(&head) };
        let mut run = committed(phase, stage, head);
        if cx.spec.guard {
            run.stop_if.extend(self.stop_if(phase));
        }
        let on_stop = self.after_stop(phase, stage, lr_pieces::steps(&rest), &keep, cx);
        let slot = if phase == Phase::Warmup { Slot::Start } else { slot_of(self.slots.newest()) };
        Some(Next { keep, run, or_else: unattended(phase, stage, rest, slot), on_stop })
    }

    /// Goes into the phase that the steps left call for.
    fn settle(&mut self, cx: &Context<'_>) {
        self.fit_warmup(cx);
        if matches!(self.at, At::Warmup { piece, .. } if piece.steps == 0) {
            self.at = At::Stable;
        }
        if self.at == At::Stable && self.cooldown_steps(cx) == cx.left() {
            self.at = At::Cooldown { piece: Piece::cooldown(cx.left(), self.eta), left: cx.left() };
        }
    }

    /// A budget that an operator lowered may leave less room than the warm-up needs: it goes on to its LR in a straight
    /// line, or is over if nothing is left for it.
    fn fit_warmup(&mut self, cx: &Context<'_>) {
        let At::Warmup { piece, done } = self.at else { return };
        let room = cx.left() - self.cooldown_steps(cx);
        if piece.steps - done > room {
            let next = piece.lr(done);
            if room == 0 {
                self.eta = next;
            }
            self.at = At::Warmup { piece: Piece::new(room, next, self.eta, Shape::Linear), done: 0 };
        }
    }

    /// What is planned for all steps that are left.
    fn line(&self, cx: &Context<'_>) -> PhasedLine {
        let (left, cooldown) = (cx.left(), self.cooldown_steps(cx));
        let hold_and_cool = |committed: u64, hold: u64| {
            let held = self.law.line(committed, hold, self.eta).into_iter();
            let cooldown = (Phase::Cooldown, Piece::cooldown(cooldown, self.eta));
            held.map(|piece| (Phase::Stable, piece)).chain([cooldown])
        };
        let committed = cx.spent.committed;
        match self.at {
            At::Warmup { piece, done } => {
                let warmup = piece.steps - done;
                let hold = (left - cooldown).saturating_sub(warmup);
                let rest = hold_and_cool(committed + warmup, hold);
                PhasedLine::new(std::iter::once((Phase::Warmup, piece)).chain(rest)).after(done)
            }
            At::Stable => PhasedLine::new(hold_and_cool(committed, left - cooldown)),
            At::Cooldown { piece, left: at_start } => {
                PhasedLine::new([(Phase::Cooldown, piece)]).after(at_start - left)
            }
        }
    }

    /// The save at a segment's start, and the end of `START`.
    fn save(&mut self, head: &[Piece]) -> Vec<Keep> {
        if self.slots.is_due() {
            self.refer();
        }
        let mark = Mark { lr: lr_at(head, 0).unwrap_or(self.eta), reference: self.reference };
        let mut keep: Vec<Keep> = self.slots.save(mark).into_iter().collect();
        if std::mem::take(&mut self.holds_start) {
            keep.push(Keep::Drop(Slot::Start));
        }
        keep
    }

    /// The guards besides a non-finite loss.
    fn stop_if(&self, phase: Phase) -> Vec<StopIf> {
        let Some(scales) = self.scales else { return Vec::new() };
        let from = |step: u64| step.saturating_sub(self.since);
        match (phase, self.ema, self.reference) {
            (Phase::Warmup, ..) if self.warmup_retries <= MAX_RETRIES => {
                let limit = scales.noisier(NOISIER.pow(self.warmup_retries)).warmup_limit();
                vec![StopIf::MeanAbove { last: MEAN_OF, limit, from: from(LIMIT_FROM) }]
            }
            (Phase::Stable, Some(ema), Some(reference)) => {
                let above = |limit: f64, from: u64| StopIf::EmaAbove { decay: DECAY, start_value: ema, limit, from };
                let mut rules = vec![above(scales.stable_limit(reference), from(LIMIT_FROM))];
                let dead = self.dead.filter(|dead| ema < dead.limit);
                rules.extend(dead.map(|dead| above(dead.limit, from(DEAD_FROM))));
                rules
            }
            _ => Vec::new(),
        }
    }

    /// What an unattended trainer does after a stop, in the `left` steps that are left at the worst. `keep`: done
    /// before the segment.
    fn after_stop(
        &self,
        phase: Phase,
        stage: u32,
        left: u64,
        keep: &[Keep],
        cx: &Context<'_>,
    ) -> FromSlot {
        let saved = self.slots.unattended();
        let slot = if phase == Phase::Warmup { Slot::Start } else { slot_of(saved) };
        if !cx.spec.guard || self.warmup_retries.max(self.retries) > MAX_RETRIES {
            return broken(slot);
        }
        let cooldown = self.cooldown_steps(cx);
        let oldest = slot_of(self.slots.oldest());
        match phase {
            Phase::Warmup | Phase::Trial => {
                let (steps, lr) = (Self::retry_steps(cx.spec.budget.nominal()), self.retry_lr(cx));
                let line = warm_hold_cool(left, steps, cooldown, lr, |warmup, hold| {
                    self.law.line(warmup, hold, lr)
                });
                unattended_from(slot, phase, stage, line, Slot::Start)
            }
            Phase::Stable => {
                let committed = if keep.contains(&Keep::Save(slot)) {
                    cx.spent.committed
                } else {
                    cx.restored(slot).spent.committed
                };
                let half = self.diverged.below(self.eta, 2.0);
                let line =
                    warm_hold_cool(left, 0, cooldown, half, |_, hold| self.law.line(committed, hold, half));
                unattended_from(slot, phase, stage, line, oldest)
            }
            Phase::Cooldown => {
                let half = self.diverged.below(saved.map_or(self.eta, |(_, mark)| mark.lr), 2.0);
                let line = if left == 0 { Vec::new() } else { vec![falling(left, half)] };
                unattended_from(slot, phase, stage, line, oldest)
            }
        }
    }
}
