//! The noisy quadratic (Schaul, Zhang, LeCun 2013; Zhang et al. 2019): SGD near a minimum.
//!
//! | symbol | meaning |
//! |---|---|
//! | `h_i` | curvature of direction i: 1, 1/10, 1/100, 1/1000 of the largest, `h` |
//! | `x_i` | distance from the minimum |
//! | `g` | scale of the gradient's noise, of sd `g sqrt(h_i)` |
//! | `n` | standard normal numbers of the batch |
//!
//! `L = floor + sum h_i x_i^2 / 2`, `x_i <- x_i - lr (h_i x_i + g sqrt(h_i) n_i)`.
//!
//! The directions don't mix and `m_i = E x_i^2` is exact: `m_i <- (1 - lr h_i)^2 m_i + lr^2 g^2 h_i`.
//!
//! Diverges at a constant LR if and only if `lr > 2 / h`. At a constant LR the loss settles at
//! `floor + sum lr g^2 h_i / (2 (2 - lr h_i))`, so a smaller LR ends lower and gets there later.
//!
//! Optimum: for one direction alone each step's best LR is `m / (h m + g^2)`, whatever comes after, because a smaller m
//! is never worse; then `1/m <- 1/m + h/g^2`: no schedule of T steps ends below
//! `floor + sum h_i / (2 (1/m_i + T h_i/g^2))` on average. All directions share one LR, so this bound is not reached.

use super::Surface;
use crate::simulate::noise::normal;

/// Where a direction starts.
const START: [f64; 4] = [1.0, 1.5, 3.0, 8.0];
/// A direction's curvature as a share of the largest.
const SHARE: [f64; 4] = [1.0, 0.1, 0.01, 0.001];

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Quadratic {
    x: [f64; 4],
    largest: f64,
    gradient_noise: f64,
    loss_noise: f64,
    floor: f64,
    seed: u64,
}

impl Quadratic {
    /// A surface with this largest curvature, > 0, and little noise.
    pub const fn new(largest: f64) -> Self {
        Self { x: START, largest, gradient_noise: 0.02, loss_noise: 0.02, floor: 0.3, seed: 0 }
    }

    /// With this `g`, and this standard deviation of a reported loss around the true one.
    #[must_use]
    pub const fn noisy(self, gradient_noise: f64, loss_noise: f64) -> Self {
        Self { gradient_noise, loss_noise, ..self }
    }

    /// With the noise of this seed; 0 unless it is set.
    #[must_use]
    pub const fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// With this share of the way to the minimum left, as a model that was trained before.
    #[must_use]
    pub fn started_at(self, share: f64) -> Self {
        Self { x: self.x.map(|x| share * x), ..self }
    }

    fn loss(&self, noise: f64) -> f64 {
        let bowl: f64 = (0..4).map(|i| SHARE[i] * self.largest * self.x[i] * self.x[i] / 2.0).sum();
        self.floor + noise + bowl
    }
}

impl Surface for Quadratic {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        let loss = self.loss(self.loss_noise * normal(self.seed, batch, 99));
        for (i, share) in SHARE.iter().enumerate() {
            let h = share * self.largest;
            let noise = self.gradient_noise * libm::sqrt(h) * normal(self.seed, batch, i as u64);
            self.x[i] -= lr * (h * self.x[i] + noise);
        }
        loss
    }

    fn true_loss(&self) -> f64 {
        self.loss(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::surface::tests::{final_losses, has_diverged, mean};

    fn noisy() -> Quadratic {
        Quadratic::new(2.0).noisy(0.3, 0.05)
    }

    /// The exact mean of the true loss after a line of LRs.
    fn expected(lrs: &[f64]) -> f64 {
        let mut m = START.map(|x| x * x);
        for lr in lrs {
            for (i, m) in m.iter_mut().enumerate() {
                let h = 2.0 * SHARE[i];
                *m = (1.0 - lr * h) * (1.0 - lr * h) * *m + lr * lr * 0.09 * h;
            }
        }
        0.3 + (0..4).map(|i| SHARE[i] * m[i]).sum::<f64>()
    }

    #[test]
    fn the_mean_loss_is_the_stated_one() {
        for lr in [0.01, 0.1, 0.5, 0.9] {
            let lrs = vec![lr; 500];
            let losses = final_losses(|seed| noisy().seeded(seed), &lrs, 400);
            let (mean, error) = mean(&losses);
            assert!((mean - expected(&lrs)).abs() < 4.0 * error, "{lr}: {mean} +- {error}");
        }
        let settled: f64 = SHARE.iter().map(|s| 0.5 * 0.09 * 2.0 * s / (2.0 * (2.0 - s))).sum();
        assert!((expected(&[0.5; 20_000]) - 0.3 - settled).abs() < 1e-9);
    }

    #[test]
    fn no_schedule_beats_the_bound() {
        let steps = 500;
        let reached =
            |i: usize| 1.0 / (1.0 / (START[i] * START[i]) + f64::from(steps) * 2.0 * SHARE[i] / 0.09);
        let bound = 0.3 + (0..4).map(|i| SHARE[i] * reached(i)).sum::<f64>();
        for top in [0.01, 0.03, 0.1, 0.3, 0.9] {
            let held = vec![top; steps as usize];
            let falling: Vec<f64> =
                (0..steps).map(|t| top * (1.0 - f64::from(t) / f64::from(steps))).collect();
            assert!(expected(&held) > bound && expected(&falling) > bound);
        }
        // For its own direction the stated schedule reaches it.
        let (mut m, h) = (1.0, 2.0);
        for _ in 0..steps {
            let lr = m / (h * m + 0.09);
            m = (1.0 - lr * h) * (1.0 - lr * h) * m + lr * lr * 0.09 * h;
        }
        assert!((m / reached(0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn diverges_above_2_over_the_largest_curvature() {
        let ends = |lr: f64| final_losses(|seed| noisy().seeded(seed), &vec![lr; 5000], 1)[0];
        assert!(ends(0.99) < 2.0);
        assert!(has_diverged(ends(1.01)));
    }
}
