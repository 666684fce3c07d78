//! The warning that training and validation loss part: the one falls on, the other has turned. It is said once, of the
//! committed line alone, and decides nothing.
//!
//! | symbol | meaning |
//! |---|---|
//! | `v_i`, `y_i` | validation loss number i, and the mean of the training losses since the one before it |
//! | `V_i`, `Y_i` | means of three: of v_(i-2) .. v_i and of y_(i-2) .. y_i |
//! | `m` | where V is least, the first of equal ones |
//! | `s_v`, `s_y` | sd of the noise of the v and of the y, from their second differences |
//!
//! At number n >= 24 it is said if all of these hold (the constants are a proposal):
//! 1. n - m >= 3: the three of the least and the three newest are different ones;
//! 2. V_n - V_m > max(8 s_v, 0.1 (V_1 - V_m)): beyond the noise, and a tenth of what the validation loss had gained;
//! 3. Y_m - Y_n > 2 s_y: the training loss has fallen meanwhile.
//!
//! Losses that are not finite are left out. At most 64 numbers are kept: then each two become one, and those that follow
//! are means of twice as many losses too, so that the noise of all is the same. Those of steps that were rolled back are
//! forgotten.

use super::{Current, End, Job, Validation};
use crate::{
    directive::Phase,
    forecast::noise::{mean, noise_sd},
};
use serde::{Deserialize, Serialize};

/// Most numbers that are kept.
const KEPT: usize = 64;
/// Numbers that a mean is of.
const SMOOTHED: usize = 3;
/// Fewer say nothing about their noise.
const FEWEST: usize = 24;
/// Noise sd by which the validation loss must have risen, and the training loss must have fallen.
const RISE: f64 = 8.0;
const FALL: f64 = 2.0;
/// The rise as a share of the validation loss's gain.
const RISE_OF_GAIN: f64 = 0.1;

/// The committed line, as far as validation losses are known of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Parting {
    numbers: Vec<Number>,
    /// Validation losses in a number: 2^this.
    halvings: u32,
    /// Sums over those of the next number so far, and their count.
    open: (Number, u64),
    /// Committed steps that were looked at.
    seen: u64,
    /// Sum and count of the training losses since the newest number.
    training: (f64, u64),
    told: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Number {
    /// Committed steps.
    step: u64,
    validation: f64,
    training: f64,
}

impl Job {
    /// A directive has ended in this way. Its steps are not in the books yet.
    pub(super) fn watch_parting(&mut self, current: &Current, end: End) {
        let committed = current.directive.run().is_some_and(|run| run.phase != Phase::Trial);
        if !committed || matches!(end, End::Stopped(_)) {
            return;
        }
        let progress = &current.progress;
        self.parting.enter(self.books.spent.committed, &progress.losses, &progress.validations);
        if let Some(warning) = self.parting.warning() {
            self.warn(warning);
        }
    }
}

impl Parting {
    /// Losses of the steps after `start` committed ones, and validation losses among them.
    fn enter(&mut self, start: u64, losses: &[f64], validations: &[Validation]) {
        if start != self.seen {
            self.numbers.retain(|number| number.step <= start);
            self.open = Default::default();
            self.training = (0.0, 0);
        }
        let mut sorted = validations.to_vec();
        sorted.sort_by_key(|validation| validation.offset);
        let mut done = 0;
        for Validation { offset, loss } in sorted {
            let upto = usize::try_from(offset).unwrap_or(usize::MAX).min(losses.len());
            self.train(&losses[done..upto]);
            done = upto;
            let (sum, count) = self.training;
            if loss.is_finite() && count > 0 {
                self.push(Number { step: start + offset, validation: loss, training: sum / count as f64 });
            }
        }
        self.train(&losses[done..]);
        self.seen = start + losses.len() as u64;
    }

    fn train(&mut self, losses: &[f64]) {
        for loss in losses.iter().filter(|loss| loss.is_finite()) {
            self.training.0 += loss;
            self.training.1 += 1;
        }
    }

    /// Enters one validation loss.
    fn push(&mut self, number: Number) {
        self.training = (0.0, 0);
        let (sum, count) = &mut self.open;
        sum.validation += number.validation;
        sum.training += number.training;
        *count += 1;
        if *count < 1 << self.halvings {
            return;
        }
        let share = 1.0 / *count as f64;
        let (validation, training) = (sum.validation * share, sum.training * share);
        self.open = Default::default();
        self.numbers.push(Number { step: number.step, validation, training });
        if self.numbers.len() == KEPT {
            self.numbers = self.numbers.chunks_exact(2).map(Number::of).collect();
            self.halvings += 1;
        }
    }

