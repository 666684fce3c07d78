//! The scales of a loss and the limits built from them: whatever the loss's unit, the limits mean the same.
//!
//! | symbol | meaning |
//! |---|---|
//! | `loss0` | the loss at the start |
//! | `best` | the best branch's score |
//! | `D` | loss0 - best, at least 0: what the best branch gained |
//! | `s` | standard deviation of the noise of one loss, see [`Scales::new`] |
//! | `ref` | the loss that a committed stretch has reached |
//! | `abs x` | the distance of x from the loss's lower bound |
//!
//! The limits catch an explosion, not an LR that is merely bad. Where the loss has a lower bound, its distance from
//! the bound is a scale too; else only differences are, so that y -> c y + d maps every limit the same way.

use crate::policy::limits::{above, finite};
use serde::{Deserialize, Serialize};

/// See the module's table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Scales {
    /// Finite.
    pub(super) loss0: f64,
    /// Finite.
    pub(super) best: f64,
    /// Finite, >= 0.
    pub(super) s: f64,
    /// A value that the loss can't go below, finite.
    pub(super) bound: Option<f64>,
}

impl Scales {
    /// `noise` is what most losses show of the noise, `rough` what all of them do. Where few losses carry it (those of a
    /// model that is nearly always right) the first says nothing, and a gain below 3 `rough` is no gain: then s = 1.5
    /// `rough`, above half of any such gain.
    pub(super) fn new(loss0: f64, best: f64, (noise, rough): (f64, f64), bound: Option<f64>) -> Self {
        let uneven = rough > 2.0 * noise && finite(loss0 - best) < 3.0 * rough;
        Self { loss0, best, s: if uneven { finite(1.5 * rough) } else { noise }, bound }
    }

    /// With `times` the noise.
    #[must_use]
    pub(super) fn noisier(self, times: u32) -> Self {
        Self { s: finite(f64::from(times) * self.s), ..self }
    }

    /// D.
    pub(super) fn gain(&self) -> f64 {
        finite(self.loss0 - self.best).max(0.0)
    }

    /// U: max(abs loss0, D, 3 s) with a lower bound, else max(D, 3 s).
    pub(super) fn unit(&self) -> f64 {
        self.size(self.loss0).max(self.gain()).max(3.0 * self.s)
    }

    /// A branch is stopped above loss0 + 4 U.
    pub(super) fn branch_limit(&self) -> f64 {
        finite(self.loss0 + 4.0 * self.unit())
    }

    /// loss0 + max(0.5 abs loss0, 3 s) with a lower bound, else loss0 + max(0.5 D, 3 s); never above loss0 + 0.5 D once
    /// D > 6 s.
    pub(super) fn warmup_limit(&self) -> f64 {
        let (gain, noise) = (self.gain(), 3.0 * self.s);
        let mut margin = match self.bound {
            Some(_) => (0.5 * self.size(self.loss0)).max(noise),
            None => (0.5 * gain).max(noise),
        };
        if gain > 2.0 * noise {
            margin = margin.min(0.5 * gain);
        }
        above(self.loss0, margin, self.loss0)
    }

    /// ref + max(abs ref, 0.5 max(D, 3 s)) with a lower bound, else ref + 0.5 max(D, 3 s); where loss0 - ref > 6 s at
    /// most ref + max(3 s, 0.5 (loss0 - ref)).
    pub(super) fn stable_limit(&self, reference: f64) -> f64 {
        let mut margin = self.size(reference).max(0.5 * self.gain().max(3.0 * self.s));
        let reached = finite(self.loss0 - reference);
        if reached > 6.0 * self.s {
            margin = margin.min((3.0 * self.s).max(0.5 * reached));
        }
        above(reference, margin, self.loss0)
    }

    /// Above best + min(max(0.25 D, 3 s), 0.5 D) what the branches learnt is lost; none unless D > 2 s.
    pub(super) fn dead(&self) -> Option<f64> {
        let gain = self.gain();
        let margin = (0.25 * gain).max(3.0 * self.s).min(0.5 * gain);
        (gain > 2.0 * self.s).then(|| finite(self.best + margin))
    }

