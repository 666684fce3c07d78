//! The search for a learning rate: what was measured ([`observation`]), a Gaussian process over it ([`gp`],
//! [`kernel`]), how much a new measurement would be worth ([`acquisition`]) and where it is worth most
//! ([`mod@maximize`]). The coordinate is z = log10(LR), in decades.

pub mod acquisition;
pub mod golden;
pub mod gp;
pub mod kernel;
pub mod maximize;
pub mod observation;

pub use acquisition::Acquisition;
pub use gp::{FittedGp, Gp, GpError, HyperParameters, Posterior, fit_map};
pub use maximize::{largest_gap, maximize};
pub use observation::{Measured, Observation, Outcome, Scale, standardise};

use crate::spec::LrRange;
use serde::{Deserialize, Serialize};

/// The interval of a search, in decades.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// log10 of the lowest LR, finite.
    pub lo: f64,
    /// log10 of the highest LR, finite, > `lo`.
    pub hi: f64,
}

impl From<LrRange> for Bounds {
    /// The range of a resolved spec is checked: 0 < lo < hi.
    fn from(range: LrRange) -> Self {
        Self { lo: libm::log10(range.lo), hi: libm::log10(range.hi) }
    }
}
