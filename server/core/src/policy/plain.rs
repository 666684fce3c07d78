//! The plain schedules: a warm-up and one curve over the whole budget, without a search. For baselines, and for people
//! who want one place to steer LR. Guard: a loss that is not finite restores a slot, and the rest of the line is run
//! at half its LR; five times.
//!
//! The line is laid over all steps, those that a guard rolled back included, so it always ends with the budget.

mod curve;

use super::{
    Advice, Change, CommitNote, Context, Notes, OpenSearch, Policy, Segment,
    guard::{SafeSlots, directive_steps, slot_of},
    line::{Next, PhasedLine, broken, committed, from, go_on, scaled, unattended, unattended_from},
    stage_end,
};
use crate::{
    directive::Phase,
    lr_pieces::{self, Piece},
    plan::{FromSlot, Plan},
    spec::{PlainKind, ResolvedPlain, ResolvedSpec},
    stop_rules::Stop,
};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Restores before the job fails.
const MAX_RETRIES: u32 = 5;

/// The state of a plain schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plain {
    schedule: ResolvedPlain,
    slots: SafeSlots<()>,
    retries: u32,
    scale: Option<Scale>,
}

/// An operator's LR: the line is scaled so that `from` becomes `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Scale {
    from: f64,
    to: f64,
}

impl Policy for Plain {
    fn begin(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        self.note_commit(format!("{} has no search", cx.spec.policy_name()), notes);
        go_on(self.next(cx))
    }

    fn ended(&mut self, segment: &Segment<'_>, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        self.slots.ran(segment.losses.len() as u64);
        if cx.left() == 0 {
            notes.stage_ends.extend(stage_end(0, segment.losses));
        }
        go_on(self.next(cx))
    }

    fn stopped(&mut self, _: &Segment<'_>, stop: Stop, cx: &Context<'_>, notes: &mut Notes) -> FromSlot {
        let slot = slot_of(self.slots.restore(stop.offset));
        if !cx.spec.guard || self.retries == MAX_RETRIES {
            notes.warnings.push(format!("the loss was not finite after {} retries: gave up", self.retries));
            return broken(slot);
        }
        self.retries += 1;
        let why = format!("a loss was not finite: restored a slot, retry {} at half the LR", self.retries);
        notes.warnings.push(why.clone());
        self.note_commit(why, notes);
        from(slot, self.next(cx))
    }

    fn advice(&self, spec: &ResolvedSpec) -> Vec<Advice> {
        let PlainKind::Replay { pieces } = &self.schedule.kind else { return Vec::new() };
        let (steps, total) = (lr_pieces::steps(pieces), spec.budget.nominal());
        let what = match total.cmp(&steps) {
            Ordering::Equal => return Vec::new(),
            Ordering::Less => format!("the last {} are left out", steps - total),
            Ordering::Greater => format!("the last LR holds for the {} steps after them", total - steps),
        };
        let description = format!("is {total} and the schedule has {steps} steps: {what}");
        vec![Advice { field: "total_steps", description }]
    }

    fn update(&mut self, change: Change, cx: &Context<'_>, notes: &mut Notes) {
        let total = cx.spec.budget.nominal();
        let rest = PhasedLine::new(curve::pieces(&self.schedule, total)).after(total - cx.left()).pieces();
        let highest = lr_pieces::highest(&rest);
        if let Some(scale) = &mut self.scale {
            // A line that is laid anew may rise again, but not above what the operator has set.
            scale.from = scale.from.max(highest);
        }
        let to = change.lr.map(|lr| lr / self.factor()).filter(|to| lr_pieces::scaled_to(&rest, *to).is_some());
        if let Some(to) = to {
            self.scale = Some(Scale { from: highest, to });
            self.note_commit("an operator set it".into(), notes);
        }
    }

    fn search(&self, _: &ResolvedSpec) -> Option<OpenSearch> {
        None
    }

    fn close_search(&mut self, cx: &Context<'_>, _: &mut Notes) -> FromSlot {
        from(slot_of(self.slots.newest()), self.next(cx))
    }
}

impl Plain {
    pub(crate) fn new(_: &ResolvedSpec, schedule: &ResolvedPlain) -> Self {
        Self { schedule: schedule.clone(), slots: SafeSlots::new(), retries: 0, scale: None }
    }

    /// What the guard has left of every LR.
    fn factor(&self) -> f64 {
        libm::pow(0.5, f64::from(self.retries))
    }

    /// The highest LR, of all or since an operator set it.
    fn lr(&self) -> f64 {
        self.scale.map_or(self.schedule.lr, |scale| scale.to) * self.factor()
    }

    /// The line over a budget of `total` steps.
    fn line(&self, total: u64) -> PhasedLine {
        let factor = self.factor();
        let scaled = |piece: Piece| self.scale.map_or(piece, |scale| piece.rescaled(scale.from, scale.to));
        let pieces = curve::pieces(&self.schedule, total).into_iter();
        PhasedLine::new(pieces.map(|(phase, piece)| (phase, scaled(piece).scaled(factor))))
    }

    /// The next segment; none at the end of the budget.
    fn next(&mut self, cx: &Context<'_>) -> Option<Next> {
        let total = cx.spec.budget.nominal();
        let (phase, head, rest) = self.line(total).after(total - cx.left()).split(directive_steps(total))?;
        let keep = self.slots.save(()).into_iter().collect();
        let on_stop = self.after_stop(phase, &rest, cx);
        let or_else = unattended(phase, 0, rest, slot_of(self.slots.newest()));
        Some(Next { keep, run: committed(phase, 0, head), or_else, on_stop })
    }

    fn after_stop(&self, phase: Phase, rest: &[Piece], cx: &Context<'_>) -> FromSlot {
        let slot = slot_of(self.slots.unattended());
        if !cx.spec.guard || self.retries == MAX_RETRIES {
            return broken(slot);
        }
        unattended_from(slot, phase, 0, scaled(rest, 0.5), slot_of(self.slots.oldest()))
    }

    fn note_commit(&self, why: String, notes: &mut Notes) {
        notes.commits.push(CommitNote { stage: 0, lr: self.lr(), why, forecast: None, curve: Vec::new() });
    }
}
