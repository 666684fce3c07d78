//! What follows a directive: the server's next one, a fallback, or the end.

use super::{
    Link, LossesMissing, Machine, reason,
    segment::SegmentEnd,
    slots::restored,
    track::{Track, unnumbered, unnumbered_end, without_numbers},
};
use autolrs_core::{
    directive::{Action, Directive, DoneReason, Phase, Slot, SlotOp},
    lr_pieces::{self, Piece},
    stop_rules::StopIf,
};

/// Nothing can follow a directive yet that has ended.
///
/// ```
/// # use autolrs_client::session::*;
/// # let mut machine = Machine::alone("digits", autolrs_client::Budget::Known(1), 0.1);
/// machine.tick();
/// assert_eq!(machine.ready(), Err(NotReady::Losses(LossesMissing { offset: 1 })));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// Losses of its steps are still to be delivered.
    #[error(transparent)]
    Losses(#[from] LossesMissing),
    /// A validation loss is.
    #[error("give the validation loss after {offset} steps of the directive: its status is Validate")]
    Validation {
        /// Steps that were run.
        offset: u64,
    },
}

impl Machine {
    /// Puts a directive in force after the current one, whose losses are kept until the server has stored them.
    pub(super) fn enter(&mut self, directive: Directive) {
        self.slots.push(directive.seq, directive.slot_ops.iter().copied());
        self.done = reason(&directive);
        self.entered += 1;
        self.begun = false;
        let next = Track::new(directive, self.switch_every);
        let previous = std::mem::replace(&mut self.track, next);
        if previous.segment.seq > 0 {
            self.outbox.push_back(previous.segment);
        }
    }

    /// What the directive foresees when no answer comes.
    pub(super) fn follow_alone(&mut self) {
        self.track.leave_rung();
        match self.track.segment.end {
            Some(SegmentEnd::Stopped(_)) => self.follow_stop(),
            _ => self.follow_end(),
        }
    }

    fn follow_end(&mut self) {
        match self.track.directive.fallback.take() {
            Some(fallback) => self.adopt(*fallback),
            None if matches!(self.track.segment.end, Some(SegmentEnd::Interrupted(_)))
                && self.track.offset() < self.track.steps() =>
            {
                let rest = self.rest_of_segment();
                self.adopt(rest);
            }
            None => {
                let end = unnumbered_end(Vec::new(), DoneReason::Finished, self.committed_step());
                self.enter(end);
            }
        }
    }

    /// What an interrupt has left of a segment that nothing was to follow.
    fn rest_of_segment(&mut self) -> Directive {
        let on_stop = self.track.directive.fallback_on_stop.take();
        let segment = self.run().map(|run| (run.phase, lr_pieces::cut(&run.lr, self.track.offset()).1));
        let (phase, line) = segment.unwrap_or((Phase::Stable, Vec::new()));
        let mut rest = unnumbered(line, self.committed_step(), self.stage(), None);
        if let Action::Run(run) = &mut rest.action {
            (run.phase, run.stop_if) = (phase, vec![StopIf::NonFinite]);
        }
        Directive { fallback_on_stop: on_stop.map(|directive| Box::new(without_numbers(*directive))), ..rest }
    }

    /// The `fallback_on_stop`; without one the rest of the segment at its last LR.
    pub(super) fn follow_stop(&mut self) {
        if let Some(fallback) = self.track.directive.fallback_on_stop.take() {
            return self.adopt(*fallback);
        }
        let left = self.track.steps() - self.track.offset();
        let lr = self.lr_of_last_step();
        let (committed, stage) = (self.committed_step(), self.stage());
        let fallback = self.track.directive.fallback.take().map(|fallback| *fallback);
        if left > 0 {
            let line = vec![Piece::constant(left, lr)];
            self.adopt(unnumbered(line, committed, stage, fallback));
        } else if let Some(fallback) = fallback {
            self.adopt(without_numbers(fallback));
        } else {
            self.follow_end();
        }
    }

    fn adopt(&mut self, fallback: Directive) {
        self.enter(fallback);
        if self.link != Link::Severed {
            self.link = Link::Detached { heard: false };
        }
    }

    fn lr_of_last_step(&self) -> f64 {
        let line = self.run().map_or(&[][..], |run| &run.lr);
        let last = self.track.offset().saturating_sub(1);
        lr_pieces::lr_at(line, last).unwrap_or(self.fallback_lr)
    }

    /// The job is cancelled or gone: ends it, where the search began if one is on.
    pub(super) fn end_here(&mut self) {
        let ops: Vec<SlotOp> = self.slot_to_go_back_to().map(SlotOp::Restore).into_iter().collect();
        let end = unnumbered_end(ops, DoneReason::Cancelled, self.track.directive.committed_step_at_start);
        let committed =
            if self.track.in_trial() { end.committed_step_at_start } else { self.committed_step() };
        self.enter(Directive { committed_step_at_start: committed, ..end });
        self.outbox.clear();
        self.link = Link::Severed;
    }

    /// The slot that a trial, or a stretch that a guard has stopped, will be rolled back to, if the trainer holds it.
    pub(super) fn slot_to_go_back_to(&self) -> Option<Slot> {
        let directive = &self.track.directive;
        let fallback = if self.track.in_trial() && self.track.stop().is_none() {
            directive.fallback.as_deref().or(directive.fallback_on_stop.as_deref())
        } else if self.track.in_trial() || self.track.stop().is_some() {
            directive.fallback_on_stop.as_deref().or(directive.fallback.as_deref())
        } else {
            None
        };
        fallback.and_then(|fallback| restored(&fallback.slot_ops)).filter(|slot| self.slots.will_hold(*slot))
    }
}
