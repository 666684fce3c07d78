//! Policies: the rule that turns the outcome of a segment into the next plan. A policy is a pure state machine; the
//! job around it keeps the books (steps, slots, sequence numbers, sessions, history) and calls it:
//!
//! 1. [`Policy::begin`] once;
//! 2. then, each time the trainer reached the end of the segment that the last plan asked for, [`Policy::ended`], or
//!    [`Policy::stopped`] if one of its stop rules matched;
//! 3. [`Policy::at_rung`] each time the trainer stands at a rung of a trial;
//! 4. [`Policy::update`] when an operator changes the LR or the budget inside a committed segment, and then
//!    [`Policy::ended`] for what was run of it: such a segment may end before its last step;
//! 5. [`Policy::close_search`] at most once per search, when the search can't go on (its slot was lost).
//!
//! To add a policy: write one file here, and add one line to the `policies!` list below.

use crate::{
    directive::{Run, Slot},
    forecast,
    job::Validation,
    plan::{FromSlot, Plan},
    spec::{ResolvedPolicy, ResolvedSpec},
    stop_rules::Stop,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a policy may know besides the outcome.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The job's spec.
    pub spec: &'a ResolvedSpec,
    /// Steps so far, those of the outcome included.
    pub spent: Spent,
    /// Committed steps that each slot holds.
    pub slots: &'a BTreeMap<Slot, SlotEntry>,
    /// Whether the trainer can give the same batches again.
    pub replay: bool,
    /// Whether the trainer measures validation losses when asked.
    pub validate: bool,
}

impl Context<'_> {
    /// Steps left of the budget. A restore does not change it: its steps move from committed to lost.
    pub fn left(&self) -> u64 {
        self.spec.budget.limit().saturating_sub(self.spent.total())
    }

    /// As it will be once `slot` is restored.
    #[must_use]
    fn restored(mut self, slot: Slot) -> Self {
        let committed = self.spent.committed;
        let held = self.slots.get(&slot).map_or(committed, |entry| entry.committed).min(committed);
        self.spent.committed = held;
        self.spent.lost += committed - held;
        self
    }
}

/// Steps by kind; their sum is at most the budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Kept.
    pub committed: u64,
    /// A trial's.
    pub search: u64,
    /// Rolled back by a guard.
    pub lost: u64,
}

impl Spent {
    /// All steps.
    pub const fn total(&self) -> u64 {
        self.committed + self.search + self.lost
    }
}

/// What the job knows of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotEntry {
    /// The directive that saved it.
    pub seq: u64,
    /// Committed steps in it.
    pub committed: u64,
    /// Search steps in it on top of those, which become committed if training goes on from it.
    pub tried: u64,
}

/// A segment that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// What was asked for.
    pub run: &'a Run,
    /// The loss of every step that was run; may hold NaN and infinities.
    pub losses: &'a [f64],
    /// The validation losses that the run asked for, by offset; may hold NaN and infinities. Of a run that ended early
    /// those before its end.
    pub validations: &'a [Validation],
}

/// What an operator changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// From now on the highest LR of the line that is left, > 0; the other LRs keep their ratio to it.
    pub lr: Option<f64>,
    /// The new budget in steps.
    pub total_steps: Option<u64>,
}

impl Change {
    /// This change, then another one.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        Self { lr: next.lr.or(self.lr), total_steps: next.total_steps.or(self.total_steps) }
    }
}

/// A search that is open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenSearch {
    /// The slot with the state before the search.
    pub slot: Slot,
    /// What would be committed now, from what was measured.
    pub lr: f64,
}

/// What a policy leaves for people: it explains decisions and is never read back by the policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notes {
    /// Trials that ended.
    pub trials: Vec<TrialNote>,
    /// LRs that were committed.
    pub commits: Vec<CommitNote>,
    /// Losses reached at the end of stages.
    pub stage_ends: Vec<StageEndNote>,
    /// Sentences for the user.
    pub warnings: Vec<String>,
}

/// A trial and how it was judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialNote {
    /// Stage, from 0.
    pub stage: u32,
    /// Trial inside the stage, from 0.
    pub trial: u32,
    /// The candidate.
    pub lr: f64,
    /// Steps run.
    pub steps: u64,
    /// Whether it ended early or diverged.
    pub outcome: TrialOutcome,
    /// Score (`scan`) or forecast (`paper`, `staged`), in loss units; none if diverged.
    pub score: Option<f64>,
    /// Its standard deviation, in loss units.
    pub sd: Option<f64>,
    /// The losses, down-sampled: means of equal bins, at most 128.
    pub losses: Vec<f64>,
    /// Its validation losses where the policy asked for some: the score is then read from them.
    pub validations: Vec<Validation>,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrialOutcome {
    /// Ran to its last step.
    Completed,
    /// A rule other than `non_finite`, or the policy at a rung, ended it.
    Stopped,
    /// A loss was NaN or infinite.
    Diverged,
}

