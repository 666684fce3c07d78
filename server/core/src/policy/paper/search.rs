//! One search of `paper`: candidates, their forecasts, and the Gaussian process that proposes the next.
//!
//! | symbol | meaning |
//! |---|---|
//! | `z` | log10 LR of a candidate |
//! | `mu`, `sigma` | the process's belief about the loss at a place |
//!
//! The first candidate is drawn from the seed, each next one is argmin mu - kappa sigma.

use crate::{
    forecast::Forecast,
    policy::CurvePoint,
    search::{Acquisition, Bounds, Measured, Outcome, Scale, fit_map, largest_gap, maximize, standardise},
    spec::LrRange,
};
use rand_chacha::{ChaCha8Rng, rand_core::Rng};
use serde::{Deserialize, Serialize};

/// Points of the posterior that are kept for people to look at.
const CURVE_POINTS: u32 = 61;

/// The candidates of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Search {
    outcomes: Vec<Outcome>,
    /// log10 LR of the candidate under way.
    z: f64,
    /// Candidates that this round may still try, the one under way included.
    left: u32,
}

impl Search {
    /// `candidates` (at least 1), the first one drawn.
    pub(super) fn new(candidates: u32, range: LrRange, rng: &mut ChaCha8Rng) -> Self {
        let bounds = Bounds::from(range);
        let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Self { outcomes: Vec::new(), z: bounds.lo + (bounds.hi - bounds.lo) * uniform, left: candidates }
    }

    /// Number of the candidate under way.
    pub(super) fn trial(&self) -> u32 {
        self.outcomes.len() as u32
    }

    /// LR of the candidate under way.
    pub(super) fn lr(&self, range: LrRange) -> f64 {
        lr(self.z, range)
    }

    /// Enters the forecast of the candidate under way; none if it diverged.
    pub(super) fn tell(&mut self, forecast: Option<Forecast>) {
        let measured = forecast.map_or(Measured::Diverged, |f| Measured::Loss { mean: f.mean, sd: f.sd });
        self.outcomes.push(Outcome { z: self.z, trial: self.trial(), measured });
        self.left -= 1;
    }

    /// Goes to the next candidate; false if there is none.
    pub(super) fn next(&mut self, kappa: f64, range: LrRange) -> bool {
        if self.left == 0 {
            return false;
        }
        let bounds = Bounds::from(range);
        let tried: Vec<f64> = self.outcomes.iter().map(|o| o.z).collect();
        self.z = match fit_map(&standardise(&self.outcomes)) {
            Ok(gp) => maximize(&gp, Acquisition::Lcb { kappa }, bounds, &tried),
            Err(_) => largest_gap(bounds, &tried),
        };
        true
    }

    /// Another round over the same stage, after every candidate diverged: the range goes down to a tenth of the
    /// smallest LR that was tried.
    pub(super) fn again(&mut self, candidates: u32, kappa: f64, range: &mut LrRange) {
        let smallest = self.outcomes.iter().map(|o| lr(o.z, *range)).fold(range.lo, f64::min);
        range.lo = (smallest / 10.0).max(f64::MIN_POSITIVE);
        self.left = candidates;
        self.next(kappa, *range);
    }

    /// LR and forecast of the candidate with the least forecast; of equal ones the lowest LR. None while all diverged.
    pub(super) fn best(&self, range: LrRange) -> Option<(u32, f64, Forecast)> {
        let measured = self.outcomes.iter().filter_map(|o| match o.measured {
            Measured::Loss { mean, sd } => Some((o, Forecast { mean, sd })),
            Measured::Diverged => None,
        });
        let best = measured.reduce(|best, next| {
            let better = next.1.mean < best.1.mean || next.1.mean == best.1.mean && next.0.z < best.0.z;
            if better { next } else { best }
        });
        best.map(|(o, forecast)| (o.trial, lr(o.z, range), forecast))
    }

    /// The posterior over the range, in loss units; nothing where there is none.
    pub(super) fn curve(&self, range: LrRange) -> Vec<CurvePoint> {
        let bounds = Bounds::from(range);
        let (Some(scale), Ok(gp)) = (Scale::of(&self.outcomes), fit_map(&standardise(&self.outcomes))) else {
            return Vec::new();
        };
        let point = |i: u32| {
            let z = bounds.lo + (bounds.hi - bounds.lo) * (f64::from(i) / f64::from(CURVE_POINTS - 1));
            let belief = gp.posterior(z);
            CurvePoint { log10_lr: z, mean: scale.to_loss(belief.mean), sd: scale.sd_to_loss(belief.sd) }
        };
        (0..CURVE_POINTS).map(point).collect()
    }
}

fn lr(z: f64, range: LrRange) -> f64 {
    libm::pow(10.0, z).clamp(range.lo, range.hi)
}
