//! Jobs, stages and schedules as tables for people, as JSON for programs and as CSV.

pub(super) mod config;
pub(super) mod conformance;
pub mod csv;
pub(super) mod doctor;
pub mod json;
pub(super) mod number;
pub mod schedule;
pub(super) mod store;
mod table;
pub mod text;
pub(super) mod token;

use autolrs_proto::v1::{Failure, Job, JobState, Phase, trial::Outcome};

/// The last part of an enum value's name in the proto, in small letters.
pub(super) fn state(job: &Job) -> String {
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

/// What to do about a failure.
fn remedy(job: &Job) -> Option<&'static str> {
    match job.failure() {
        Failure::Unspecified => None,
        Failure::LossNotFiniteAtStart => Some(
            "the first loss was no number at an LR close to 0: look for the fault in the model or the data",
        ),
        Failure::Unstable => Some(
            "the loss broke again after every retry at a lower LR: lower lr_max, or look for the fault in the data",
        ),
        Failure::AllCandidatesDiverged => {
            Some("every candidate diverged, also after the range was lowered: lower lr_max and lr_min")
        }
    }
}

fn outcome(outcome: Outcome) -> String {
    outcome.as_str_name().trim_start_matches("OUTCOME_").to_ascii_lowercase()
}

/// Steps of all kinds that count.
pub(super) fn steps(job: &Job) -> u64 {
    let steps = job.steps.unwrap_or_default();
    steps.committed + steps.search + steps.lost
}

/// The steps so far by kind, in a sentence.
pub(super) fn steps_line(job: &Job) -> String {
    let kinds = job.steps.unwrap_or_default();
    let [committed, search, lost, all] =
        [kinds.committed, kinds.search, kinds.lost, steps(job)].map(number::steps);
    let budget = job.total_steps.map_or("an open budget".into(), |budget| number::steps(budget) + " steps");
    let overhead = overhead(job).map(|share| format!(" ({})", number::percent(share))).unwrap_or_default();
    format!("{all} of {budget}: {committed} committed, {search} search{overhead}, {lost} lost")
}

/// Search steps as a share of all steps; none before the first step.
fn overhead(job: &Job) -> Option<f64> {
    let (search, all) = (job.steps.unwrap_or_default().search, steps(job));
    (all > 0).then(|| search as f64 / all as f64)
}
