//! A power law with a floor that depends on the LR: what loss curves of large models look like (Kaplan et al. 2020), with
//! the part of the loss that only a lower LR takes away (Tissue, Wang, Wang 2024).
//!
//! | symbol | meaning |
//! |---|---|
//! | `S` | progress: the sum of all LRs so far, each at most 1 |
//! | `N` | loss from the noise of the updates; it follows the LR |
//! | `T` | steps of the training |
//!
//! `L = floor + A (1 + S/s)^-a + N`, `N <- N + c lr (b lr - N)`; A = 2.5, a = 1/2, s = T/4000, b = 1/2, c = 1/5 (and
//! `c lr` at most 1), floor = 1/2.
//!
//! Diverges if and only if `lr > 1`: then a term of 10^-4 is multiplied by lr^2 at every step (and shrinks again below).
//!
//! Optimum of a constant LR over T steps, once N has settled: `A (1 + T lr/s)^-a + b lr` is least at
//! `lr* = (s/T) ((A a T / (b s))^(1/(1 + a)) - 1)`, 0.116 here. A schedule that ends in a cooldown sheds N: it can use a
//! larger LR and ends lower. No schedule ends below `floor + A (1 + T/s)^-a`.

use super::Surface;
use crate::simulate::noise::normal;

const FLOOR: f64 = 0.5;
const AMPLITUDE: f64 = 2.5;
const EXPONENT: f64 = 0.5;
/// T / s.
const LENGTH: f64 = 4000.0;
const NOISE_PER_LR: f64 = 0.5;
const NOISE_RATE: f64 = 0.2;
const SPARK: f64 = 1e-4;
const LOSS_NOISE: f64 = 0.02;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct PowerLaw {
    progress: f64,
    noise: f64,
    blaze: f64,
    scale: f64,
    seed: u64,
}

impl PowerLaw {
    /// A training of T = `steps`.
    pub const fn new(steps: u64, seed: u64) -> Self {
        Self { progress: 0.0, noise: 0.0, blaze: SPARK, scale: steps as f64 / LENGTH, seed }
    }
}

impl Surface for PowerLaw {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        let loss = self.true_loss() + LOSS_NOISE * normal(self.seed, batch, 0);
        self.progress += lr.min(1.0);
        self.noise += (NOISE_RATE * lr).min(1.0) * (NOISE_PER_LR * lr - self.noise);
        self.blaze = (self.blaze * lr * lr).max(SPARK);
        loss
    }

    fn true_loss(&self) -> f64 {
        let learnt = AMPLITUDE * libm::pow(1.0 + self.progress / self.scale, -EXPONENT);
        FLOOR + learnt + self.noise + (self.blaze - SPARK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::surface::tests::{final_losses, has_diverged};

    const STEPS: u64 = 4000;

    fn end(lrs: &[f64]) -> f64 {
        final_losses(|seed| PowerLaw::new(STEPS, seed), lrs, 1)[0]
    }

    #[test]
    fn the_best_constant_lr_is_the_stated_one() {
        let stated = (libm::pow(AMPLITUDE * EXPONENT * LENGTH / NOISE_PER_LR, 1.0 / 1.5) - 1.0) / LENGTH;
        assert!((stated - 0.116).abs() < 5e-4, "{stated}");
        let grid: Vec<f64> = (-60..=60).map(|i| stated * libm::pow(10.0, f64::from(i) / 40.0)).collect();
        let best = grid.iter().min_by(|a, b| {
            let of = |lr: &&f64| end(&vec![**lr; STEPS as usize]);
            of(a).total_cmp(&of(b))
        });
        assert!((best.unwrap() / stated).ln().abs() < 0.1, "{best:?} instead of {stated}");
    }

    #[test]
    fn a_cooldown_ends_lower_and_nothing_below_the_bound() {
        let constant = end(&vec![0.116; STEPS as usize]);
        let bound = FLOOR + AMPLITUDE / libm::sqrt(1.0 + LENGTH);
        for top in [0.1, 0.3, 0.9] {
            let cooled: Vec<f64> = (0..STEPS).map(|t| top * (5.0 - t as f64 / 800.0).min(1.0)).collect();
            let end = end(&cooled);
            assert!(end > bound && end < constant, "{top}: {end}, {constant}");
        }
    }

    #[test]
    fn diverges_above_1() {
        assert!(end(&vec![1.0; STEPS as usize]) < 2.0);
        assert!(has_diverged(end(&vec![1.05; STEPS as usize])));
    }
}
