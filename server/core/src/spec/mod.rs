//! What a job is asked to do. [`JobSpec`] holds what the user set; [`ResolvedSpec`] holds every value, is checked
//! once, and is what the job stores: a later version with other defaults changes no running job.

mod budget;
mod plain;
mod resolve;

pub use budget::Budget;
pub use plain::{
    ClrOptions, ConstantOptions, CosineOptions, Milestones, OneCycleOptions, PlainKind, ReplayOptions,
    ResolvedPlain, SgdrOptions, StepOptions, WsdOptions,
};
pub use resolve::{MAX_LR, Violation, labels_fit, resolve};

use crate::{forecast::Forecaster, schedule::MAX_STEPS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Raised whenever a policy decides differently for the same spec and losses. A job keeps its own.
pub const POLICY_REVISION: u32 = 1;

/// A job as its user described it; `None` means the documented default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSpec {
    /// Budget in optimizer steps, search included, 1 to 10^12. Required, unless the budget is open; default of `replay`:
    /// its schedule's steps.
    pub total_steps: Option<u64>,
    /// In place of `total_steps`: the budget is not known in advance. Only `scan` trains without.
    pub open_budget: Option<OpenBudget>,
    /// Lowest LR that is tried, > 0. Required by policies that search.
    pub lr_min: Option<f64>,
    /// Highest LR that is tried, > `lr_min`. Required by policies that search.
    pub lr_max: Option<f64>,
    /// LR used before the search has measured anything and by the plain policies, > 0. Required.
    pub fallback_lr: Option<f64>,
    /// Seed of the policy's draws; default 0.
    pub seed: Option<u64>,
    /// A value the loss can't go below; default 0.
    pub loss_lower_bound: Option<LossBound>,
    /// Largest share of the budget that a search may use, 0 to 1; the default is the policy's.
    pub max_overhead: Option<f64>,
    /// Steps between the offsets at which a directive may be ended early, 1 to 1024; default 1.
    pub switch_every: Option<u64>,
    /// Whether committed stretches that break are rolled back; default yes.
    pub guard: Option<bool>,
    /// The rule that schedules the LR; default `scan`.
    pub policy: Option<PolicySpec>,
    /// The user's own key-value pairs; at most 64 of at most 256 bytes each.
    pub labels: BTreeMap<String, String>,
}

/// A budget that is not known in advance: the job trains until its user finishes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OpenBudget {
    /// A guess of the steps, 1 to 10^12, from which the search takes its length; default 2400, the shortest search.
    pub expected_steps: Option<u64>,
}

/// A lower bound of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossBound {
    /// The loss is never below this, in loss units.
    At(f64),
    /// The loss may take any value.
    None,
}

/// A policy with the options that its user set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicySpec {
    /// Search once on short branches, hold, cool down.
    Scan(ScanOptions),
    /// AutoLRS as published (Jin et al., ICLR 2021).
    Paper(PaperOptions),
    /// AutoLRS repaired, for runs whose best LR drifts.
    Staged(StagedOptions),
    /// One LR.
    Constant(ConstantOptions),
    /// Warm-up, then half a cosine wave.
    Cosine(CosineOptions),
    /// Warm-up, stable, linear decay.
    Wsd(WsdOptions),
    /// The LR falls by a factor at given steps.
    Step(StepOptions),
    /// One rise and one long fall (Smith & Topin 2018).
    OneCycle(OneCycleOptions),
    /// Triangles between two LRs (Smith 2017).
    Clr(ClrOptions),
    /// Falling half cosine waves with warm restarts (Loshchilov & Hutter 2017).
    Sgdr(SgdrOptions),
    /// The LR of every step as it was exported.
    Replay(ReplayOptions),
}

impl PolicySpec {
    /// The policy's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Scan(_) => "scan",
            Self::Paper(_) => "paper",
            Self::Staged(_) => "staged",
            Self::Constant(_) => "constant",
            Self::Cosine(_) => "cosine",
            Self::Wsd(_) => "wsd",
            Self::Step(_) => "step",
            Self::OneCycle(_) => "one_cycle",
            Self::Clr(_) => "clr",
            Self::Sgdr(_) => "sgdr",
            Self::Replay(_) => "replay",
        }
    }
}

/// Options of `scan`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScanOptions {
    /// The committed LR is this times the best branch LR, in (0, 1]; default 0.22 (measured: short branches prefer
    /// an LR that is 3 to 8 times too large).
    pub lr_factor: Option<f64>,
    /// Warm-up as a share of the budget, in [0.01, 0.5]; default 0.10.
    pub warmup_fraction: Option<f64>,
    /// Cooldown as a share of the budget, in [0.05, 0.8]; default 0.40.
    pub cooldown_fraction: Option<f64>,
    /// Decay of a running mean of squared gradients whose bias the optimizer does not correct (`alpha` of PyTorch's
    /// `RMSprop`), in [0, 1); default 0: it corrects it, as Adam does, or has none, as SGD. Steps in a branch are too
    /// large by a factor that follows from it, and `lr_factor` is multiplied by that factor; the committed LR stays at
    /// most the best branch LR.
    pub rms_decay: Option<f64>,
}