/// A committed LR and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitNote {
    /// Stage, from 0.
    pub stage: u32,
    /// The LR.
    pub lr: f64,
    /// One sentence.
    pub why: String,
    /// Forecast of the loss at the stage's end with its sd, in loss units: of the search's choice, also where the LR was
    /// changed after it.
    pub forecast: Option<(f64, f64)>,
    /// What explains the choice: (log10 LR, mean, sd) of the posterior or of the fitted curve, in loss units.
    pub curve: Vec<CurvePoint>,
}

/// A point of the curve behind a choice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Decades.
    pub log10_lr: f64,
    /// Loss units.
    pub mean: f64,
    /// Loss units; 0 where the curve has no band.
    pub sd: f64,
}

/// What came of a committed LR.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageEndNote {
    /// Stage, from 0.
    pub stage: u32,
    /// Mean of the stage's last losses (at most 10); of a stage whose search went by the validation loss, the one at its
    /// end.
    pub loss: f64,
}

/// Something that a spec allows but is seldom meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Path of the field to look at, as in the proto: `lr_max`, `paper.tau`.
    pub field: &'static str,
    /// What follows its name in a sentence.
    pub description: String,
}

/// What is to be said about a spec before a job is made of it.
pub fn advice(spec: &ResolvedSpec) -> Vec<Advice> {
    PolicyState::new(spec).get().advice(spec)
}

/// A rule that schedules the LR.
pub trait Policy {
    /// The first plan of the job.
    fn begin(&mut self, cx: &Context<'_>, notes: &mut Notes) -> Plan;
    /// The next plan after a segment that ran to its end, or to where an update took effect.
    fn ended(&mut self, segment: &Segment<'_>, cx: &Context<'_>, notes: &mut Notes) -> Plan;
    /// The next plan after a segment that a stop rule ended.
    fn stopped(&mut self, segment: &Segment<'_>, stop: Stop, cx: &Context<'_>, notes: &mut Notes)
    -> FromSlot;
    /// The next plan after a trial that is not worth its other steps; none: it goes on. `segment` ends at the rung.
    ///
    /// An answer of none is not stored and may be asked for again, also after a restart: the caller asks a copy, and
    /// what such a call changes is lost.
    fn at_rung(&mut self, _segment: &Segment<'_>, _cx: &Context<'_>, _notes: &mut Notes) -> Option<FromSlot> {
        None
    }
    /// Takes an operator's change in: in `cx` its budget is in force, and the steps of the segment under way are spent.
    /// [`Policy::ended`] follows and goes on with the segment, or with what comes after it. Never in a search.
    fn update(&mut self, change: Change, cx: &Context<'_>, notes: &mut Notes);
    /// The search that is open, if one is.
    fn search(&self, spec: &ResolvedSpec) -> Option<OpenSearch>;
    /// Commits from what was measured and goes on as after a search. Called only while [`Policy::search`] is some.
    fn close_search(&mut self, cx: &Context<'_>, notes: &mut Notes) -> FromSlot;
    /// What is to be said about a spec before the first plan. Nothing, unless a policy knows better.
    fn advice(&self, _spec: &ResolvedSpec) -> Vec<Advice> {
        Vec::new()
    }
}

/// Means of at most `bins` equal bins, for people to look at.
pub fn downsample(losses: &[f64], bins: usize) -> Vec<f64> {
    let width = losses.len().div_ceil(bins.max(1)).max(1);
    losses.chunks(width).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect()
}

/// What came of a stage whose last losses are `losses`; none if there are none.
fn stage_end(stage: u32, losses: &[f64]) -> Option<StageEndNote> {
    let last = &losses[losses.len().saturating_sub(10)..];
    forecast::noise::mean(last).map(|loss| StageEndNote { stage, loss })
}

mod diverged;
mod guard;
mod level;
mod limits;
pub(crate) mod line;
#[cfg(test)]
mod tests;

macro_rules! policies {
    ($($name:ident: $module:ident,)*) => {
        $(mod $module;)*

        /// The state of a job's policy.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum PolicyState { $(#[doc = concat!("See `policy/", stringify!($module), ".rs`.")] $name($module::$name),)* }

        impl PolicyState {
            /// The state before the first plan.
            pub fn new(spec: &ResolvedSpec) -> Self {
                match &spec.policy { $(ResolvedPolicy::$name(options) => Self::$name($module::$name::new(spec, options)),)* }
            }

            pub(crate) fn get(&self) -> &dyn Policy {
                match self { $(Self::$name(policy) => policy,)* }
            }

            pub(crate) fn get_mut(&mut self) -> &mut dyn Policy {
                match self { $(Self::$name(policy) => policy,)* }
            }
        }
    };
}

policies! {
    Scan: scan,
    Paper: paper,
    Staged: staged,
    Plain: plain,
}
