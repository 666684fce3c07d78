//! Reports: exactly-once effect over at-least-once delivery. A loss is known by (session, seq, offset); one that is
//! held already is ignored, and a gap is answered with the offset to send on from.

use super::{
    Ack, Answer, Current, End, Job, Progress, Refusal, Report, StoppedBecause, Verdict, validations,
};
use crate::{
    directive::{Directive, DoneReason, Run},
    stop_rules::{Judge, Stop, is_switch_point, switch_point},
};

impl Job {
    pub(super) fn admit_report(&self, report: &Report) -> Result<Verdict, Refusal> {
        let unknown = Refusal::UnknownDirective { session: report.session, seq: report.seq };
        if report.session == 0 || report.session > self.session {
            return Err(unknown);
        }
        if report.session < self.session {
            return Err(Refusal::Fenced { session: report.session, newest: self.session });
        }
        let current = self.current.as_ref().ok_or_else(|| unknown.clone())?;
        if report.seq == current.directive.seq {
            return match current.directive.run() {
                Some(run) => self.admit_losses(report, current, run),
                None => Ok(Verdict::Nothing(Answer::Ack(self.ack_of(report, false)))),
            };
        }
        if let Some(verdict) = self.admit_fallback(report, current) {
            return Ok(verdict);
        }
        if report.seq < current.directive.seq {
            // A cancelled job ends whatever the trainer is at.
            let with_next = report.seq == current.follows || self.ended == Some(DoneReason::Cancelled);
            return Ok(Verdict::Nothing(Answer::Ack(self.ack_of(report, with_next))));
        }
        Err(unknown)
    }

    /// Reports of a fallback that the trainer has adopted. Which of the two follows the directive closed last is the
    /// trainer's to say: it may have known less of that directive's end than its losses tell.
    fn admit_fallback(&self, report: &Report, current: &Current) -> Option<Verdict> {
        let is = |fallback: &Option<Box<Directive>>| fallback.as_ref().is_some_and(|f| f.seq == report.seq);
        if is(&current.directive.fallback_on_stop) {
            return Some(Verdict::Dispute(report.seq));
        }
        if current.directive.fallback_with(report.seq).is_some() {
            return Some(Verdict::Nothing(Answer::Ack(self.heartbeat())));
        }
        let previous = &self.previous.as_ref()?.directive;
        let adopted = is(&previous.fallback) || is(&previous.fallback_on_stop);
        let unseen = current.progress.losses.is_empty() && self.ended != Some(DoneReason::Cancelled);
        (unseen && adopted).then_some(Verdict::Adopt(report.seq))
    }

    fn admit_losses(&self, report: &Report, current: &Current, run: &Run) -> Result<Verdict, Refusal> {
        let received = current.progress.received();
        if report.first_offset > received {
            return Ok(Verdict::Nothing(Answer::Ack(self.heartbeat())));
        }
        let held = (received - report.first_offset).min(report.train_losses.len() as u64);
        let mut progress = Progress {
            losses: report.train_losses[held as usize..].to_vec(),
            judge: Some(current.progress.judge.clone().unwrap_or_else(|| Judge::new(&run.stop_if))),
            validations: validations::not_held(report, &current.progress.validations, run)?,
        };
        let total = received + progress.received();
        let stop = progress.judge.as_mut().and_then(|judge| judge_all(judge, &progress.losses));
        let last =
            stop.map_or(run.steps(), |stop| switch_point(stop.offset, self.spec.switch_every, run.steps()));
        if total > last {
            let description = format!("of directive {} end at offset {last}, got {total}", report.seq);
            return Err(Refusal::InvalidField { field: "report.train_losses", description });
        }
        // A late copy ends before what is held.
        let newest = report.first_offset + report.train_losses.len() as u64 == total;
        if report.at_rung && newest {
            return self.admit_rung(report, progress, total, stop);
        }
        if report.finished {
            let end = self.judge_end(report, total, last, stop)?;
            validations::check_complete(
                run,
                end,
                total,
                &current.progress.validations,
                &progress.validations,
            )?;
            let progress = Box::new(progress);
            return Ok(match end {
                End::NoAnswer => Verdict::Leave(progress),
                end => Verdict::Close(progress, end),
            });
        }
        if report.stopped_because.is_some() {
            let description = "is only for a report that is finished".into();
            return Err(Refusal::InvalidField { field: "report.stopped_because", description });
        }
        let nothing_new = progress.losses.is_empty() && progress.validations.is_empty();
        Ok(if nothing_new {
            Verdict::Nothing(Answer::Ack(self.heartbeat()))
        } else {
            Verdict::Progress(Box::new(progress))
        })
    }

