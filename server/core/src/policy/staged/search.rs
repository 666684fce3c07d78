//! One search of `staged`: its candidates, what their trials gave, and which one would be committed.
//!
//! | symbol | meaning |
//! |---|---|
//! | `z` | log10 LR of a candidate |
//! | `n` | losses of a trial so far |
//! | `b`, `s1` | the loss's lower bound; the standard deviation of the losses' noise |
//!
//! A trial is not worth its other steps if the median of its last n/4 losses is past 1.6 times its first n/20 (their
//! distances from b; without a bound: past 8 s1 above them), or if its forecast is worse than the best one by more than
//! both standard deviations. The second does not judge the incumbent, whose forecast the skipping of searches needs.
//!
//! The bias of a forecast from a short trial is towards small LRs. So of the candidates within one standard deviation of
//! the best the largest LR is taken.

use crate::{
    forecast::{Forecast, Forecaster, LossKind, LossWindow, noise},
    policy::{CurvePoint, TrialOutcome, level::Level},
    search::{Acquisition, Bounds, Measured, Outcome, Scale, fit_map, largest_gap, maximize, standardise},
    spec::LrRange,
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Nearer than this, two candidates are the same, in decades.
const SAME: f64 = 0.02;
/// A median past this many times the first losses has no way back.
const RISEN: f64 = 1.6;
/// The same without a lower bound, in noises.
const RISEN_NOISES: f64 = 8.0;
/// Points of the posterior that are kept to be shown.
const CURVE_POINTS: u32 = 61;

/// What is known when a trial is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement {
    /// tau: steps from the trial's start to where the loss is forecast.
    pub(super) horizon: f64,
    /// A value that the loss can't go below.
    pub(super) bound: Option<f64>,
}

/// A trial that ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Tried {
    outcome: Outcome,
    /// It ended early: it can't be committed.
    stopped: bool,
    level: Option<Level>,
}

/// Why a trial is not worth its other steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Cut {
    /// Its loss has risen too far.
    Risen,
    /// Another candidate is clearly better.
    Worse(Forecast),
}

impl Cut {
    /// What the search may learn of it; none if that is a divergence.
    pub(super) const fn forecast(self) -> Option<Forecast> {
        match self {
            Self::Risen => None,
            Self::Worse(forecast) => Some(forecast),
        }
    }
}

/// A candidate that may be committed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    pub(super) trial: u32,
    pub(super) z: f64,
    pub(super) forecast: Forecast,
    pub(super) level: Option<Level>,
    /// What it is expected to gain over the incumbent; none if that one was not measured.
    pub(super) gain: Option<f64>,
    /// The incumbent itself, give or take.
    pub(super) kept: bool,
}

/// A search under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Search {
    /// The candidate on trial.
    z: f64,
    /// Those to try next; then the search proposes.
    planned: VecDeque<f64>,
    /// Candidates to come, the present one included.
    left: u32,
    /// Of the LR that was committed before.
    incumbent: Option<f64>,
    tried: Vec<Tried>,
    /// The trial whose end is in `BEST`.
    pub(super) in_best: Option<u32>,
}

impl Search {
    /// `planned` is tried first, as far as it goes; at most `candidates` (at least 1) in all.
    pub(super) fn new(candidates: u32, planned: &[f64], incumbent: Option<f64>, range: LrRange) -> Self {
        let mut search = Self {
            z: 0.0,
            planned: VecDeque::new(),
            left: candidates,
            incumbent,
            tried: Vec::new(),
            in_best: None,
        };
        let bounds = Bounds::from(range);
        for z in planned.iter().map(|z| z.clamp(bounds.lo, bounds.hi)) {
            if search.planned.iter().all(|other| (z - other).abs() > SAME) {
                search.planned.push_back(z);
            }
        }
        search.propose(range);
        search
    }

    /// The present candidate's number.
    pub(super) fn trial(&self) -> u32 {
        self.tried.len() as u32
    }

    /// The present candidate's LR.
    pub(super) fn lr(&self, range: LrRange) -> f64 {
        lr(self.z, range)
    }

    /// Whether the present trial, which has come to a rung, ends there.
    pub(super) fn cut(&self, losses: &[f64], judgement: Judgement) -> Option<Cut> {
        if has_risen(losses, judgement.bound) {
            return Some(Cut::Risen);
        }
        let incumbent = self.incumbent.is_some_and(|z| (z - self.z).abs() <= SAME);
        let best = self.best().filter(|_| !incumbent)?.1;
        let forecast = forecast(losses, judgement)?;
        let worse = forecast.mean - forecast.sd > best.mean + best.sd;
        worse.then_some(Cut::Worse(forecast))
    }

