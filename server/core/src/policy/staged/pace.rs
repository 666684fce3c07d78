//! How far a search looks around the LR of before, and how often there is one.
//!
//! | symbol | meaning |
//! |---|---|
//! | `delta` | decades between the previous LR and its neighbours: 0.6, times 1.5 (at most 1) when another LR wins, times 0.7 (at least 0.15) when it wins |
//!
//! When two searches in a row kept the LR and had less than 2 % of the stage's improvement to gain, the next stage is not
//! searched; each further time twice as many are not, up to 4.

use super::search::Choice;
use serde::{Deserialize, Serialize};

const DELTA: f64 = 0.6;
const MIN_DELTA: f64 = 0.15;
const MAX_DELTA: f64 = 1.0;
/// Searches in a row that changed nothing before one is skipped.
const ENOUGH: u32 = 2;
/// Most stages in a row without a search.
const MAX_GAP: u32 = 4;
/// Of the stage's improvement.
const SMALL_GAIN: f64 = 0.02;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Pace {
    /// Decades.
    pub(super) delta: f64,
    /// Searches in a row that changed nothing.
    unchanged: u32,
    /// Stages that were skipped the last time.
    gap: u32,
    /// Stages still to be skipped.
    skip: u32,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { delta: DELTA, unchanged: 0, gap: 0, skip: 0 }
    }

    /// Enters what a search around the previous LR has chosen.
    pub(super) fn chosen(&mut self, choice: &Choice) {
        if choice.kept { self.narrow() } else { self.widen() }
        let improvement = choice.level.map_or(0.0, |level| level.mean() - choice.forecast.mean);
        let small = choice.gain.is_some_and(|gain| gain < SMALL_GAIN * improvement);
        if !(choice.kept && small) {
            (self.unchanged, self.gap) = (0, 0);
            return;
        }
        self.unchanged += 1;
        if self.unchanged >= ENOUGH {
            self.gap = (2 * self.gap).clamp(1, MAX_GAP);
            self.skip = self.gap;
        }
    }

    /// A guard has lowered the LR: the next stage is searched, near it.
    pub(super) fn broke(&mut self) {
        self.narrow();
        self.reset();
    }

    /// What the searches have said so far is about another LR: the next stage is searched.
    pub(super) fn reset(&mut self) {
        (self.unchanged, self.gap, self.skip) = (0, 0, 0);
    }

    /// Whether the next stage is not searched.
    pub(super) fn skips(&mut self) -> bool {
        let skips = self.skip > 0;
        self.skip = self.skip.saturating_sub(1);
        skips
    }

    fn widen(&mut self) {
        self.delta = (1.5 * self.delta).min(MAX_DELTA);
    }

    fn narrow(&mut self) {
        self.delta = (0.7 * self.delta).max(MIN_DELTA);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{forecast::Forecast, policy::level::Level};

    fn choice(kept: bool, gain: f64) -> Choice {
        let forecast = Forecast { mean: 1.0, sd: 0.1 };
        Choice { trial: 0, z: 0.0, forecast, level: Level::first(&[2.0; 30]), gain: Some(gain), kept }
    }

    #[test]
    fn delta_follows_the_winner_within_its_limits() {
        let mut pace = Pace::new();
        let mut deltas = |kept: bool| {
            for _ in 0..6 {
                pace.chosen(&choice(kept, 1.0));
            }
            pace.delta
        };
        assert_eq!([deltas(false), deltas(true)], [1.0, 0.15]);
        let mut pace = Pace::new();
        pace.broke();
        assert!((pace.delta - 0.42).abs() < 1e-12);
    }

    #[test]
    fn searches_that_change_nothing_become_rare() {
        let mut pace = Pace::new();
        let mut skipped = Vec::new();
        for _ in 0..6 {
            pace.chosen(&choice(true, 0.01));
            let mut n = 0;
            while pace.skips() {
                n += 1;
            }
            skipped.push(n);
        }
        assert_eq!(skipped, [0, 1, 2, 4, 4, 4]);
        pace.chosen(&choice(true, 0.03));
        pace.chosen(&choice(true, 0.0));
        assert!(!pace.skips(), "two in a row are needed once more");
        pace.chosen(&choice(true, 0.0));
        pace.broke();
        assert!(!pace.skips());
    }
}
