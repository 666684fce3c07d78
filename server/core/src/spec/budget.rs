//! The budget of a job: a number of steps, or none that is known in advance.

use crate::schedule::MAX_STEPS;
use serde::{Deserialize, Serialize};

/// How long a job may train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Budget {
    /// So many steps, search included, 1 to 10^12.
    Known(u64),
    /// Until its user finishes it, 10^12 steps at the most.
    Open {
        /// The user's guess.
        expected: Option<u64>,
    },
}

impl Budget {
    /// The most steps of the job.
    pub const fn limit(self) -> u64 {
        match self {
            Self::Known(steps) => steps,
            Self::Open { .. } => MAX_STEPS,
        }
    }

    /// B: what shares of the budget are shares of. The budget where it is known; else 100 L, where L is 1 % of what is
    /// expected, 24 to 1000 steps, and 24 where nothing is.
    pub fn nominal(self) -> u64 {
        match self {
            Self::Known(steps) => steps,
            Self::Open { expected } => {
                let l = libm::round(expected.unwrap_or(0) as f64 / 100.0) as u64;
                100 * l.clamp(24, 1000)
            }
        }
    }

    /// The budget, if it is known.
    pub const fn known(self) -> Option<u64> {
        match self {
            Self::Known(steps) => Some(steps),
            Self::Open { .. } => None,
        }
    }

    /// Whether it is not known in advance.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_budget_has_the_scale_of_its_guess_within_limits() {
        let nominal = |expected| Budget::Open { expected }.nominal();
        assert_eq!([None, Some(1), Some(2_449), Some(2_450)].map(nominal), [2400, 2400, 2400, 2500]);
        assert_eq!([Some(12_345), Some(1_000_000), Some(MAX_STEPS)].map(nominal), [12_300, 100_000, 100_000]);
        assert_eq!((Budget::Known(7).nominal(), Budget::Known(7).limit()), (7, 7));
        assert_eq!(Budget::Open { expected: Some(7) }.limit(), MAX_STEPS);
    }
}
