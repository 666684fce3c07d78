//! Recorded curves: what a training did at a few constant LRs, taken as the surface of all others.
//!
//! | symbol | meaning |
//! |---|---|
//! | `c_j` | curve j: recorded at the constant LR `eta_j`, smoothed over a centred window of 1/20 of its length |
//! | `w` | where log LR lies between its two neighbours' logs, 0 to 1 |
//! | `c(eta, t)` | `(1 - w) c_j(t) + w c_(j+1)(t)` |
//! | `M(eta, t)` | the same of the curves' running minima: never rises with t |
//! | `t` | place on the curve of the LR in force, in steps |
//!
//! The true loss at an LR and a place is `c(eta, t)`; a reported one adds noise of the batch with the standard deviation
//! that the recorded losses have around their curve. At a constant LR the place moves one step per step. When the LR
//! changes, training goes on at the first place on the new curve where M has come down to the present loss: what counts
//! is how far it has come, not by which LRs. If the new curve never gets that low, it goes on at its lowest place: a
//! larger LR gives back at once what a smaller one had gained beyond it. So the sum of small effects of a schedule (noise
//! that takes time to settle, momentum) is not in it.
//!
//! An LR beyond the recorded ones is trained as at the nearest; a place beyond a curve's end has its last loss;
//! [`Curves::used_lrs_outside`] and [`Curves::ran_past_the_end`] say whether that happened. A curve that holds a loss
//! that is not finite has diverged there: so do LRs that are nearer (in log LR) to it than to a neighbour that has not.
//!
//! Optimum: whichever recorded LR ends lowest, up to what the interpolation makes between two of them.

use super::Surface;
use crate::{forecast::noise::noise_sd, simulate::noise::normal};
use std::sync::Arc;

/// A training at one constant LR.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its LR, > 0.
    pub lr: f64,
    /// (step, loss), ascending from any step >= 0; steps between two are interpolated. A loss may be NaN or infinite:
    /// there the training had diverged.
    pub points: Vec<(u64, f64)>,
}

/// Why curves can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CurveError {
    /// There is none.
    #[error("there is no curve")]
    Empty,
    /// An LR is out of range.
    #[error("the LR {0} is not a finite number above 0")]
    Lr(f64),
    /// Two curves have one LR.
    #[error("the LR {0} has two curves")]
    Twice(f64),
    /// A curve is too short.
    #[error("the curve of LR {0} has fewer than 8 finite losses before it diverges or ends")]
    Short(f64),
    /// Steps don't ascend.
    #[error("the curve of LR {lr} has step {step} twice or out of order")]
    Order {
        /// Its LR.
        lr: f64,
        /// The step.
        step: u64,
    },
    /// A step is beyond what can be held.
    #[error("the curve of LR {lr} has step {step}; at most {MAX_STEP} can be played")]
    Long {
        /// Its LR.
        lr: f64,
        /// The step.
        step: u64,
    },
}

/// Last step of a curve.
const MAX_STEP: u64 = 10_000_000;
/// Fewer finite losses have no shape.
const MIN_LOSSES: usize = 8;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Curves {
    table: Arc<Table>,
    seed: u64,
    lr: f64,
    place: u64,
    /// The loss, where the curve never gets that low.
    held: Option<f64>,
    diverged: bool,
    outside: bool,
    past: bool,
}

#[derive(Debug)]
struct Table(Vec<Smooth>);

/// A curve, one value per step from 0.
#[derive(Debug)]
struct Smooth {
    lr: f64,
    log: f64,
    loss: Vec<f64>,
    lowest: Vec<f64>,
    noise: f64,
    /// It diverges after its last step.
    breaks: bool,
}

/// Where an LR lies between the curves.
#[derive(Debug, Clone, Copy)]
struct Between {
    below: usize,
    above: usize,
    weight: f64,
}

