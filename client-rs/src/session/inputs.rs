//! Inputs of the session machine: answers, refusals, and their absence.

use super::{Link, Machine, track::Wish};
use autolrs_core::{
    directive::{Action, Directive, DoneReason},
    job::Ack,
};

/// Why the server refused a report for good.
///
/// ```
/// # use autolrs_client::session::*;
/// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
/// machine.handle_refusal(1, Refused::Fenced("session 2 speaks for the job".into()));
/// assert!(machine.is_severed());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The reported end does not follow from the reported losses.
    StopMismatch(String),
    /// A newer session speaks for the job.
    Fenced(String),
    /// There is no such job.
    JobNotFound,
    /// Anything else that sending again can't cure.
    Other(String),
}

impl Machine {
    /// An answer to a report. Late, repeated and stale answers do no harm: a directive is taken only while what
    /// follows `ack.seq` is waited for.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// use autolrs_core::job::Ack;
    /// let ack = Ack { session: 9, seq: 1, received_through: 0, durable_seq: 0, directive: None, interrupt: None,
    ///     go_on: None };
    /// machine.handle_ack(ack);   // of another session: it does no harm
    /// assert_eq!(machine.offset(), 0);
    /// ```
    pub fn handle_ack(&mut self, ack: Ack) {
        if ack.session != self.session || self.link == Link::Severed {
            return;
        }
        self.note_contact(ack.seq);
        let known = self.outbox.iter_mut().chain([&mut self.track.segment]).find(|s| s.seq == ack.seq);
        if let Some(segment) = known {
            segment.acknowledge(ack.received_through);
        }
        let taken = ack.directive.is_some_and(|directive| self.offer(ack.seq, directive));
        for segment in &mut self.outbox {
            segment.stored |= segment.seq <= ack.durable_seq;
        }
        if self.link == Link::Up {
            self.outbox.retain(|segment| !segment.stored);
        }
        if let Some(number) = ack.interrupt
            && (taken || ack.seq == self.track.seq())
        {
            self.track.wish(Wish::Interrupt(number));
        }
        if taken || self.track.stands() {
            self.settle(taken || self.track.segment.at_rung);
        }
        if let Some(done) = ack.go_on
            && ack.seq == self.track.seq()
        {
            self.track.pass_rung(done);
        }
    }

    /// A report of directive `seq` was refused.
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// machine.handle_refusal(machine.seq(), Refused::JobNotFound);
    /// machine.record(1.0);
    /// assert!(machine.done().is_some(), "a job that is gone is as one that was cancelled");
    /// ```
    pub fn handle_refusal(&mut self, seq: u64, refused: Refused) {
        match refused {
            Refused::StopMismatch(detail) if seq == self.track.seq() && self.waiting() => {
                self.notices.push(format!(
                    "the server judges the end of the directive otherwise ({detail}): its fallback runs"
                ));
                self.track.segment.seq = 0;
                self.follow_stop();
            }
            Refused::Fenced(detail) => {
                self.sever(&format!("{detail}. This trainer goes on with its fallback"));
            }
            Refused::JobNotFound => {
                self.sever("the server has no such job any more: the schedule ends");
                self.track.wish(Wish::Stop);
                if self.track.stands() {
                    self.end_here();
                }
            }
            Refused::StopMismatch(detail) | Refused::Other(detail) => {
                self.sever(&format!(
                    "the server refuses the losses ({detail}). This trainer goes on with its fallback"
                ));
            }
        }
    }

    /// No answer came in time, or none can come: what the directive foresees for that is in force now. Changes
    /// nothing unless [`Machine::waiting`].
    ///
    /// ```
    /// # use autolrs_client::session::*;
    /// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(3), 0.1);
    /// while machine.record(1.0) != Status::Ended {}
    /// assert!(machine.waiting());
    /// machine.handle_silence();
    /// assert!(machine.done().is_some());
    /// ```
    pub fn handle_silence(&mut self) {
        if !self.waiting() {
            return;
        }
        if self.link == Link::Up && !self.told_detached {
            self.told_detached = true;
            self.notices.push(
                "no answer from the server in time: training goes on with the fallback schedule".into(),
            );
        }
        self.follow_alone();
    }

    fn note_contact(&mut self, seq: u64) {
        self.link = match self.link {
            Link::Detached { .. } if seq != self.track.seq() => Link::Detached { heard: true },
            Link::Severed => Link::Severed,
            Link::Up | Link::Detached { .. } => Link::Up,
        };
    }

    /// A directive that follows `seq`. Whether it was taken.
    fn offer(&mut self, seq: u64, directive: Directive) -> bool {
        if self.waiting() && seq == self.track.seq() {
            let late = self.track.segment.unsent_validations().to_vec();
            self.enter(directive);
            self.link = Link::Up;
            for validation in late {
                self.track.validate(validation.loss);
            }
            return true;
        }
        if directive.action == Action::Done(DoneReason::Cancelled) && self.done.is_none() {
            self.track.wish(Wish::Stop);
            if self.track.stands() {
                self.end_here();
            }
        }
        false
    }

    fn sever(&mut self, notice: &str) {
        self.link = Link::Severed;
        self.notices.push(notice.to_owned());
    }
}
