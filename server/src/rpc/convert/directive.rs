//! Directives: core to wire.

use autolrs_core::{
    directive::{Action, Batches, Directive, DoneReason, Failure, Phase, Run, Slot, SlotOp},
    lr_pieces::{Piece, Shape},
    stop_rules::StopIf,
};
use autolrs_proto::v1 as pb;

/// A directive for a session.
pub(super) fn encode(directive: &Directive, session: u64) -> pb::Directive {
    let below = |d: &Option<Box<Directive>>| d.as_ref().map(|d| Box::new(encode(d, session)));
    pb::Directive {
        seq: directive.seq,
        session,
        slot_ops: directive.slot_ops.iter().map(|&op| slot_op(op)).collect(),
        committed_step_at_start: directive.committed_step_at_start,
        fallback: below(&directive.fallback),
        fallback_on_stop: below(&directive.fallback_on_stop),
        action: Some(match &directive.action {
            Action::Run(run) => pb::directive::Action::Run(encode_run(run)),
            Action::Done(reason) => pb::directive::Action::Done(done(*reason)),
        }),
    }
}

pub(super) fn slot_op(op: SlotOp) -> pb::SlotOp {
    let (kind, slot) = match op {
        SlotOp::Save(slot) => (pb::slot_op::Kind::Save, slot),
        SlotOp::Restore(slot) => (pb::slot_op::Kind::Restore, slot),
        SlotOp::Drop(slot) => (pb::slot_op::Kind::Drop, slot),
    };
    pb::SlotOp { kind: kind.into(), slot: encode_slot(slot).into() }
}

const fn encode_slot(slot: Slot) -> pb::Slot {
    match slot {
        Slot::Start => pb::Slot::Start,
        Slot::Safe => pb::Slot::Safe,
        Slot::SafePrev => pb::Slot::SafePrev,
        Slot::Stage => pb::Slot::Stage,
        Slot::Best => pb::Slot::Best,
    }
}

/// The slot of a number on the wire.
pub(super) fn decode_slot(number: i32) -> Option<Slot> {
    match pb::Slot::try_from(number).ok()? {
        pb::Slot::Unspecified => None,
        pb::Slot::Start => Some(Slot::Start),
        pb::Slot::Safe => Some(Slot::Safe),
        pb::Slot::SafePrev => Some(Slot::SafePrev),
        pb::Slot::Stage => Some(Slot::Stage),
        pb::Slot::Best => Some(Slot::Best),
    }
}

pub(super) const fn phase(phase: Phase) -> pb::Phase {
    match phase {
        Phase::Warmup => pb::Phase::Warmup,
        Phase::Trial => pb::Phase::Trial,
        Phase::Stable => pb::Phase::Stable,
        Phase::Cooldown => pb::Phase::Cooldown,
    }
}

fn encode_run(run: &Run) -> pb::Run {
    let batches = match run.batches {
        Batches::Fresh => pb::run::Batches::Fresh,
        Batches::Replay => pb::run::Batches::Replay,
    };
    pb::Run {
        phase: phase(run.phase).into(),
        batches: batches.into(),
        lr: run.lr.iter().map(piece).collect(),
        stop_if: run.stop_if.iter().map(|rule| pb::StopIf { rule: Some(stop_rule(rule)) }).collect(),
        stage: run.stage,
        trial: run.trial,
        validate_at: run.validate_at.clone(),
        rungs: run.rungs.clone(),
    }
}

/// A piece of an LR line.
pub(super) fn piece(piece: &Piece) -> pb::LrPiece {
    use pb::lr_piece::Shape as Wire;
    let (shape, exponent, origin) = match piece.shape {
        Shape::Constant => (Wire::Constant, 0.0, 0.0),
        Shape::Linear => (Wire::Linear, 0.0, 0.0),
        Shape::Cosine => (Wire::Cosine, 0.0, 0.0),
        Shape::Power { exponent, origin } => (Wire::Power, exponent, origin),
    };
    pb::LrPiece {
        steps: piece.steps,
        start: piece.start,
        end: piece.end,
        shape: shape.into(),
        index: piece.index,
        of: piece.of,
        exponent,
        origin,
    }
}

