//! Small jobs, one for each way a job can go.

use autolrs_client::{JobSpec, PaperOptions, PolicySpec, ScanOptions, StagedOptions, WsdOptions};

/// A job that takes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A search, warm-up, stable phase and cooldown.
    Scan,
    /// A search per stage, with rungs in its trials.
    Staged,
    /// A search per stage.
    Paper,
    /// No search.
    Wsd,
}

impl Kind {
    /// What the job is asked to do.
    pub fn spec(self) -> JobSpec {
        let (total_steps, policy) = match self {
            Self::Scan => (900, PolicySpec::Scan(ScanOptions::default())),
            Self::Staged => {
                let options = StagedOptions { tau: Some(60), ..StagedOptions::default() };
                (900, PolicySpec::Staged(StagedOptions { trial_fraction: Some(0.4), ..options }))
            }
            Self::Paper => {
                let options = PaperOptions { tau: Some(40), tau_max: Some(80), ..PaperOptions::default() };
                let options = PaperOptions { candidates: Some(4), trial_fraction: Some(0.2), ..options };
                (600, PolicySpec::Paper(options))
            }
            Self::Wsd => (400, PolicySpec::Wsd(WsdOptions::default())),
        };
        JobSpec {
            total_steps: Some(total_steps),
            lr_min: Some(1e-4),
            lr_max: Some(10.0),
            fallback_lr: Some(0.05),
            max_overhead: (self == Self::Staged).then_some(0.6),
            policy: Some(policy),
            ..JobSpec::default()
        }
    }
}
