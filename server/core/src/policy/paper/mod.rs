//! `paper`: AutoLRS as published (Jin et al., *AutoLRS: Automatic Learning-Rate Schedule by Bayesian Optimization on
//! the Fly*, ICLR 2021), with guards.
//!
//! | symbol | meaning |
//! |---|---|
//! | `tau` | steps of a stage; doubles after each one, up to tau_max |
//! | `tau'` | steps of a trial: trial_fraction tau |
//! | `k` | candidates of a search |
//! | `B` | budget in steps |
//!
//! At each stage: save `STAGE`; k times: restore it, train tau' steps with a candidate, forecast the loss at tau; commit
//! the candidate with the least forecast: restore `STAGE`, train tau steps. A search begins only if k tau' + tau' steps
//! are left and all searches stay within max_overhead B; else the last LR is held to the end. The objective is the
//! training loss until tau has reached tau_max, the validation loss after (`objective.rs`). The warm-up is not
//! searched, and there is no cooldown.

mod objective;
mod search;
mod stretch;

use super::{
    Advice, Change, CommitNote, Context, Notes, OpenSearch, Policy, Segment, Spent, TrialNote, TrialOutcome, downsample,
    diverged::{Diverged, divided},
    guard::{SafeSlots, slot_of},
    level::{Level, Standing},
    limits::kept_bound,
    line::{Next, broken, from, go_on},
    stage_end,
};
use crate::{
    directive::{DoneReason, Failure, Slot},
    forecast::{Forecast, LossKind, LossWindow},
    plan::{FromSlot, Keep, Plan},
    spec::{LrRange, ResolvedPaper, ResolvedSpec},
    stop_rules::Stop,
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use search::Search;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Restores of a stage by its guard.
const MAX_RETRIES: u32 = 3;
/// Times the range of a stage is lowered because every candidate diverged.
const MAX_LOWERED: u32 = 3;

/// The state of `paper`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paper {
    options: ResolvedPaper,
    /// The bounds in force.
    range: LrRange,
    rng: Box<ChaCha8Rng>,
    /// A value that the loss can't go below and has not gone below.
    bound: Option<f64>,
    stage: u32,
    tau: u64,
    /// The last LR that was committed; the warm-up's before.
    lr: f64,
    /// What the guard compares with.
    standing: Standing,
    /// A stage of tau_max steps is behind.
    full_stage: bool,
    /// What the newest search goes by.
    objective: LossKind,
    /// It was said that the trainer does not validate.
    told: bool,
    /// Restores in this stage.
    retries: u32,
    /// Of the newest search.
    diverged: Diverged,
    at: At,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum At {
    /// `done` of `steps` steps are done.
    Warmup { steps: u64, done: u64 },
    /// `level`: of the best candidate so far; `lowered`: times the range was lowered.
    Search { search: Search, level: Option<Level>, lowered: u32 },
    /// `done` committed steps of a stage are done.
    Stage { done: u64 },
    /// The last LR to the end of the budget.
    Hold { slots: SafeSlots<()> },
}

impl Policy for Paper {
    fn begin(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        if self.options.warmup_steps == 0 {
            return go_on(self.enter_stage(cx, notes));
        }
        let mut next = self.next(cx);
        if let Some(next) = &mut next {
            next.keep.push(Keep::Save(Slot::Stage));
        }
        go_on(next)
    }

    fn ended(&mut self, segment: &Segment<'_>, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        let losses = segment.losses;
        self.bound = kept_bound(self.bound, losses);
        match &mut self.at {
            At::Search { .. } => return self.after_trial(segment, TrialOutcome::Completed, cx, notes).into(),
            At::Warmup { steps, done } => {
                if *done == 0 {
                    self.standing.began(0.0, losses);
                }
                *done += losses.len() as u64;
                if done < steps {
                    return go_on(self.next(cx));
                }
            }
            At::Stage { done } => {
                *done += losses.len() as u64;
                if *done < self.tau && cx.left() > 0 {
                    self.standing.went_on(losses);
                    return go_on(self.next(cx));
                }
                notes.stage_ends.extend(self.stage_end(segment));
                self.full_stage |= self.tau == self.options.tau_max;
                self.stage += 1;
                self.tau = (2 * self.tau).min(self.options.tau_max);
            }
            At::Hold { slots } => {
                slots.ran(losses.len() as u64);
                self.standing.went_on(losses);
                if cx.left() == 0 {
                    notes.stage_ends.extend(stage_end(self.stage, losses));
                }
                return go_on(self.next(cx));
            }
        }
        self.standing.went_on(losses);
        go_on(self.enter_stage(cx, notes))
    }

    fn stopped(
        &mut self,
        segment: &Segment<'_>,
        stop: Stop,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> FromSlot {
        self.bound = kept_bound(self.bound, segment.losses);
        let slot = match &mut self.at {
            At::Search { .. } => return self.after_trial(segment, TrialOutcome::Diverged, cx, notes),
            At::Warmup { done, .. } => {
                *done = 0;
                Slot::Stage
            }
            At::Stage { done } => {
                *done = 0;
                Slot::Stage
            }
            At::Hold { slots } => slot_of(slots.restore(stop.offset)),
        };
        if !cx.spec.guard || self.retries == MAX_RETRIES {
            notes.warnings.push(format!("the loss broke after {} retries: gave up", self.retries));
            return broken(slot);
        }
        self.retries += 1;
        let lowered = self.diverged.below(self.lr, 3.0);
        let what = divided(std::mem::replace(&mut self.lr, lowered), lowered);
        let why = format!("the loss broke: a slot was restored and the LR {what}, {lowered:.3e}");
        notes.warnings.push(why.clone());
        self.note_commit(why, notes);
        from(slot, self.next(cx))
    }

    fn update(&mut self, change: Change, _: &Context<'_>, notes: &mut Notes) {
        if let Some(lr) = change.lr {
            self.lr = lr;
            self.note_commit("an operator set it".into(), notes);
        }
    }

    fn search(&self, _: &ResolvedSpec) -> Option<OpenSearch> {
        let At::Search { search, .. } = &self.at else { return None };
        let lr = search.best(self.range).map_or(self.lr, |(_, lr, _)| lr);
        Some(OpenSearch { slot: Slot::Stage, lr })
    }

    fn close_search(&mut self, cx: &Context<'_>, notes: &mut Notes) -> FromSlot {
        if !self.commit(notes) {
            (self.at, self.retries) = (At::Stage { done: 0 }, 0);
            self.lr = self.diverged.avoid(self.lr, 3.0);
            self.note_commit("the search was closed before a candidate was measured: the last LR".into(), notes);
        }
        from(Slot::Stage, self.next(cx))
    }

    fn advice(&self, spec: &ResolvedSpec) -> Vec<Advice> {
        let spent = Spent { committed: self.options.warmup_steps, ..Spent::default() };
        if self.has_room(&Context { spec, spent, slots: &BTreeMap::new(), replay: false, validate: false }) {
            return Vec::new();
        }
        let (k, trial, share) = (self.options.candidates, self.trial_steps(), spec.max_overhead);
        let description = format!(
            "= {} with max_overhead = {share} leaves no room for a search of {k} trials of {trial} steps: the LR of \
             the warm-up will be held",
            spec.budget.nominal()
        );
        vec![Advice { field: "total_steps", description }]
    }
}

impl Paper {
    pub(crate) fn new(spec: &ResolvedSpec, options: &ResolvedPaper) -> Self {
        Self {
            options: options.clone(),
            range: options.range,
            rng: Box::new(ChaCha8Rng::seed_from_u64(spec.seed)),
            bound: spec.loss_lower_bound,
            stage: 0,
            tau: options.tau,
            lr: options.warmup_lr,
            standing: Standing::new(),
            full_stage: false,
            objective: LossKind::Training,
            told: false,
            retries: 0,
            diverged: Diverged::default(),
            at: At::Warmup { steps: options.warmup_steps, done: 0 },
        }
    }

    /// tau'.
    fn trial_steps(&self) -> u64 {
        (libm::round(self.options.trial_fraction * self.tau as f64) as u64).max(1)
    }

    /// Searches where the trainer stands, if the budget has room for it; else holds the last LR.
    fn enter_stage(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Option<Next> {
        self.retries = 0;
        if !self.has_room(cx) {
            return self.hold(cx, notes);
        }
        self.choose_objective(cx, notes);
        self.diverged = Diverged::default();
        let search = Search::new(self.options.candidates, self.range, &mut self.rng);
        self.at = At::Search { search, level: None, lowered: 0 };
        let mut next = self.next(cx)?;
        next.keep.push(Keep::Save(Slot::Stage));
        Some(next)
    }

    fn has_room(&self, cx: &Context<'_>) -> bool {
        let search = u64::from(self.options.candidates) * self.trial_steps();
        search + self.trial_steps() <= cx.left()
            && cx.spent.search.saturating_add(search) <= cx.spec.max_search_steps()
    }

    fn hold(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Option<Next> {
        (self.at, self.retries) = (At::Hold { slots: SafeSlots::new() }, 0);
        if cx.left() > 0 {
            self.note_commit("the budget has no room for another search: the last LR is held".into(), notes);
        }
        self.next(cx)
    }

    fn after_trial(
        &mut self,
        segment: &Segment<'_>,
        outcome: TrialOutcome,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> FromSlot {
        let finished = outcome == TrialOutcome::Completed;
        let forecast = finished.then(|| self.forecast(segment)).flatten();
        let At::Search { search, level, lowered } = &mut self.at else { return from(Slot::Stage, None) };
        let (trial, lowered) = (search.trial(), *lowered);
        notes.trials.push(TrialNote {
            stage: self.stage,
            trial,
            lr: search.lr(self.range),
            steps: segment.losses.len() as u64,
            outcome: if forecast.is_some() { TrialOutcome::Completed } else { TrialOutcome::Diverged },
            score: forecast.map(|f| f.mean),
            sd: forecast.map(|f| f.sd),
            losses: downsample(segment.losses, 128),
            validations: segment.validations.to_vec(),
        });
        if forecast.is_none() {
            self.diverged.enter(search.lr(self.range));
        }
        if self.stage == 0 && forecast.is_some() {
            self.standing.began(search.lr(self.range), segment.losses);
        }
        search.tell(forecast);
        if search.best(self.range).is_some_and(|(best, ..)| best == trial) {
            *level = Level::first(segment.losses);
        }
        if search.next(self.options.kappa, self.range) || self.commit(notes) {
            return from(Slot::Stage, self.next(cx));
        }
        self.after_divergence(lowered, cx, notes)
    }

    /// The loss at tau; none if one of those that it is forecast from is not finite.
    fn forecast(&self, segment: &Segment<'_>) -> Option<Forecast> {
        let (losses, times): (Vec<f64>, Vec<u64>) = match self.objective {
            LossKind::Training => (segment.losses.to_vec(), Vec::new()),
            LossKind::Validation => segment.validations.iter().map(|v| (v.loss, v.offset)).unzip(),
        };
        let times = (self.objective == LossKind::Validation).then_some(&times[..]);
        let (horizon, kind) = (self.tau as f64, self.objective);
        let window = LossWindow { losses: &losses, times, horizon, lower_bound: self.bound, kind };
        self.options.forecaster.forecast(&window).ok()
    }

    /// Commits the candidate with the least forecast; false if every one diverged.
    fn commit(&mut self, notes: &mut Notes) -> bool {
        let At::Search { search, level, .. } = &self.at else { return false };
        let Some((trial, lr, forecast)) = search.best(self.range) else { return false };
        let loss = match self.objective {
            LossKind::Training => "training",
            LossKind::Validation => "validation",
        };
        let why = format!("of {} trials, trial {trial} has the least forecast of the {loss} loss", search.trial());
        let (curve, forecast) = (search.curve(self.range), Some((forecast.mean, forecast.sd)));
        notes.commits.push(CommitNote { stage: self.stage, lr, why, forecast, curve });
        self.lr = lr;
        self.standing.commit(*level);
        (self.at, self.retries) = (At::Stage { done: 0 }, 0);
        true
    }

    /// Every candidate diverged.
    fn after_divergence(&mut self, lowered: u32, cx: &Context<'_>, notes: &mut Notes) -> FromSlot {
        if lowered == MAX_LOWERED {
            notes.warnings.push("every candidate diverged, also after the range was lowered".into());
            return FromSlot::done(Slot::Stage, DoneReason::Failed(Failure::AllCandidatesDiverged));
        }
        if !self.has_room(cx) {
            return from(Slot::Stage, self.hold(cx, notes));
        }
        if let At::Search { search, lowered, .. } = &mut self.at {
            *lowered += 1;
            search.again(self.options.candidates, self.options.kappa, &mut self.range);
            let lo = self.range.lo;
            notes.warnings.push(format!("every candidate diverged: the lowest LR to try is now {lo:.3e}"));
        }
        from(Slot::Stage, self.next(cx))
    }

    fn note_commit(&self, why: String, notes: &mut Notes) {
        let note = CommitNote { stage: self.stage, lr: self.lr, why, forecast: None, curve: Vec::new() };
        notes.commits.push(note);
    }
}
