//! Jobs, stages and schedules as text for people and as JSON for machines.

pub mod json;
pub mod schedule;
pub mod text;

use autolrs_proto::v1::{Failure, Job, JobState, Phase, trial::Outcome};

/// The last part of an enum value's name in the proto, in small letters.
fn state(job: &Job) -> String {
    state_name(job.state())
}

fn state_name(state: JobState) -> String {
    state.as_str_name().trim_start_matches("JOB_STATE_").to_ascii_lowercase()
}

fn phase(job: &Job) -> Option<String> {
    let phase = job.phase();
    (phase != Phase::Unspecified)
        .then(|| phase.as_str_name().trim_start_matches("PHASE_").to_ascii_lowercase())
}

fn failure(job: &Job) -> Option<String> {
    let failure = job.failure();
    (failure != Failure::Unspecified)
        .then(|| failure.as_str_name().trim_start_matches("FAILURE_").to_ascii_lowercase())
}

fn outcome(outcome: Outcome) -> String {
    outcome.as_str_name().trim_start_matches("OUTCOME_").to_ascii_lowercase()
}

/// Search steps as a share of all steps; none before the first step.
fn overhead(job: &Job) -> Option<f64> {
    let steps = job.steps.unwrap_or_default();
    let total = steps.committed + steps.search + steps.lost;
    (total > 0).then(|| steps.search as f64 / total as f64)
}
