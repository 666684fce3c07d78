//! The edge of stability: the largest LR that does not diverge is nearly the best, and it falls while the model learns,
//! because the surface gets sharper (Cohen et al. 2021).
//!
//! | symbol | meaning |
//! |---|---|
//! | `x` | what is to be learnt, along a flat direction of curvature `f = 4/T` |
//! | `y` | position across the valley, of sharpness `q(x)` |
//! | `n` | a standard normal number of the batch |
//! | `T` | steps of the training |
//!
//! `L = floor + f x^2 / 2 + q(x) y^2 / 2`, `q(x) = 2 - (x/x_0)^2`: 1 at the start, 2 at the end; floor = 0.3,
//! `f x_0^2 / 2 = 1.5`. `x <- x - lr f x`, `y <- y - lr q (y + n/50)`.
//!
//! Diverges for good if and only if `lr > 1` (= 2 / the final sharpness). At first any LR up to 2 is stable: a short
//! trial from the initial state can't see the limit that the run will meet.
//!
//! Optimum of a constant LR: the flat part ends at `1.5 exp(-8 lr)`, and the part across the valley settles at
//! `lr (1/50)^2 / (1 - lr)`: their sum is least at `lr* = 0.84`. Half of it ends 13 times higher above the floor.

use super::Surface;
use crate::simulate::noise::normal;

const FLOOR: f64 = 0.3;
const DEPTH: f64 = 1.5;
/// f T.
const LENGTH: f64 = 4.0;
const ACROSS_NOISE: f64 = 0.02;
const LOSS_NOISE: f64 = 0.02;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Edge {
    /// x / x_0.
    x: f64,
    y: f64,
    flat: f64,
    seed: u64,
}

impl Edge {
    /// A training of T = `steps`.
    pub fn new(steps: u64, seed: u64) -> Self {
        Self { x: 1.0, y: 0.0, flat: LENGTH / steps.max(4) as f64, seed }
    }

    fn sharpness(&self) -> f64 {
        2.0 - self.x * self.x
    }
}

impl Surface for Edge {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        let loss = self.true_loss() + LOSS_NOISE * normal(self.seed, batch, 99);
        self.y -= lr * self.sharpness() * (self.y + ACROSS_NOISE * normal(self.seed, batch, 0));
        self.x -= lr * self.flat * self.x;
        loss
    }

    fn true_loss(&self) -> f64 {
        FLOOR + DEPTH * self.x * self.x + self.sharpness() * self.y * self.y / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::surface::tests::{final_losses, has_diverged, mean};

    const STEPS: usize = 2000;

    fn end(lr: f64) -> f64 {
        mean(&final_losses(|seed| Edge::new(STEPS as u64, seed), &[lr; STEPS], 400)).0
    }

    fn stated(lr: f64) -> f64 {
        FLOOR + DEPTH * libm::exp(-8.0 * lr) + lr * ACROSS_NOISE * ACROSS_NOISE / (1.0 - lr)
    }

    #[test]
    fn the_best_constant_lr_is_the_stated_one() {
        for lr in [0.2, 0.5, 0.84, 0.9] {
            assert!(
                (end(lr) - stated(lr)).abs() < 0.25 * (stated(lr) - FLOOR),
                "{lr}: {} {}",
                end(lr),
                stated(lr)
            );
        }
        let grid: Vec<f64> = (50..100).map(|i| f64::from(i) / 100.0).collect();
        let best = grid.iter().min_by(|a, b| stated(**a).total_cmp(&stated(**b))).unwrap();
        assert_eq!(*best, 0.84);
        assert!(end(0.84) < end(0.74) && end(0.84) < end(0.95));
        let half = (stated(0.42) - FLOOR) / (stated(0.84) - FLOOR);
        assert!((13.0..14.0).contains(&half), "{half}");
    }

    #[test]
    fn diverges_above_1_but_not_at_first() {
        assert!(end(0.99) < 1.0);
        assert!(has_diverged(end(1.02)));
        let early = final_losses(|seed| Edge::new(STEPS as u64, seed), &[1.5; 50], 1)[0];
        assert!(early < FLOOR + DEPTH, "{early}");
    }
}
