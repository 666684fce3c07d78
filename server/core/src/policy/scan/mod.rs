//! `scan`: search once on short branches from the initial state, then warm up, hold and cool down.
//!
//! | symbol | meaning |
//! |---|---|
//! | `B` | budget in steps, search included; 100 L of an open one |
//! | `lo`, `hi` | bounds of the LRs that are tried |
//! | `z` | log10 LR, decades |
//! | `z*` | the choice |
//! | `f` | see [`bias`]; 1 without `rms_decay` |
//! | `eta` | the committed LR: max(lo, min(1, lr_factor f) 10^z*); of an open budget see [`law`] |
//!
//! Why not stage after stage: a search in mid-run that minimises the loss a few steps ahead always says "lower",
//! because a small LR reaches its noise floor first. From the initial state the bias has the other sign and is nearly
//! constant: short runs prefer an LR that is 3 to 8 times too large, which `lr_factor` corrects. An
//! optimizer that does not correct the bias of its second moment takes steps in a branch that are f times too large: as
//! much of that factor is not needed.
//!
//! [`search`]: which branches; [`branch`], [`trial`]: one branch; [`choose`], [`bias`], [`commit`]: what they say;
//! [`stretch`], [`segment`], [`law`]: the committed steps; [`scales`]: what the limits of all guards are made of.

mod bias;
mod branch;
mod choose;
mod commit;
mod law;
mod scales;
mod search;
mod segment;
mod stretch;
mod trial;

use super::{
    Advice, Change, Context, Notes, OpenSearch, Policy, Segment, TrialNote, TrialOutcome, downsample,
    line::{Next, from, go_on},
};
use crate::{
    directive::{DoneReason, Failure, Slot},
    plan::{FromSlot, Keep, Plan},
    spec::{Budget, ResolvedScan, ResolvedSpec},
    stop_rules::{Stop, StopIf},
};
use commit::commit;
use search::{Search, Step};
use serde::{Deserialize, Serialize};
use stretch::Stretch;
use trial::trial;

/// Below this range, in decades, the search is unlikely to hold the best LR.
const NARROW: f64 = 2.0;

/// The state of a scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    options: ResolvedScan,
    at: At,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum At {
    Search(Search),
    Stretch(Box<Stretch>),
}

impl Policy for Scan {
    fn begin(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        if self.is_narrow() {
            let range = self.options.range;
            let narrow = format!("the range {:.3e} to {:.3e} is below {NARROW} decades", range.lo, range.hi);
            notes.warnings.push(narrow);
        }
        let mut next = self.next(cx, notes);
        if let Some(next) = &mut next {
            next.keep.insert(0, Keep::Save(Slot::Start));
        }
        go_on(next)
    }

    fn ended(&mut self, segment: &Segment<'_>, cx: &Context<'_>, notes: &mut Notes) -> Plan {
        match &mut self.at {
            At::Stretch(stretch) => stretch.ended(segment, cx, notes),
            At::Search(_) => self.after_branch(segment, TrialOutcome::Completed, cx, notes).into(),
        }
    }

    fn stopped(
        &mut self,
        segment: &Segment<'_>,
        stop: Stop,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> FromSlot {
        let is_first = cx.spent.total() == segment.losses.len() as u64;
        if is_first && segment.losses.first().is_some_and(|loss| !loss.is_finite()) {
            return FromSlot::done(Slot::Start, DoneReason::Failed(Failure::LossNotFiniteAtStart));
        }
        match &mut self.at {
            At::Stretch(stretch) => stretch.stopped(segment, stop, cx, notes),
            At::Search(_) => {
                let diverged = segment.run.stop_if.get(stop.rule as usize) == Some(&StopIf::NonFinite);
                let outcome = if diverged { TrialOutcome::Diverged } else { TrialOutcome::Stopped };
                self.after_branch(segment, outcome, cx, notes)
            }
        }
    }

    fn update(&mut self, change: Change, cx: &Context<'_>, notes: &mut Notes) {
        let lr = change.lr.filter(|_| cx.left() > 0);
        if let (At::Stretch(stretch), Some(lr)) = (&mut self.at, lr) {
            stretch.set_lr(lr, cx, notes);
        }
    }

    fn search(&self, spec: &ResolvedSpec) -> Option<OpenSearch> {
        match &self.at {
            At::Search(search) => {
                let factor = law::factor(&self.options, spec.budget);
                Some(OpenSearch { slot: Slot::Start, lr: search.provisional(factor, spec) })
            }
            At::Stretch(_) => None,
        }
    }

    fn close_search(&mut self, cx: &Context<'_>, notes: &mut Notes) -> FromSlot {
        if let At::Search(search) = &mut self.at {
            search.close();
        }
        from(Slot::Start, self.next(cx, notes))
    }

    fn advice(&self, spec: &ResolvedSpec) -> Vec<Advice> {
        let mut advice = Vec::new();
        let mut say = |field, description| advice.push(Advice { field, description });
        if !search::has_room(spec) {
            let share = spec.max_overhead;
            let (field, what) = match spec.budget {
                Budget::Known(steps) => ("total_steps", format!("= {steps} with max_overhead = {share}")),
                Budget::Open { .. } => ("max_overhead", format!("= {share}")),
            };
            say(field, format!("{what} leaves no room for a search: fallback_lr will be used"));
        }
        if self.is_narrow() {
            let lo = self.options.range.lo;
            let narrow = format!("is less than {NARROW} decades above lr_min = {lo}");
            say("lr_max", format!("{narrow}: the search is unlikely to hold the best LR"));
        }
        advice
    }
}

impl Scan {
    fn is_narrow(&self) -> bool {
        libm::log10(self.options.range.hi) - libm::log10(self.options.range.lo) < NARROW
    }

    pub(crate) fn new(spec: &ResolvedSpec, options: &ResolvedScan) -> Self {
        Self { options: options.clone(), at: At::Search(Search::new(spec, options.range)) }
    }

    fn after_branch(
        &mut self,
        segment: &Segment<'_>,
        outcome: TrialOutcome,
        cx: &Context<'_>,
        notes: &mut Notes,
    ) -> FromSlot {
        if let At::Search(search) = &mut self.at {
            let (trial, lr) = (search.trials(), search.branch_lr());
            let scored = search.tell(segment.losses, outcome == TrialOutcome::Completed);
            notes.trials.push(TrialNote {
                stage: 0,
                trial,
                lr,
                steps: segment.losses.len() as u64,
                outcome,
                score: scored.map(|(score, _)| score),
                sd: scored.map(|(_, sd)| sd),
                losses: downsample(segment.losses, 128),
                validations: segment.validations.to_vec(),
            });
        }
        from(Slot::Start, self.next(cx, notes))
    }

    /// The next branch, or the first committed steps.
    fn next(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Option<Next> {
        let search = match &mut self.at {
            At::Search(search) => search,
            At::Stretch(stretch) => return stretch.next(cx),
        };
        let left = cx.spec.max_search_steps().saturating_sub(cx.spent.search).min(cx.left());
        match search.next(left) {
            Step::Branch => return Some(trial(search, &self.options, cx)),
            Step::BranchBelow => {
                let lo = search.range().lo;
                notes.warnings.push(format!("every branch failed: the lowest LR to try is now {lo:.3e}"));
                return Some(trial(search, &self.options, cx));
            }
            Step::Over => {}
        }
        let mut stretch = commit(search, &self.options, cx, notes);
        let next = stretch.next(cx);
        self.at = At::Stretch(Box::new(stretch));
        next
    }
}
