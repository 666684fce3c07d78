//! Gaussian process regression (Rasmussen & Williams 2006, algorithm 2.1) of the scaled loss over z = log10(LR).
//!
//! | symbol | meaning | shape |
//! |---|---|---|
//! | `n` | observations, 1 to 64, sorted by (z, trial) | |
//! | `z`, `y`, `v` | place in decades, scaled value, its variance | n |
//! | `l`, `sf2`, `sn2` | [`HyperParameters`]: length scale in decades, signal and noise variance | |
//! | `M` | Matern-5/2 correlation, [`matern52`] | n x n |
//! | `K` | sf2 M + diag(v + sn2) + jitter I = L L^T | n x n |
//! | `m` | prior mean: the mean of y | |
//! | `alpha` | K^-1 (y - m) | n |
//! | `k` | sf2 M between a new place and the observations | n |
//!
//! Posterior of the noise-free value: mean = m + k^T alpha, variance = sf2 - |L^-1 k|^2.
//! Log marginal likelihood: -|L^-1 (y - m)|^2 / 2 - sum ln L_ii - n ln(2 pi) / 2.
//!
//! Each observation brings its own variance v: a forecast from a noisy trial weighs less.

use super::{kernel::matern52, observation::Observation};
use crate::linalg::{Cholesky, CholeskyError, MAX_N, dot};
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use thiserror::Error;

const LN_2_PI: f64 = 1.837_877_066_409_345_3;

/// The shape of the functions that are thought likely.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HyperParameters {
    /// l: decades over which values are correlated, > 0.
    pub length: f64,
    /// sf2: variance of the function around its mean, > 0.
    pub signal: f64,
    /// sn2: variance of every observation besides its own v, >= 0.
    pub noise: f64,
}

/// Why no process could be fitted. A policy then fills the largest gap instead.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum GpError {
    /// There is nothing to fit.
    #[error("there is no observation")]
    NoObservations,
    /// A place or a value is not finite, or a variance is not a finite number >= 0.
    #[error("observation of trial {trial} is not finite")]
    NotFinite {
        /// The trial.
        trial: u32,
    },
    /// The covariance matrix has no factor.
    #[error("covariance: {0}")]
    Covariance(#[from] CholeskyError),
}

/// A process with its hyper-parameters, before it has seen anything.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gp {
    /// They are not changed by a fit; see [`fit_map`].
    pub hyper: HyperParameters,
}

impl Gp {
    /// Conditions the process on observations, in any order.
    pub fn fit(&self, observations: &[Observation]) -> Result<FittedGp, GpError> {
        let observations = sorted(observations)?;
        let mean = mean_of(&observations);
        self.fit_around(mean, observations)
    }

    fn fit_around(&self, mean: f64, observations: Vec<Observation>) -> Result<FittedGp, GpError> {
        let correlation = correlations(&distances(&observations), self.hyper.length);
        let chol = Cholesky::new(&covariance(&correlation, &observations, &self.hyper))?;
        let mut alpha: Vec<f64> = observations.iter().map(|o| o.y - mean).collect();
        let ln_likelihood = log_marginal_likelihood(&chol, &mut alpha.clone());
        chol.solve(&mut alpha);
        Ok(FittedGp { hyper: self.hyper, observations, mean, chol, alpha, ln_likelihood })
    }
}

/// A process that has seen observations.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedGp {
    hyper: HyperParameters,
    observations: Vec<Observation>,
    mean: f64,
    chol: Cholesky,
    alpha: Vec<f64>,
    ln_likelihood: f64,
}

/// The belief about the noise-free value at one place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Posterior {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, in [0, sqrt sf2].
    pub sd: f64,
}

