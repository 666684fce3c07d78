//! From trial to trial and to the commit: how many candidates there are, where each search begins and what follows it.

use super::{At, MIN_CANDIDATES, Staged, search};
use crate::{
    directive::{DoneReason, Failure, Slot},
    forecast::Forecast,
    plan::{FromSlot, Keep, Plan},
    policy::{
        CommitNote, Context, Notes, Segment, TrialNote, TrialOutcome, downsample,
        line::{Next, from, go_on},
    },
    search::{Bounds, largest_gap},
};
use search::{Judgement, Search};

/// Times the range is lowered because no candidate of the first search could be committed.
const MAX_LOWERED: u32 = 3;
/// Places that are remembered for the scouts.
const REMEMBERED: usize = 32;

/// What follows a trial.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it lives for one call")]
pub(super) enum Follow {
    /// Training goes on from its end.
    Here(Option<Next>),
    From(FromSlot),
}

impl From<Follow> for Plan {
    fn from(follow: Follow) -> Self {
        match follow {
            Follow::Here(next) => go_on(next),
            Follow::From(plan) => plan.into(),
        }
    }
}

impl From<Follow> for FromSlot {
    /// A trial that ended early is not gone on from.
    fn from(follow: Follow) -> Self {
        match follow {
            Follow::Here(next) => from(Slot::Stage, next),
            Follow::From(plan) => plan,
        }
    }
}

impl Staged {
    pub(super) fn plan_search(&self, cx: &Context<'_>) -> Option<Search> {
        let room = self.room(cx);
        let bounds = Bounds::from(self.range);
        // An operator may have set it out of the range.
        let previous = self.measured.then(|| libm::log10(self.lr).clamp(bounds.lo, bounds.hi));
        let sixths = [1.0, 3.0, 5.0].map(|k| bounds.lo + k / 6.0 * (bounds.hi - bounds.lo));
        let mut planned: Vec<f64> = previous.into_iter().collect();
        match previous.filter(|_| self.searches >= 2) {
            None => planned.extend(sixths),
            Some(z) => {
                planned.extend([z - self.pace.delta, z + self.pace.delta]);
                let known: Vec<f64> = self.visited.iter().chain(&planned).copied().collect();
                planned.push(largest_gap(bounds, &known));
            }
        }
        let candidates = self.wanted().min(room);
        (room >= MIN_CANDIDATES).then(|| Search::new(candidates, &planned, previous, self.range))
    }

    /// Candidates of the next search, if there is room for them.
    fn wanted(&self) -> u32 {
        match (self.searches, self.measured) {
            (0, _) | (_, false) => 8,
            (1, _) => 6,
            _ => 4,
        }
    }

    /// Candidates that there is room for: within max_overhead, and so that half a stage is left before the cooldown.
    pub(super) fn room(&self, cx: &Context<'_>) -> u32 {
        let allowed = cx.spec.max_search_steps().saturating_sub(cx.spent.search);
        let there = self.hold_left(cx).saturating_sub(self.options.tau.div_ceil(2));
        u32::try_from(allowed.min(there) / self.trial_steps()).unwrap_or(u32::MAX)
    }

    pub(super) fn judgement(&self) -> Judgement {
        Judgement { horizon: self.options.tau as f64, bound: self.bound }
    }

