//! The committed steps of a scan: warm-up, stable stretch, cooldown, and what follows when one breaks.
//!
//! | symbol | meaning |
//! |---|---|
//! | `B` | budget in steps; 100 L of an open one |
//! | `C` | steps of the cooldown: round(cooldown_fraction B) |
//! | `eta` | the LR at the end of the warm-up, and after it what the [`Law`] begins with |
//! | `ema` | running mean of the losses, decay 0.95 |
//! | `ref` | the ema at the last save, bounded: what a loss may be compared with |
//!
//! The cooldown begins where C steps are left of the budget, whatever was lost before. An open budget has none before
//! an operator or the last guard asks for it.

use super::{
    branch::{dose, scored_steps},
    law::{Law, warmup_steps},
    scales::Scales,
};
use crate::{
    directive::Slot,
    forecast::noise,
    lr_pieces::{Piece, Shape},
    plan::{FromSlot, Plan},
    policy::{
        CommitNote, Context, Notes, Segment,
        diverged::{Diverged, divided},
        guard::{SafeSlots, slot_of},
        limits::kept_bound,
        line::{broken, from, go_on},
        stage_end,
    },
    spec::ResolvedScan,
    stop_rules::Stop,
};
use serde::{Deserialize, Serialize};

/// Decay of the ema.
pub(super) const DECAY: f64 = 0.95;
/// Restores of the warm-up; and of the stable stretch and the cooldown together.
pub(super) const MAX_RETRIES: u32 = 5;
/// Losses at the end of the warm-up that are compared with what the branches had reached.
const WARMUP_END: usize = 20;

/// The state of the committed steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stretch {
    pub(super) options: ResolvedScan,
    pub(super) eta: f64,
    pub(super) law: Law,
    bound: Option<f64>,
    /// None until something was measured.
    pub(super) scales: Option<Scales>,
    pub(super) dead: Option<Dead>,
    pub(super) at: At,
    /// Whether `START` is still held.
    pub(super) holds_start: bool,
    pub(super) warmup_retries: u32,
    pub(super) retries: u32,
    /// Steps since the phase's start or the last restore.
    pub(super) since: u64,
    pub(super) ema: Option<f64>,
    pub(super) reference: Option<f64>,
    lowest_reference: Option<f64>,
    /// Mean of the first n losses: loss0 where there was no search.
    first: Option<f64>,
    pub(super) slots: SafeSlots<Mark>,
    /// LRs of the branches that were stopped.
    pub(super) diverged: Diverged,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) enum At {
    /// `done` steps of the piece are done.
    Warmup { piece: Piece, done: u64 },
    Stable,
    /// The piece began where `left` steps were left of the budget; with an open one more than it has.
    Cooldown { piece: Piece, left: u64 },
}

/// What the best branch had reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Dead {
    /// Above this, what it had learnt is lost.
    pub(super) limit: f64,
    /// The sum of the LRs over its steps: a warm-up that has not gone half as far can't be expected to have learnt as
    /// much.
    pub(super) dose: f64,
}

/// What is known of a save.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// LR of the first step after it.
    pub(super) lr: f64,
    pub(super) reference: Option<f64>,
}

impl Stretch {
    /// Starts from `START`, to `eta`, which then follows `law`. `scales`: from the search, with the sum of the best branch's LRs.
    pub(super) fn new(
        options: &ResolvedScan,
        eta: f64,
        law: Law,
        bound: Option<f64>,
        scales: Option<(Scales, f64)>,
        diverged: Diverged,
        cx: &Context<'_>,
    ) -> Self {
        let mut stretch = Self {
            options: options.clone(),
            eta,
            law,
            bound,
            scales: scales.map(|(scales, _)| scales),
            dead: scales.and_then(|(scales, dose)| scales.dead().map(|limit| Dead { limit, dose })),
            at: At::Stable,
            holds_start: true,
            warmup_retries: 0,
            retries: 0,
            since: 0,
            ema: None,
            reference: None,
            lowest_reference: None,
            first: None,
            slots: SafeSlots::new(),
            diverged,
        };
        stretch.warm_up(warmup_steps(options, cx.spec.budget), cx);
        stretch
    }

    /// After a segment that ran to its end.
    pub(super) fn ended(&mut self, segment: &Segment<'_>, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        let losses = segment.losses;
        self.observe(losses, cx);
        self.learn_noise(losses);
        match &mut self.at {
            At::Warmup { piece, done } => {
                *done += losses.len() as u64;
                if *done >= piece.steps {
                    if self.warmup_is_dead(losses, cx) {
                        return self.warm_up_again("has not learnt what the branches had", cx, notes).into();
                    }
                    self.enter_stable(losses, cx, notes);
                }
            }
            At::Stable | At::Cooldown { .. } => self.slots.ran(losses.len() as u64),
        }
        let next = self.next(cx);
        if next.is_none() {
            notes.stage_ends.extend(stage_end(segment.run.stage, losses));
        }
        go_on(next)
    }

