//! Rungs: where the policy may end a trial early, and the trainer waits for the word.
//!
//! That a trial goes on follows from what is stored and from its losses. So it is not stored: asked again, also by a
//! trainer whose server has lost its memory, the answer is the same. That a trial ends is stored as any end is.

use super::{
    Ack, Current, End, Job, Mode, Progress, Refusal, Report, Verdict,
    record::{Books, Row},
    report::describe,
};
use crate::{
    directive::Run,
    plan::{FromSlot, Plan},
    policy::{Context, Notes, PolicyState, Segment},
    stop_rules::Stop,
};

/// A policy's wish to end a trial, and its state after it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cut {
    policy: PolicyState,
    notes: Notes,
    plan: FromSlot,
}

impl Job {
    /// A report whose trainer stands at a rung after `total` steps, of which `progress` is new.
    pub(super) fn admit_rung(
        &self,
        report: &Report,
        progress: Progress,
        total: u64,
        stop: Option<Stop>,
    ) -> Result<Verdict, Refusal> {
        let field = "report.at_rung";
        let (Some(current), Some(run)) = (&self.current, self.current_run()) else {
            let description = "needs a directive to run".into();
            return Err(Refusal::InvalidField { field, description });
        };
        if report.finished {
            let description = "is only for a report that is not finished".into();
            return Err(Refusal::InvalidField { field, description });
        }
        if !run.is_rung(total, self.spec.switch_every) {
            let description = format!("is set after {total} steps, where no rung takes effect");
            return Err(Refusal::InvalidField { field, description });
        }
        if let Some(stop) = stop {
            let (expected, reported) = (describe(stop, run.steps()), format!("a rung after {total} steps"));
            return Err(Refusal::StopMismatch { seq: report.seq, expected, reported });
        }
        let losses = [&current.progress.losses[..], &progress.losses].concat();
        let progress = Box::new(progress);
        Ok(match self.cut(run, &losses) {
            Some(cut) => Verdict::Cut(progress, Box::new(cut)),
            None => Verdict::GoOn(progress),
        })
    }

    fn cut(&self, run: &Run, losses: &[f64]) -> Option<Cut> {
        if self.mode != Mode::Policy {
            return None;
        }
        let Books { mut spent, slots, .. } = self.books.clone();
        spent.search += losses.len() as u64;
        let cx = Context { spent, slots: &slots, ..self.context() };
        let (mut policy, mut notes) = (self.policy.clone(), Notes::default());
        let plan = policy.get_mut().at_rung(&Segment { run, losses, validations: &[] }, &cx, &mut notes)?;
        Some(Cut { policy, notes, plan })
    }

    /// The trial goes on.
    pub(super) fn go_on(&mut self, last: Progress) -> Ack {
        let ack = self.enter(last);
        Ack { go_on: Some(ack.received_through), ..ack }
    }

    /// The trial ends here.
    pub(super) fn end_at_rung(&mut self, last: Progress, cut: Cut, rows: &mut Vec<Row>) -> Ack {
        self.close_with(last, End::Rung, rows, |job, current, rows| {
            if let Some(plan) = job.operators_plan(current, End::Rung, rows) {
                return plan;
            }
            job.policy = cut.policy;
            job.note(cut.notes, rows);
            Plan::from(cut.plan)
        })
    }

    /// Whether a trainer without an answer leaves the current directive for its fallback after `total` steps.
    pub(super) fn may_be_left(&self, total: u64) -> bool {
        self.current.as_ref().is_some_and(|Current { directive, .. }| {
            let rung = directive.run().is_some_and(|run| run.is_rung(total, self.spec.switch_every));
            rung && directive.fallback.is_some()
        })
    }

    /// No answer reached the trainer at a rung: it runs the fallback.
    pub(super) fn leave(&mut self, last: Progress, rows: &mut Vec<Row>) -> Ack {
        self.enter(last);
        let fallback = self.current.as_ref().and_then(|current| current.directive.fallback.clone());
        let (Some(fallback), Some(current)) = (fallback, self.current.take()) else {
            return self.heartbeat();
        };
        self.close_books(&current, current.progress.received(), End::NoAnswer, rows);
        let follows = current.directive.seq;
        self.previous = Some(current.closed(End::NoAnswer));
        self.run_fallback(*fallback, follows, true, rows)
    }
}
