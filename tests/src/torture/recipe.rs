//! The jobs that are tortured: one per policy that searches, a plain one, and one without a known budget.

use crate::sim::Optimum;
use autolrs_client::{JobSpec, OpenBudget, PaperOptions, PolicySpec, ScanOptions, StagedOptions, WsdOptions};
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
        let (total_steps, policy) = match self {
            Self::Scan | Self::Open => (900, PolicySpec::Scan(ScanOptions::default())),
            Self::Staged => {
                let options = StagedOptions { tau: Some(60), ..StagedOptions::default() };
                (900, PolicySpec::Staged(StagedOptions { trial_fraction: Some(0.4), ..options }))
            }
            Self::Paper => {
                let options = PaperOptions { tau: Some(60), tau_max: Some(120), ..PaperOptions::default() };
                let options = PaperOptions { candidates: Some(4), trial_fraction: Some(0.2), ..options };
                (700, PolicySpec::Paper(options))
            }
            Self::Wsd => (600, PolicySpec::Wsd(WsdOptions::default())),
        };
        let open = self == Self::Open;
        JobSpec {
            total_steps: (!open).then_some(total_steps),
            open_budget: open.then(OpenBudget::default),
            lr_min: Some(1e-4),
            lr_max: Some(1.0),
            fallback_lr: Some(0.05),
            max_overhead: (self == Self::Staged).then_some(0.6),
            policy: Some(policy),
            ..JobSpec::default()
        }
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