/// Options of `paper`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaperOptions {
    /// Candidates per search, 1 to 64; default 10.
    pub candidates: Option<u32>,
    /// Exploration weight of the lower confidence bound, >= 0; default 1000.
    pub kappa: Option<f64>,
    /// Steps of the first stage, >= 10; default 1000.
    pub tau: Option<u64>,
    /// Largest stage, >= tau; default 8000. Stages double until they reach it.
    pub tau_max: Option<u64>,
    /// Steps of a trial as a share of the stage, in (0, 1]; default 0.1.
    pub trial_fraction: Option<f64>,
    /// Steps of the linear warm-up, which is not searched; default 0.
    pub warmup_steps: Option<u64>,
    /// LR at the end of the warm-up, and where no search fits before the first commit, > 0; default `fallback_lr`.
    pub warmup_lr: Option<f64>,
    /// What forecasts the loss at the stage's end from a trial; default `exponential`, as published.
    pub forecaster: Option<Forecaster>,
    /// Which loss the searches go by; default `auto`, as published.
    pub objective: Option<Objective>,
}

/// The loss that a search goes by. Where the trainer does not measure validation losses it is the training loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Objective {
    /// As published: the training loss until a stage of `tau_max` steps is behind, the validation loss after.
    #[default]
    Auto,
    /// The training loss.
    Training,
    /// The validation loss from the first search on.
    Validation,
}

/// Options of `staged`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StagedOptions {
    /// Steps of a stage, >= 20; default max(200, a twelfth of the budget).
    pub tau: Option<u64>,
    /// Steps of a trial as a share of the stage, above 0 and at most 0.5; default 0.1. A trial has 8 to 65,536 steps.
    pub trial_fraction: Option<f64>,
    /// Cooldown as a share of the budget, in [0, 0.8]; default 0.30.
    pub cooldown_fraction: Option<f64>,
}

/// A checked job with every value filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedSpec {
    /// How long it may train, search included.
    pub budget: Budget,
    /// LR used before anything is measured.
    pub fallback_lr: f64,
    /// Seed of the policy's draws.
    pub seed: u64,
    /// A value the loss can't go below.
    pub loss_lower_bound: Option<f64>,
    /// Largest share of the budget that a search may use.
    pub max_overhead: f64,
    /// Steps between switch points.
    pub switch_every: u64,
    /// Whether committed stretches are guarded.
    pub guard: bool,
    /// The policy with every option filled in.
    pub policy: ResolvedPolicy,
    /// See [`POLICY_REVISION`].
    pub policy_revision: u32,
}

/// The interval of LRs that are tried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LrRange {
    /// > 0.
    pub lo: f64,
    /// > `lo`.
    pub hi: f64,
}

/// A policy with every option filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ResolvedPolicy {
    /// See [`PolicySpec::Scan`].
    Scan(ResolvedScan),
    /// See [`PolicySpec::Paper`].
    Paper(ResolvedPaper),
    /// See [`PolicySpec::Staged`].
    Staged(ResolvedStaged),
    /// A plain schedule.
    Plain(ResolvedPlain),
}

/// See [`ScanOptions`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedScan {
    /// LRs that are tried.
    pub range: LrRange,
    /// The committed LR is this times the best branch LR.
    pub lr_factor: f64,
    /// Warm-up as a share of the budget.
    pub warmup_fraction: f64,
    /// Cooldown as a share of the budget.
    pub cooldown_fraction: f64,
    /// Decay of an uncorrected running mean of squared gradients; 0: none.
    pub rms_decay: f64,
}

/// See [`PaperOptions`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedPaper {
    /// LRs that are tried.
    pub range: LrRange,
    /// k: candidates per search.
    pub candidates: u32,
    /// Exploration weight.
    pub kappa: f64,
    /// Steps of the first stage.
    pub tau: u64,
    /// Largest stage.
    pub tau_max: u64,
    /// tau' / tau.
    pub trial_fraction: f64,
    /// Steps of the warm-up.
    pub warmup_steps: u64,
    /// LR at its end.
    pub warmup_lr: f64,
    /// What forecasts the loss at tau.
    pub forecaster: Forecaster,
    /// Which loss the searches go by.
    pub objective: Objective,
}

/// See [`StagedOptions`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedStaged {
    /// LRs that are tried.
    pub range: LrRange,
    /// Steps of a stage.
    pub tau: u64,
    /// tau' / tau.
    pub trial_fraction: f64,
    /// Cooldown as a share of the budget.
    pub cooldown_fraction: f64,
}

impl ResolvedSpec {
    /// The policy's name.
    pub const fn policy_name(&self) -> &'static str {
        match &self.policy {
            ResolvedPolicy::Scan(_) => "scan",
            ResolvedPolicy::Paper(_) => "paper",
            ResolvedPolicy::Staged(_) => "staged",
            ResolvedPolicy::Plain(plain) => plain.kind.name(),
        }
    }

    /// The largest budget that the policy can lay its line over.
    pub fn most_steps(&self) -> u64 {
        match &self.policy {
            ResolvedPolicy::Scan(_) | ResolvedPolicy::Paper(_) | ResolvedPolicy::Staged(_) => MAX_STEPS,
            ResolvedPolicy::Plain(plain) => plain.most_steps().min(MAX_STEPS),
        }
    }

    /// The most search steps that the budget allows: a share of [`Budget::nominal`].
    pub fn max_search_steps(&self) -> u64 {
        libm::floor(self.max_overhead * self.budget.nominal() as f64) as u64
    }
}
