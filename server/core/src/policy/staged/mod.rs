//! `staged`: AutoLRS repaired, for runs whose best LR drifts.
//!
//! | symbol | meaning |
//! |---|---|
//! | `B` | budget in steps, search included |
//! | `tau` | steps of a stage: max(200, round(B / 12)) |
//! | `tau'` | steps of a trial: round(tau / 10) |
//! | `delta` | decades between the previous LR and its neighbours, see `pace.rs` |
//!
//! At each stage: save `STAGE`; train tau' steps from it with each candidate; forecast the loss at tau (`mixture`); commit
//! one, see `search.rs`. The first search has 8 candidates over the whole range, the second 6, the later ones the
//! previous LR, its neighbours, and a scout in the largest gap. Trials that are not worth it end at a rung, after tau'/4
//! or tau'/2 steps. The state after the trial that would be committed so far is kept in `BEST`: the stage goes on from
//! there, and the trial's steps are steps of the stage. All searches stay within max_overhead B: with less room a search
//! has fewer candidates, and with room for fewer than three there is none.
//!
//! The LR falls to its end over the last 30 % of the budget: a cooldown needs about that much, and what it takes is lost
//! to the stages, of which there must be several for the LR to follow a drift.

mod pace;
mod search;
mod stretch;
mod trials;

use super::{
    Advice, Change, CommitNote, Context, Notes, OpenSearch, Policy, Segment, Spent, TrialOutcome,
    diverged::{Diverged, divided},
    guard::{SafeSlots, slot_of},
    level::Standing,
    limits::kept_bound,
    line::{Next, broken, from, go_on},
    stage_end,
};
use crate::{
    directive::Slot,
    lr_pieces::Piece,
    plan::{FromSlot, Keep, Plan},
    spec::{LrRange, ResolvedSpec, ResolvedStaged},
    stop_rules::Stop,
};
use pace::Pace;
use search::Search;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Restores of a stage, or of the cooldown, by its guard.
const MAX_RETRIES: u32 = 3;
/// Fewer candidates are no search.
const MIN_CANDIDATES: u32 = 3;

/// The state of `staged`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Staged {
    options: ResolvedStaged,
    /// The bounds in force.
    range: LrRange,
    /// A value that the loss can't go below and has not gone below.
    bound: Option<f64>,
    stage: u32,
    /// Searches that have begun.
    searches: u32,
    /// The last LR that was committed; `fallback_lr` before.
    lr: f64,
    /// Whether a search has committed one.
    measured: bool,
    /// What the guard compares with.
    standing: Standing,
    /// Restores in this stage, or in the cooldown.
    retries: u32,
    pace: Pace,
    visited: VecDeque<f64>,
    /// Of the newest search.
    diverged: Diverged,
    at: At,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum At {
    /// `lowered`: times the range was lowered.
    Search { search: Search, lowered: u32 },
    /// `done` of the stage's tau steps are done.
    Stage { done: u64 },
    /// `piece` began with `steps` steps left of the budget. A save is marked with the LR at it.
    Cooldown { piece: Piece, steps: u64, slots: SafeSlots<f64> },
}

impl Policy for Staged {
    fn begin(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        go_on(self.enter_stage(cx, notes))
    }

    fn ended(&mut self, segment: &Segment<'_>, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        let losses = segment.losses;
        self.bound = kept_bound(self.bound, losses);
        match &mut self.at {
            At::Search { .. } => {
                let forecast = search::forecast(losses, self.judgement());
                let outcome = forecast.map_or(TrialOutcome::Diverged, |_| TrialOutcome::Completed);
                self.after_trial(segment, outcome, forecast, cx, notes).into()
            }
            At::Stage { done } => {
                *done += losses.len() as u64;
                self.standing.went_on(losses);
                if *done < self.options.tau && self.hold_left(cx) > 0 {
                    return go_on(self.next(cx));
                }
                notes.stage_ends.extend(stage_end(self.stage, losses));
                if self.hold_left(cx) > 0 {
                    self.stage = self.stage.saturating_add(1);
                }
                go_on(self.enter_stage(cx, notes))
            }
            At::Cooldown { slots, .. } => {
                slots.ran(losses.len() as u64);
                if cx.left() == 0 {
                    notes.stage_ends.extend(stage_end(self.stage, losses));
                }
                go_on(self.next(cx))
            }
        }
    }