impl Curves {
    /// The surface that these curves, in any order, were recorded on.
    pub fn new(mut curves: Vec<Curve>, seed: u64) -> Result<Self, CurveError> {
        curves.sort_by(|a, b| a.lr.total_cmp(&b.lr));
        if let Some(pair) = curves.windows(2).find(|pair| pair[0].lr == pair[1].lr) {
            return Err(CurveError::Twice(pair[0].lr));
        }
        let table = curves.iter().map(Smooth::new).collect::<Result<Vec<_>, _>>()?;
        let lr = table.first().ok_or(CurveError::Empty)?.lr;
        let (diverged, outside, past) = (false, false, false);
        Ok(Self { table: Arc::new(Table(table)), seed, lr, place: 0, held: None, diverged, outside, past })
    }

    /// The lowest and the highest recorded LR.
    pub fn lrs(&self) -> (f64, f64) {
        let curves = &self.table.0;
        (curves.first().map_or(self.lr, |c| c.lr), curves.last().map_or(self.lr, |c| c.lr))
    }

    /// Whether an LR beyond the recorded ones was asked for. Part of the state: a restore takes it back.
    pub const fn used_lrs_outside(&self) -> bool {
        self.outside
    }

    /// Whether a place beyond the end of a curve was reached. Part of the state: a restore takes it back.
    pub const fn ran_past_the_end(&self) -> bool {
        self.past
    }

    /// Takes the place of the present loss on the curve of another LR.
    fn change(&mut self, lr: f64) {
        let (lo, hi) = self.lrs();
        self.outside |= !(lo..=hi).contains(&lr);
        if lr == self.lr {
            return;
        }
        if self.place > 0 {
            let (loss, between) = (self.loss(), self.table.between(lr));
            let place = self.table.place(between, loss);
            let holds = place.is_none() && lr < self.lr;
            self.held = holds.then_some(loss);
            self.place = place.unwrap_or_else(|| self.table.lowest_place(between));
        }
        self.lr = lr;
    }

    fn loss(&self) -> f64 {
        self.held.unwrap_or_else(|| self.table.loss(self.table.between(self.lr), self.place))
    }
}

impl Surface for Curves {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        self.change(lr);
        let between = self.table.between(self.lr);
        self.diverged |= self.table.breaks(between, self.place);
        self.past |= self.held.is_some() || self.place >= self.table.end(between);
        let loss = self.true_loss() + self.table.noise(between) * normal(self.seed, batch, 0);
        self.place += 1;
        loss
    }

    fn true_loss(&self) -> f64 {
        if self.diverged { f64::NAN } else { self.loss() }
    }
}

impl Smooth {
    fn new(curve: &Curve) -> Result<Self, CurveError> {
        let lr = curve.lr;
        if !(lr.is_finite() && lr > 0.0) {
            return Err(CurveError::Lr(lr));
        }
        if let Some(pair) = curve.points.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(CurveError::Order { lr, step: pair[1].0 });
        }
        let finite: Vec<(u64, f64)> = curve.points.iter().copied().take_while(|p| p.1.is_finite()).collect();
        let last = finite.last().filter(|_| finite.len() >= MIN_LOSSES).ok_or(CurveError::Short(lr))?;
        if last.0 > MAX_STEP {
            return Err(CurveError::Long { lr, step: last.0 });
        }
        let losses: Vec<f64> = finite.iter().map(|p| p.1).collect();
        let middle = smooth(&losses, (losses.len() / 40).max(1));
        let steps: Vec<u64> = finite.iter().map(|p| p.0).collect();
        let loss = spread(&steps, &middle);
        let mut lowest = loss.clone();
        for i in 1..lowest.len() {
            lowest[i] = lowest[i].min(lowest[i - 1]);
        }
        let breaks = finite.len() < curve.points.len();
        Ok(Self { lr, log: libm::log10(lr), loss, lowest, noise: noise_sd(&losses), breaks })
    }
}

