//! The directive under way: how far the trainer has run it, what it lost, and when it ends.

use super::{
    Status,
    segment::{Segment, SegmentEnd},
};
use autolrs_core::{
    directive::{Directive, DoneReason, Phase, Run, SlotOp},
    lr_pieces::{Cursor, MAX_RUN_STEPS, Piece},
    stop_rules::{Judge, Stop, is_switch_point, switch_point},
};

/// What somebody else wants of the segment: to end at the next switch point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// An operator's request of this number.
    Interrupt(u64),
    /// The job is gone or cancelled: nothing is reported any more.
    Stop,
}

/// A directive and how far it has come. Two cursors: steps run, and losses known, which come later where the losses
/// are on a device.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) directive: Directive,
    pub(super) segment: Segment,
    switch_every: u64,
    steps: u64,
    offset: u64,
    cursor: Cursor,
    lr: Option<f64>,
    judge: Judge,
    wish: Option<Wish>,
    /// Steps done at which a validation loss is owed next; [`NEVER`] once none is.
    validation_at: u64,
    ended: bool,
    /// The last rung that the server let the directive pass.
    passed: u64,
}

/// More steps than a directive can have.
const NEVER: u64 = u64::MAX;

impl Track {
    /// A directive before its first step.
    pub(super) fn new(directive: Directive, switch_every: u64) -> Self {
        let segment = Segment::new(directive.seq);
        Self::resumed(directive, segment, switch_every)
    }

    /// A directive of which as many steps are done as `segment` holds losses.
    pub(super) fn resumed(directive: Directive, mut segment: Segment, switch_every: u64) -> Self {
        let run = directive.run();
        let steps = run.map_or(0, Run::steps);
        segment.losses.truncate(usize::try_from(steps).unwrap_or(usize::MAX));
        let offset = segment.losses.len() as u64;
        let (pieces, rules) = run.map_or((&[][..], &[][..]), |run| (&run.lr, &run.stop_if));
        let cursor = Cursor::at(pieces, offset);
        let mut track = Self {
            lr: cursor.lr(pieces),
            judge: Judge::over(rules, &segment.losses),
            cursor,
            switch_every,
            steps,
            offset,
            wish: None,
            validation_at: NEVER,
            ended: segment.end.is_some(),
            passed: 0,
            segment,
            directive,
        };
        track.reserve();
        track.plan_validation();
        track.settle(true);
        track
    }

    /// Room for the losses to come, so that a step allocates nothing: all of a directive's, and a fallback's in
    /// blocks.
    fn reserve(&mut self) {
        let left = (self.steps - self.segment.losses.len() as u64).min(MAX_RUN_STEPS);
        self.segment.losses.reserve(usize::try_from(left).unwrap_or(0));
    }

    fn plan_validation(&mut self) {
        let asked = self.directive.run().map_or(&[][..], |run| &run.validate_at);
        let missing = |at: &&u64| self.segment.validations.iter().all(|known| known.offset != **at);
        self.validation_at = asked.iter().find(missing).copied().unwrap_or(NEVER);
    }

    pub(super) fn seq(&self) -> u64 {
        self.directive.seq
    }