    fn stopped(
        &mut self,
        segment: &Segment<'_>,
        stop: Stop,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> FromSlot {
        self.bound = kept_bound(self.bound, segment.losses);
        let (slot, mark) = match &mut self.at {
            At::Search { .. } => {
                return self.after_trial(segment, TrialOutcome::Diverged, None, cx, notes).into();
            }
            At::Stage { done } => {
                *done = 0;
                (Slot::Stage, None)
            }
            At::Cooldown { slots, .. } => {
                let saved = slots.restore(stop.offset);
                (slot_of(saved), saved.map(|(_, lr)| lr))
            }
        };
        let last = self.retries == MAX_RETRIES;
        if !cx.spec.guard || last && mark.is_some() {
            notes.warnings.push(format!("the loss broke after {} retries: gave up", self.retries));
            return broken(slot);
        }
        self.retries += 1;
        self.pace.broke();
        let what = match mark {
            Some(lr) => {
                self.lr = self.diverged.below(lr, 2.0);
                self.cool_down_from(self.lr, cx.left());
                divided(lr, self.lr)
            }
            None => {
                let lowered = divided(self.lr, self.next_lower());
                self.lr = self.next_lower();
                if last {
                    self.retries = 0;
                    self.enter_cooldown(cx);
                    lowered + " for a cooldown at once"
                } else {
                    lowered
                }
            }
        };
        let why = format!("the loss broke: a slot was restored and the LR {what}, {:.3e}", self.lr);
        notes.warnings.push(why.clone());
        self.note_commit(why, notes);
        from(slot, self.next(cx))
    }

    fn update(&mut self, change: Change, cx: &Context<'_>, notes: &mut Notes) {
        let Some(lr) = change.lr else { return };
        self.lr = lr;
        self.pace.reset();
        self.rescale_cooldown(lr, cx);
        self.note_commit("an operator set it".into(), notes);
    }

    fn at_rung(&mut self, segment: &Segment<'_>, cx: &Context<'_>, notes: &mut Notes) -> Option<FromSlot> {
        let At::Search { search, .. } = &self.at else { return None };
        self.bound = kept_bound(self.bound, segment.losses);
        let cut = search.cut(segment.losses, self.judgement())?;
        Some(self.after_trial(segment, TrialOutcome::Stopped, cut.forecast(), cx, notes).into())
    }

    fn search(&self, _: &ResolvedSpec) -> Option<OpenSearch> {
        let At::Search { search, .. } = &self.at else { return None };
        let lr = search.choice().map_or(self.lr, |choice| search::lr(choice.z, self.range));
        Some(OpenSearch { slot: Slot::Stage, lr })
    }

    fn close_search(&mut self, cx: &Context<'_>, notes: &mut Notes) -> FromSlot {
        if self.commit(notes).is_none() {
            self.lr = self.diverged.avoid(self.lr, 3.0);
            self.note_commit("the search was closed before a candidate was measured: the last LR".into(), notes);
        }
        self.at = At::Stage { done: 0 };
        let mut next = self.next(cx);
        if let Some(next) = next.as_mut().filter(|_| cx.slots.contains_key(&Slot::Best)) {
            next.keep.push(Keep::Drop(Slot::Best));
        }
        from(Slot::Stage, next)
    }

    fn advice(&self, spec: &ResolvedSpec) -> Vec<Advice> {
        let cx = Context { spec, spent: Spent::default(), slots: &BTreeMap::new(), replay: false, validate: false };
        if self.room(&cx) >= MIN_CANDIDATES {
            return Vec::new();
        }
        let (steps, share) = (self.trial_steps(), spec.max_overhead);
        let description = format!(
            "= {} with max_overhead = {share} leaves no room for a search of {MIN_CANDIDATES} trials of {steps} \
             steps: fallback_lr will be held",
            spec.budget.nominal()
        );
        vec![Advice { field: "total_steps", description }]
    }
}

impl Staged {
    pub(crate) fn new(spec: &ResolvedSpec, options: &ResolvedStaged) -> Self {
        Self {
            options: options.clone(),
            range: options.range,
            bound: spec.loss_lower_bound,
            stage: 0,
            searches: 0,
            lr: spec.fallback_lr,
            measured: false,
            standing: Standing::new(),
            retries: 0,
            pace: Pace::new(),
            visited: VecDeque::new(),
            diverged: Diverged::default(),
            at: At::Stage { done: 0 },
        }
    }

    /// Searches where the trainer stands, if there is room for it, else holds the last LR; the cooldown, where that is
    /// due.
    fn enter_stage(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Option<Next> {
        (self.at, self.retries) = (At::Stage { done: 0 }, 0);
        if self.hold_left(cx) == 0 {
            self.enter_cooldown(cx);
            return self.next(cx);
        }
        if self.pace.skips() {
            self.note_commit("the last searches changed nothing: the LR is kept".into(), notes);
        } else if let Some(search) = self.plan_search(cx) {
            self.searches = self.searches.saturating_add(1);
            self.diverged = Diverged::default();
            self.at = At::Search { search, lowered: 0 };
        } else {
            let untouched = !self.measured && self.lr == cx.spec.fallback_lr;
            let kept = if untouched { "fallback_lr" } else { "the last LR" };
            self.note_commit(format!("the budget has no room for a search: {kept} is held"), notes);
        }
        let mut next = self.next(cx)?;
        next.keep.push(Keep::Save(Slot::Stage));
        Some(next)
    }

    fn note_commit(&self, why: String, notes: &mut Notes) {
        let note = CommitNote { stage: self.stage, lr: self.lr, why, forecast: None, curve: Vec::new() };
        notes.commits.push(note);
    }
}
