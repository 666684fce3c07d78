//! `mixture`: Bayesian averaging over a grid of decay curves, in closed form, with an uncertainty that knows how little
//! the beginning of a curve says about its end (model averaging: Hoeting et al. 1999, *Statistical Science* 14).
//!
//! | symbol | meaning |
//! |---|---|
//! | `n`, `N`, `m` | losses / bins / losses per bin |
//! | `T` | the last time + 1: n where there is a loss a step |
//! | `t` | time per window: a loss at time i (from 0) is at (i + 1)/T, the window ends at 1 |
//! | `t_j`, `z_j` | mean time and mean loss of bin j, in the window's unit |
//! | `s1`, `s2` | noise sd of one loss / noise variance of a bin |
//! | `g(t)` | a node's curve: exp(-rate t) or (1 + t/t0)^-p; g(0) = 1, g(inf) = 0 |
//! | `phi(t)` | (g(t) - g(1)) / (1 - g(1)): 1 at the window's start, 0 at its end |
//! | `e`, `a` | level at the window's end / drop inside the window: the model is z = e + a phi(t) |
//! | `Sb`, `Sbb`, `det` | means of phi and phi^2 over the bins; Sbb - Sb^2 + 1e-9 |
//! | `RSS` | residual sum of squares of a node |
//!
//! 1. Bins of m = max(1, n/25) losses, the oldest that don't fill one left out; each loss is clipped to its bin's median
//!    +- 3 s1. s2 = s1^2/m.
//! 2. Nodes: 64 exponentials (rate 0.05 to 40), 32 power laws (p 1/4 to 2, t0 0.02 to 2) with half the prior weight.
//! 3. Each node by linear least squares; then s2 = max(s2, least RSS / (N - 3), 1e-18).
//! 4. ln weight = ln prior - RSS / (2 s2) - ln(N det) / 2, and with a lower bound + ln Phi((c - bound) / sd_c): the
//!    probability that the asymptote c = e + a phi(inf) is above it.
//! 5. The best exponential is refined between its neighbours on the grid and joins them.
//! 6. At the horizon each node says e + a phi(t) with variance s2/N (1 + (phi(t) - Sb)^2 / det); the forecast is the mean
//!    and sd of the weighted mixture. The sd is multiplied by 1.3: measured, that brings two sd from 81 % to 93 % of
//!    exponential truths.
//! 7. Losses that rise have no asymptote that their rise could show: the mean is then at least the end level.

use super::{Forecast, Scaled, noise};
use crate::search::{acquisition::normal_cdf, golden};

const BINS: usize = 25;
/// Losses are clipped at so many noise sd from their bin's median, and a rise of so many is a rise.
const CLIP: f64 = 3.0;
const EXPONENTIALS: u32 = 64;
const RATES: (f64, f64) = (0.05, 40.0);
const EXPONENTS: [f64; 4] = [0.25, 0.5, 1.0, 2.0];
const POWERS_PER_EXPONENT: u32 = 8;
const ORIGINS: (f64, f64) = (0.02, 2.0);
const GOLDEN_STEPS: u32 = 40;
const DET_FLOOR: f64 = 1e-9;
const VARIANCE_FLOOR: f64 = 1e-18;
const SD_FACTOR: f64 = 1.3;
/// The mean stays within so many ranges of the window's losses.
const REACH: f64 = 3.0;

pub(super) fn extrapolate(window: &Scaled) -> Forecast {
    let bins = Bins::of(window);
    let mut fits: Vec<Fit> = nodes().map(|curve| bins.fit(curve)).collect();
    let least = fits.iter().map(|fit| fit.rss).fold(f64::INFINITY, f64::min);
    let s2 = bins.s2.max(least / (bins.n() - 3.0)).max(VARIANCE_FLOOR);
    let belief = Belief { n: bins.n(), s2, lower_bound: window.lower_bound };
    fits.push(refined(&bins, &fits[..EXPONENTIALS as usize], &belief));
    let time = (window.horizon + 1.0) / window.span;
    let Mixture { mean, end, variance } = belief.mixture(&fits, time);
    let mean = if rises(&window.losses, bins.s1) { mean.max(end) } else { mean };
    let (lo, hi) = window.losses.iter().fold((f64::MAX, f64::MIN), |(lo, hi), y| (lo.min(*y), hi.max(*y)));
    let mean = mean.clamp(lo - REACH, hi + REACH).max(window.lower_bound.unwrap_or(f64::MIN));
    Forecast { mean, sd: SD_FACTOR * variance.sqrt() }
}

/// The best exponential of the grid, refined between its neighbours; at the grid's edge, towards its one neighbour.
fn refined(bins: &Bins, exponentials: &[Fit], belief: &Belief) -> Fit {
    let best = exponentials.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (i, fit)| {
        let weight = belief.ln_weight(fit);
        if weight > best.1 { (i, weight) } else { best }
    });
    let ln_rate = |i: usize| libm::log(grid(RATES, EXPONENTIALS, i as u32));
    let fit = |x: f64| bins.fit(Curve::Exponential { rate: libm::exp(x) });
    let found = golden::minimize(
        |x| -belief.ln_weight(&fit(x)),
        ln_rate(best.0.saturating_sub(1)),
        ln_rate((best.0 + 1).min(exponentials.len() - 1)),
        GOLDEN_STEPS,
    );
    fit(found.x)
}

