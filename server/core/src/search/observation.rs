//! From losses to what the Gaussian process sees. Losses have any unit and any level, and a bad LR may be worse than
//! a good one by orders of magnitude; observations are unit-free and lie in [0, 3].
//!
//! | symbol | meaning |
//! |---|---|
//! | `b` | the least mean |
//! | `S` | max(median(mean) - b, median(sd), 1e-12 max(1, abs b)): the unit |
//! | `y` | clip((mean - b) / S, 0, 3) |
//! | `v` | min(sd / S, 3)^2 |
//!
//! b and S are taken over the trials that did not diverge. A diverged trial is at the cap, y = 3, and nearly certain,
//! v = 0.01: a large stand-in such as 1e6 would press all finite observations into one value.

use crate::forecast::noise::median;
use serde::{Deserialize, Serialize};

/// y of an observation is at most this.
const CAP: f64 = 3.0;
const DIVERGED_VARIANCE: f64 = 0.01;

/// What a trial gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Measured {
    /// A forecast or a score. A mean that is not finite counts as diverged, an sd that is not a number >= 0 as unknown
    /// (infinite).
    Loss {
        /// Loss units.
        mean: f64,
        /// Its standard deviation, loss units.
        sd: f64,
    },
    /// The loss was NaN, infinite, or past a stop rule.
    Diverged,
}

/// A trial that ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// log10 LR.
    pub z: f64,
    /// The trial's number inside the search; orders trials of equal z.
    pub trial: u32,
    /// What it gave.
    pub measured: Measured,
}

impl Outcome {
    /// (mean, sd) of a trial that did not diverge; sd in [0, inf].
    fn loss(&self) -> Option<(f64, f64)> {
        match self.measured {
            Measured::Loss { mean, sd } if mean.is_finite() => {
                Some((mean, if sd >= 0.0 { sd } else { f64::INFINITY }))
            }
            _ => None,
        }
    }
}

/// What the Gaussian process sees of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// log10 LR.
    pub z: f64,
    /// See [`Outcome::trial`].
    pub trial: u32,
    /// Scaled value; lower is better.
    pub y: f64,
    /// v: variance of `y`, >= 0.
    pub variance: f64,
}

/// The affine map between losses and observations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// b: the loss at y = 0.
    pub best: f64,
    /// S: loss units per unit of y, > 0.
    pub unit: f64,
}

impl Scale {
    /// The scale of a search; none while every trial diverged.
    pub fn of(outcomes: &[Outcome]) -> Option<Self> {
        let (means, sds): (Vec<f64>, Vec<f64>) = outcomes.iter().filter_map(Outcome::loss).unzip();
        let best = means.iter().copied().reduce(f64::min)?;
        let spread = median(&means).map_or(0.0, |middle| difference(middle, best));
        let noise = median(&sds).unwrap_or(0.0).min(f64::MAX);
        let floor = 1e-12 * best.abs().max(1.0);
        Some(Self { best, unit: spread.max(noise).max(floor) })
    }

    /// y of a loss, in [0, 3].
    fn scaled(&self, loss: f64) -> f64 {
        (difference(loss, self.best) / self.unit).clamp(0.0, CAP)
    }

    /// A value of the Gaussian process in loss units.
    pub fn to_loss(&self, y: f64) -> f64 {
        self.best + self.unit * y
    }

    /// A standard deviation of the Gaussian process in loss units.
    pub fn sd_to_loss(&self, sd: f64) -> f64 {
        self.unit * sd
    }
}

/// Scales the trials of a search. Every y is 3 if all diverged.
pub fn standardise(outcomes: &[Outcome]) -> Vec<Observation> {
    let scale = Scale::of(outcomes);
    let observe = |outcome: &Outcome| {
        let (y, variance) = match (scale, outcome.loss()) {
            (Some(scale), Some((mean, sd))) => {
                let ratio = (sd / scale.unit).min(CAP);
                (scale.scaled(mean), ratio * ratio)
            }
            _ => (CAP, DIVERGED_VARIANCE),
        };
        Observation { z: outcome.z, trial: outcome.trial, y, variance }
    };
    outcomes.iter().map(observe).collect()
}

/// a - b, where an overflow is the largest number.
fn difference(a: f64, b: f64) -> f64 {
    (a - b).min(f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(z: f64, mean: f64, sd: f64) -> Outcome {
        Outcome { z, trial: 0, measured: Measured::Loss { mean, sd } }
    }

    const DIVERGED: Outcome = Outcome { z: 1.0, trial: 9, measured: Measured::Diverged };

    fn pairs(outcomes: &[Outcome]) -> Vec<(f64, f64)> {
        standardise(outcomes).iter().map(|o| (o.y, o.variance)).collect()
    }

    #[test]
    fn best_is_0_median_is_1_and_bad_is_capped() {
        let outcomes = [loss(0.0, 2.0, 0.5), loss(1.0, 4.0, 1.0), loss(2.0, 1e9, 1e9), DIVERGED];
        assert_eq!(pairs(&outcomes), [(0.0, 0.0625), (1.0, 0.25), (3.0, 9.0), (3.0, 0.01)]);
        let scale = Scale::of(&outcomes).unwrap();
        assert_eq!((scale.to_loss(1.0), scale.sd_to_loss(0.5)), (4.0, 1.0));
    }

    #[test]
    fn noise_larger_than_the_differences_is_the_unit() {
        assert_eq!(pairs(&[loss(0.0, 2.0, 4.0), loss(1.0, 3.0, 4.0)]), [(0.0, 1.0), (0.25, 1.0)]);
    }

    #[test]
    fn all_diverged() {
        assert_eq!(
            pairs(&[DIVERGED, loss(0.0, f64::NAN, 1.0), loss(0.0, f64::INFINITY, 1.0)]),
            [(3.0, 0.01); 3]
        );
        assert_eq!(Scale::of(&[DIVERGED]), None);
        assert_eq!(standardise(&[]), []);
    }

    #[test]
    fn odd_numbers_give_observations_in_range() {
        let odd = [f64::NAN, f64::INFINITY, -1.0, f64::MIN, f64::MAX, 5e-324, -1e300, 0.0];
        for mean in odd {
            for sd in odd {
                for other in odd {
                    for (y, v) in pairs(&[loss(0.0, mean, sd), loss(1.0, other, 0.1), loss(2.0, 1.0, 0.1)]) {
                        assert!(
                            (0.0..=3.0).contains(&y) && (0.0..=9.0).contains(&v),
                            "{mean} {sd} {other}: {y} {v}"
                        );
                    }
                }
            }
        }
    }
}