    /// What is to be said, once.
    fn warning(&mut self) -> Option<String> {
        if self.told || self.numbers.len() < FEWEST {
            return None;
        }
        let (v, y): (Vec<f64>, Vec<f64>) = self.numbers.iter().map(|n| (n.validation, n.training)).unzip();
        let smooth = |x: &[f64]| x.windows(SMOOTHED).filter_map(mean).collect::<Vec<f64>>();
        let (smooth_v, smooth_y) = (smooth(&v), smooth(&y));
        let last = smooth_v.len() - 1;
        let m = (0..=last).fold(0, |m, i| if smooth_v[i] < smooth_v[m] { i } else { m });
        let rise = smooth_v[last] - smooth_v[m];
        let enough = (RISE * noise_sd(&v)).max(RISE_OF_GAIN * (smooth_v[0] - smooth_v[m]));
        let rose = rise > enough;
        let fell = smooth_y[m] - smooth_y[last] > FALL * noise_sd(&y);
        if last - m < SMOOTHED || !rose || !fell {
            return None;
        }
        self.told = true;
        let step = |i: usize| self.numbers[i + SMOOTHED - 1].step;
        Some(format!(
            "training and validation loss part: from committed step {} to {} the validation loss rose from {} to {} \
             while the training loss fell from {} to {}",
            step(m),
            step(last),
            short(smooth_v[m]),
            short(smooth_v[last]),
            short(smooth_y[m]),
            short(smooth_y[last]),
        ))
    }
}

impl Number {
    /// One for two.
    fn of(two: &[Self]) -> Self {
        let mean = |field: fn(&Self) -> f64| two.iter().map(|number| field(number) / two.len() as f64).sum();
        let step = two.iter().map(|number| number.step).max().unwrap_or(0);
        Self { step, validation: mean(|n| n.validation), training: mean(|n| n.training) }
    }
}

fn short(loss: f64) -> String {
    if (1e-3..1e5).contains(&loss.abs()) { format!("{loss:.4}") } else { format!("{loss:.3e}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    /// Close to a standard normal number.
    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        let uniform = |rng: &mut ChaCha8Rng| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        (0..12).map(|_| uniform(rng)).sum::<f64>() - 6.0
    }

    /// Ten steps and a validation loss at a time; the number at which the warning came.
    fn run(n: usize, seed: u64, noise: f64, curve: impl Fn(f64) -> (f64, f64)) -> Option<(usize, String)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut parting = Parting::default();
        for i in 0..n {
            let (training, validation) = curve(i as f64 / n as f64);
            let losses: Vec<f64> = (0..10).map(|_| training + noise * normal(&mut rng)).collect();
            let loss = validation + noise * normal(&mut rng);
            parting.enter(10 * i as u64, &losses, &[Validation { offset: 10, loss }]);
            assert!(parting.numbers.len() <= KEPT);
            if let Some(warning) = parting.warning() {
                assert_eq!(parting.warning(), None, "it is said once");
                return Some((i, warning));
            }
        }
        None
    }

    #[test]
    fn a_validation_loss_that_turns_while_the_training_loss_falls_is_seen() {
        for (noise, n) in [(0.0, 40), (0.01, 40), (0.05, 60), (0.05, 1000)] {
            for seed in 0..10 {
                let turn = |t: f64| (2.0 * (-4.0 * t).exp(), 0.5 + 6.0 * (t - 0.4) * (t - 0.4));
                let (at, warning) = run(n, seed, noise, turn).expect("it parts");
                assert!(at as f64 > 0.4 * n as f64, "{at} of {n}");
                assert!(warning.starts_with("training and validation loss part: from committed step "));
            }
        }
    }

    #[test]
    fn noise_alone_is_not() {
        for seed in 0..20 {
            assert_eq!(run(200, seed, 0.1, |_| (1.0, 1.0)), None);
            assert_eq!(run(100, seed, 0.1, |t| (2.0 * (-4.0 * t).exp(), 0.3 + (-4.0 * t).exp())), None);
            assert_eq!(run(500, seed, 0.02, |t| (1.0 - t, 0.8)), None);
            assert_eq!(run(15, seed, 1.0, |t| (9.0 - 9.0 * t, 1.0)), None);
        }
    }

    #[test]
    fn a_rise_of_both_or_one_of_no_weight_is_not() {
        assert_eq!(run(60, 1, 0.01, |t| (0.2 + t, 0.3 + t)), None);
        assert_eq!(
            run(60, 1, 0.0, |t| (2.0 - t, 1.0 + (t - 0.5) * (t - 0.5) * if t > 0.5 { 0.05 } else { 1.0 })),
            None
        );
    }

    #[test]
    fn what_was_rolled_back_is_forgotten() {
        let mut parting = Parting::default();
        let at = |offset| Validation { offset, loss: 1.0 };
        parting.enter(0, &[1.0; 10], &[at(10), at(4), Validation { offset: 7, loss: f64::NAN }]);
        assert_eq!(parting.numbers.iter().map(|n| n.step).collect::<Vec<_>>(), [4, 10]);
        parting.enter(10, &[f64::NAN; 5], &[at(2)]);
        assert_eq!(parting.numbers.len(), 2, "no training loss is known");
        parting.enter(4, &[5.0, 7.0], &[at(0), at(2)]);
        assert_eq!(
            parting.numbers.iter().map(|n| (n.step, n.training)).collect::<Vec<_>>(),
            [(4, 1.0), (6, 6.0)]
        );
    }
}
