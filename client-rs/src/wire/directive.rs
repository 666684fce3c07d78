//! Directives out of messages.

use super::Unreadable;
use autolrs_core::{
    directive::{Action, Batches, Directive, DoneReason, Failure, Phase, Run, Slot, SlotOp},
    lr_pieces::{Piece, Shape},
    stop_rules::StopIf,
};
use autolrs_proto::v1::{self, stop_if::Rule};

/// Fallbacks inside fallbacks that are read; a server builds three at most.
const MAX_DEPTH: u32 = 16;

pub(super) fn directive(message: v1::Directive) -> Result<Directive, Unreadable> {
    nested(message, MAX_DEPTH)
}

fn nested(message: v1::Directive, depth: u32) -> Result<Directive, Unreadable> {
    let action = match message.action {
        Some(v1::directive::Action::Run(message)) => Action::Run(run(&message)?),
        Some(v1::directive::Action::Done(message)) => Action::Done(done(&message)?),
        None => return Err(Unreadable("directive.action")),
    };
    let below = |child: Option<Box<v1::Directive>>| match child {
        Some(_) if depth == 0 => Err(Unreadable("directive.fallback")),
        Some(child) => nested(*child, depth - 1).map(|directive| Some(Box::new(directive))),
        None => Ok(None),
    };
    Ok(Directive {
        seq: Some(message.seq).filter(|seq| *seq > 0).ok_or(Unreadable("directive.seq"))?,
        slot_ops: slot_ops(&message.slot_ops)?,
        action,
        committed_step_at_start: message.committed_step_at_start,
        fallback: below(message.fallback)?,
        fallback_on_stop: below(message.fallback_on_stop)?,
    })
}

pub(super) fn slot_ops(messages: &[v1::SlotOp]) -> Result<Vec<SlotOp>, Unreadable> {
    messages.iter().map(slot_op).collect()
}

fn slot_op(message: &v1::SlotOp) -> Result<SlotOp, Unreadable> {
    use v1::slot_op::Kind;
    let slot = match message.slot() {
        v1::Slot::Start => Slot::Start,
        v1::Slot::Safe => Slot::Safe,
        v1::Slot::SafePrev => Slot::SafePrev,
        v1::Slot::Stage => Slot::Stage,
        v1::Slot::Best => Slot::Best,
        v1::Slot::Unspecified => return Err(Unreadable("slot_op.slot")),
    };
    match message.kind() {
        Kind::Save => Ok(SlotOp::Save(slot)),
        Kind::Restore => Ok(SlotOp::Restore(slot)),
        Kind::Drop => Ok(SlotOp::Drop(slot)),
        Kind::Unspecified => Err(Unreadable("slot_op.kind")),
    }
}

/// See [`slot_op`], the other way.
pub(super) fn slot_message(slot: Slot) -> v1::Slot {
    match slot {
        Slot::Start => v1::Slot::Start,
        Slot::Safe => v1::Slot::Safe,
        Slot::SafePrev => v1::Slot::SafePrev,
        Slot::Stage => v1::Slot::Stage,
        Slot::Best => v1::Slot::Best,
    }
}

fn run(message: &v1::Run) -> Result<Run, Unreadable> {
    let phase = match message.phase() {
        v1::Phase::Warmup => Phase::Warmup,
        v1::Phase::Trial => Phase::Trial,
        v1::Phase::Stable => Phase::Stable,
        v1::Phase::Cooldown => Phase::Cooldown,
        v1::Phase::Unspecified => return Err(Unreadable("run.phase")),
    };
    let batches = match message.batches() {
        v1::run::Batches::Fresh => Batches::Fresh,
        v1::run::Batches::Replay => Batches::Replay,
        v1::run::Batches::Unspecified => return Err(Unreadable("run.batches")),
    };
    let lr = message.lr.iter().map(piece).collect::<Result<Vec<_>, _>>()?;
    let steps = lr.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.steps));
    if steps.is_none_or(|steps| steps == 0) {
        return Err(Unreadable("run.lr"));
    }
    let stop_if = message.stop_if.iter().map(stop_if).collect::<Result<Vec<_>, _>>()?;
    let v1::Run { stage, trial, ref rungs, ref validate_at, .. } = *message;
    let (rungs, validate_at) = (rungs.clone(), validate_at.clone());
    let run = Run { phase, batches, lr, stop_if, stage, trial, rungs, validate_at };
    if run.validates_in_order() { Ok(run) } else { Err(Unreadable("run.validate_at")) }
}

fn piece(message: &v1::LrPiece) -> Result<Piece, Unreadable> {
    use v1::lr_piece::Shape as Message;
    let shape = match message.shape() {
        Message::Constant => Shape::Constant,
        Message::Linear => Shape::Linear,
        Message::Cosine => Shape::Cosine,
        Message::Power => Shape::Power { exponent: message.exponent, origin: message.origin },
        Message::Unspecified => return Err(Unreadable("lr_piece.shape")),
    };
    let v1::LrPiece { steps, start, end, index, of, .. } = *message;
    let piece = Piece { steps, start, end, shape, index, of };
    if piece.is_valid() { Ok(piece) } else { Err(Unreadable("lr_piece")) }
}

/// See [`piece`], the other way.
pub(super) fn piece_message(piece: &Piece) -> v1::LrPiece {
    use v1::lr_piece::Shape as Message;
    let (shape, exponent, origin) = match piece.shape {
        Shape::Constant => (Message::Constant, 0.0, 0.0),
        Shape::Linear => (Message::Linear, 0.0, 0.0),
        Shape::Cosine => (Message::Cosine, 0.0, 0.0),
        Shape::Power { exponent, origin } => (Message::Power, exponent, origin),
    };
    let Piece { steps, start, end, index, of, .. } = *piece;
    v1::LrPiece { steps, start, end, shape: shape.into(), index, of, exponent, origin }
}

fn stop_if(message: &v1::StopIf) -> Result<StopIf, Unreadable> {
    let rule = match *message.rule.as_ref().ok_or(Unreadable("stop_if.rule"))? {
        Rule::NonFinite(_) => StopIf::NonFinite,
        Rule::Above(v1::stop_if::Above { limit, from }) => StopIf::Above { limit, from },
        Rule::AboveFirst(v1::stop_if::AboveFirst { factor, floor, from }) => {
            StopIf::AboveFirst { factor, floor, from }
        }
        Rule::MeanAbove(v1::stop_if::MeanAbove { last, limit, from }) => {
            StopIf::MeanAbove { last, limit, from }
        }
        Rule::EmaAbove(v1::stop_if::EmaAbove { decay, start_value, limit, from }) => {
            StopIf::EmaAbove { decay, start_value, limit, from }
        }
    };
    if rule.is_valid() { Ok(rule) } else { Err(Unreadable("stop_if")) }
}

fn done(message: &v1::Done) -> Result<DoneReason, Unreadable> {
    use v1::done::Reason;
    Ok(match message.reason() {
        Reason::Finished => DoneReason::Finished,
        Reason::Cancelled => DoneReason::Cancelled,
        Reason::Failed => DoneReason::Failed(match message.failure() {
            v1::Failure::LossNotFiniteAtStart => Failure::LossNotFiniteAtStart,
            v1::Failure::Unstable => Failure::Unstable,
            v1::Failure::AllCandidatesDiverged => Failure::AllCandidatesDiverged,
            v1::Failure::Unspecified => return Err(Unreadable("done.failure")),
        }),
        Reason::Unspecified => return Err(Unreadable("done.reason")),
    })
}