/// A piece of an LR line; none of a shape that this release does not know. Its numbers are not checked.
pub(crate) fn decode_piece(wire: &pb::LrPiece) -> Option<Piece> {
    use pb::lr_piece::Shape as Wire;
    let shape = match Wire::try_from(wire.shape).ok()? {
        Wire::Unspecified => return None,
        Wire::Constant => Shape::Constant,
        Wire::Linear => Shape::Linear,
        Wire::Cosine => Shape::Cosine,
        Wire::Power => Shape::Power { exponent: wire.exponent, origin: wire.origin },
    };
    let pb::LrPiece { steps, start, end, index, of, .. } = *wire;
    Some(Piece { steps, start, end, shape, index, of })
}

const fn stop_rule(rule: &StopIf) -> pb::stop_if::Rule {
    use pb::stop_if::{self as wire, Rule};
    match *rule {
        StopIf::NonFinite => Rule::NonFinite(wire::NonFinite {}),
        StopIf::Above { limit, from } => Rule::Above(wire::Above { limit, from }),
        StopIf::AboveFirst { factor, floor, from } => {
            Rule::AboveFirst(wire::AboveFirst { factor, floor, from })
        }
        StopIf::MeanAbove { last, limit, from } => Rule::MeanAbove(wire::MeanAbove { last, limit, from }),
        StopIf::EmaAbove { decay, start_value, limit, from } => {
            Rule::EmaAbove(wire::EmaAbove { decay, start_value, limit, from })
        }
    }
}

fn done(reason: DoneReason) -> pb::Done {
    use pb::done::Reason;
    let (reason, failed) = match reason {
        DoneReason::Finished => (Reason::Finished, pb::Failure::Unspecified),
        DoneReason::Cancelled => (Reason::Cancelled, pb::Failure::Unspecified),
        DoneReason::Failed(why) => (Reason::Failed, failure(why)),
    };
    pb::Done { reason: reason.into(), failure: failed.into() }
}

pub(super) const fn failure(failure: Failure) -> pb::Failure {
    match failure {
        Failure::LossNotFiniteAtStart => pb::Failure::LossNotFiniteAtStart,
        Failure::Unstable => pb::Failure::Unstable,
        Failure::AllCandidatesDiverged => pb::Failure::AllCandidatesDiverged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(trial: u32) -> Run {
        let power = Piece::new(4, 0.5, 0.0, Shape::Power { exponent: -0.5, origin: 2.0 });
        Run {
            phase: Phase::Trial,
            batches: Batches::Replay,
            lr: vec![Piece::warmup(3, 0.5), power],
            stop_if: vec![StopIf::NonFinite, StopIf::MeanAbove { last: 5, limit: 2.0, from: 6 }],
            stage: 1,
            trial: Some(trial),
            validate_at: vec![2, 7],
            rungs: vec![2, 3],
        }
    }

    #[test]
    fn a_directive_carries_everything_at_every_depth() {
        let directive = |seq, action, fallback| Directive {
            seq,
            slot_ops: vec![SlotOp::Save(Slot::Best), SlotOp::Restore(Slot::Stage)],
            action,
            committed_step_at_start: 70,
            fallback,
            fallback_on_stop: None,
        };
        let end = directive(9, Action::Done(DoneReason::Failed(Failure::Unstable)), None);
        let wire = encode(&directive(7, Action::Run(run(2)), Some(Box::new(end))), 4);
        let Some(pb::directive::Action::Run(sent)) = wire.action else { panic!("not a run") };
        assert_eq!((wire.seq, wire.session, wire.committed_step_at_start), (7, 4, 70));
        assert_eq!((sent.phase(), sent.batches()), (pb::Phase::Trial, pb::run::Batches::Replay));
        assert_eq!((sent.trial, sent.stage, sent.stop_if.len()), (Some(2), 1, 2));
        assert_eq!(sent.validate_at, [2, 7]);
        assert_eq!(sent.rungs, [2, 3]);
        assert_eq!((sent.lr[1].exponent, sent.lr[1].origin, sent.lr[1].of), (-0.5, 2.0, 4));
        assert_eq!(wire.slot_ops[0].kind(), pb::slot_op::Kind::Save);
        let fallback = wire.fallback.unwrap();
        let Some(pb::directive::Action::Done(done)) = fallback.action else { panic!("not the end") };
        assert_eq!((fallback.session, done.failure()), (4, pb::Failure::Unstable));
    }

    #[test]
    fn slots_come_back() {
        for slot in [Slot::Start, Slot::Safe, Slot::SafePrev, Slot::Stage, Slot::Best] {
            assert_eq!(decode_slot(encode_slot(slot).into()), Some(slot));
        }
        assert_eq!([0, 99].map(decode_slot), [None, None]);
    }
}