/// Whether the median of the last tenth is above that of the first tenth by more than the noise.
fn rises(losses: &[f64], s1: f64) -> bool {
    let tenth = (losses.len() / 10).max(1);
    let first = noise::median(&losses[..tenth]);
    let last = noise::median(&losses[losses.len() - tenth..]);
    first.zip(last).is_some_and(|(first, last)| last > first + CLIP * s1)
}

/// Exponentials first.
fn nodes() -> impl Iterator<Item = Curve> {
    let exponentials = (0..EXPONENTIALS).map(|i| Curve::Exponential { rate: grid(RATES, EXPONENTIALS, i) });
    let powers = EXPONENTS.into_iter().flat_map(|exponent| {
        (0..POWERS_PER_EXPONENT)
            .map(move |i| Curve::Power { exponent, origin: grid(ORIGINS, POWERS_PER_EXPONENT, i) })
    });
    exponentials.chain(powers)
}

/// Point `i` of `count`, evenly spaced in the logarithm.
fn grid((lo, hi): (f64, f64), count: u32, i: u32) -> f64 {
    lo * libm::pow(hi / lo, f64::from(i) / f64::from(count - 1))
}

#[derive(Debug, Clone, Copy)]
enum Curve {
    Exponential { rate: f64 },
    Power { exponent: f64, origin: f64 },
}

impl Curve {
    /// g(t), also at t = infinity.
    fn at(self, t: f64) -> f64 {
        match self {
            Self::Exponential { rate } => libm::exp(-rate * t),
            Self::Power { exponent, origin } => libm::pow(1.0 + t / origin, -exponent),
        }
    }

    fn phi(self, t: f64) -> f64 {
        let end = self.at(1.0);
        (self.at(t) - end) / (1.0 - end)
    }

    fn ln_prior(self) -> f64 {
        match self {
            Self::Exponential { .. } => -libm::log(f64::from(EXPONENTIALS)),
            Self::Power { .. } => {
                -libm::log(f64::from(POWERS_PER_EXPONENT) * EXPONENTS.len() as f64) - core::f64::consts::LN_2
            }
        }
    }
}

/// The window in bins.
#[derive(Debug)]
struct Bins {
    t: Vec<f64>,
    z: Vec<f64>,
    zbar: f64,
    s1: f64,
    s2: f64,
}

impl Bins {
    fn of(window: &Scaled) -> Self {
        let losses = &window.losses;
        let n = losses.len();
        let m = (n / BINS).max(1);
        let s1 = noise::noise_sd(losses);
        let dropped = n % m;
        let z: Vec<f64> = losses[dropped..].chunks_exact(m).map(|bin| clipped_mean(bin, CLIP * s1)).collect();
        // The mean of (time + 1) over a bin.
        let middle = |j: usize| match &window.times {
            None => (dropped + j * m) as f64 + (m as f64 + 1.0) / 2.0,
            Some(times) => times[dropped + j * m..][..m].iter().sum::<f64>() / m as f64 + 1.0,
        };
        let t = (0..z.len()).map(|j| middle(j) / window.span).collect();
        let zbar = z.iter().sum::<f64>() / z.len() as f64;
        Self { t, z, zbar, s1, s2: s1 * s1 / m as f64 }
    }

    fn n(&self) -> f64 {
        self.z.len() as f64
    }

    /// The best e and a for this curve.
    fn fit(&self, curve: Curve) -> Fit {
        let phi: Vec<f64> = self.t.iter().map(|t| curve.phi(*t)).collect();
        let n = self.n();
        let (mut sb, mut sbb, mut sbz) = (0.0, 0.0, 0.0);
        for (phi, z) in phi.iter().zip(&self.z) {
            sb += phi;
            sbb += phi * phi;
            sbz += phi * z;
        }
        let (sb, sbb, sbz) = (sb / n, sbb / n, sbz / n);
        let det = sbb - sb * sb + DET_FLOOR;
        let a = (sbz - sb * self.zbar) / det;
        let e = self.zbar - a * sb;
        let rss = phi.iter().zip(&self.z).fold(0.0, |sum, (phi, z)| {
            let residual = z - (e + a * phi);
            sum + residual * residual
        });
        Fit { curve, e, a, sb, det, rss }
    }
}

/// The mean of the values, each clipped to `reach` around their median.
fn clipped_mean(values: &[f64], reach: f64) -> f64 {
    let middle = noise::median(values).unwrap_or(0.0);
    values.iter().map(|y| y.clamp(middle - reach, middle + reach)).sum::<f64>() / values.len() as f64
}

/// A node with its least-squares line.
#[derive(Debug, Clone, Copy)]
struct Fit {
    curve: Curve,
    e: f64,
    a: f64,
    sb: f64,
    det: f64,
    rss: f64,
}

