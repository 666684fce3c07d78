//! The plain schedules: one curve each, without a search.

use crate::lr_pieces::Piece;
use serde::{Deserialize, Serialize};

/// Options of `constant`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConstantOptions {
    /// The LR, > 0; default `fallback_lr`.
    pub lr: Option<f64>,
    /// Steps of the linear warm-up; default 0.
    pub warmup_steps: Option<u64>,
}

/// Options of `cosine`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CosineOptions {
    /// The highest LR, > 0; default `fallback_lr`.
    pub lr: Option<f64>,
    /// Steps of the linear warm-up; default 0.
    pub warmup_steps: Option<u64>,
    /// The last LR as a share of the highest, in [0, 1]; default 0.
    pub end_factor: Option<f64>,
}

/// Options of `wsd`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WsdOptions {
    /// The stable LR, > 0; default `fallback_lr`.
    pub lr: Option<f64>,
    /// Steps of the linear warm-up; default 0.
    pub warmup_steps: Option<u64>,
    /// Steps of the linear decay at the end; default 20 % of the budget.
    pub cooldown_steps: Option<u64>,
}

/// Options of `step`. All steps are counted from the job's first, its warm-up included; `step_size` or `milestones`,
/// not both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StepOptions {
    /// The first LR, > 0; default `fallback_lr`.
    pub lr: Option<f64>,
    /// Steps of the linear warm-up, which takes the place of the first steps; default 0.
    pub warmup_steps: Option<u64>,
    /// The LR falls every so many steps (PyTorch's `StepLR`).
    pub step_size: Option<u64>,
    /// The LR falls after these numbers of steps, ascending (PyTorch's `MultiStepLR`); those past the budget do
    /// nothing. Empty and no `step_size`: at 50 % and 75 % of the budget (He et al. 2016).
    pub milestones: Vec<u64>,
    /// What the LR is multiplied by, in (0, 1]; default 0.1.
    pub gamma: Option<f64>,
}

/// Options of `one_cycle`, as of PyTorch's `OneCycleLR` with `anneal_strategy="cos"`. Only the LR is scheduled, not the
/// momentum.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OneCycleOptions {
    /// The highest LR, > 0; default `fallback_lr`.
    pub max_lr: Option<f64>,
    /// Share of the budget in which the LR rises, in [0, 1], rounded to whole steps; default 0.3.
    pub pct_start: Option<f64>,
    /// Highest LR / first LR, >= 1; default 25.
    pub div_factor: Option<f64>,
    /// First LR / last LR, >= 1; default 10^4.
    pub final_div_factor: Option<f64>,
}

/// Options of `clr`: Smith's `triangular` (PyTorch's `CyclicLR`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClrOptions {
    /// The lowest LR, with which the job begins, in (0, `max_lr`]; default `max_lr` / 4 (Smith's rule of thumb).
    pub base_lr: Option<f64>,
    /// The highest LR, > 0; default `fallback_lr`.
    pub max_lr: Option<f64>,
    /// Steps from the lowest to the highest LR, half a cycle, >= 1; default budget / 8, rounded up: four cycles.
    pub step_size: Option<u64>,
}

/// Options of `sgdr` (PyTorch's `CosineAnnealingWarmRestarts`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgdrOptions {
    /// The highest LR, with which every cycle begins, > 0; default `fallback_lr`.
    pub lr: Option<f64>,
    /// Steps of the linear warm-up before the first cycle; default 0.
    pub warmup_steps: Option<u64>,
    /// Steps of the first cycle, >= 1; default such that four cycles fill what follows the warm-up.
    pub t0: Option<u64>,
    /// Length of each cycle over that of the one before, >= 1; default 2.
    pub t_mult: Option<u32>,
    /// The LR towards which each cycle falls as a share of the highest, in [0, 1]; default 0. The cycle's last step is
    /// one step short of it.
    pub end_factor: Option<f64>,
}

/// Options of `replay`. In a budget of fewer steps than the schedule has, the rest is left out; in one of more, its last
/// LR holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayOptions {
    /// The LR of every step, as exported: 1 to 1000 pieces, not at 0 throughout.
    pub pieces: Vec<Piece>,
}

/// A plain schedule: its whole line in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolvedPlain {
    /// The curve.
    pub kind: PlainKind,
    /// The highest LR.
    pub lr: f64,
    /// Steps of the warm-up before the curve, <= budget.
    pub warmup_steps: u64,
}

/// The most pieces of one line: it travels whole with every directive, as the fallback.
pub(super) const MAX_PIECES: u64 = 1000;

impl ResolvedPlain {
    /// The largest budget whose line has at most 1000 pieces.
    pub(super) fn most_steps(&self) -> u64 {
        let most = |steps: u64| steps.saturating_mul(MAX_PIECES);
        match self.kind {
            PlainKind::Step { milestones: Milestones::Every(steps), .. } => most(steps),
            PlainKind::Clr { step_size, .. } => most(step_size),
            PlainKind::Sgdr { t0, t_mult: 1, .. } => most(t0).saturating_add(self.warmup_steps),
            _ => u64::MAX,
        }
    }
}

/// The curve of a plain schedule after its warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum PlainKind {
    /// The LR holds.
    Constant,
    /// Half a cosine wave down to `end_factor` of the LR.
    Cosine {
        /// In [0, 1].
        end_factor: f64,
    },
    /// The LR holds, then falls linearly over the last `cooldown_steps`.
    Wsd {
        /// <= budget - warm-up.
        cooldown_steps: u64,
    },
    /// The LR is multiplied by `gamma` at every milestone. A warm-up takes the place of the first steps.
    Step {
        /// Counted from the job's first step; none before the warm-up's end.
        milestones: Milestones,
        /// In (0, 1].
        gamma: f64,
    },
    /// Half a cosine wave up, then one down.
    OneCycle {
        /// Share of the budget in which the LR rises, in [0, 1].
        pct_start: f64,
        /// Highest LR / first LR, >= 1.
        div_factor: f64,
        /// First LR / last LR, >= 1.
        final_div_factor: f64,
    },
    /// Straight lines from `base_lr` up to the LR and back.
    Clr {
        /// In (0, the LR].
        base_lr: f64,
        /// Steps of each line, >= 1.
        step_size: u64,
    },
    /// Falling half cosine waves, each `t_mult` times as long as the one before.
    Sgdr {
        /// Steps of the first wave, >= 1.
        t0: u64,
        /// >= 1.
        t_mult: u32,
        /// LR towards which each wave falls, as a share of the LR; in [0, 1].
        end_factor: f64,
    },
    /// A line that was exported.
    Replay {
        /// 1 to 1000.
        pieces: Vec<Piece>,
    },
}

/// Where `step` falls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Milestones {
    /// Every so many steps, >= 1.
    Every(u64),
    /// After these numbers of steps, ascending, >= 1.
    At(Vec<u64>),
}

impl PlainKind {
    /// The name of its policy.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Cosine { .. } => "cosine",
            Self::Wsd { .. } => "wsd",
            Self::Step { .. } => "step",
            Self::OneCycle { .. } => "one_cycle",
            Self::Clr { .. } => "clr",
            Self::Sgdr { .. } => "sgdr",
            Self::Replay { .. } => "replay",
        }
    }
}