impl FittedGp {
    /// The belief at `z` decades.
    pub fn posterior(&self, z: f64) -> Posterior {
        let mut buffer = [0.0; MAX_N];
        let k = &mut buffer[..self.observations.len()];
        for (k, o) in k.iter_mut().zip(&self.observations) {
            *k = self.hyper.signal * matern52((z - o.z).abs() / self.hyper.length);
        }
        let mean = self.mean + dot(k, &self.alpha);
        self.chol.solve_lower(k);
        // Rounding may leave a variance just below 0 at an observation.
        let variance = (self.hyper.signal - dot(k, k)).max(0.0);
        Posterior { mean, sd: variance.sqrt() }
    }

    /// ln p(y | z, hyper-parameters).
    pub const fn log_marginal_likelihood(&self) -> f64 {
        self.ln_likelihood
    }

    /// What it was fitted with.
    pub const fn hyper(&self) -> &HyperParameters {
        &self.hyper
    }

    /// What it has seen, sorted by (z, trial).
    pub fn observations(&self) -> &[Observation] {
        &self.observations
    }

    /// The observation with the least value; of equal ones the lowest LR.
    pub fn incumbent(&self) -> &Observation {
        let mut best = &self.observations[0]; // a fit has at least one
        for o in &self.observations {
            if o.y < best.y {
                best = o;
            }
        }
        best
    }
}

/// Fits with the most probable hyper-parameters of a grid: l in geomspace(0.15, 5, 14) decades, sf2 in {0.3, 1, 3},
/// sn2 in {1e-4, 1e-2, 1e-1}, under ln l ~ N(0, 0.6), ln sf2 ~ N(0, 1), ln sn2 ~ N(ln 0.01, 2). The grid covers what
/// a few observations can tell apart, and unlike a gradient search it can't end in a local optimum.
pub fn fit_map(observations: &[Observation]) -> Result<FittedGp, GpError> {
    let observations = sorted(observations)?;
    let mean = mean_of(&observations);
    let distances = distances(&observations);
    let residuals: Vec<f64> = observations.iter().map(|o| o.y - mean).collect();
    let mut scratch = residuals.clone();
    let mut best: Option<(f64, HyperParameters)> = None;
    let mut failure = GpError::NoObservations;
    for length in lengths() {
        let correlation = correlations(&distances, length);
        for signal in [0.3, 1.0, 3.0] {
            for noise in [1e-4, 1e-2, 1e-1] {
                let hyper = HyperParameters { length, signal, noise };
                match Cholesky::new(&covariance(&correlation, &observations, &hyper)) {
                    Ok(chol) => {
                        scratch.copy_from_slice(&residuals);
                        let score = log_marginal_likelihood(&chol, &mut scratch) + ln_prior(&hyper);
                        if best.is_none_or(|(highest, _)| score > highest) {
                            best = Some((score, hyper));
                        }
                    }
                    Err(error) => failure = error.into(),
                }
            }
        }
    }
    let (_, hyper) = best.ok_or(failure)?;
    Gp { hyper }.fit_around(mean, observations)
}

fn lengths() -> impl Iterator<Item = f64> {
    const N: u32 = 14;
    let ratio = libm::log(5.0 / 0.15);
    (0..N).map(move |i| 0.15 * libm::exp(ratio * f64::from(i) / f64::from(N - 1)))
}

/// Without the constants.
fn ln_prior(hyper: &HyperParameters) -> f64 {
    let normal = |x: f64, mean: f64, sd: f64| {
        let u = (libm::log(x) - libm::log(mean)) / sd;
        -u * u / 2.0
    };
    normal(hyper.length, 1.0, 0.6) + normal(hyper.signal, 1.0, 1.0) + normal(hyper.noise, 0.01, 2.0)
}

fn sorted(observations: &[Observation]) -> Result<Vec<Observation>, GpError> {
    let mut sorted = observations.to_vec();
    sorted.sort_by(|a, b| a.z.total_cmp(&b.z).then(a.trial.cmp(&b.trial)));
    let odd = |o: &&Observation| {
        !(o.z.is_finite() && o.y.is_finite() && o.variance.is_finite() && o.variance >= 0.0)
    };
    match sorted.iter().find(odd) {
        Some(o) => Err(GpError::NotFinite { trial: o.trial }),
        None if sorted.is_empty() => Err(GpError::NoObservations),
        None if sorted.len() > MAX_N => Err(CholeskyError::TooLarge { n: sorted.len() }.into()),
        None => Ok(sorted),
    }
}