/// What weighs the nodes.
#[derive(Debug)]
struct Belief {
    /// N.
    n: f64,
    s2: f64,
    lower_bound: Option<f64>,
}

#[derive(Debug, Default)]
struct Mixture {
    mean: f64,
    /// Level at the window's end.
    end: f64,
    variance: f64,
}

impl Belief {
    fn ln_weight(&self, fit: &Fit) -> f64 {
        let fits = -fit.rss / (2.0 * self.s2) - libm::log(self.n * fit.det) / 2.0;
        let above = self.lower_bound.map_or(0.0, |bound| {
            let (asymptote, variance) = self.at(fit, f64::INFINITY);
            ln_normal_cdf((asymptote - bound) / variance.sqrt())
        });
        fit.curve.ln_prior() + fits + above
    }

    /// What a node says of time `t`: mean and variance.
    fn at(&self, fit: &Fit, t: f64) -> (f64, f64) {
        let phi = fit.curve.phi(t);
        let far = phi - fit.sb;
        (fit.e + fit.a * phi, self.s2 / self.n * (1.0 + far * far / fit.det))
    }

    fn mixture(&self, fits: &[Fit], t: f64) -> Mixture {
        let ln_weights: Vec<f64> = fits.iter().map(|fit| self.ln_weight(fit)).collect();
        let most = ln_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = ln_weights.iter().map(|w| libm::exp(w - most)).collect();
        let total = weights.iter().sum::<f64>();
        let mut mixed = Mixture::default();
        for (fit, weight) in fits.iter().zip(&weights) {
            mixed.mean += weight / total * self.at(fit, t).0;
            mixed.end += weight / total * fit.e;
        }
        for (fit, weight) in fits.iter().zip(&weights) {
            let (mean, variance) = self.at(fit, t);
            let off = mean - mixed.mean;
            mixed.variance += weight / total * (variance + off * off);
        }
        mixed
    }
}

/// ln Phi(u), finite for every finite u: below -25 by the asymptotic series (Abramowitz & Stegun 26.2.12).
fn ln_normal_cdf(u: f64) -> f64 {
    if u >= -25.0 {
        return libm::log(normal_cdf(u));
    }
    let u2 = u * u;
    let series = 1.0 - 1.0 / u2 + 3.0 / (u2 * u2) - 15.0 / (u2 * u2 * u2);
    -u2 / 2.0 - libm::log(-u * SQRT_2_PI) + libm::log(series)
}

const SQRT_2_PI: f64 = 2.506_628_274_631_000_5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::LossKind;

    #[test]
    fn the_logarithm_of_the_normal_distribution() {
        // SciPy's norm.logcdf.
        for (u, expected) in [
            (0.0, -core::f64::consts::LN_2),
            (-5.0, -15.064_998_393_988_727),
            (-24.99, -316.389_059_198_636_7),
            (-30.0, -454.321_243_956_343_27),
            (-1e4, -50_000_010.129_278_92),
        ] {
            assert!(
                (ln_normal_cdf(u) - expected).abs() <= 1e-12 * expected.abs(),
                "{u}: {}",
                ln_normal_cdf(u)
            );
        }
        assert_eq!(ln_normal_cdf(f64::INFINITY), 0.0);
    }

    fn every_step(losses: &[f64]) -> Scaled {
        let (losses, span) = (losses.to_vec(), losses.len() as f64);
        let kind = LossKind::Training;
        Scaled { losses, times: None, span, horizon: 0.0, lower_bound: None, kind }
    }

    #[test]
    fn the_oldest_losses_that_fill_no_bin_are_left_out_and_spikes_clipped() {
        let mut losses: Vec<f64> =
            (0..104).map(|i| 0.001 * f64::from(i) + 0.0002 * f64::from(i % 3)).collect();
        let bins = |losses: &[f64]| Bins::of(&every_step(losses));
        let clean = bins(&losses);
        assert_eq!((clean.z.len(), clean.t[0], clean.t[25]), (26, 2.5 / 104.0, 102.5 / 104.0));
        losses[50] = 0.9;
        let spiked = bins(&losses);
        assert!(spiked.z.iter().zip(&clean.z).all(|(a, b)| (a - b).abs() < 3e-3));
        assert_eq!(bins(&losses[..51]).t[0], 2.5 / 51.0);
    }

    #[test]
    fn the_grid_has_its_ends() {
        let nodes: Vec<Curve> = nodes().collect();
        assert_eq!(nodes.len(), 96);
        assert!((grid(RATES, EXPONENTIALS, 63) - 40.0).abs() < 1e-12 && grid(RATES, EXPONENTIALS, 0) == 0.05);
        let total: f64 = nodes.iter().map(|curve| libm::exp(curve.ln_prior())).sum();
        assert!((total - 1.5).abs() < 1e-12);
        for curve in nodes {
            assert_eq!((curve.phi(0.0), curve.phi(1.0), curve.at(f64::INFINITY)), (1.0, 0.0, 0.0));
        }
    }
}
