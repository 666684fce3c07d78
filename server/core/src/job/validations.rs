//! Validation losses of a directive: those that its run asks for, and any other that the trainer measures. They are
//! known by (session, seq, offset) like training losses; the first one of an offset stands.

use super::{End, Job, Progress, Refusal, Report, Validation};
use crate::directive::{Phase, Run};
use std::collections::BTreeSet;

/// Most validation losses that are kept of one directive.
const MAX_VALIDATIONS: usize = 4096;
const FIELD: &str = "report.validations";

/// Those of a report that are not held yet.
pub(super) fn not_held(report: &Report, held: &[Validation], run: &Run) -> Result<Vec<Validation>, Refusal> {
    let refused = |description| Refusal::InvalidField { field: FIELD, description };
    let too_many = || refused(format!("are limited to {MAX_VALIDATIONS} for one directive"));
    if report.validations.len() > MAX_VALIDATIONS {
        return Err(too_many());
    }
    if let Some(late) = report.validations.iter().find(|v| v.offset > run.steps()) {
        return Err(refused(format!("has offset {}; the directive has {} steps", late.offset, run.steps())));
    }
    let mut offsets: BTreeSet<u64> = held.iter().map(|v| v.offset).collect();
    let new: Vec<_> = report.validations.iter().filter(|v| offsets.insert(v.offset)).copied().collect();
    if held.len() + new.len() > MAX_VALIDATIONS { Err(too_many()) } else { Ok(new) }
}

/// Refuses an end after `steps` steps that one of the losses the run needs for it is missing of.
pub(super) fn check_complete(
    run: &Run,
    end: End,
    steps: u64,
    held: &[Validation],
    new: &[Validation],
) -> Result<(), Refusal> {
    let known: BTreeSet<u64> = held.iter().chain(new).map(|v| v.offset).collect();
    match needed(run, end, steps).iter().find(|at| !known.contains(at)) {
        None => Ok(()),
        Some(at) => {
            let description = format!("lack the one at offset {at}, which the directive asks for");
            Err(Refusal::InvalidField { field: FIELD, description })
        }
    }
}

/// Those that the run asked for, by offset.
pub(super) fn asked_for(run: &Run, end: End, progress: &Progress) -> Vec<Validation> {
    let known = |at: &u64| progress.validations.iter().find(|v| v.offset == *at).copied();
    needed(run, end, progress.received()).iter().filter_map(known).collect()
}

/// Offsets without which the run can't end so after `steps` steps: one at an early end is moot.
fn needed(run: &Run, end: End, steps: u64) -> &[u64] {
    let within = |at: &u64| *at < steps || end == End::Completed;
    &run.validate_at[..run.validate_at.partition_point(within)]
}

impl Job {
    /// A session that can't validate may not take over a search that goes by validation losses.
    pub(super) fn refuse_without_validation(run: Option<&Run>, validate: bool) -> Result<(), Refusal> {
        if validate || run.is_none_or(|run| run.phase != Phase::Trial || run.validate_at.is_empty()) {
            return Ok(());
        }
        let description =
            "must be true: the search under way goes by validation losses; go on with a trainer that \
             measures them, or open with restart"
                .into();
        Err(Refusal::InvalidField { field: "capabilities.validate", description })
    }

    /// A committed stretch under way asks for nothing that the trainer can't do.
    pub(super) fn settle_validation(&mut self) {
        if let Some(crate::directive::Action::Run(run)) =
            self.current.as_mut().map(|c| &mut c.directive.action)
            && !self.validate
        {
            run.validate_at.clear();
        }
    }
}
