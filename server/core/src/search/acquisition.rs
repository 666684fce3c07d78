//! How much a measurement at a place would be worth. All values are of a loss: lower is better.
//!
//! | symbol | meaning |
//! |---|---|
//! | `mu`, `s` | the belief at the place, [`Posterior`] |
//! | `best` | the least value observed |
//! | `u` | (best - mu) / s |
//! | `pdf`, `cdf` | of the standard normal distribution |
//! | `h(u)` | pdf(u) + u cdf(u) |
//!
//! LCB = mu - kappa s (the paper's); EI = s h(u); ln EI = ln s + ln h(u), which still points the way where EI
//! underflows (Ament et al., NeurIPS 2023).

use super::gp::Posterior;
use serde::{Deserialize, Serialize};

const LN_SQRT_2_PI: f64 = 0.918_938_533_204_672_7;

/// Below this, pdf(u) and u cdf(u) cancel; both branches are right to 1e-10 here.
const SERIES_BELOW: f64 = -25.0;

/// The rule for the next candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Acquisition {
    /// Least mu - kappa s.
    Lcb {
        /// Weight of the uncertainty, >= 0; 1000 in the paper.
        kappa: f64,
    },
    /// Largest expected improvement on the best observation, by its logarithm.
    LogEi,
}

impl Acquisition {
    /// The worth of a measurement: higher is better, never NaN for finite arguments.
    pub fn utility(&self, belief: Posterior, best: f64) -> f64 {
        match *self {
            Self::Lcb { kappa } => -lower_confidence_bound(belief, kappa),
            Self::LogEi => ln_expected_improvement(belief, best),
        }
    }
}

/// mu - kappa s.
pub fn lower_confidence_bound(belief: Posterior, kappa: f64) -> f64 {
    belief.mean - kappa * belief.sd
}

/// E max(best - f, 0), >= 0.
pub fn expected_improvement(belief: Posterior, best: f64) -> f64 {
    let gain = best - belief.mean;
    let u = gain / belief.sd;
    // No uncertainty, or so little that u overflows: the gain is certain.
    if belief.sd <= 0.0 || !u.is_finite() {
        return gain.max(0.0);
    }
    if u < SERIES_BELOW {
        return belief.sd * libm::exp(ln_h_series(u));
    }
    belief.sd * h(u)
}

/// ln of [`expected_improvement`]; minus infinity where no improvement is possible.
pub fn ln_expected_improvement(belief: Posterior, best: f64) -> f64 {
    let gain = best - belief.mean;
    let u = gain / belief.sd;
    if belief.sd <= 0.0 || !u.is_finite() {
        return if gain > 0.0 { libm::log(gain) } else { f64::NEG_INFINITY };
    }
    libm::log(belief.sd) + if u < SERIES_BELOW { ln_h_series(u) } else { libm::log(h(u)) }
}

/// The normal distribution function, with a full relative accuracy in its lower tail.
pub fn normal_cdf(u: f64) -> f64 {
    libm::erfc(-u * core::f64::consts::FRAC_1_SQRT_2) / 2.0
}

fn normal_pdf(u: f64) -> f64 {
    libm::exp(-u * u / 2.0 - LN_SQRT_2_PI)
}

fn h(u: f64) -> f64 {
    normal_pdf(u) + u * normal_cdf(u)
}

/// ln h for u far below 0: h(u) = pdf(u) / u^2 (1 - 3/u^2 + 15/u^4 - 105/u^6 + 945/u^8 - 10395/u^10 + ...).
fn ln_h_series(u: f64) -> f64 {
    let w = 1.0 / (u * u);
    let tail = 1.0 + w * (-3.0 + w * (15.0 + w * (-105.0 + w * (945.0 - w * 10395.0))));
    -u * u / 2.0 - LN_SQRT_2_PI - 2.0 * libm::log(-u) + libm::log(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn belief(mean: f64, sd: f64) -> Posterior {
        Posterior { mean, sd }
    }

    #[test]
    fn both_branches_agree_where_they_meet() {
        let (direct, series) = (libm::log(h(SERIES_BELOW)), ln_h_series(SERIES_BELOW));
        assert!((direct - series).abs() < 1e-10, "{direct} {series}");
    }

    #[test]
    fn a_certain_gain_is_the_gain() {
        for sd in [0.0, 5e-324] {
            assert_eq!(expected_improvement(belief(1.0, sd), 1.5), 0.5);
            assert_eq!(expected_improvement(belief(2.0, sd), 1.5), 0.0);
            assert_eq!(ln_expected_improvement(belief(0.5, sd), 1.5), 0.0);
            assert_eq!(ln_expected_improvement(belief(2.0, sd), 1.5), f64::NEG_INFINITY);
        }
        assert_eq!(expected_improvement(belief(1.0, 0.0), 1.0), 0.0);
    }

    #[test]
    fn the_logarithm_still_points_the_way_where_the_improvement_underflows() {
        let (near, far) = (belief(50.0, 1.0), belief(60.0, 1.0));
        assert_eq!((expected_improvement(near, 0.0), expected_improvement(far, 0.0)), (0.0, 0.0));
        assert!(ln_expected_improvement(near, 0.0) > ln_expected_improvement(far, 0.0));
    }

    #[test]
    fn the_least_bound_has_the_highest_utility() {
        let lcb = Acquisition::Lcb { kappa: 2.0 };
        assert_eq!(lcb.utility(belief(1.0, 0.25), 0.0), -0.5);
        assert_eq!(lower_confidence_bound(belief(1.0, 0.25), 2.0), 0.5);
    }
}
