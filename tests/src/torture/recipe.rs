//! The jobs that are tortured: one per policy that searches, a plain one, and one without a known budget.

use crate::{jobs::Kind, sim::Optimum};
use autolrs_client::{JobSpec, OpenBudget};
use clap::ValueEnum;

/// A job of a few hundred steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Recipe {
    /// `scan`.
    Scan,
    /// `scan` with an open budget; its trainer finishes it.
    Open,
    /// `staged`.
    Staged,
    /// `paper`.
    Paper,
    /// `wsd`, which does not search.
    Wsd,
}

impl Recipe {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Scan, Self::Open, Self::Staged, Self::Paper, Self::Wsd];

    /// As it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Open => "scan, open budget",
            Self::Staged => "staged",
            Self::Paper => "paper",
            Self::Wsd => "wsd",
        }
    }

    /// Its word on a command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            _ => self.name(),
        }
    }

    /// What the job is asked to do.
    pub fn spec(self) -> JobSpec {
        let kind = match self {
            Self::Scan | Self::Open => Kind::Scan,
            Self::Staged => Kind::Staged,
            Self::Paper => Kind::Paper,
            Self::Wsd => Kind::Wsd,
        };
        if self == Self::Open {
            return JobSpec { total_steps: None, open_budget: Some(OpenBudget::default()), ..kind.spec() };
        }
        kind.spec()
    }

    /// Steps after which the trainer asks for the end.
    pub fn finish_at(self) -> Option<u64> {
        (self == Self::Open).then_some(700)
    }

    /// The loss surface that it trains on.
    pub fn surface(self) -> Optimum {
        Optimum::default()
    }
}