/// Means over windows of `2 half + 1` values, narrower at both ends so that they stay centred.
fn smooth(losses: &[f64], half: usize) -> Vec<f64> {
    let mean = |i: usize| {
        let half = half.min(i).min(losses.len() - 1 - i);
        let window = &losses[i - half..=i + half];
        window.iter().sum::<f64>() / window.len() as f64
    };
    (0..losses.len()).map(mean).collect()
}

/// One value per step from 0 to the last: straight lines between the points, the first value before them.
fn spread(steps: &[u64], values: &[f64]) -> Vec<f64> {
    let mut all = vec![values[0]; steps[0] as usize];
    for (step, value) in steps.windows(2).zip(values.windows(2)) {
        let width = step[1] - step[0];
        all.extend((0..width).map(|i| value[0] + (value[1] - value[0]) * (i as f64 / width as f64)));
    }
    all.extend(values.last());
    all
}

/// The value at a place, the last one beyond the end.
fn at(values: &[f64], place: u64) -> f64 {
    let last = values.len().saturating_sub(1);
    values.get(usize::try_from(place).map_or(last, |place| place.min(last))).copied().unwrap_or(f64::NAN)
}

impl Table {
    fn between(&self, lr: f64) -> Between {
        let last = self.0.len() - 1;
        let above = self.0.partition_point(|curve| curve.lr < lr).min(last);
        let below = if self.0[above].lr <= lr { above } else { above.saturating_sub(1) };
        if below == above {
            return Between { below, above, weight: 0.0 };
        }
        let (from, to) = (self.0[below].log, self.0[above].log);
        Between { below, above, weight: ((libm::log10(lr) - from) / (to - from)).clamp(0.0, 1.0) }
    }

    fn mix(&self, between: Between, of: impl Fn(&Smooth) -> f64) -> f64 {
        let Between { below, above, weight } = between;
        (1.0 - weight) * of(&self.0[below]) + weight * of(&self.0[above])
    }

    fn loss(&self, between: Between, place: u64) -> f64 {
        self.mix(between, |curve| at(&curve.loss, place))
    }

    fn noise(&self, between: Between) -> f64 {
        self.mix(between, |curve| curve.noise)
    }

    /// Steps after which nothing new is recorded.
    fn end(&self, between: Between) -> u64 {
        self.0[between.below].loss.len().max(self.0[between.above].loss.len()) as u64
    }

    /// Whether the nearer curve has diverged at this place.
    fn breaks(&self, between: Between, place: u64) -> bool {
        let nearer = &self.0[if between.weight < 0.5 { between.below } else { between.above }];
        nearer.breaks && place >= nearer.loss.len() as u64
    }

    /// The first place where the running minimum is at most `loss`; none if it never is.
    fn place(&self, between: Between, loss: f64) -> Option<u64> {
        let lowest = |place: u64| self.mix(between, |curve| at(&curve.lowest, place));
        let (mut from, mut to) = (0, self.end(between) - 1);
        if lowest(to) > loss {
            return None;
        }
        while from < to {
            let middle = from + (to - from) / 2;
            if lowest(middle) <= loss { to = middle } else { from = middle + 1 }
        }
        Some(from)
    }