    /// The next ref: min(ema, ref + g), g = 0.2 abs ref with a lower bound, else 0.1 max(D, 3 s); never above
    /// loss0 - 0.5 (loss0 - lowest ref) once that gap is above 6 s.
    pub(super) fn next_reference(&self, ema: f64, reference: f64, lowest: f64) -> f64 {
        let growth = match self.bound {
            Some(_) => 0.2 * self.size(reference),
            None => 0.1 * self.gain().max(3.0 * self.s),
        };
        let gap = finite(self.loss0 - lowest);
        let cap = if gap > 6.0 * self.s { self.loss0 - 0.5 * gap } else { f64::MAX };
        finite(ema.min(reference + growth).min(cap))
    }

    /// The distance from the lower bound, 0 without one.
    fn size(&self, loss: f64) -> f64 {
        self.bound.map_or(0.0, |bound| finite(loss - bound).abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn limits_of_a_classifier() {
        let scales = Scales { loss0: 2.3, best: 0.6, s: 0.1, bound: Some(0.0) };
        assert!(near(scales.branch_limit(), 11.5));
        assert!(near(scales.warmup_limit(), 3.15));
        assert!(near(scales.stable_limit(0.6), 1.45));
        assert!(near(scales.dead().unwrap(), 1.025));
    }

    #[test]
    fn limits_of_a_language_model() {
        let scales = Scales { loss0: 5.5, best: 5.0, s: 0.2, bound: Some(0.0) };
        assert!(near(scales.stable_limit(3.0), 4.25));
        assert!(near(scales.dead().unwrap(), 5.25));
        assert_eq!(Scales { s: 0.25, ..scales }.dead(), None);
    }

    #[test]
    fn without_a_bound_limits_follow_every_unit() {
        let scales = Scales { loss0: 2.0, best: -1.0, s: 0.1, bound: None };
        for (c, d) in [(0.01, 0.0), (1.0, 10.0), (300.0, -1e4)] {
            let map = |y: f64| c * y + d;
            let mapped = Scales { loss0: map(2.0), best: map(-1.0), s: 0.1 * c, bound: None };
            let pairs = [
                (scales.branch_limit(), mapped.branch_limit()),
                (scales.warmup_limit(), mapped.warmup_limit()),
                (scales.stable_limit(-2.0), mapped.stable_limit(map(-2.0))),
                (scales.dead().unwrap(), mapped.dead().unwrap()),
                (scales.next_reference(0.0, -2.0, -2.5), mapped.next_reference(map(0.0), map(-2.0), map(-2.5))),
            ];
            assert!(pairs.iter().all(|(a, b)| (map(*a) - b).abs() < 1e-9 * (1.0 + b.abs())), "{pairs:?}");
        }
    }

    #[test]
    fn a_bound_elsewhere_is_a_shift() {
        let scales = Scales { loss0: 2.3, best: 0.6, s: 0.1, bound: Some(0.0) };
        let shifted = Scales { loss0: 12.3, best: 10.6, s: 0.1, bound: Some(10.0) };
        assert!(near(shifted.branch_limit(), scales.branch_limit() + 10.0));
        assert!(near(shifted.stable_limit(10.6), scales.stable_limit(0.6) + 10.0));
    }

    #[test]
    fn the_reference_follows_down_at_once_and_up_slowly() {
        let scales = Scales { loss0: 2.3, best: 0.6, s: 0.1, bound: Some(0.0) };
        assert_eq!(scales.next_reference(0.3, 0.6, 0.6), 0.3);
        assert!(near(scales.next_reference(0.9, 0.6, 0.6), 0.72));
        assert!(near(scales.next_reference(9.0, 1.4, 0.3), 1.3));
    }

    #[test]
    fn odd_numbers_give_finite_limits() {
        for loss0 in [f64::MAX, f64::MIN, 0.0, 5e-324, -3.0] {
            for best in [f64::MAX, f64::MIN, 0.0, 1.0] {
                for bound in [None, Some(0.0), Some(f64::MIN)] {
                    for s in [0.0, 1.0, f64::MAX] {
                        let scales = Scales { loss0, best, s, bound };
                        let limits = [
                            scales.branch_limit(),
                            scales.warmup_limit(),
                            scales.stable_limit(best),
                            scales.dead().unwrap_or(0.0),
                            scales.next_reference(best, loss0, best),
                        ];
                        assert!(limits.iter().all(|limit| limit.is_finite()), "{scales:?} {limits:?}");
                        assert!(scales.warmup_limit() >= loss0 && scales.stable_limit(best) >= best);
                    }
                }
            }
        }
    }
}
