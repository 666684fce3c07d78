//! Forecasts of a loss some steps ahead, from the losses of a trial. A forecaster sees losses without their unit
//! ([`mod@unit`]), so y -> c y + d maps a forecast the same way. One file per forecaster and one variant here.

pub mod noise;
pub mod smooth;
pub mod unit;

mod exponential;
mod mixture;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use unit::Unit;

/// Fewer losses than this have no shape to extrapolate.
const MIN_LOSSES: usize = 8;
/// Least standard deviation, as a share of the window's range.
const MIN_SD: f64 = 1e-9;

/// The rule that extrapolates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forecaster {
    /// a exp(b t) + c, as in AutoLRS (Jin et al., ICLR 2021, section 4.2).
    #[default]
    Exponential,
    /// The Bayesian average of many exponentials and power laws; its sd knows how much is not known yet.
    Mixture,
}

/// Which loss is forecast: it decides how many points are taken for outliers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossKind {
    /// One loss per step, noisy.
    Training,
    /// A few evaluations.
    Validation,
}

/// What is known and what is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossWindow<'a> {
    /// The losses, the oldest first.
    pub losses: &'a [f64],
    /// When each was measured: steps done, ascending. None: at 0, 1, 2, ...
    pub times: Option<&'a [u64]>,
    /// The time that is asked for, in the same unit, >= 0.
    pub horizon: f64,
    /// A value that the loss can't go below, in loss units. One that a loss of the window has gone below is wrong, and
    /// is not used.
    pub lower_bound: Option<f64>,
    /// Which loss.
    pub kind: LossKind,
}

impl LossWindow<'_> {
    /// The lower bound if it is a number that no loss contradicts.
    fn known_bound(&self) -> Option<f64> {
        self.lower_bound.filter(|bound| bound.is_finite() && self.losses.iter().all(|y| y >= bound))
    }
}

/// A forecast, in loss units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Finite.
    pub mean: f64,
    /// Finite, > 0 unless it underflows.
    pub sd: f64,
}

/// Why there is no forecast.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
pub enum ForecastError {
    /// A loss is NaN or infinite.
    #[error("the loss at {index} is not finite: the trial diverged")]
    Diverged {
        /// The first such loss.
        index: usize,
    },
    /// There is no loss.
    #[error("there is no loss to forecast from")]
    Empty,
    /// There is not one ascending time for each loss.
    #[error("the times are not one for each loss, ascending")]
    Times,
    /// The horizon is not a finite number >= 0.
    #[error("the horizon {horizon} is not a finite number >= 0")]
    Horizon {
        /// What was asked.
        horizon: f64,
    },
}

impl Forecaster {
    /// The loss at the horizon. Fewer than 8 losses give the last one, give or take their range; equal losses give
    /// that loss.
    pub fn forecast(self, window: &LossWindow<'_>) -> Result<Forecast, ForecastError> {
        let &LossWindow { losses, times, horizon, .. } = window;
        if let Some(index) = losses.iter().position(|y| !y.is_finite()) {
            return Err(ForecastError::Diverged { index });
        }
        if times.is_some_and(|t| t.len() != losses.len() || !t.is_sorted_by(|a, b| a < b)) {
            return Err(ForecastError::Times);
        }
        if !(horizon.is_finite() && horizon >= 0.0) {
            return Err(ForecastError::Horizon { horizon });
        }
        let (Some(&last), Some(unit)) = (losses.last(), Unit::of(losses)) else {
            return Err(ForecastError::Empty);
        };
        let scaled = if unit.is_flat() {
            Forecast { mean: unit.scaled(last), sd: MIN_SD }
        } else if losses.len() < MIN_LOSSES {
            Forecast { mean: unit.scaled(last), sd: 1.0 }
        } else {
            self.extrapolate(&Scaled::new(window, &unit))
        };
        // Undoing the scale may round a mean at the bound to just below it.
        let mean = unit.value(scaled.mean).max(window.known_bound().unwrap_or(f64::MIN));
        Ok(Forecast { mean, sd: unit.spread(scaled.sd.max(MIN_SD)) })
    }

    fn extrapolate(self, scaled: &Scaled) -> Forecast {
        match self {
            Self::Exponential => exponential::extrapolate(scaled),
            Self::Mixture => mixture::extrapolate(scaled),
        }
    }
}

/// A [`LossWindow`] of at least 8 losses in the window's own unit.
#[derive(Debug, Clone, PartialEq)]
struct Scaled {
    /// y' in [-1, 1].
    losses: Vec<f64>,
    /// None: 0, 1, 2, ...
    times: Option<Vec<f64>>,
    /// T: the last time + 1.
    span: f64,
    horizon: f64,
    lower_bound: Option<f64>,
    kind: LossKind,
}

impl Scaled {
    fn new(window: &LossWindow<'_>, unit: &Unit) -> Self {
        let last = window.times.and_then(|times| times.last().copied());
        Self {
            losses: window.losses.iter().map(|y| unit.scaled(*y)).collect(),
            times: window.times.map(|times| times.iter().map(|t| *t as f64).collect()),
            span: last.map_or(window.losses.len() as f64, |last| last as f64 + 1.0),
            horizon: window.horizon,
            lower_bound: window.known_bound().map(|bound| unit.scaled(bound)),
            kind: window.kind,
        }
    }
}
