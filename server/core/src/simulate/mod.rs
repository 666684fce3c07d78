//! A whole training in memory: the real [`Job`] and a trainer on a loss surface, without network, clock or threads.
//!
//! [`simulate`] carries every directive out exactly as a trainer does: slot operations, LR pieces, replayed batches,
//! stop rules at switch points, rungs. The decisions are those that a server would give for the same losses.
//!
//! **Regret** is the true loss at the end minus that of the best schedule in [`reference()`]: what a user who had tuned
//! by hand, with many full runs, would have got on this very surface with the same budget and noise.

pub mod noise;
mod reference;
pub mod surface;
mod trace;
mod trainer;

pub use reference::{Reference, grid, reference};
pub use trace::{Segment, Step, Trace};
pub use trainer::Trainer;

use crate::{
    directive::{Action, Directive},
    job::{Answer, Effects, Event, Finish, Job, Open, Refusal, Row},
    spec::{Budget, ResolvedSpec},
};
use surface::Surface;

/// Steps of a training of this job: its budget, or what is expected of an open one.
pub fn steps(spec: &ResolvedSpec) -> u64 {
    match spec.budget {
        Budget::Known(steps) => steps,
        Budget::Open { expected } => expected.unwrap_or(spec.budget.nominal()),
    }
}

/// Plays a job to its end with a trainer that can replay batches: what happened, and the surface in its final state.
///
/// A job with an open budget is finished by its user: at the end of the directive that reaches 3/5 of [`steps`], so that
/// the cooldown, two thirds of the steps before it, ends about there.
///
/// # Errors
/// If the job refuses what the trainer reports: a defect.
pub fn simulate<S: Surface>(spec: ResolvedSpec, surface: S) -> Result<(Trace, S), Refusal> {
    let mut trainer = Trainer::new(surface, spec.switch_every, true);
    let mut finish_at = spec.budget.is_open().then(|| steps(&spec) * 3 / 5);
    let mut job = Job::create(spec, 0);
    let mut trace = Trace::default();
    let open = Open { replay: true, ..Open::default() };
    let mut next = send(&mut job, Event::Open(open), &mut trace)?;
    while let Some(directive) = next {
        trainer.begin(&directive);
        if let Action::Done(reason) = directive.action {
            trace.done = Some(reason);
            break;
        }
        trace.directives.push(directive);
        next = None;
        // At a rung the answer may be to go on.
        while next.is_none()
            && let Some(report) = trainer.advance(job.session())
        {
            if finish_at.take_if(|at| report.finished && trainer.steps() >= *at).is_some() {
                let finish = Finish { request_id: "finish".into(), cooldown_steps: None };
                send(&mut job, Event::Finish(finish), &mut trace)?;
            }
            next = send(&mut job, Event::Report(report), &mut trace)?;
        }
    }
    let view = job.view();
    (trace.spent, trace.warnings) = (view.spent, view.warnings);
    let surface;
    (surface, trace.steps, trace.segments) = trainer.finish();
    trace.final_loss = surface.true_loss();
    Ok((trace, surface))
}

fn send(job: &mut Job, event: Event, trace: &mut Trace) -> Result<Option<Directive>, Refusal> {
    let admitted = job.admit(event)?;
    let Effects { answer, rows } = job.apply(admitted);
    for row in rows {
        match row {
            Row::Trial(note) => trace.trials.push(note),
            Row::Commit(note) => trace.commits.push(note),
            Row::StageEnd(note) => trace.stage_ends.push(note),
            Row::Directive(_) | Row::Checkpoint(_) | Row::DropCheckpoint(_) | Row::Clear => {}
        }
    }
    Ok(match answer {
        Answer::Opened(opened) => Some(opened.directive),
        Answer::Ack(ack) => ack.directive,
        Answer::Accepted => None,
    })
}
