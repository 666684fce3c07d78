//! The scripts, one for each promise of a client.

use super::script::{Fault, Needs, Script, done, op, piece, stop_if, train, with};
use autolrs_proto::v1::{
    Directive, ErrorReason, LrPiece, Phase, Slot,
    lr_piece::Shape,
    run::Batches,
    slot_op::Kind::{Drop, Restore, Save},
    stop_if::{Above, AboveFirst, EmaAbove, MeanAbove, Rule},
};

fn level(steps: u64, lr: f64) -> Vec<LrPiece> {
    vec![piece(Shape::Constant, steps, lr, lr)]
}

pub(super) fn lr_pieces() -> Script {
    let power = LrPiece { exponent: -0.5, origin: 4.0, ..piece(Shape::Power, 9, 0.5, 0.0) };
    let whole = vec![
        piece(Shape::Linear, 5, 0.01, 0.05),
        piece(Shape::Constant, 3, 0.05, 0.05),
        piece(Shape::Cosine, 7, 0.5, 0.1),
        power,
        piece(Shape::Linear, 1, 0.25, 0.75),
    ];
    let cut = |piece: LrPiece, from, steps| LrPiece { index: from, steps, ..piece };
    let parts = vec![
        cut(piece(Shape::Cosine, 20, 0.5, 0.1), 3, 5),
        cut(piece(Shape::Linear, 20, 0.5, 0.1), 11, 9),
        cut(LrPiece { of: 30, ..power }, 9, 12),
    ];
    Script::of(vec![
        train(Phase::Warmup, vec![], whole),
        train(Phase::Stable, vec![], parts),
        train(Phase::Cooldown, vec![], level(2, 0.001)),
        done(vec![]),
    ])
}

pub(super) fn slots() -> Script {
    let (start, best) = (Slot::Start, Slot::Best);
    Script::of(vec![
        train(Phase::Trial, vec![op(Save, start)], level(5, 0.1)),
        train(Phase::Trial, vec![op(Save, best), op(Restore, start)], level(5, 0.3)),
        // Saved before it is restored: BEST holds the end of the second trial.
        train(Phase::Trial, vec![op(Save, best), op(Restore, start)], level(5, 0.7)),
        train(Phase::Stable, vec![op(Restore, best), op(Drop, best), op(Drop, start)], level(5, 0.2)),
        train(Phase::Stable, vec![op(Save, Slot::Safe)], level(5, 0.4)),
        train(Phase::Stable, vec![op(Restore, Slot::Safe)], level(5, 0.01)),
        done(vec![op(Drop, Slot::Safe)]),
    ])
}

pub(super) fn replay() -> Script {
    let again =
        |ops, lr| with(train(Phase::Trial, ops, level(6, lr)), |run| run.batches = Batches::Replay.into());
    let mut script = Script::of(vec![
        train(Phase::Stable, vec![], level(4, 0.1)),
        again(vec![op(Save, Slot::Start), op(Restore, Slot::Start)], 0.1),
        again(vec![op(Restore, Slot::Start)], 0.3),
        train(Phase::Stable, vec![op(Restore, Slot::Start), op(Drop, Slot::Start)], level(4, 0.2)),
        done(vec![]),
    ]);
    script.needs = Needs::Replay;
    script
}

/// A trial of 12 steps of 1 that must end early, from weight 1.
fn stopped(rule: Rule) -> Directive {
    let ops = vec![op(Restore, Slot::Start)];
    with(train(Phase::Trial, ops, level(12, 1.0)), |run| run.stop_if.push(stop_if(rule)))
}

pub(super) fn stop_rules() -> Script {
    Script::of(vec![
        train(Phase::Trial, vec![op(Save, Slot::Start)], level(3, 0.5)),
        stopped(Rule::Above(Above { limit: 2.5, from: 4 })),
        stopped(Rule::AboveFirst(AboveFirst { factor: 0.5, floor: 8.0, from: 0 })),
        stopped(Rule::MeanAbove(MeanAbove { last: 3, limit: 4.5, from: 0 })),
        stopped(Rule::EmaAbove(EmaAbove { decay: 0.5, start_value: 0.0, limit: 5.2, from: 2 })),
        with(stopped(Rule::Above(Above { limit: 6.5, from: 0 })), |run| {
            run.stop_if.push(stop_if(Rule::Above(Above { limit: 4.5, from: 0 })));
            run.stop_if.push(stop_if(Rule::Above(Above { limit: 4.4, from: 0 })));
        }),
        train(Phase::Stable, vec![op(Restore, Slot::Start)], level(3, 0.5)),
        done(vec![]),
    ])
}

pub(super) fn non_finite() -> Script {
    let bursts = vec![piece(Shape::Constant, 3, 0.1, 0.1), piece(Shape::Constant, 9, 1e7, 1e7)];
    Script::of(vec![
        train(Phase::Trial, vec![op(Save, Slot::Start)], bursts),
        train(Phase::Stable, vec![op(Restore, Slot::Start)], level(5, 0.1)),
        done(vec![]),
    ])
}

