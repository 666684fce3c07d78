//! A moving minimum: the best LR changes over the run. Tracking by SGD, which is a Kalman filter whose gain is the LR.
//!
//! | symbol | meaning |
//! |---|---|
//! | `e_i` | distance of weight i, of 8, from its own minimum; 1 at the start |
//! | `h` | curvature, 2 |
//! | `n`, `w` | standard normal numbers of the batch |
//! | `s_t` | how far a minimum moves before step t of T: 0.003 at the start, 0.003 10^1.5 at the end, geometric |
//! | `m` | E e^2 |
//! | `k` | gain, `lr h` |
//!
//! `L = floor + h mean(e_i^2) / 2`; before each step `e_i <- e_i + s_t w_i`, then `e_i <- e_i - lr h (e_i + n_i)`.
//! `t` counts the steps in the model's state: a search that is rolled back does not age it. After T, `s` stays.
//!
//! With `P = m + s_t^2`: `m <- (1 - k)^2 P + k^2`. Diverges at a constant LR if and only if `k > 2`, `lr > 1`.
//!
//! Optimum: the Kalman gain `k = P / (P + 1)`, which gives `m <- P / (P + 1)`, at every step, whatever comes after,
//! because a smaller m is never worse. Once settled `k` is about `s_t`: the best LR rises 1.5 decades during the run. So
//! schedules that only fall are wrong here, and so is one that is chosen at the start.

use super::Surface;
use crate::simulate::noise::normal;

const WEIGHTS: usize = 8;
const CURVATURE: f64 = 2.0;
const FLOOR: f64 = 0.3;
const FIRST_MOVE: f64 = 0.003;
const DECADES: f64 = 1.5;
const LOSS_NOISE: f64 = 0.02;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Drift {
    e: [f64; WEIGHTS],
    t: u64,
    steps: u64,
    seed: u64,
}

impl Drift {
    /// A training of T = `steps`.
    pub const fn new(steps: u64, seed: u64) -> Self {
        Self { e: [1.0; WEIGHTS], t: 0, steps, seed }
    }
}

/// s_t.
fn movement(t: u64, steps: u64) -> f64 {
    let progress = t.min(steps) as f64 / steps.max(1) as f64;
    FIRST_MOVE * libm::pow(10.0, DECADES * progress)
}

impl Surface for Drift {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        let moved = movement(self.t, self.steps);
        self.t += 1;
        let loss = self.true_loss() + LOSS_NOISE * normal(self.seed, batch, 99);
        for (i, e) in self.e.iter_mut().enumerate() {
            let stream = i as u64;
            *e += moved * normal(self.seed, batch, 100 + stream);
            *e -= lr * CURVATURE * (*e + normal(self.seed, batch, stream));
        }
        loss
    }

    fn true_loss(&self) -> f64 {
        let squares: f64 = self.e.iter().map(|e| e * e).sum();
        FLOOR + CURVATURE * squares / (2.0 * WEIGHTS as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::surface::tests::{final_losses, has_diverged, mean};

    const STEPS: u64 = 3000;

    fn expected(lrs: &[f64]) -> f64 {
        let mut m = 1.0;
        for (t, lr) in lrs.iter().enumerate() {
            let (k, moved) = (CURVATURE * lr, movement(t as u64, STEPS));
            m = (1.0 - k) * (1.0 - k) * (m + moved * moved) + k * k;
        }
        FLOOR + CURVATURE * m / 2.0
    }

    fn kalman() -> Vec<f64> {
        let mut m = 1.0;
        let gain = |t| {
            let p = m + movement(t, STEPS) * movement(t, STEPS);
            m = p / (p + 1.0);
            m / CURVATURE
        };
        (0..STEPS).map(gain).collect()
    }

    #[test]
    fn the_mean_loss_is_the_stated_one() {
        for lrs in [vec![0.01; STEPS as usize], vec![0.3; STEPS as usize], kalman()] {
            let (mean, error) = mean(&final_losses(|seed| Drift::new(STEPS, seed), &lrs, 60));
            assert!((mean - expected(&lrs)).abs() < 4.0 * error, "{mean} +- {error}, {}", expected(&lrs));
        }
    }

    #[test]
    fn the_best_lr_rises_and_nothing_beats_it() {
        let best = kalman();
        let end = expected(&best);
        let ratio = best[STEPS as usize - 1] / best[STEPS as usize / 2];
        assert!(best[0] > best[STEPS as usize / 2] && (3.0..8.0).contains(&ratio), "{ratio}");
        assert!(
            (best[STEPS as usize - 1] * CURVATURE / (FIRST_MOVE * libm::pow(10.0, DECADES)) - 1.0).abs()
                < 0.2
        );
        for factor in [0.3, 0.9, 1.1, 3.0] {
            assert!(expected(&best.iter().map(|lr| factor * lr).collect::<Vec<_>>()) > end);
        }
        for lr in [1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3] {
            assert!(expected(&vec![lr; STEPS as usize]) > end);
        }
    }

    #[test]
    fn diverges_above_1() {
        let ends = |lr: f64| final_losses(|seed| Drift::new(STEPS, seed), &vec![lr; 5000], 1)[0];
        assert!(ends(0.99) < 200.0);
        assert!(has_diverged(ends(1.01)));
    }
}
