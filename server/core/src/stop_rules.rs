//! The rules that end a directive early. One pure function judges them: the trainer's client runs it after every
//! loss, and the server runs it again over the reported losses.
//!
//! Losses of a directive are `y_0, y_1, ...`. A non-finite loss matches only [`StopIf::NonFinite`].

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// A predicate over the losses of one directive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum StopIf {
    /// `y_k` is NaN or infinite. Always in a directive's list.
    NonFinite,
    /// `y_k > limit` and `k >= from`.
    Above {
        /// Loss units, finite.
        limit: f64,
        /// First offset judged.
        from: u64,
    },
    /// `y_k > y_0 + factor max(|y_0|, floor)` and `k >= from`.
    AboveFirst {
        /// > 0.
        factor: f64,
        /// Loss units, >= 0.
        floor: f64,
        /// First offset judged.
        from: u64,
    },
    /// mean of the `last` losses up to `k` is above `limit`, `k >= max(from, last - 1)`.
    MeanAbove {
        /// Number of losses in the mean, 1 to 256.
        last: u32,
        /// Loss units, finite.
        limit: f64,
        /// First offset judged.
        from: u64,
    },
    /// `e_k = decay e_(k-1) + (1 - decay) y_k`, `e_-1 = start_value`; `e_k > limit` and `k >= from`.
    EmaAbove {
        /// In [0, 1).
        decay: f64,
        /// Loss units, finite.
        start_value: f64,
        /// Loss units, finite.
        limit: f64,
        /// First offset judged.
        from: u64,
    },
}

/// Largest `last` of [`StopIf::MeanAbove`]: bounds the work of one judgement.
pub const MAX_MEAN: u32 = 256;

impl StopIf {
    /// Whether its numbers are in range.
    pub fn is_valid(&self) -> bool {
        match *self {
            Self::NonFinite => true,
            Self::Above { limit, .. } => limit.is_finite(),
            Self::AboveFirst { factor, floor, .. } => {
                factor.is_finite() && factor > 0.0 && floor.is_finite() && floor >= 0.0
            }
            Self::MeanAbove { last, limit, .. } => (1..=MAX_MEAN).contains(&last) && limit.is_finite(),
            Self::EmaAbove { decay, start_value, limit, .. } => {
                (0.0..1.0).contains(&decay) && start_value.is_finite() && limit.is_finite()
            }
        }
    }
}

/// A rule that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Position of the rule in the directive's list.
    pub rule: u32,
    /// Offset `k` of the loss at which it matched.
    pub offset: u64,
}

/// Judges the losses of one directive in order. Allocates only when it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    rules: Vec<StopIf>,
    emas: Vec<f64>,
    first: f64,
    recent: VecDeque<f64>,
    window: usize,
    seen: u64,
    stop: Option<Stop>,
}

impl Judge {
    /// A judge that has seen no loss.
    pub fn new(rules: &[StopIf]) -> Self {
        let emas = rules
            .iter()
            .map(|r| if let StopIf::EmaAbove { start_value, .. } = r { *start_value } else { 0.0 });
        let last = rules.iter().map(|r| if let StopIf::MeanAbove { last, .. } = r { *last } else { 0 });
        let window = last.max().unwrap_or(0).min(MAX_MEAN) as usize;
        Self {
            rules: rules.to_vec(),
            emas: emas.collect(),
            first: 0.0,
            recent: VecDeque::with_capacity(window + 1),
            window,
            seen: 0,
            stop: None,
        }
    }

    /// A judge that has seen `losses`.
    pub fn over(rules: &[StopIf], losses: &[f64]) -> Self {
        let mut judge = Self::new(rules);
        for &loss in losses {
            judge.push(loss);
        }
        judge
    }

    /// Judges the next loss. The first match stands; the rule that is first in the list wins where several match.
    pub fn push(&mut self, y: f64) -> Option<Stop> {
        if self.seen == 0 {
            self.first = y;
        }
        self.recent.push_back(y);
        if self.recent.len() > self.window {
            self.recent.pop_front();
        }
        for (rule, ema) in self.rules.iter().zip(&mut self.emas) {
            if let StopIf::EmaAbove { decay, .. } = rule {
                *ema = decay * *ema + (1.0 - decay) * y;
            }
        }
        if self.stop.is_none() {
            let hit = (0..self.rules.len()).find(|&rule| self.matches(rule, y));
            self.stop = hit.map(|rule| Stop { rule: rule as u32, offset: self.seen });
        }
        self.seen += 1;
        self.stop
    }