fn mean_of(observations: &[Observation]) -> f64 {
    observations.iter().map(|o| o.y).sum::<f64>() / observations.len() as f64
}

fn distances(observations: &[Observation]) -> Array2<f64> {
    let n = observations.len();
    Array2::from_shape_fn((n, n), |(i, j)| (observations[i].z - observations[j].z).abs())
}

/// M, of which only the lower triangle is filled.
fn correlations(distances: &Array2<f64>, length: f64) -> Array2<f64> {
    Array2::from_shape_fn(distances.dim(), |at| {
        let (i, j) = at;
        if j > i { 0.0 } else { matern52(distances[at] / length) }
    })
}

/// K before the jitter, lower triangle.
fn covariance(
    correlation: &Array2<f64>,
    observations: &[Observation],
    hyper: &HyperParameters,
) -> Array2<f64> {
    let mut k = correlation.mapv(|m| hyper.signal * m);
    for (diagonal, o) in k.diag_mut().iter_mut().zip(observations) {
        *diagonal += o.variance + hyper.noise;
    }
    k
}

/// Overwrites `residuals` = y - m with L^-1 (y - m).
fn log_marginal_likelihood(chol: &Cholesky, residuals: &mut [f64]) -> f64 {
    chol.solve_lower(residuals);
    -dot(residuals, residuals) / 2.0 - chol.half_ln_det() - chol.n() as f64 * LN_2_PI / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const GP: Gp = Gp { hyper: HyperParameters { length: 0.5, signal: 1.0, noise: 1e-4 } };

    fn observation(z: f64, trial: u32, y: f64) -> Observation {
        Observation { z, trial, y, variance: 0.0 }
    }

    #[test]
    fn what_can_not_be_fitted_says_why() {
        assert_eq!(fit_map(&[]), Err(GpError::NoObservations));
        assert_eq!(GP.fit(&[observation(f64::NAN, 7, 0.0)]), Err(GpError::NotFinite { trial: 7 }));
        assert_eq!(GP.fit(&[observation(0.0, 8, f64::INFINITY)]), Err(GpError::NotFinite { trial: 8 }));
        let negative = Observation { variance: -0.1, ..observation(0.0, 9, 1.0) };
        assert_eq!(GP.fit(&[negative]), Err(GpError::NotFinite { trial: 9 }));
        let many = vec![observation(0.0, 0, 1.0); 65];
        assert_eq!(fit_map(&many), Err(GpError::Covariance(CholeskyError::TooLarge { n: 65 })));
        assert!(fit_map(&many[..64]).is_ok());
        let singular = Gp { hyper: HyperParameters { signal: f64::NAN, ..GP.hyper } };
        assert_eq!(singular.fit(&many[..2]), Err(GpError::Covariance(CholeskyError::NotFinite)));
    }

    #[test]
    fn far_from_all_observations_the_prior_is_left() {
        let fitted = GP.fit(&[observation(0.0, 0, 1.0), observation(0.3, 1, 2.0)]).unwrap();
        assert_eq!(fitted.posterior(1e6), Posterior { mean: 1.5, sd: 1.0 });
        let at = fitted.posterior(0.0);
        assert!((at.mean - 1.0).abs() < 1e-3 && at.sd < 0.011, "{at:?}");
    }

    #[test]
    fn the_incumbent_is_the_lowest_of_the_best() {
        let fitted =
            GP.fit(&[observation(1.0, 0, 0.5), observation(0.0, 1, 0.5), observation(-1.0, 2, 0.7)]).unwrap();
        assert_eq!(fitted.incumbent().trial, 1);
    }
}