    /// Whether the reported end is the one that follows from the losses.
    fn judge_end(&self, report: &Report, total: u64, last: u64, stop: Option<Stop>) -> Result<End, Refusal> {
        let steps = self.current_run().map_or(0, Run::steps);
        match (report.stopped_because, stop) {
            (Some(StoppedBecause::Rule(reported)), Some(stop)) if reported == stop && total == last => {
                Ok(End::Stopped(stop))
            }
            (None, None) if total == last => Ok(End::Completed),
            (Some(StoppedBecause::NoAnswer), None) if self.may_be_left(total) => Ok(End::NoAnswer),
            (Some(StoppedBecause::Interrupt(number)), stop)
                if self.interrupt().is_some() && number < self.wishes.next_number() =>
            {
                // A stop that had not taken effect yet, because its losses came late, does now.
                if is_switch_point(total, self.spec.switch_every, steps) {
                    return Ok(stop.map_or(End::Interrupted, End::Stopped));
                }
                let every = self.spec.switch_every;
                let description =
                    format!("ends at offset {total}, which is not a multiple of {every} nor the end");
                Err(Refusal::InvalidField { field: "report.finished", description })
            }
            (None, None) => {
                let description = format!("but its losses end at offset {total} of {last}");
                Err(Refusal::InvalidField { field: "report.finished", description })
            }
            (reported, stop) => {
                let expected = stop.map_or("no rule matched".into(), |stop| describe(stop, last));
                let reported = match reported {
                    None => format!("it ended at offset {total} and no rule matched"),
                    Some(StoppedBecause::Rule(stop)) => describe(stop, total),
                    Some(StoppedBecause::Interrupt(number)) => format!("interrupt {number}"),
                    Some(StoppedBecause::NoAnswer) => format!("no answer at a rung at offset {total}"),
                };
                Err(Refusal::StopMismatch { seq: report.seq, expected, reported })
            }
        }
    }

    /// Enters what [`Job::admit_losses`] found new.
    pub(super) fn enter(&mut self, new: Progress) -> Ack {
        self.train_loss = new.losses.iter().rev().copied().find(|loss| loss.is_finite()).or(self.train_loss);
        self.validation_loss = new.validations.last().map(|v| v.loss).or(self.validation_loss);
        if let Some(current) = &mut self.current {
            current.progress.losses.extend_from_slice(&new.losses);
            current.progress.judge = new.judge;
            current.progress.validations.extend(new.validations);
        }
        self.heartbeat()
    }

    /// The answer that repeats what is known.
    pub fn heartbeat(&self) -> Ack {
        let current = self.current.as_ref();
        Ack {
            session: self.session,
            seq: current.map_or(0, |c| c.directive.seq),
            received_through: self.received(),
            durable_seq: current.map_or(0, |c| c.follows),
            directive: None,
            interrupt: self.interrupt(),
            go_on: None,
        }
    }

    /// The answer to a report of a closed directive; `with_next` if the current one follows it.
    fn ack_of(&self, report: &Report, with_next: bool) -> Ack {
        let directive = self.current.as_ref().filter(|_| with_next).map(|c| c.directive.clone());
        Ack {
            seq: report.seq,
            received_through: report.first_offset.saturating_add(report.train_losses.len() as u64),
            directive,
            ..self.heartbeat()
        }
    }
}

fn judge_all(judge: &mut Judge, losses: &[f64]) -> Option<Stop> {
    for &loss in losses {
        judge.push(loss);
    }
    judge.stop()
}

pub(super) fn describe(stop: Stop, end: u64) -> String {
    format!("rule {} matched at offset {} and ended it at offset {end}", stop.rule, stop.offset)
}