    /// Enters the outcome of the present candidate; a forecast, if it has a usable one.
    pub(super) fn tell(&mut self, losses: &[f64], forecast: Option<Forecast>, outcome: TrialOutcome) {
        // The guard lets pass what the forecast holds for possible.
        let expected: Vec<f64> = forecast.iter().map(|f| f.mean + 3.0 * f.sd).collect();
        let measured = forecast.map_or(Measured::Diverged, |f| Measured::Loss { mean: f.mean, sd: f.sd });
        self.tried.push(Tried {
            outcome: Outcome { z: self.z, trial: self.trial(), measured },
            stopped: outcome != TrialOutcome::Completed,
            level: Level::first(losses).map(|level| level.reaching(losses).reaching(&expected)),
        });
        self.left = self.left.saturating_sub(1);
    }

    /// Goes to the next candidate; false if there is none.
    pub(super) fn next(&mut self, range: LrRange) -> bool {
        if self.left > 0 {
            self.propose(range);
        }
        self.left > 0
    }

    /// Expected improvement and the largest gap in turn, once nothing is planned any more.
    fn propose(&mut self, range: LrRange) {
        if let Some(z) = self.planned.pop_front() {
            self.z = z;
            return;
        }
        let bounds = Bounds::from(range);
        let tried: Vec<f64> = self.tried.iter().map(|t| t.outcome.z).collect();
        let gp = if self.tried.len() % 2 == 1 { fit_map(&standardise(&self.outcomes())).ok() } else { None };
        self.z = match gp {
            Some(gp) => maximize(&gp, Acquisition::LogEi, bounds, &tried),
            None => largest_gap(bounds, &tried),
        };
    }

    /// Another round, below the smallest LR that was tried.
    pub(super) fn again(&mut self, candidates: u32, range: LrRange) {
        self.left = candidates;
        let bounds = Bounds::from(range);
        let lowest = self.tried.iter().map(|t| t.outcome.z).fold(bounds.hi, f64::min);
        let step = (lowest - bounds.lo) / 6.0;
        self.planned = [1.0, 3.0, 5.0].map(|k| bounds.lo + k * step).into_iter().collect();
        self.propose(range);
    }

    /// The smallest LR that was tried.
    pub(super) fn smallest(&self, range: LrRange) -> f64 {
        self.tried.iter().map(|t| lr(t.outcome.z, range)).fold(range.hi, f64::min)
    }

    /// The places that were tried.
    pub(super) fn visited(&self) -> impl Iterator<Item = f64> {
        self.tried.iter().map(|t| t.outcome.z)
    }

    /// The candidate to commit among those so far; none while none has run to its end.
    pub(super) fn choice(&self) -> Option<Choice> {
        let (_, best) = self.best()?;
        let near = self.finished().filter(|(_, f)| f.mean <= best.mean + best.sd);
        let (tried, forecast) = near.reduce(|a, b| if b.0.outcome.z > a.0.outcome.z { b } else { a })?;
        let z = tried.outcome.z;
        let incumbent = self.finished().find(|(t, _)| self.incumbent.is_some_and(|z| same(t.outcome.z, z)));
        Some(Choice {
            trial: tried.outcome.trial,
            z,
            forecast,
            level: tried.level,
            gain: incumbent.map(|(_, f)| f.mean - best.mean),
            kept: self.incumbent.is_some_and(|incumbent| same(z, incumbent)),
        })
    }

    /// The least forecast; of equal ones the first.
    fn best(&self) -> Option<(&Tried, Forecast)> {
        self.finished().reduce(|best, next| if next.1.mean < best.1.mean { next } else { best })
    }

    fn finished(&self) -> impl Iterator<Item = (&Tried, Forecast)> {
        self.tried.iter().filter(|t| !t.stopped).filter_map(|t| match t.outcome.measured {
            Measured::Loss { mean, sd } => Some((t, Forecast { mean, sd })),
            Measured::Diverged => None,
        })
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.tried.iter().map(|t| t.outcome).collect()
    }

    /// The posterior over the range, in loss units; nothing where there is none.
    pub(super) fn curve(&self, range: LrRange) -> Vec<CurvePoint> {
        let (bounds, outcomes) = (Bounds::from(range), self.outcomes());
        let (Some(scale), Ok(gp)) = (Scale::of(&outcomes), fit_map(&standardise(&outcomes))) else {
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

/// The loss at tau; none of a trial that diverged.
pub(super) fn forecast(losses: &[f64], judgement: Judgement) -> Option<Forecast> {
    let Judgement { horizon, bound } = judgement;
    let window = LossWindow { losses, times: None, horizon, lower_bound: bound, kind: LossKind::Training };
    Forecaster::Mixture.forecast(&window).ok()
}

fn has_risen(losses: &[f64], bound: Option<f64>) -> bool {
    let n = losses.len();
    let (head, tail) = (&losses[..n.div_ceil(20)], &losses[n - n.div_ceil(4)..]);
    let (Some(first), Some(last)) = (noise::mean(head), noise::median(tail)) else { return false };
    match bound {
        Some(bound) => last - bound > RISEN * (first - bound),
        None => last > first + RISEN_NOISES * noise::noise_sd(losses),
    }
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME
}

pub(super) fn lr(z: f64, range: LrRange) -> f64 {
    libm::pow(10.0, z).clamp(range.lo, range.hi)
}
