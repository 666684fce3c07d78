//! Where the loss stands, and the guard around it.
//!
//! | symbol | meaning |
//! |---|---|
//! | `m` | mean of 20 losses |
//! | `s1` | standard deviation of the noise of one loss, as the differences of successive losses mostly show it |
//! | `s` | the same with losses that stand out and noise that lasts some steps, at least s1 |
//! | `r` | the largest of the losses above m: what a loss that still falls may reach again |
//! | `D` | what training has gained: where it began - m, at least 0 |
//! | `abs x` | the distance of x from the loss's lower bound; 0 without one |
//!
//! The guard fires when the ema, from m, is above m + max(0.5 abs m, 8 s1, 4 s, r, 0.5 D); once D is above 6 s and a
//! tenth of what it began with, above m + 0.5 D: half of what was gained is lost.

use crate::{
    forecast::noise,
    policy::limits::{above, finite},
    stop_rules::StopIf,
};
use serde::{Deserialize, Serialize};

/// Losses in a level.
const LOSSES: usize = 20;
const DECAY: f64 = 0.95;

/// All finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Level {
    mean: f64,
    quick: f64,
    noise: f64,
    rise: f64,
}

impl Level {
    /// Of the first 20 losses, with the noise of all.
    pub(super) fn first(losses: &[f64]) -> Option<Self> {
        Self::of(&losses[..LOSSES.min(losses.len())], losses)
    }

    /// Of the last 20 losses, with the noise of all.
    pub(super) fn last(losses: &[f64]) -> Option<Self> {
        Self::of(&losses[losses.len().saturating_sub(LOSSES)..], losses)
    }

    fn of(part: &[f64], all: &[f64]) -> Option<Self> {
        let mean = noise::mean(part).filter(|mean| mean.is_finite())?;
        let few = if all.len() < LOSSES { range(all) } else { 0.0 };
        let quick = finite(noise::noise_sd(all)).max(few);
        let noise = finite(noise::slow_sd(all).max(noise::rough_sd(all))).max(quick);
        Some(Self { mean, quick, noise, rise: 0.0 }.reaching(part))
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

    fn guard(&self, start: Option<f64>, bound: Option<f64>) -> StopIf {
        let size = |loss: f64| bound.map_or(0.0, |bound| finite(loss - bound).abs());
        let gain = start.map_or(0.0, |start| finite(start - self.mean).max(0.0));
        let lasting = gain > (6.0 * self.noise).max(0.1 * start.map_or(0.0, size));
        let margin = if lasting {
            0.5 * gain
        } else {
            let noise = (8.0 * self.quick).max(4.0 * self.noise);
            (0.5 * size(self.mean)).max(noise).max(self.rise).max(0.5 * gain)
        };
        StopIf::EmaAbove {
            decay: DECAY,
            start_value: self.mean,
            limit: above(self.mean, margin, 0.0),
            from: 0,
        }
    }
}

/// Fewer losses than a level has show too little of their noise: this stands for it.
fn range(losses: &[f64]) -> f64 {
    let (low, high) = losses.iter().fold((f64::MAX, f64::MIN), |(low, high), y| (low.min(*y), high.max(*y)));
    finite(high - low).max(0.0)
}

/// What the guard of a committed stretch compares with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Standing {
    level: Option<Level>,
    /// Where training began, and the LR of the steps that say so. Finite.
    start: Option<Start>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Start {
    lr: f64,
    mean: f64,
}

impl Standing {
    /// Before the first loss.
    pub(super) const fn new() -> Self {
        Self { level: None, start: None }
    }

    /// Enters steps from the initial state that met no rule: those at the lowest LR say where training began.
    pub(super) fn began(&mut self, lr: f64, losses: &[f64]) {
        let first = Level::first(losses).map(|level| Start { lr, mean: level.mean });
        self.start = match (self.start, first) {
            (Some(start), Some(first)) if start.lr <= first.lr => Some(start),
            (start, first) => first.or(start),
        };
    }

