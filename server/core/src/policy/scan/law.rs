//! The LR of a stable stretch. With a known budget it is held; with an open one it falls with the cube root of the
//! steps, so that at any time it is about the LR that a known budget of 1 / 0.6 of the steps so far would have had.
//!
//! | symbol | meaning |
//! |---|---|
//! | `z*` | the search's choice, log10 LR |
//! | `t` | committed steps, the one under way included |
//! | `L` | steps of a branch |
//! | `f` | see [`bias`](super::bias) |
//! | `w` | where the law begins: the larger of the steps of the first warm-up and 0.6 L (lr_factor f)^3, rounded up |
//!
//! eta(t) = lr_factor f 10^z* (L / (t / 0.6))^(1/3) for t >= w, eta(w) from the end of the warm-up until t = w. So the LR
//! is never above 10^z*; the second part of w is the larger one only if f is well above 1.
//! A guard multiplies the whole law.

use super::{bias::excess, branch::branch_steps};
use crate::{
    lr_pieces::{Piece, Shape},
    spec::{Budget, ResolvedScan},
};
use serde::{Deserialize, Serialize};

/// The share of a run that a stable stretch is over after, when its cooldown of 2/3 as many steps follows.
const STABLE_SHARE: f64 = 0.6;
const EXPONENT: f64 = -1.0 / 3.0;

/// What an LR does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Law {
    /// It stays.
    Held,
    /// It falls from `t = from` on; the job has `limit` steps at the most.
    CubeRoot { from: u64, limit: u64 },
}

impl Law {
    /// Of a choice among branches.
    pub(super) fn new(options: &ResolvedScan, budget: Budget) -> Self {
        match budget {
            Budget::Known(_) => Self::Held,
            Budget::Open { .. } => {
                let factor = bare_factor(options, budget);
                let below = libm::ceil(falling_steps(budget) * factor * factor * factor) as u64;
                let limit = budget.limit();
                Self::CubeRoot { from: warmup_steps(options, budget).max(below).min(limit), limit }
            }
        }
    }

    /// `steps` after `committed` ones, at `eta` until the law begins.
    pub(super) fn line(self, committed: u64, steps: u64, eta: f64) -> Vec<Piece> {
        let Self::CubeRoot { from, limit } = self else { return vec![Piece::constant(steps, eta)] };
        let held = from.saturating_sub(committed).min(steps);
        let falling = Piece {
            steps: steps - held,
            start: eta,
            end: eta * libm::pow(limit as f64 / from as f64, EXPONENT),
            shape: Shape::Power { exponent: EXPONENT, origin: from as f64 },
            index: (committed + held + 1).saturating_sub(from),
            of: limit - from + 1,
        };
        vec![Piece::constant(held, eta), falling]
    }

    /// The LR of the step that follows `committed` ones.
    pub(super) fn lr(self, committed: u64, eta: f64) -> f64 {
        self.line(committed, 1, eta).iter().find(|piece| piece.steps > 0).map_or(eta, |piece| piece.lr(0))
    }
}

/// Steps of a budget's first warm-up.
pub(super) fn warmup_steps(options: &ResolvedScan, budget: Budget) -> u64 {
    libm::round(options.warmup_fraction * budget.nominal() as f64) as u64
}

/// What 10^z* is multiplied by for the LR at the end of the warm-up.
pub(super) fn factor(options: &ResolvedScan, budget: Budget) -> f64 {
    match Law::new(options, budget) {
        Law::Held => bare_factor(options, budget).min(1.0),
        Law::CubeRoot { from, .. } => {
            (bare_factor(options, budget) * libm::cbrt(falling_steps(budget) / from as f64)).min(1.0)
        }
    }
}

/// lr_factor f.
fn bare_factor(options: &ResolvedScan, budget: Budget) -> f64 {
    options.lr_factor * excess(budget.nominal(), options.rms_decay)
}

/// 0.6 L: where the cube root is 1.
fn falling_steps(budget: Budget) -> f64 {
    STABLE_SHARE * branch_steps(budget.nominal()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LrRange;

    /// eta(t) / 10^z* of the shortest search; `((24 * Decimal("0.6") / t).ln() / 3).exp()` in Python, 50 digits.
    const ETA: [(u64, f64); 6] = [
        (240, 0.3914867641168864),
        (241, 0.39094453798789064),
        (1_000, 0.24328807982293602),
        (65_536, 0.06034308653785186),
        (1_000_000, 0.0243288079822936),
        (1_000_000_000_000, 0.000243288079822936),
    ];

    #[test]
    fn eta_to_the_last_bits() {
        let range = LrRange { lo: 1e-4, hi: 10.0 };
        let options =
            ResolvedScan { range, lr_factor: 1.0, warmup_fraction: 0.1, cooldown_fraction: 0.0, rms_decay: 0.0 };
        let budget = Budget::Open { expected: None };
        let (law, start) = (Law::new(&options, budget), factor(&options, budget));
        for (t, eta) in ETA {
            let lr = law.lr(t - 1, start);
            assert!((lr / eta - 1.0).abs() < 1e-15, "eta({t}) = {lr}, not {eta}");
            let whole = law.line(240, budget.limit() - 240, start);
            assert!(t <= 240 || lr == whole[1].lr(t - 241), "cut or whole, the same bits");
        }
    }
}
