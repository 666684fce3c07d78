//! Where the loss stands, and the guard around it.
//!
//! | symbol | meaning |
//! |---|---|
//! | `m`, `s1` | mean of some losses and the standard deviation of their noise |
//! | `r` | the largest of them above m: what a loss that still falls may reach again |

use crate::{
    forecast::noise,
    policy::limits::{above, finite},
    stop_rules::StopIf,
};
use serde::{Deserialize, Serialize};

/// Losses in a level.
pub(super) const LOSSES: usize = 20;
const DECAY: f64 = 0.95;

/// All finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Level {
    mean: f64,
    noise: f64,
    rise: f64,
}

impl Level {
    /// Of the first 20 losses.
    pub(super) fn first(losses: &[f64]) -> Option<Self> {
        Self::of(&losses[..LOSSES.min(losses.len())])
    }

    /// Of the last 20 losses.
    pub(super) fn last(losses: &[f64]) -> Option<Self> {
        Self::of(&losses[losses.len().saturating_sub(LOSSES)..])
    }

    fn of(losses: &[f64]) -> Option<Self> {
        let mean = noise::mean(losses).filter(|mean| mean.is_finite())?;
        let rise = losses.iter().fold(0.0, |rise: f64, y| rise.max(finite(y - mean)));
        Some(Self { mean, noise: noise::noise_sd(losses), rise })
    }

    /// The same, where a loss may also reach what any of `losses` has reached.
    #[must_use]
    pub(super) fn reaching(self, losses: &[f64]) -> Self {
        let rise = losses.iter().fold(self.rise, |rise: f64, y| rise.max(finite(y - self.mean)));
        Self { rise, ..self }
    }

    /// m.
    pub(super) fn mean(&self) -> f64 {
        self.mean
    }

    /// The ema, from m, above m + max(0.5 abs m, 8 s1, r) with a lower bound, else above m + max(8 s1, r); abs m is the
    /// distance from the bound.
    pub(super) fn guard(&self, bound: Option<f64>) -> StopIf {
        let size = bound.map_or(0.0, |bound| finite(self.mean - bound).abs());
        let limit = above(self.mean, (0.5 * size).max(8.0 * self.noise).max(self.rise), 0.0);
        StopIf::EmaAbove { decay: DECAY, start_value: self.mean, limit, from: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(losses: &[f64], bound: Option<f64>) -> f64 {
        match Level::first(losses).unwrap().guard(bound) {
            StopIf::EmaAbove { limit, .. } => limit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn half_the_loss_or_eight_noises() {
        assert_eq!(limit(&[2.0; 30], Some(0.0)), 3.0);
        assert_eq!(limit(&[12.0; 30], Some(10.0)), 13.0);
        let noisy: Vec<f64> = (0..30).map(|i| 2.0 + 0.5 * f64::from(i % 2)).collect();
        assert!(limit(&noisy, Some(0.0)) > 4.0);
        assert!((limit(&[2.0; 30], None) - 2.0).abs() < 1e-5 && limit(&[2.0; 30], None) > 2.0);
    }

    #[test]
    fn losses_that_fall_without_noise_leave_room_to_fall_again() {
        let falling: Vec<f64> = (0..30).map(|i| -f64::from(i)).collect();
        assert_eq!(limit(&falling, None), 0.0);
    }

    #[test]
    fn nothing_is_known_from_no_losses() {
        assert_eq!(Level::first(&[]), None);
        assert_eq!(Level::last(&[f64::NAN]), None);
    }
}
