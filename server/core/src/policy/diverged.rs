//! The LRs that are never committed: their trials diverged.

use serde::{Deserialize, Serialize};

/// Two LRs that differ by less, as a share, are the same.
const SAME: f64 = 1e-6;

/// The LRs whose trials diverged in one search.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Diverged(Vec<f64>);

impl Diverged {
    pub(super) fn enter(&mut self, lr: f64) {
        self.0.push(lr);
    }

    /// The first of lr, lr / divisor, lr / divisor^2 ... that did not diverge.
    pub(super) fn avoid(&self, lr: f64, divisor: f64) -> f64 {
        let lower = std::iter::successors(Some(lr), |lr| Some(lr / divisor));
        // Each of them can be in the way once.
        lower.take(self.0.len() + 1).find(|lr| !self.contains(*lr)).unwrap_or(lr)
    }

    pub(super) fn contains(&self, lr: f64) -> bool {
        self.0.iter().any(|diverged| (diverged - lr).abs() <= SAME * lr)
    }

    /// The same from lr / divisor on: what a guard goes on with.
    pub(super) fn below(&self, lr: f64, divisor: f64) -> f64 {
        self.avoid(lr / divisor, divisor)
    }
}

impl FromIterator<f64> for Diverged {
    fn from_iter<T: IntoIterator<Item = f64>>(lrs: T) -> Self {
        Self(lrs.into_iter().collect())
    }
}

/// How it is told that an LR was lowered.
pub(super) fn divided(from: f64, to: f64) -> String {
    format!("divided by {}", libm::round(from / to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diverged_lr_is_stepped_over() {
        let diverged: Diverged = [0.3, 0.1 * (1.0 + 1e-9), 0.02].into_iter().collect();
        assert_eq!(Diverged::default().below(0.9, 3.0), 0.9 / 3.0);
        assert_eq!(diverged.avoid(0.9, 3.0), 0.9);
        let lowered = diverged.below(0.9, 3.0);
        assert!((lowered - 0.1 / 3.0).abs() < 1e-12, "{lowered}");
        assert_eq!(divided(0.9, lowered), "divided by 27");
        assert_eq!(diverged.below(0.04, 2.0), 0.01);
    }
}