    /// The first place where the running minimum is what it is at the end.
    fn lowest_place(&self, between: Between) -> u64 {
        let last = self.end(between) - 1;
        self.place(between, self.mix(between, |curve| at(&curve.lowest, last))).unwrap_or(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::surface::tests::final_losses;

    /// Exponentials of rate lr, with floors of lr / 10; diverged from step 50 on at LR 10.
    fn recorded() -> Vec<Curve> {
        let curve = |lr: f64| {
            let loss = |t: u64| {
                if lr > 5.0 && t >= 50 { f64::NAN } else { (-lr * t as f64 / 100.0).exp() + lr / 10.0 }
            };
            Curve { lr, points: (0..400).map(|t| (t, loss(t))).collect() }
        };
        [10.0, 0.1, 1.0].map(curve).to_vec()
    }

    fn train(surface: &mut Curves, lr: f64, batches: std::ops::Range<u64>) {
        for batch in batches {
            surface.step(lr, batch);
        }
    }

    fn end(lrs: &[f64]) -> f64 {
        final_losses(|seed| Curves::new(recorded(), seed).unwrap(), lrs, 1)[0]
    }

    #[test]
    fn a_recorded_lr_gives_its_curve_back() {
        let mut surface = Curves::new(recorded(), 0).unwrap();
        for batch in 0..399 {
            let expected = (-(batch as f64) / 100.0).exp() + 0.1;
            assert!((surface.step(1.0, batch) - expected).abs() < 2e-3, "{batch}");
        }
        assert!(!surface.ran_past_the_end() && !surface.used_lrs_outside());
        surface.step(1.0, 400);
        surface.step(1.0, 401);
        assert!(surface.ran_past_the_end());
        surface.step(11.0, 402);
        assert!(surface.used_lrs_outside());
    }

    #[test]
    fn between_two_curves_the_log_of_the_lr_counts() {
        let middle = libm::sqrt(0.1);
        let (low, high) = (end(&[0.1; 200]), end(&[1.0; 200]));
        assert!((end(&[middle; 200]) - (low + high) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn another_lr_goes_on_from_the_same_loss() {
        let mut surface = Curves::new(recorded(), 0).unwrap();
        train(&mut surface, 0.1, 0..100);
        let before = surface.true_loss();
        assert!((before - surface.step(1.0, 100)).abs() < 0.01, "{before}");
        train(&mut surface, 1.0, 101..400);
        let low = surface.true_loss();
        assert!(low < 0.2, "{low}");
        // Nobody recorded LR 0.1 so far down; a larger LR can't hold what this one reached.
        surface.step(0.1, 400);
        assert_eq!((surface.true_loss(), surface.ran_past_the_end()), (low, true));
        surface.step(2.0, 401);
        assert!(surface.true_loss() > low + 0.05);
    }

    #[test]
    fn what_diverged_diverges_and_a_checkpoint_leads_back() {
        let mut surface = Curves::new(recorded(), 0).unwrap();
        let saved = surface.clone();
        assert!((0..50).all(|batch| surface.step(9.0, batch).is_finite()));
        assert!(surface.step(9.0, 50).is_nan() && surface.step(0.1, 51).is_nan());
        assert!(end(&[2.0; 399]).is_finite() && end(&[4.0; 399]).is_nan());
        assert!(saved.true_loss().is_finite());
    }

    #[test]
    fn sparse_points_are_joined_and_bad_ones_told() {
        let points: Vec<(u64, f64)> = (1..=10).map(|i| (10 * i, 11.0 - i as f64)).collect();
        let surface = |lr, points: &[(u64, f64)]| Curves::new(vec![Curve { lr, points: points.to_vec() }], 0);
        let end = final_losses(|_| surface(0.1, &points).unwrap(), &[0.1; 55], 1)[0];
        assert!((end - 5.5).abs() < 1e-9, "{end}");
        let error = |lr, points: &[(u64, f64)]| surface(lr, points).unwrap_err();
        assert_eq!(error(0.0, &points), CurveError::Lr(0.0));
        assert_eq!(error(0.1, &points[..7]), CurveError::Short(0.1));
        let again = [&points[..], &points[9..]].concat();
        assert_eq!(error(0.1, &again), CurveError::Order { lr: 0.1, step: 100 });
        let far = [&points[..], &[(MAX_STEP + 1, 1.0)]].concat();
        assert_eq!(error(0.1, &far), CurveError::Long { lr: 0.1, step: MAX_STEP + 1 });
        assert_eq!(Curves::new(Vec::new(), 0).unwrap_err(), CurveError::Empty);
        let twice = vec![Curve { lr: 0.1, points: points.clone() }; 2];
        assert_eq!(Curves::new(twice, 0).unwrap_err(), CurveError::Twice(0.1));
    }
}
