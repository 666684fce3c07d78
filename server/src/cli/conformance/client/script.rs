//! What the scripted server says, and what it does wrong on purpose.

use autolrs_proto::v1::{
    Directive, Done, ErrorReason, LrPiece, Phase, Run, Slot, SlotOp, StopIf, directive::Action, done::Reason,
    lr_piece::Shape, run::Batches, slot_op::Kind, stop_if,
};

/// What becomes of an answer to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The report is taken, and the answer lost.
    LoseReply,
    /// The report is taken twice.
    Twice,
    /// It is refused before it is looked at: UNAVAILABLE, with a RetryInfo of 0.3 s.
    Unavailable,
    /// The server has forgotten the losses of the directive.
    Forget,
    /// It is refused for good.
    Refuse(ErrorReason),
    /// An operator interrupts.
    Interrupt,
}

/// A server's part.
pub(super) struct Script {
    pub(super) switch_every: u64,
    /// The directives, one after the other; the last is a `Done`.
    pub(super) line: Vec<Directive>,
    /// The fault of a report, from what is known: which directive of the line it is about (none: a fallback), whether it
    /// ends it, and how many reports of this kind have come before.
    pub(super) fault: fn(Option<usize>, u32, bool) -> Fault,
    /// How often something must have gone wrong by the end: else the script has shown nothing.
    pub(super) faults: u32,
    /// The opening is answered with UNAVAILABLE at first, after it was done.
    pub(super) loses_opening: bool,
    /// After which directive of the line the fallback must be run, or its `fallback_on_stop` if a rule has ended it.
    pub(super) adopts: Option<usize>,
    /// At these steps the trainer is told to go on; at other rungs it is given the next directive.
    pub(super) goes_on_at: &'static [u64],
    /// Set for the program, in seconds per step.
    pub(super) step_seconds: f64,
    pub(super) needs: Needs,
    /// Whether the program must have come to the end of the line (else it ends alone).
    pub(super) ends_with_line: bool,
}

/// What a trainer must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    Replay,
    Validate,
    /// To report in the middle of directives.
    EarlyReports,
}

impl Script {
    /// One without any fault.
    pub(super) fn of(line: Vec<Directive>) -> Self {
        Self {
            switch_every: 1,
            line: numbered(line),
            fault: |_, _, _| Fault::None,
            faults: 0,
            loses_opening: false,
            adopts: None,
            goes_on_at: &[],
            step_seconds: 0.0,
            needs: Needs::Nothing,
            ends_with_line: true,
        }
    }
}

/// Gives every directive its number, and a fallback that ends the job.
fn numbered(mut line: Vec<Directive>) -> Vec<Directive> {
    for (i, directive) in line.iter_mut().enumerate() {
        let seq = 10 * i as u64 + 1;
        directive.seq = seq;
        if let Some(fallback) = &mut directive.fallback {
            fallback.seq = seq + 1;
        }
        if let Some(on_stop) = &mut directive.fallback_on_stop {
            on_stop.seq = seq + 2;
        }
    }
    line
}

pub(super) fn piece(shape: Shape, steps: u64, start: f64, end: f64) -> LrPiece {
    LrPiece { steps, start, end, shape: shape.into(), of: steps, ..LrPiece::default() }
}

pub(super) fn op(kind: Kind, slot: Slot) -> SlotOp {
    SlotOp { kind: kind.into(), slot: slot.into() }
}

pub(super) fn stop_if(rule: stop_if::Rule) -> StopIf {
    StopIf { rule: Some(rule) }
}

/// A directive to run these pieces after these operations; its fallback is seven steps that fall from 0.125 to 0.0625.
pub(super) fn train(phase: Phase, ops: Vec<SlotOp>, lr: Vec<LrPiece>) -> Directive {
    let trial = (phase == Phase::Trial).then_some(0);
    let non_finite = stop_if(stop_if::Rule::NonFinite(stop_if::NonFinite {}));
    let run = |phase: Phase, lr, trial| Run {
        phase: phase.into(),
        batches: Batches::Fresh.into(),
        lr,
        stop_if: vec![non_finite],
        trial,
        ..Run::default()
    };
    let alone = vec![piece(Shape::Linear, 7, 0.125, 0.0625)];
    let fallback = Directive {
        session: 1,
        action: Some(Action::Run(run(Phase::Cooldown, alone, None))),
        ..Directive::default()
    };
    Directive {
        session: 1,
        slot_ops: ops,
        action: Some(Action::Run(run(phase, lr, trial))),
        fallback: Some(Box::new(fallback)),
        ..Directive::default()
    }
}

/// The same with changes to its segment.
pub(super) fn with(mut directive: Directive, change: impl FnOnce(&mut Run)) -> Directive {
    if let Some(Action::Run(run)) = &mut directive.action {
        change(run);
    }
    directive
}

/// The end of the job.
pub(super) fn done(ops: Vec<SlotOp>) -> Directive {
    let done = Done { reason: Reason::Finished.into(), ..Done::default() };
    Directive { session: 1, slot_ops: ops, action: Some(Action::Done(done)), ..Directive::default() }
}