pub(super) fn switch_points() -> Script {
    let mut script = Script::of(vec![
        train(Phase::Trial, vec![op(Save, Slot::Start)], level(3, 0.5)),
        // True at offset 4, so in force after 12 steps with 8: in 30.
        with(stopped(Rule::Above(Above { limit: 4.5, from: 0 })), |run| run.lr = level(30, 1.0)),
        // Cut off by the end.
        stopped(Rule::Above(Above { limit: 9.5, from: 0 })),
        train(Phase::Stable, vec![op(Restore, Slot::Start)], level(5, 0.1)),
        done(vec![]),
    ]);
    script.switch_every = 8;
    script
}

pub(super) fn rungs() -> Script {
    let trial =
        |ops, rungs: Vec<u64>| with(train(Phase::Trial, ops, level(40, 0.1)), |run| run.rungs = rungs);
    let mut script = Script::of(vec![
        // They take effect at 16 and at 24: at the first it goes on, at the second it is given what follows.
        trial(vec![op(Save, Slot::Start)], vec![3, 14]),
        // The last would take effect at the end, and has none.
        trial(vec![op(Restore, Slot::Start)], vec![3, 38]),
        train(Phase::Stable, vec![op(Restore, Slot::Start)], level(5, 0.1)),
        done(vec![]),
    ]);
    script.switch_every = 8;
    script.goes_on_at = &[16];
    script
}

pub(super) fn validations() -> Script {
    let mut script = Script::of(vec![
        with(train(Phase::Stable, vec![], level(10, 0.1)), |run| run.validate_at = vec![1, 4, 10]),
        with(train(Phase::Cooldown, vec![], level(4, 0.1)), |run| run.validate_at = vec![4]),
        done(vec![]),
    ]);
    script.needs = Needs::Validate;
    script
}

/// A search and two committed stretches.
fn small() -> Vec<Directive> {
    vec![
        train(Phase::Trial, vec![op(Save, Slot::Start)], level(5, 0.1)),
        train(Phase::Trial, vec![op(Restore, Slot::Start)], level(5, 0.3)),
        train(Phase::Stable, vec![op(Restore, Slot::Start)], level(5, 0.2)),
        train(Phase::Cooldown, vec![], vec![piece(Shape::Linear, 5, 0.2, 0.04)]),
        done(vec![]),
    ]
}

pub(super) fn lost_replies() -> Script {
    let fault = |_, before, _| if before < 2 { Fault::LoseReply } else { Fault::None };
    Script { fault, faults: 4, ..Script::of(small()) }
}

pub(super) fn lost_opening() -> Script {
    Script { loses_opening: true, faults: 1, ..Script::of(small()) }
}

pub(super) fn repeated() -> Script {
    Script { fault: |_, _, _| Fault::Twice, faults: 4, ..Script::of(small()) }
}

pub(super) fn unavailable() -> Script {
    let fault = |_, before, _| if before < 1 { Fault::Unavailable } else { Fault::None };
    Script { fault, faults: 4, ..Script::of(small()) }
}

pub(super) fn forgetful() -> Script {
    let fault = |_, before, finished| if finished && before == 0 { Fault::Forget } else { Fault::None };
    Script { fault, faults: 4, ..Script::of(small()) }
}

pub(super) fn fallback() -> Script {
    // Nothing about the third directive is answered until its fallback is known to be run: see `Stage::report`.
    Script { adopts: Some(2), ..Script::of(small()) }
}

pub(super) fn fallback_on_stop() -> Script {
    let mut line = small();
    line[1] = stopped(Rule::Above(Above { limit: 2.5, from: 0 }));
    let on_stop = train(Phase::Cooldown, vec![op(Restore, Slot::Start)], level(6, 0.25));
    line[1].fallback_on_stop = Some(Box::new(Directive { fallback: None, ..on_stop }));
    Script { adopts: Some(1), ..Script::of(line) }
}

pub(super) fn fenced() -> Script {
    refused(ErrorReason::Fenced)
}

pub(super) fn job_not_found() -> Script {
    refused(ErrorReason::JobNotFound)
}

fn refused(reason: ErrorReason) -> Script {
    let fault = match reason {
        ErrorReason::JobNotFound => |place, _, _| match place {
            Some(1) => Fault::Refuse(ErrorReason::JobNotFound),
            _ => Fault::None,
        },
        _ => |place, _, _| match place {
            Some(1) => Fault::Refuse(ErrorReason::Fenced),
            _ => Fault::None,
        },
    };
    Script { fault, ends_with_line: false, ..Script::of(small()) }
}

pub(super) fn interrupt() -> Script {
    let fault = |place, _, finished| match (place, finished) {
        (Some(0), false) => Fault::Interrupt,
        _ => Fault::None,
    };
    // Long enough that it reports on the way.
    let line = vec![train(Phase::Stable, vec![], level(1200, 0.001)), done(vec![])];
    let mut script =
        Script { fault, faults: 1, switch_every: 8, needs: Needs::EarlyReports, ..Script::of(line) };
    script.step_seconds = 0.004;
    script
}