    /// The first match so far.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    fn matches(&self, rule: usize, y: f64) -> bool {
        if !y.is_finite() {
            return matches!(self.rules[rule], StopIf::NonFinite);
        }
        let k = self.seen;
        match self.rules[rule] {
            StopIf::NonFinite => false,
            StopIf::Above { limit, from } => k >= from && y > limit,
            StopIf::AboveFirst { factor, floor, from } => {
                k >= from && y > self.first + factor * self.first.abs().max(floor)
            }
            StopIf::MeanAbove { last, limit, from } => {
                k >= from && k + 1 >= u64::from(last) && {
                    let skip = self.recent.len() - last as usize;
                    self.recent.iter().skip(skip).sum::<f64>() / f64::from(last) > limit
                }
            }
            StopIf::EmaAbove { limit, from, .. } => k >= from && self.emas[rule] > limit,
        }
    }
}

/// The number of steps after which a stop at offset `k` takes effect: the first switch point (a multiple of
/// `switch_every`) at or after `k + switch_every`, or the end of the directive.
pub fn switch_point(k: u64, switch_every: u64, end: u64) -> u64 {
    let every = switch_every.max(1);
    (k + every).div_ceil(every).saturating_mul(every).min(end)
}

/// Whether something other than its end may end a directive of `end` steps after `offset` steps.
pub fn is_switch_point(offset: u64, switch_every: u64, end: u64) -> bool {
    offset == end || offset.is_multiple_of(switch_every.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_stop(rules: &[StopIf], losses: &[f64]) -> Option<Stop> {
        Judge::over(rules, losses).stop()
    }

    #[test]
    fn each_rule_matches_where_its_definition_says() {
        let at = |rule, offset| Some(Stop { rule, offset });
        let above = StopIf::Above { limit: 2.0, from: 2 };
        assert_eq!(first_stop(&[StopIf::NonFinite, above], &[3.0, 2.0, 2.0, 2.1]), at(1, 3));
        let first = StopIf::AboveFirst { factor: 4.0, floor: 0.0, from: 0 };
        assert_eq!(first_stop(&[StopIf::NonFinite, first], &[2.0, 10.0, 10.1]), at(1, 2));
        assert_eq!(first_stop(&[first], &[-1.0, 3.0, 3.1]), at(0, 2));
        let mean = StopIf::MeanAbove { last: 3, limit: 1.0, from: 0 };
        assert_eq!(first_stop(&[mean], &[9.0, 9.0, -15.0, 8.0, 11.0]), at(0, 4));
        let ema = StopIf::EmaAbove { decay: 0.5, start_value: 0.0, limit: 1.0, from: 1 };
        assert_eq!(first_stop(&[ema], &[8.0, 0.0]), at(0, 1));
        assert_eq!(first_stop(&[ema], &[1.0, 1.0, 1.0]), None);
    }

    #[test]
    fn a_non_finite_loss_matches_only_non_finite() {
        let rules = [StopIf::Above { limit: 0.0, from: 0 }, StopIf::NonFinite];
        assert_eq!(first_stop(&rules, &[f64::INFINITY]), Some(Stop { rule: 1, offset: 0 }));
        assert_eq!(first_stop(&rules[..1], &[f64::NAN, -1.0]), None);
    }

    #[test]
    fn the_first_match_stands() {
        let rules = [StopIf::Above { limit: 1.0, from: 0 }];
        assert_eq!(first_stop(&rules, &[0.0, 2.0, 0.0, 3.0]), Some(Stop { rule: 0, offset: 1 }));
    }

    #[test]
    fn a_stop_takes_effect_at_a_switch_point() {
        assert_eq!([0, 1, 7, 8].map(|k| switch_point(k, 8, 100)), [8, 16, 16, 16]);
        assert_eq!(switch_point(95, 8, 100), 100);
        assert_eq!([0, 5].map(|k| switch_point(k, 1, 100)), [1, 6]);
        assert!(is_switch_point(16, 8, 20) && is_switch_point(20, 8, 20) && !is_switch_point(17, 8, 20));
    }
}