    /// After a segment that a rule ended.
    pub(super) fn stopped(
        &mut self,
        segment: &Segment<'_>,
        stop: Stop,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> FromSlot {
        self.bound = kept_bound(self.bound, segment.losses);
        if matches!(self.at, At::Warmup { .. }) {
            if cx.spec.guard {
                return self.warm_up_again("broke", cx, notes);
            }
            return self.give_up(Slot::Start, notes);
        }
        self.restore(stop, cx, notes)
    }

    /// An operator sets the LR that the warm-up leads to, that is held, or that a cooldown goes on from. No restore leads
    /// above it.
    pub(super) fn set_lr(&mut self, lr: f64, cx: &Context<'_>, notes: &mut Notes) {
        let highest = match self.at {
            At::Warmup { piece, .. } => piece.end,
            At::Stable => self.law.lr(cx.spent.committed, self.eta),
            At::Cooldown { piece, left } => piece.lr(left - cx.left()),
        };
        match &mut self.at {
            At::Warmup { piece, .. } | At::Cooldown { piece, .. } => *piece = piece.rescaled(highest, lr),
            At::Stable => {}
        }
        self.slots.map(|mark| Mark { lr: (mark.lr / highest * lr).min(lr), ..mark });
        self.eta = self.eta / highest * lr;
        self.since = 0;
        let stage = u32::from(!matches!(self.at, At::Warmup { .. }));
        self.note_commit(stage, lr, "an operator set it".into(), notes);
    }

    /// The LR and the steps after `START` was restored once more.
    pub(super) fn retry_lr(&self, cx: &Context<'_>) -> f64 {
        let third = self.eta / 3.0;
        let lr = if self.warmup_retries < MAX_RETRIES { third } else { third.min(cx.spec.fallback_lr) };
        self.diverged.avoid(lr, 3.0)
    }

    pub(super) fn retry_steps(total_steps: u64) -> u64 {
        (libm::round(0.02 * total_steps as f64) as u64).max(20)
    }

    fn warm_up(&mut self, steps: u64, cx: &Context<'_>) {
        let room = cx.left() - self.cooldown_steps(cx);
        self.at = At::Warmup { piece: Piece::warmup(steps.min(room), self.eta), done: 0 };
        (self.since, self.ema) = (0, None);
    }

    fn warm_up_again(&mut self, why: &str, cx: &Context<'_>, notes: &mut Notes) -> FromSlot {
        if self.warmup_retries > MAX_RETRIES {
            return self.give_up(Slot::Start, notes);
        }
        self.eta = self.retry_lr(cx);
        self.warmup_retries += 1;
        self.note(0, format!("the warm-up {why}: back to the start with LR {:.3e}", self.eta), notes);
        if self.warmup_retries > MAX_RETRIES {
            let last = "the last warm-up: only a loss that is not finite ends it";
            notes.warnings.push(last.into());
        }
        self.warm_up(Self::retry_steps(cx.spec.budget.nominal()), cx);
        from(Slot::Start, self.next(&cx.restored(Slot::Start)))
    }

    fn warmup_is_dead(&self, losses: &[f64], cx: &Context<'_>) -> bool {
        let (Some(dead), At::Warmup { piece, .. }) = (self.dead, self.at) else { return false };
        let judged = cx.spec.guard && self.warmup_retries <= MAX_RETRIES && dose(&piece) >= dead.dose / 2.0;
        let last = noise::mean(&losses[losses.len().saturating_sub(WARMUP_END)..]);
        judged && last.is_some_and(|mean| mean >= dead.limit)
    }

    fn enter_stable(&mut self, losses: &[f64], cx: &Context<'_>, notes: &mut Notes) {
        notes.stage_ends.extend(stage_end(0, losses));
        let why = match self.law {
            Law::Held if cx.spec.budget.is_open() => "the LR of the warm-up is held",
            Law::Held => "the LR of the warm-up is held, then cooled down",
            Law::CubeRoot { .. } => "the LR of the warm-up falls with the cube root of the steps",
        };
        self.note_commit(1, self.eta, why.into(), notes);
        (self.at, self.since) = (At::Stable, 0);
        if self.scales.is_none() {
            let tail = &losses[losses.len().saturating_sub(scored_steps(cx.spec.budget.nominal()))..];
            let measured = self.first.zip(noise::mean(tail));
            let noise = (noise::slow_sd(losses), noise::rough_sd(losses));
            self.scales = measured.map(|(loss0, best)| Scales::new(loss0, best, noise, self.bound));
        }
    }

    /// A guard fired in the stable stretch or the cooldown.
    fn restore(&mut self, stop: Stop, cx: &Context<'_>, notes: &mut Notes) -> FromSlot {
        let saved = self.slots.restore(stop.offset);
        let slot = slot_of(saved);
        if !cx.spec.guard || self.retries > MAX_RETRIES {
            return self.give_up(slot, notes);
        }
        self.retries += 1;
        self.since = 0;
        self.reference = saved.and_then(|(_, mark)| mark.reference);
        self.ema = self.reference;
        let cx = &cx.restored(slot);
        if let At::Cooldown { piece, left } = self.at {
            let saved_lr = saved.map_or(self.eta, |(_, mark)| mark.lr);
            let half = self.diverged.below(saved_lr, 2.0);
            let what = divided(saved_lr, half);
            let steps = piece.steps.saturating_sub(left - cx.left());
            self.at = At::Cooldown { piece: falling(steps, half), left: cx.left() };
            self.note(1, format!("the cooldown broke: goes on with the LR {what}, {half:.3e}"), notes);
        } else {
            let half = self.diverged.below(self.eta, 2.0);
            let what = divided(self.eta, half);
            self.eta = half;
            let why = if self.retries > MAX_RETRIES {
                let lr = self.law.lr(cx.spent.committed, self.eta);
                self.at = At::Cooldown { piece: Piece::cooldown(last_cooldown(cx), lr), left: cx.left() };
                format!("the loss broke too often: cools down at once with the LR {what}")
            } else {
                format!("the loss broke: a slot was restored and the LR {what}")
            };
            self.note(1, format!("{why}, {:.3e}", self.eta), notes);
        }
        from(slot, self.next(cx))
    }

    fn give_up(&self, slot: Slot, notes: &mut Notes) -> FromSlot {
        notes.warnings.push("the loss broke and no retry is left: the job has failed".into());
        broken(slot)
    }

    /// Steps of the cooldown that are still to come before it has begun.
    pub(super) fn cooldown_steps(&self, cx: &Context<'_>) -> u64 {
        let planned = libm::round(self.options.cooldown_fraction * cx.spec.budget.nominal() as f64) as u64;
        planned.min(cx.left())
    }

    /// Enters the losses of a segment.
    fn observe(&mut self, losses: &[f64], cx: &Context<'_>) {
        self.bound = kept_bound(self.bound, losses);
        if let Some(scales) = &mut self.scales {
            scales.bound = self.bound;
        }
        let head = |n: usize| noise::mean(&losses[..n.min(losses.len())]);
        self.first = self.first.or(head(scored_steps(cx.spec.budget.nominal())));
        let Some(start) = self.ema.or(head(10)) else { return };
        self.ema = Some(losses.iter().fold(start, |ema, y| DECAY * ema + (1.0 - DECAY) * y));
        self.since += losses.len() as u64;
    }

    /// Losses that stand out may be rarer than a search is long, and noise may last longer than a branch can tell from
    /// what it learns: both are learnt from stretches that met no guard.
    fn learn_noise(&mut self, losses: &[f64]) {
        let Some(scales) = &mut self.scales else { return };
        let (slow, rough) = (noise::slow_sd(losses), noise::rough_sd(losses));
        let shown = if rough > 2.0 * noise::noise_sd(losses) { rough.max(slow) } else { slow };
        if shown > scales.s {
            scales.s = shown;
            let limit = scales.dead();
            self.dead = self.dead.and_then(|dead| limit.map(|limit| Dead { limit, ..dead }));
        }
    }

    /// The ref of a save.
    pub(super) fn refer(&mut self) {
        let Some(ema) = self.ema else { return };
        let next = match (self.scales, self.reference) {
            (Some(scales), Some(reference)) => {
                scales.next_reference(ema, reference, self.lowest_reference.unwrap_or(reference))
            }
            _ => ema,
        };
        self.reference = Some(next);
        self.lowest_reference = Some(self.lowest_reference.map_or(next, |lowest| lowest.min(next)));
    }

    /// A commit that the user is warned of.
    fn note(&self, stage: u32, why: String, notes: &mut Notes) {
        notes.warnings.push(why.clone());
        self.note_commit(stage, self.eta, why, notes);
    }

    fn note_commit(&self, stage: u32, lr: f64, why: String, notes: &mut Notes) {
        notes.commits.push(CommitNote { stage, lr, why, forecast: None, curve: Vec::new() });
    }
}

/// Steps of the cooldown after the last retry of the stable stretch: all that are left; with an open budget 2/3 of the
/// committed ones, as when an operator finishes the job.
fn last_cooldown(cx: &Context<'_>) -> u64 {
    if cx.spec.budget.is_open() { (cx.spent.committed * 2 / 3).min(cx.left()) } else { cx.left() }
}

/// LINEAR from `lr` to `lr / (steps + 1)`.
pub(super) fn falling(steps: u64, lr: f64) -> Piece {
    Piece::new(steps, lr, lr / (steps as f64 + 1.0), Shape::Linear)
}