    pub(super) fn after_trial(
        &mut self,
        segment: &Segment<'_>,
        outcome: TrialOutcome,
        forecast: Option<Forecast>,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> Follow {
        let At::Search { search, lowered } = &mut self.at else {
            return Follow::From(from(Slot::Stage, self.next(cx)));
        };
        let (trial, lowered) = (search.trial(), *lowered);
        notes.trials.push(TrialNote {
            stage: self.stage,
            trial,
            lr: search.lr(self.range),
            steps: segment.losses.len() as u64,
            outcome,
            score: forecast.map(|f| f.mean),
            sd: forecast.map(|f| f.sd),
            losses: downsample(segment.losses, 128),
            validations: segment.validations.to_vec(),
        });
        if outcome == TrialOutcome::Diverged {
            self.diverged.enter(search.lr(self.range));
        }
        if self.stage == 0 && outcome == TrialOutcome::Completed {
            self.standing.began(search.lr(self.range), segment.losses);
        }
        search.tell(segment.losses, forecast, outcome);
        if search.next(self.range) {
            let is_best = search.choice().is_some_and(|choice| choice.trial == trial);
            if is_best {
                search.in_best = Some(trial);
            }
            let plan = from(Slot::Stage, self.next(cx));
            return Follow::From(if is_best { plan.saving(Slot::Best) } else { plan });
        }
        let in_best = search.in_best;
        let Some(winner) = self.commit(notes) else { return self.after_divergence(lowered, cx, notes) };
        let again = winner != trial && in_best != Some(winner);
        self.at = At::Stage { done: if again { 0 } else { self.trial_steps() } };
        let mut next = self.next(cx);
        if let Some(next) = next.as_mut().filter(|_| in_best.is_some()) {
            next.keep.push(Keep::Drop(Slot::Best));
        }
        match (winner == trial, again) {
            (true, _) => Follow::Here(next),
            (_, true) => Follow::From(from(Slot::Stage, next)),
            (_, false) => Follow::From(from(Slot::Best, next)),
        }
    }

    /// Commits what the search has chosen; its trial. None if no candidate can be committed.
    pub(super) fn commit(&mut self, notes: &mut Notes) -> Option<u32> {
        let At::Search { search, .. } = &self.at else { return None };
        self.visited.extend(search.visited());
        self.visited.drain(..self.visited.len().saturating_sub(REMEMBERED));
        let choice = search.choice()?;
        let lr = search::lr(choice.z, self.range);
        let (trial, n) = (choice.trial, search.trial());
        let why = format!("trial {trial} has the largest LR within one sd of the best forecast, of {n} trials");
        let forecast = Some((choice.forecast.mean, choice.forecast.sd));
        notes.commits.push(CommitNote { stage: self.stage, lr, why, forecast, curve: search.curve(self.range) });
        if self.measured {
            self.pace.chosen(&choice);
        }
        (self.lr, self.measured) = (lr, true);
        self.standing.commit(choice.level);
        Some(trial)
    }

    /// No candidate can be committed.
    fn after_divergence(&mut self, lowered: u32, cx: &Context<'_>, notes: &mut Notes) -> Follow {
        if self.measured {
            return self.lower(3.0, cx, notes);
        }
        if lowered == MAX_LOWERED {
            notes.warnings.push("every candidate diverged, also after the range was lowered".into());
            let reason = DoneReason::Failed(Failure::AllCandidatesDiverged);
            return Follow::From(FromSlot::done(Slot::Stage, reason));
        }
        let candidates = self.wanted().min(self.room(cx));
        if candidates < MIN_CANDIDATES {
            return self.lower(10.0, cx, notes);
        }
        if let At::Search { search, lowered } = &mut self.at {
            *lowered += 1;
            self.range.lo = (search.smallest(self.range) / 10.0).max(f64::MIN_POSITIVE);
            search.again(candidates, self.range);
            let lo = self.range.lo;
            notes.warnings.push(format!("every candidate diverged: the lowest LR to try is now {lo:.3e}"));
        }
        Follow::From(from(Slot::Stage, self.next(cx)))
    }

    /// Goes on below every LR that was tried.
    fn lower(&mut self, factor: f64, cx: &Context<'_>, notes: &mut Notes) -> Follow {
        if let At::Search { search, .. } = &self.at {
            self.lr = (search.smallest(self.range).min(self.lr) / factor).max(f64::MIN_POSITIVE);
        }
        let why = format!("every candidate diverged: the LR is {factor} times below all of them, {:.3e}", self.lr);
        notes.warnings.push(why.clone());
        self.note_commit(why, notes);
        self.pace.broke();
        self.at = At::Stage { done: 0 };
        Follow::From(from(Slot::Stage, self.next(cx)))
    }
}