    /// A candidate is committed whose trial stood there.
    pub(super) fn commit(&mut self, level: Option<Level>) {
        self.level = level;
    }

    /// Enters committed steps that met no guard. A level of fewer losses than 20 is no better than that of before.
    pub(super) fn went_on(&mut self, losses: &[f64]) {
        let last = Level::last(losses);
        self.level = if losses.len() >= LOSSES { last.or(self.level) } else { self.level.or(last) };
    }

    /// The rule; none before something was measured.
    pub(super) fn guard(&self, bound: Option<f64>) -> Option<StopIf> {
        self.level.map(|level| level.guard(self.start.map(|start| start.mean), bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(level: Level, start: Option<f64>, bound: Option<f64>) -> f64 {
        match level.guard(start, bound) {
            StopIf::EmaAbove { limit, .. } => limit,
            other => panic!("{other:?}"),
        }
    }

    fn first(losses: &[f64], bound: Option<f64>) -> f64 {
        limit(Level::first(losses).unwrap(), None, bound)
    }

    #[test]
    fn half_the_loss_or_eight_noises() {
        assert_eq!(first(&[2.0; 30], Some(0.0)), 3.0);
        assert_eq!(first(&[12.0; 30], Some(10.0)), 13.0);
        let noisy: Vec<f64> = (0..30).map(|i| 2.0 + 0.5 * f64::from(i % 2)).collect();
        assert!(first(&noisy, Some(0.0)) > 4.0);
        assert!((first(&[2.0; 30], None) - 2.0).abs() < 1e-5 && first(&[2.0; 30], None) > 2.0);
    }

    #[test]
    fn losses_that_fall_without_noise_leave_room_to_fall_again() {
        let falling: Vec<f64> = (0..30).map(|i| -f64::from(i)).collect();
        assert_eq!(first(&falling, None), 0.0);
    }

    #[test]
    fn half_of_what_was_gained_may_be_lost() {
        let level = |noise: f64| Level { mean: 0.6, quick: noise / 2.0, noise, rise: 0.0 };
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        near(limit(level(0.1), Some(2.3), Some(0.0)), 1.45);
        near(limit(level(0.1), Some(2.3), None), 1.45);
        near(limit(level(0.3), Some(2.3), None), 1.8);
        near(limit(Level { quick: 0.3, ..level(0.3) }, Some(2.3), None), 3.0);
        near(limit(Level { mean: 5.0, ..level(0.01) }, Some(5.2), Some(0.0)), 7.5);
        near(limit(Level { mean: 5.0, ..level(0.01) }, Some(5.2), None), 5.1);
        near(limit(level(0.0), Some(0.2), Some(0.0)), 0.9);
    }

    #[test]
    fn a_few_losses_show_little_of_their_noise() {
        // Their second differences are 0.
        assert_eq!(first(&[1.0, 2.0, 3.0, 4.0], None), 2.5 + 8.0 * 3.0);
        let mut standing = Standing::new();
        standing.went_on(&[1.0; 5]);
        let few = standing;
        standing.went_on(&[f64::INFINITY; 30]);
        standing.went_on(&[7.0; 19]);
        assert_eq!(standing, few);
        standing.went_on(&[7.0; 20]);
        assert_ne!(standing, few);
    }

    #[test]
    fn training_began_where_the_lowest_lr_says() {
        let mut standing = Standing::new();
        for (lr, loss) in [(10.0, 90.0), (0.1, 2.0), (1.0, 50.0)] {
            standing.began(lr, &[loss; 30]);
        }
        standing.began(1e-9, &[]);
        assert_eq!(standing.start, Some(Start { lr: 0.1, mean: 2.0 }));
    }

    #[test]
    fn nothing_is_known_from_no_losses() {
        assert_eq!((Level::first(&[]), Standing::new().guard(None)), (None, None));
        assert_eq!(Level::last(&[f64::NAN]), None);
    }
}
