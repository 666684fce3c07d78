//! `exponential`: L(t) = a exp(b t) + c with b < 0, as in AutoLRS (Jin et al., ICLR 2021, section 4.2).
//!
//! | symbol | meaning |
//! |---|---|
//! | `N` | losses left after the outliers are gone |
//! | `t_i`, `y_i` | time of a loss, i unless it is given, and the loss, in the window's unit |
//! | `T` | the last time + 1: the number of losses where there is one a step |
//! | `theta` | ln(-b T): the decay's rate per window, searched |
//! | `g_i` | exp(b t_i); gbar, ybar: means over the N losses |
//! | `Sgg`, `Sgy` | sums of (g - gbar)^2 and (g - gbar)(y - ybar) |
//! | `H` | horizon |
//!
//! 1. Outliers: ten times the 3 % of the first half farthest from the smooth curve for a training loss, one point for a
//!    validation loss ([`super::smooth`]).
//! 2. For fixed b the model is linear (variable projection, Golub & Pereyra 1973): a = Sgy / Sgg, c = ybar - a gbar. Where
//!    c is below the lower bound, c = bound and a = sum g (y - bound) / sum g^2.
//! 3. The residual sum of squares RSS is a function of theta alone: least on a grid over [ln 0.05, ln 40] (from a line
//!    to a step), then golden section between the grid's neighbours. No start value, no divergence.
//! 4. mean = a exp(b H) + c. sd: the noise s2 = RSS / (N - 3) through the linear fit, sd^2 = s2 (1/N + (exp(b H) -
//!    gbar)^2 / Sgg), or s2 exp(b H)^2 / sum g^2 with c at its bound. It is conditional on b, so it is too small where
//!    the trial does not show how fast the loss decays.

use super::{Forecast, LossKind, Scaled, smooth};
use crate::{linalg::dot, search::golden};

const OUTLIER_SHARE: f64 = 0.03;
const OUTLIER_ROUNDS: u32 = 10;
/// Bounds of -b T.
const RATES: (f64, f64) = (0.05, 40.0);
const GRID: u32 = 40;
const GOLDEN_STEPS: u32 = 30;

pub(super) fn extrapolate(window: &Scaled) -> Forecast {
    let kept = match window.kind {
        LossKind::Training => smooth::without_outliers(&window.losses, OUTLIER_SHARE, OUTLIER_ROUNDS),
        LossKind::Validation => smooth::without_farthest(&window.losses),
    };
    let mut profile = Profile::new(window, kept);
    let theta = profile.minimize();
    profile.fit(theta).forecast(window, theta)
}

/// RSS as a function of theta.
struct Profile<'a> {
    kept: Vec<usize>,
    /// y of the kept losses.
    y: Vec<f64>,
    ybar: f64,
    /// g of the kept losses, for the theta at hand.
    g: Vec<f64>,
    window: &'a Scaled,
}

impl<'a> Profile<'a> {
    fn new(window: &'a Scaled, kept: Vec<usize>) -> Self {
        let y: Vec<f64> = kept.iter().map(|i| window.losses[*i]).collect();
        let ybar = y.iter().sum::<f64>() / y.len() as f64;
        Self { g: vec![0.0; y.len()], kept, y, ybar, window }
    }

    fn minimize(&mut self) -> f64 {
        let (lo, hi) = (libm::log(RATES.0), libm::log(RATES.1));
        let at = |i: u32| lo + (hi - lo) * (f64::from(i) / f64::from(GRID - 1));
        let mut best = (0, f64::INFINITY);
        for i in 0..GRID {
            let rss = self.fit(at(i)).rss;
            if rss < best.1 {
                best = (i, rss);
            }
        }
        let (i, rss) = best;
        let found = golden::minimize(
            |theta| self.fit(theta).rss,
            at(i.saturating_sub(1)),
            at((i + 1).min(GRID - 1)),
            GOLDEN_STEPS,
        );
        if found.value < rss { found.x } else { at(i) }
    }

    /// The best a and c for this theta.
    fn fit(&mut self, theta: f64) -> Fit {
        self.fill(theta);
        let n = self.y.len() as f64;
        let gbar = self.g.iter().sum::<f64>() / n;
        let (mut sgg, mut sgy) = (0.0, 0.0);
        for (g, y) in self.g.iter().zip(&self.y) {
            sgg += (g - gbar) * (g - gbar);
            sgy += (g - gbar) * (y - self.ybar);
        }
        let a = sgy / sgg;
        let c = self.ybar - a * gbar;
        match self.window.lower_bound {
            Some(bound) if c < bound => self.fit_above(bound),
            _ => Fit { a, c, rss: self.rss(a, c), n, at_bound: false, gbar, sgg },
        }
    }

    /// The best a for c = bound.
    fn fit_above(&self, bound: f64) -> Fit {
        let sgg = dot(&self.g, &self.g);
        let sgy = self.g.iter().zip(&self.y).fold(0.0, |sum, (g, y)| sum + g * (y - bound));
        let a = sgy / sgg;
        Fit { a, c: bound, rss: self.rss(a, bound), n: self.y.len() as f64, at_bound: true, gbar: 0.0, sgg }
    }

    fn rss(&self, a: f64, c: f64) -> f64 {
        self.g.iter().zip(&self.y).fold(0.0, |sum, (g, y)| {
            let residual = y - (a * g + c);
            sum + residual * residual
        })
    }

    /// g; where there is a loss a step by repeated multiplication, one product per step instead of one exponential.
    fn fill(&mut self, theta: f64) {
        let rate = libm::exp(theta) / self.window.span;
        if let Some(times) = &self.window.times {
            self.g = self.kept.iter().map(|i| libm::exp(-rate * times[*i])).collect();
            return;
        }
        let ratio = libm::exp(-rate);
        let (mut g, mut at) = (1.0, 0);
        for (to, &i) in self.g.iter_mut().zip(&self.kept) {
            while at < i {
                g *= ratio;
                at += 1;
            }
            *to = g;
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Fit {
    a: f64,
    c: f64,
    rss: f64,
    n: f64,
    at_bound: bool,
    /// 0 where c is at its bound: `sgg` is then the plain sum of squares.
    gbar: f64,
    sgg: f64,
}

impl Fit {
    fn forecast(&self, window: &Scaled, theta: f64) -> Forecast {
        let g = libm::exp(-libm::exp(theta) * window.horizon / window.span);
        let mean = self.a * g + self.c;
        let level = if self.at_bound { 0.0 } else { 1.0 / self.n };
        let s2 = self.rss / (self.n - 3.0);
        let variance = s2 * (level + (g - self.gbar) * (g - self.gbar) / self.sgg);
        Forecast { mean, sd: variance.sqrt() }
    }
}