    pub(super) fn run(&self) -> Option<&Run> {
        self.directive.run()
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The LR of the next step; none after the last.
    pub(super) fn lr(&self) -> Option<f64> {
        self.lr
    }

    pub(super) fn in_trial(&self) -> bool {
        self.run().is_some_and(|run| run.phase == Phase::Trial)
    }

    /// The stop rule that has matched. It may not have taken effect yet.
    pub(super) fn stop(&self) -> Option<Stop> {
        self.judge.stop()
    }

    /// The steps have ended and every loss is known: what follows can be asked for.
    pub(super) fn complete(&self) -> bool {
        self.segment.end.is_some()
    }

    /// The trainer stands still until an answer comes: at the end, or at a rung.
    pub(super) fn stands(&self) -> bool {
        self.complete() || self.segment.at_rung
    }

    /// The server lets the directive go on from the rung after `done` steps. False: it does not stand there.
    pub(super) fn pass_rung(&mut self, done: u64) -> bool {
        let passes = self.segment.at_rung && done == self.offset;
        if passes {
            (self.passed, self.segment.at_rung) = (done, false);
        }
        passes
    }

    /// No answer came: a directive that stands at a rung ends there.
    pub(super) fn leave_rung(&mut self) {
        if std::mem::take(&mut self.segment.at_rung) {
            (self.ended, self.segment.end) = (true, Some(SegmentEnd::NoAnswer));
        }
    }

    /// A rung takes effect at the present offset, unless a rule has matched.
    fn meets_rung(&self) -> bool {
        let rung = |run: &Run| run.is_rung(self.offset, self.switch_every);
        self.offset > self.passed && self.run().is_some_and(rung) && self.stop().is_none()
    }

    /// It has to be given up: nobody waits for its end.
    pub(super) fn is_unwanted(&self) -> bool {
        self.ended && self.wish == Some(Wish::Stop)
    }

    /// Every loss of a step that was run is known.
    pub(super) fn is_drained(&self) -> bool {
        self.known() == self.offset
    }

    pub(super) fn wish(&mut self, wish: Wish) {
        if self.wish != Some(Wish::Stop) {
            self.wish = Some(wish);
        }
    }

    /// A step was run. Its LR.
    pub(super) fn step(&mut self) -> Option<f64> {
        if self.ended || self.segment.at_rung {
            return None;
        }
        let run = match &self.directive.action {
            autolrs_core::directive::Action::Run(run) => run,
            autolrs_core::directive::Action::Done(_) => return None,
        };
        let lr = self.lr;
        self.offset += 1;
        self.cursor.advance(&run.lr);
        self.lr = self.cursor.lr(&run.lr);
        lr
    }

    /// A validation loss of the state at hand, or the answer to the one that is owed. False: there are too many.
    pub(super) fn validate(&mut self, loss: f64) -> bool {
        if self.validation_at > self.offset {
            let asked = self.run().map_or(0, |run| run.validate_at.len());
            return self.segment.validate(self.offset, loss, asked);
        }
        let kept = self.segment.validate(self.validation_at, loss, 0);
        self.plan_validation();
        kept
    }

    /// Whether a validation loss is to be given before the next step, or before the end. At an end that came early none
    /// is needed any more; whether it did is known once every loss is.
    pub(super) fn owes_validation(&self) -> bool {
        let moot = self.ended && (self.offset < self.steps || self.stop().is_some());
        self.validation_at < self.offset || (self.validation_at == self.offset && !moot)
    }

    /// No further step belongs to it.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next losses, in order. Losses beyond the steps run are not taken.
    pub(super) fn losses(&mut self, losses: &[f64]) {
        let room = usize::try_from(self.offset - self.known()).unwrap_or(usize::MAX);
        let taken = &losses[..losses.len().min(room)];
        if self.segment.losses.capacity() - self.segment.losses.len() < taken.len() {
            self.reserve();
        }
        for &loss in taken {
            self.segment.losses.push(loss);
            self.judge.push(loss);
        }
    }

    /// Whether the segment ends here. `heed`: the trainer stands between two steps and will look at the status, so
    /// that a wish may be obeyed.
    pub(super) fn settle(&mut self, heed: bool) {
        if self.complete() || self.run().is_none() {
            return;
        }
        self.end_at_stop();
        let drained = self.is_drained();
        let at_end = self.offset == self.steps;
        let free = heed && drained && !at_end && self.validation_at >= self.offset;
        let obeyed = match self.wish {
            Some(Wish::Interrupt(number)) if free && self.stop().is_none() => {
                Some(SegmentEnd::Interrupted(number))
            }
            _ => None,
        };
        let wished = obeyed.is_some() || (heed && self.wish == Some(Wish::Stop));
        self.ended |= at_end || (wished && is_switch_point(self.offset, self.switch_every, self.steps));
        if self.ended && drained && !self.owes_validation() {
            let stopped = self.stop().map(SegmentEnd::Stopped);
            let completed = at_end.then_some(SegmentEnd::Completed);
            self.segment.end = stopped.or(completed).or(obeyed);
        }
        self.segment.at_rung = !self.ended && drained && self.meets_rung();
    }

    /// A stop takes effect at its switch point. One that is learnt too late, because the trainer did not deliver
    /// its losses in time, takes effect there all the same: the steps after it are forgotten, a restore follows.
    fn end_at_stop(&mut self) {
        let Some(stop) = self.stop() else { return };
        let end = switch_point(stop.offset, self.switch_every, self.steps);
        if self.offset >= end {
            self.ended = true;
            self.offset = end;
            self.segment.losses.truncate(usize::try_from(end).unwrap_or(usize::MAX));
            self.segment.validations.retain(|known| known.offset <= end);
        }
    }

    /// Losses that must be known by now, see [`super::Machine`].
    pub(super) fn wanted(&self) -> u64 {
        let at_switch_point = is_switch_point(self.offset, self.switch_every, self.steps);
        match (self.ended, self.wish, at_switch_point) {
            (true, _, _) | (_, Some(_), true) => self.offset,
            _ if self.meets_rung() => self.offset,
            (_, None, true) => (self.offset + 1).saturating_sub(self.switch_every),
            _ => 0,
        }
    }

    /// The LRs of the next steps, up to where something else than the LR can change.
    pub(super) fn next_lrs(&self) -> Vec<f64> {
        let Some(run) = self.run().filter(|_| self.status(self.lr) == Status::GoOn) else {
            return Vec::new();
        };
        let every = self.switch_every.max(1);
        let switch = (self.offset / every + 1).saturating_mul(every);
        let until = switch.min(self.steps).min(self.validation_at);
        let mut cursor = self.cursor.clone();
        let lrs = (self.offset..until).map_while(|_| {
            let lr = cursor.lr(&run.lr);
            cursor.advance(&run.lr);
            lr
        });
        lrs.collect()
    }

    /// What the trainer has to do before the next step. `before` is the LR of the last.
    pub(super) fn status(&self, before: Option<f64>) -> Status {
        if self.ended {
            self.status_at_end()
        } else if self.segment.at_rung {
            Status::Ended
        } else if self.known() < self.wanted() {
            Status::WantLosses
        } else if self.validation_at <= self.offset {
            Status::Validate
        } else if self.lr != before {
            Status::LrChanged
        } else {
            Status::GoOn
        }
    }

    /// Whether the last state is to be validated is known once every loss is.
    fn status_at_end(&self) -> Status {
        if !self.owes_validation() {
            Status::Ended
        } else if self.is_drained() {
            Status::Validate
        } else {
            Status::WantLosses
        }
    }

    pub(super) fn known(&self) -> u64 {
        self.segment.losses.len() as u64
    }
}

/// A stretch that no server knows of: `line`, then `fallback`.
pub(super) fn unnumbered(
    line: Vec<Piece>,
    committed_step_at_start: u64,
    stage: u32,
    fallback: Option<Directive>,
) -> Directive {
    use autolrs_core::directive::{Action, Batches};
    let run = Run {
        phase: Phase::Stable,
        batches: Batches::Fresh,
        lr: line,
        stop_if: Vec::new(),
        stage,
        trial: None,
        validate_at: Vec::new(),
        rungs: Vec::new(),
    };
    Directive {
        seq: 0,
        slot_ops: Vec::new(),
        action: Action::Run(run),
        committed_step_at_start,
        fallback: fallback.map(|directive| Box::new(without_numbers(directive))),
        fallback_on_stop: None,
    }
}

/// The end of a job that no server told of.
pub(super) fn unnumbered_end(slot_ops: Vec<SlotOp>, reason: DoneReason, committed: u64) -> Directive {
    Directive {
        seq: 0,
        slot_ops,
        action: autolrs_core::directive::Action::Done(reason),
        committed_step_at_start: committed,
        fallback: None,
        fallback_on_stop: None,
    }
}

/// The directive as one that the server will not hear of.
pub(super) fn without_numbers(directive: Directive) -> Directive {
    let below = |child: Option<Box<Directive>>| child.map(|d| Box::new(without_numbers(*d)));
    Directive {
        seq: 0,
        fallback: below(directive.fallback),
        fallback_on_stop: below(directive.fallback_on_stop),
        ..directive
    }
}
