//! What is told of a decision: metrics, and a line in the log if it was slow.

use super::table;
use autolrs_core::{
    directive::{Action, DoneReason},
    job::{Effects, End, Row},
};
use metrics::{counter, histogram};
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};
use tracing::Span;

/// Time after which a decision is slow, in microseconds.
static SLOW: AtomicU64 = AtomicU64::new(u64::MAX);

/// From now on a decision that takes this long has a line in the log.
pub fn slow_after(threshold: Duration) {
    SLOW.store(u64::try_from(threshold.as_micros()).unwrap_or(u64::MAX), Relaxed);
}

/// A decision under way.
#[derive(Debug)]
pub struct Decision {
    started: Instant,
    decided: Instant,
    policy: &'static str,
    span: Span,
    next: Option<&'static str>,
    ended: Option<DoneReason>,
    ends: Vec<End>,
    commits: u64,
}

impl Decision {
    /// What was decided just now for an event that came at `started`; `ended`: the job ends with it. The span has room
    /// for what is told.
    pub fn new(
        started: Instant,
        policy: &'static str,
        effects: &Effects,
        ended: Option<DoneReason>,
        span: &Span,
    ) -> Self {
        let (mut next, mut ends, mut commits) = (None, Vec::new(), 0);
        for row in &effects.rows {
            match row {
                Row::Directive(record) if record.end == End::Open => {
                    let phase = phase(&record.directive.action);
                    span.record("seq", record.directive.seq).record("phase", phase);
                    next = Some(phase);
                }
                Row::Directive(record) => ends.push(record.end),
                Row::Commit(_) => commits += 1,
                _ => {}
            }
        }
        span.record("policy", policy);
        Self { started, decided: Instant::now(), policy, span: span.clone(), next, ended, ends, commits }
    }

    /// It was stored.
    pub fn stored(self) {
        let Self { started, decided, policy, span, next, ended, ends, commits } = self;
        let taken = started.elapsed();
        histogram!(table::DECISION.name).record(taken.as_secs_f64());
        if let Some(phase) = next {
            counter!(table::DECISIONS.name, "policy" => policy, "phase" => phase).increment(1);
        }
        if let Some(reason) = ended {
            counter!(table::ENDED.name, "state" => reason.name()).increment(1);
        }
        for (end, cause) in ends.into_iter().filter_map(end) {
            counter!(table::DIRECTIVES_ENDED.name, "end" => end).increment(1);
            if let Some(cause) = cause {
                counter!(table::FALLBACKS.name, "cause" => cause).increment(1);
            }
        }
        if commits > 0 {
            counter!(table::COMMITS.name, "policy" => policy).increment(commits);
        }
        if taken.as_micros() >= u128::from(SLOW.load(Relaxed)) {
            counter!(table::SLOW_DECISIONS.name).increment(1);
            let [seconds, deciding, storing] =
                [taken, decided - started, decided.elapsed()].map(|time| time.as_secs_f64());
            span.in_scope(|| tracing::warn!(seconds, deciding, storing, "slow decision"));
        }
    }
}

/// How a directive has ended, and why its trainer went on with a fallback if it did.
fn end(end: End) -> Option<(&'static str, Option<&'static str>)> {
    Some(match end {
        End::Open => return None,
        End::Completed => ("completed", None),
        End::Stopped(_) => ("stopped", None),
        End::Interrupted => ("interrupted", None),
        End::Rung => ("rung", None),
        End::NoAnswer => ("no_answer", Some("rung")),
        End::Void => ("void", Some("late")),
        End::Abandoned => ("abandoned", None),
        End::Disputed => ("disputed", Some("disputed")),
    })
}

fn phase(action: &Action) -> &'static str {
    match action {
        Action::Run(run) => run.phase.name(),
        Action::Done(_) => "done",
    }
}
