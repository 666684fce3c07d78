//! The machine against answers written by hand. The interleavings with a real job are in the crate autolrs-tests.

mod rungs;

use super::*;
use autolrs_core::{
    directive::{Batches, Phase, Slot, SlotOp::*},
    job::{Ack, StoppedBecause, Validation},
    stop_rules::{Stop, StopIf},
};

/// A directive of `steps` at one LR, which stops on a loss that is no number.
pub(crate) fn run(seq: u64, phase: Phase, steps: u64, lr: f64) -> Directive {
    let run = Run {
        phase,
        batches: Batches::Fresh,
        lr: vec![Piece::constant(steps, lr)],
        stop_if: vec![StopIf::NonFinite],
        stage: 0,
        trial: (phase == Phase::Trial).then_some(0),
        validate_at: Vec::new(),
        rungs: Vec::new(),
    };
    Directive {
        seq,
        slot_ops: Vec::new(),
        action: Action::Run(run),
        committed_step_at_start: 0,
        fallback: None,
        fallback_on_stop: None,
    }
}

fn validated(at: &[u64], mut directive: Directive) -> Directive {
    if let Action::Run(run) = &mut directive.action {
        run.validate_at = at.to_vec();
    }
    directive
}

fn done(seq: u64, reason: DoneReason) -> Directive {
    Directive { action: Action::Done(reason), ..run(seq, Phase::Stable, 1, 0.1) }
}

fn with(ops: &[SlotOp], directive: Directive) -> Directive {
    Directive { slot_ops: ops.to_vec(), ..directive }
}

fn or_else(directive: Directive, fallback: Directive) -> Directive {
    Directive { fallback: Some(Box::new(fallback)), ..directive }
}

fn on_stop(directive: Directive, fallback: Directive) -> Directive {
    Directive { fallback_on_stop: Some(Box::new(fallback)), ..directive }
}

fn opened(directive: Directive, switch_every: u64) -> Opened {
    Opened { session: 1, directive, received_through: 0, slot_ops: Vec::new(), uid: 7, switch_every }
}

fn machine(directive: Directive) -> Machine {
    Machine::open("job", 0.01, opened(directive, 1))
}

fn ack(seq: u64, received_through: u64) -> Ack {
    Ack { session: 1, seq, received_through, durable_seq: 0, directive: None, interrupt: None, go_on: None }
}

fn next(after: u64, directive: Directive) -> Ack {
    Ack { durable_seq: after, directive: Some(directive), ..ack(after, 0) }
}

fn reload(machine: &Machine, directive: Directive) -> Machine {
    let checkpoint = Checkpoint::decode(&machine.export().unwrap()).unwrap();
    Machine::resume(checkpoint, 0.01, Opened { session: 2, ..opened(directive, 1) })
}

fn resume_of(machine: &Machine) -> autolrs_core::job::Resume {
    Checkpoint::decode(&machine.export().unwrap()).unwrap().resume().unwrap()
}

#[test]
fn a_directive_is_run_reported_and_followed() {
    let mut m = machine(with(&[Save(Slot::Start)], run(1, Phase::Warmup, 2, 0.1)));
    assert_eq!(m.take_slot_ops(), [Save(Slot::Start)]);
    assert_eq!((m.lr(), m.record(3.0), m.due()), (0.1, Status::GoOn, Due::Soon));
    assert_eq!((m.record(2.0), m.due(), m.waiting()), (Status::Ended, Due::Now, true));
    let report = m.poll_report().unwrap();
    assert_eq!((report.train_losses, report.finished, report.first_offset), (vec![3.0, 2.0], true, 0));
    m.handle_ack(next(1, with(&[Save(Slot::Safe)], run(4, Phase::Stable, 3, 0.2))));
    assert_eq!((m.waiting(), m.seq(), m.lr(), m.total_step()), (false, 4, 0.2, 2));
    assert_eq!((m.take_slot_ops(), m.due()), (vec![Save(Slot::Safe)], Due::Heartbeat));
}

/// A trainer that measures a validation loss, or only looks at the status, while the answer comes.
#[test]
fn a_directive_that_came_unseen_is_begun_by_its_slot_operations() {
    let mut m = machine(validated(&[1], run(1, Phase::Trial, 1, 0.1)));
    assert_eq!(m.record(1.0), Status::Validate);
    m.validation(0.5);
    m.handle_ack(next(1, with(&[Save(Slot::Stage)], run(2, Phase::Trial, 3, 0.2))));
    assert_eq!(
        (m.status(), m.status(), m.waiting(), m.ready()),
        (Status::Ended, Status::Ended, false, Ok(()))
    );
    assert_eq!((m.take_slot_ops(), m.status()), (vec![Save(Slot::Stage)], Status::GoOn));
}

#[test]
fn no_step_is_run_after_the_end() {
    let mut m = machine(run(1, Phase::Stable, 1, 0.1));
    assert_eq!([m.record(1.0), m.record(1.0), m.record(1.0)], [Status::Ended; 3]);
    assert_eq!((m.offset(), m.total_step()), (1, 1));
}

#[test]
fn a_gap_answer_rewinds_and_the_finish_carries_the_last_loss() {
    let steps = 2 * MAX_LOSSES_PER_REPORT as u64 + 10;
    let mut m = machine(run(1, Phase::Stable, steps, 0.1));
    for k in 0..steps {
        m.record(k as f64);
    }
    let mut seen = Vec::new();
    let mut lost_memory = false;
    while m.waiting() {
        let report = m.poll_report().unwrap();
        assert!(report.train_losses.len() <= MAX_LOSSES_PER_REPORT);
        if report.finished && !lost_memory {
            lost_memory = true;
            seen.clear();
            m.handle_ack(ack(1, 0));
            continue;
        }
        assert_eq!(report.first_offset, seen.len() as u64);
        seen.extend(report.train_losses);
        let answer =
            if report.finished { next(1, run(2, Phase::Stable, 1, 0.1)) } else { ack(1, seen.len() as u64) };
        m.handle_ack(answer);
    }
    assert!(lost_memory && seen.len() as u64 == steps);
}

#[test]
fn late_and_foreign_answers_are_ignored() {
    let mut m = machine(run(1, Phase::Stable, 2, 0.1));
    m.record(1.0);
    m.handle_ack(next(1, run(4, Phase::Stable, 3, 0.2)));
    assert_eq!(m.seq(), 1, "nothing is waited for");
    m.record(1.0);
    m.handle_ack(Ack { session: 9, ..next(1, run(4, Phase::Stable, 3, 0.2)) });
    m.handle_ack(next(0, run(4, Phase::Stable, 3, 0.2)));
    assert_eq!(m.seq(), 1);
    m.handle_ack(next(1, run(4, Phase::Stable, 3, 0.2)));
    m.handle_ack(next(1, run(5, Phase::Stable, 3, 0.3)));
    assert_eq!(m.seq(), 4, "the first answer stands");
}

#[test]
fn a_stop_takes_effect_at_its_switch_point() {
    let mut m = Machine::open("job", 0.01, opened(run(1, Phase::Stable, 100, 0.1), 8));
    for _ in 0..3 {
        assert_eq!(m.record(1.0), Status::GoOn);
    }
    let mut steps = 3;
    while m.record(f64::NAN) != Status::Ended {
        steps += 1;
    }
    assert_eq!((m.offset(), steps + 1), (16, 16));
    let report = m.poll_report().unwrap();
    assert_eq!(report.stopped_because, Some(StoppedBecause::Rule(Stop { rule: 0, offset: 3 })));
}

#[test]
fn device_losses_are_wanted_in_time_for_the_stop() {
    let mut m = Machine::open("job", 0.01, opened(run(1, Phase::Stable, 100, 0.1), 8));
    for _ in 0..7 {
        assert_eq!(m.tick(), Status::GoOn);
    }
    assert_eq!((m.tick(), m.wanted()), (Status::WantLosses, 1));
    m.losses(&[1.0]);
    assert_eq!(m.status(), Status::GoOn);
    for _ in 0..7 {
        m.tick();
    }
    assert_eq!((m.tick(), m.wanted()), (Status::WantLosses, 9));
    m.losses(&[[1.0; 7].as_slice(), &[f64::NAN]].concat());
    assert_eq!((m.status(), m.waiting(), m.ready().is_err()), (Status::Ended, false, true));
    assert!(m.export().is_err());
    m.losses(&[1.0; 7]);
    assert!(m.waiting() && m.poll_report().unwrap().train_losses.len() == 16);
}

#[test]
fn a_stop_that_is_learnt_late_is_cut_where_it_took_effect() {
    let mut m = Machine::open("job", 0.01, opened(run(1, Phase::Stable, 100, 0.1), 8));
    for _ in 0..20 {
        m.tick();
    }
    m.losses(&[f64::INFINITY; 20]);
    assert_eq!((m.status(), m.offset(), m.total_step(), m.waiting()), (Status::Ended, 8, 8, true));
    assert_eq!(m.poll_report().unwrap().train_losses.len(), 8);
}

#[test]
fn an_interrupt_ends_the_segment_at_a_switch_point_with_its_number() {
    let mut m = Machine::open("job", 0.01, opened(run(1, Phase::Stable, 100, 0.1), 4));
    m.record(1.0);
    m.handle_ack(Ack { interrupt: Some(5), ..ack(1, 1) });
    assert_eq!([m.record(1.0), m.record(1.0), m.record(1.0)], [Status::GoOn, Status::GoOn, Status::Ended]);
    let report = m.poll_report().unwrap();
    assert_eq!((report.finished, report.stopped_because), (true, Some(StoppedBecause::Interrupt(5))));
}

#[test]
fn with_late_losses_an_interrupt_is_obeyed_only_where_the_trainer_looks() {
    let mut m = Machine::open("job", 0.01, opened(run(1, Phase::Stable, 100, 0.1), 2));
    m.tick();
    assert_eq!(m.tick(), Status::WantLosses);
    m.losses(&[1.0]);
    assert_eq!(m.status(), Status::GoOn);
    m.handle_ack(Ack { interrupt: Some(5), ..ack(1, 1) });
    m.losses(&[1.0]);
    assert!(!m.waiting(), "the next step may be under way");
    m.tick();
    assert_eq!((m.tick(), m.wanted()), (Status::WantLosses, 4));
    m.losses(&[1.0, 1.0]);
    assert_eq!((m.status(), m.waiting()), (Status::Ended, true));
}

#[test]
fn an_interrupt_that_comes_with_a_directive_ends_it_before_its_first_step() {
    let mut m = machine(run(1, Phase::Stable, 1, 0.1));
    m.record(1.0);
    let directive = with(&[Restore(Slot::Safe)], run(4, Phase::Stable, 3, 0.2));
    m.handle_ack(Ack { interrupt: Some(2), ..next(1, directive) });
    assert!(m.waiting());
    let report = m.poll_report().unwrap();
    assert_eq!((report.seq, report.finished, report.train_losses.len()), (4, true, 0));
    m.handle_ack(next(4, with(&[Save(Slot::Safe)], run(7, Phase::Cooldown, 3, 0.2))));
    assert_eq!(m.take_slot_ops(), [Restore(Slot::Safe), Save(Slot::Safe)], "in order, none is lost");
}

#[test]
fn an_interrupt_that_nobody_follows_up_leaves_the_segment_to_its_end() {
    let mut m = machine(run(1, Phase::Cooldown, 5, 0.1));
    m.record(1.0);
    m.handle_ack(Ack { interrupt: Some(5), ..ack(1, 1) });
    m.record(1.0);
    assert!(m.waiting());
    m.handle_silence();
    let mut steps = 2;
    while m.done().is_none() {
        assert_eq!((m.lr(), m.run().unwrap().phase), (0.1, Phase::Cooldown));
        m.record(1.0);
        steps += 1;
        if m.waiting() {
            m.handle_silence();
        }
    }
    assert_eq!((steps, m.done(), m.total_step()), (5, Some(DoneReason::Finished), 5));
}

#[test]
fn a_stop_stands_before_an_interrupt() {
    let mut m = Machine::open("job", 0.01, opened(run(1, Phase::Stable, 100, 0.1), 4));
    m.record(f64::NAN);
    m.handle_ack(Ack { interrupt: Some(5), ..ack(1, 1) });
    while m.record(1.0) != Status::Ended {}
    let because = m.poll_report().unwrap().stopped_because;
    assert_eq!((m.offset(), because), (4, Some(StoppedBecause::Rule(Stop { rule: 0, offset: 0 }))));
}

#[test]
fn silence_puts_the_fallback_in_force_and_both_are_reported() {
    let fallback = with(&[Restore(Slot::Start)], run(2, Phase::Cooldown, 2, 0.05));
    let mut m = machine(or_else(with(&[Save(Slot::Start)], run(1, Phase::Stable, 1, 0.1)), fallback));
    m.take_slot_ops();
    m.handle_silence();
    assert_eq!(m.seq(), 1, "nothing is waited for");
    m.record(1.0);
    m.handle_silence();
    assert_eq!((m.seq(), m.is_detached(), m.expects_answer()), (2, true, false));
    assert_eq!((m.take_slot_ops(), m.take_notices().len()), (vec![Restore(Slot::Start)], 1));
    m.record(0.5);
    assert_eq!(m.poll_report().unwrap().seq, 1, "the end of the directive before comes first");
    m.handle_ack(next(1, run(9, Phase::Stable, 5, 0.3)));
    assert_eq!(m.seq(), 2, "a late decision is ignored");
    assert_eq!(resume_of(&m).seq, 1, "the server does not know of the fallback yet");
    let report = m.poll_report().unwrap();
    assert_eq!((report.seq, report.first_offset, report.train_losses.len()), (2, 0, 1));
    m.handle_ack(ack(2, 0));
    assert!(!m.is_detached(), "the server has adopted it");
    assert_eq!(resume_of(&m).seq, 2);
    assert_eq!((m.record(0.4), m.poll_report().unwrap().train_losses.len()), (Status::Ended, 2));
    m.handle_silence();
    assert_eq!((m.done(), m.lr(), m.is_flushed()), (Some(DoneReason::Finished), 0.05, false));
    m.handle_ack(next(2, done(11, DoneReason::Finished)));
    assert!(m.is_flushed());
}

#[test]
fn a_guard_works_alone_and_without_a_fallback_the_last_lr_is_held() {
    let guarded = with(&[Restore(Slot::Safe)], run(3, Phase::Stable, 4, 0.05));
    let mut m = machine(on_stop(with(&[Save(Slot::Safe)], run(1, Phase::Stable, 5, 0.1)), guarded));
    m.take_slot_ops();
    assert_eq!(m.record(f64::NAN), Status::Ended);
    m.handle_silence();
    assert_eq!((m.seq(), m.take_slot_ops()), (3, vec![Restore(Slot::Safe)]));
    assert_eq!(m.record(f64::NAN), Status::Ended);
    m.handle_silence();
    assert_eq!((m.seq(), m.steps(), m.lr()), (0, 3, 0.05));
    while m.record(1.0) != Status::Ended {}
    m.handle_silence();
    assert_eq!((m.done(), m.outbox.len()), (Some(DoneReason::Finished), 2));
}

#[test]
fn an_end_that_a_fallback_brought_becomes_known() {
    let end = with(&[Restore(Slot::Safe)], done(3, DoneReason::Finished));
    let mut m = machine(on_stop(run(1, Phase::Stable, 5, 0.1), end));
    m.record(f64::NAN);
    m.handle_silence();
    assert_eq!((m.done(), m.is_flushed()), (Some(DoneReason::Finished), false));
    m.handle_ack(next(1, run(9, Phase::Stable, 5, 0.3)));
    assert_eq!((m.due(), m.poll_report().unwrap().seq), (Due::Now, 3));
    m.handle_ack(ack(3, 0));
    assert_eq!(m.due(), Due::Never);
}

#[test]
fn a_refused_end_runs_the_fallback_on_stop() {
    let guarded = with(&[Restore(Slot::Safe)], run(3, Phase::Stable, 4, 0.05));
    let mut m = machine(on_stop(run(1, Phase::Stable, 5, 0.1), guarded));
    m.record(f64::NAN);
    m.handle_refusal(1, Refused::StopMismatch("no rule matched".into()));
    m.record(1.0);
    assert_eq!((m.seq(), m.poll_report().unwrap().seq), (3, 3));
    m.handle_ack(ack(3, 0));
    assert!(!m.is_detached());
}

#[test]
fn a_fenced_trainer_goes_on_alone() {
    let mut m = machine(or_else(run(1, Phase::Stable, 1, 0.1), run(2, Phase::Cooldown, 1, 0.05)));
    m.handle_refusal(1, Refused::Fenced("session 2 speaks for the job".into()));
    assert_eq!((m.due(), m.expects_answer(), m.take_notices().len()), (Due::Never, false, 1));
    m.record(1.0);
    m.handle_silence();
    m.record(1.0);
    m.handle_silence();
    assert_eq!((m.done(), m.take_notices().len()), (Some(DoneReason::Finished), 0));
}

#[test]
fn a_job_that_is_gone_ends_like_a_cancelled_one() {
    let back = with(&[Restore(Slot::Start)], run(2, Phase::Warmup, 9, 0.05));
    let trial = or_else(with(&[Save(Slot::Start)], run(1, Phase::Trial, 5, 0.1)), back);
    let mut m = machine(trial);
    m.take_slot_ops();
    m.record(1.0);
    m.handle_refusal(1, Refused::JobNotFound);
    assert_eq!(m.done(), None, "the step under way is finished first");
    assert_eq!(m.record(1.0), Status::Ended);
    assert_eq!((m.done(), m.take_slot_ops()), (Some(DoneReason::Cancelled), vec![Restore(Slot::Start)]));
    assert_eq!((m.lr(), m.committed_step()), (0.01, 0));
}

#[test]
fn a_cancelled_trainer_that_is_detached_hears_of_it() {
    let mut m = machine(or_else(run(1, Phase::Stable, 1, 0.1), run(2, Phase::Cooldown, 5, 0.05)));
    m.record(1.0);
    m.handle_silence();
    m.record(1.0);
    m.handle_ack(next(1, done(4, DoneReason::Cancelled)));
    assert_eq!((m.record(1.0), m.done()), (Status::Ended, Some(DoneReason::Cancelled)));
}

#[test]
fn validations_are_reported_and_late_ones_go_with_the_next_directive() {
    let mut m = machine(run(1, Phase::Stable, 1, 0.1));
    m.validation(2.0);
    m.record(1.0);
    m.validation(1.5);
    let report = m.poll_report().unwrap();
    let at = |offset, loss| Validation { offset, loss };
    assert_eq!(report.validations, [at(0, 2.0), at(1, 1.5)]);
    m.validation(1.4);
    m.handle_ack(next(1, run(4, Phase::Stable, 3, 0.2)));
    assert_eq!((m.due(), m.poll_report().unwrap().validations), (Due::Soon, vec![at(0, 1.4)]));
    m.handle_ack(ack(4, 0));
    assert_eq!(m.due(), Due::Heartbeat);
}

fn offsets(report: &Report) -> Vec<u64> {
    report.validations.iter().map(|v| v.offset).collect()
}

#[test]
fn a_validation_is_asked_for_where_it_is_due_and_the_end_waits_for_it() {
    let mut m = machine(validated(&[2, 3], run(1, Phase::Trial, 3, 0.1)));
    m.validation(9.0);
    assert_eq!((m.record(1.0), m.record(1.0)), (Status::GoOn, Status::Validate));
    assert_eq!(m.status(), Status::Validate, "until it is given");
    m.validation(0.5);
    assert_eq!((m.status(), m.record(1.0)), (Status::GoOn, Status::Validate));
    assert!(!m.waiting() && matches!(m.ready(), Err(NotReady::Validation { offset: 3 })));
    assert!(!m.poll_report().unwrap().finished);
    m.validation(f64::NAN);
    assert_eq!((m.status(), m.waiting(), m.due()), (Status::Ended, true, Due::Now));
    let report = m.poll_report().unwrap();
    assert_eq!((offsets(&report), report.finished), (vec![0, 2, 3], true));
    m.handle_ack(ack(1, 0));
    assert_eq!(offsets(&m.poll_report().unwrap()), [0, 2, 3], "the server has lost its memory");
}

#[test]
fn with_late_losses_the_last_state_is_validated_once_all_are_known() {
    for last in [1.0, f64::NAN] {
        let mut m = Machine::open("job", 0.01, opened(validated(&[8], run(1, Phase::Stable, 8, 0.1)), 8));
        (0..7).for_each(|_| assert_eq!(m.tick(), Status::GoOn));
        assert_eq!((m.tick(), m.wanted()), (Status::WantLosses, 8));
        m.losses(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, last]);
        if last.is_nan() {
            assert_eq!(
                (m.status(), m.waiting()),
                (Status::Ended, true),
                "a state that broke is not validated"
            );
        } else {
            assert_eq!((m.status(), m.waiting()), (Status::Validate, false));
            m.validation(0.5);
            assert_eq!((m.status(), m.waiting()), (Status::Ended, true));
        }
    }
}

#[test]
fn a_stop_makes_later_validations_moot_but_not_those_before_it() {
    let directive = validated(&[2, 4, 6], run(1, Phase::Trial, 8, 0.1));
    let mut m = Machine::open("job", 0.01, opened(directive, 4));
    assert_eq!((m.record(f64::NAN), m.record(1.0)), (Status::GoOn, Status::Validate));
    m.validation(0.5);
    assert_eq!((m.record(1.0), m.record(1.0), m.waiting()), (Status::GoOn, Status::Ended, true));
    assert_eq!(offsets(&m.poll_report().unwrap()), [2]);
}

#[test]
fn an_interrupt_waits_for_no_validation_at_its_own_place() {
    let mut m = machine(validated(&[1, 2], run(1, Phase::Stable, 5, 0.1)));
    assert_eq!(m.record(1.0), Status::Validate);
    m.handle_ack(Ack { interrupt: Some(3), ..ack(1, 1) });
    assert_eq!(m.status(), Status::Validate);
    m.validation(0.5);
    assert_eq!((m.status(), m.waiting()), (Status::Ended, true));
    let report = m.poll_report().unwrap();
    assert_eq!((offsets(&report), report.stopped_because), (vec![1], Some(StoppedBecause::Interrupt(3))));
}

#[test]
fn a_trainer_that_went_on_without_its_validation_still_owes_it() {
    let mut m = machine(validated(&[1], run(1, Phase::Stable, 2, 0.1)));
    assert_eq!([m.record(1.0), m.record(1.0), m.record(1.0)], [Status::Validate; 3]);
    assert!(!m.waiting() && m.offset() == 2);
    m.validation(0.5);
    assert_eq!((offsets(&m.poll_report().unwrap()), m.waiting()), (vec![1], true));
}

#[test]
fn validations_of_the_trainer_leave_room_for_those_that_are_asked_for() {
    let mut m = machine(validated(&[1], run(1, Phase::Stable, 1, 0.1)));
    (0..2 * MAX_VALIDATIONS).for_each(|_| m.validation(1.0));
    assert!(m.take_notices()[0].contains("not all are reported"));
    assert_eq!(m.record(1.0), Status::Validate);
    m.validation(0.5);
    let report = m.poll_report().unwrap();
    assert_eq!((report.validations.len(), report.validations.last().unwrap().offset), (MAX_VALIDATIONS, 1));
}

#[test]
fn a_checkpoint_knows_which_validations_are_owed() {
    let directive = validated(&[1, 3], run(1, Phase::Stable, 5, 0.1));
    let mut m = machine(directive.clone());
    m.record(1.0);
    assert_eq!(reload(&m, directive.clone()).status(), Status::Validate);
    m.validation(0.5);
    let mut again = reload(&m, directive.clone());
    assert_eq!(
        (again.status(), again.record(1.0), again.record(1.0)),
        (Status::GoOn, Status::GoOn, Status::Validate)
    );
    assert_eq!(offsets(&again.poll_report().unwrap()), [1]);
    let mut unable = reload(&m, validated(&[], directive));
    assert_eq!((unable.record(1.0), unable.record(1.0)), (Status::GoOn, Status::GoOn));
}

#[test]
fn a_resumed_session_goes_on_at_its_offset_without_the_operations() {
    let directive = on_stop(
        with(&[Save(Slot::Safe)], run(4, Phase::Stable, 5, 0.1)),
        with(&[Restore(Slot::Safe)], run(6, Phase::Stable, 5, 0.05)),
    );
    let mut m = machine(directive.clone());
    m.take_slot_ops();
    m.record(1.0);
    m.record(2.0);
    let resume = resume_of(&m);
    assert_eq!((resume.uid, resume.seq, resume.offset, resume.slots.len()), (7, 4, 2, 0));
    let mut m = reload(&m, directive);
    assert_eq!((m.offset(), m.total_step(), m.session(), m.export_slot()), (2, 2, 2, None));
    assert_eq!(m.take_slot_ops(), [Save(Slot::Safe)], "the guard's slot takes the state at hand");
    let report = m.poll_report().unwrap();
    assert_eq!((report.first_offset, report.train_losses), (0, vec![1.0, 2.0]));
}

#[test]
fn operations_that_were_done_at_offset_0_are_not_done_again() {
    let ops = [Restore(Slot::Start), Save(Slot::Safe), Drop(Slot::Start)];
    let directive = with(&ops, run(4, Phase::Stable, 5, 0.1));
    let mut m = machine(with(&[Save(Slot::Start)], run(1, Phase::Warmup, 1, 0.1)));
    m.take_slot_ops();
    m.record(1.0);
    m.handle_ack(next(1, directive.clone()));
    assert_eq!(m.export_slot(), Some(Slot::Start), "the restore is still to come");
    assert_eq!(resume_of(&m).slots, [Slot::Start]);
    assert_eq!(reload(&m, directive.clone()).take_slot_ops(), ops);
    m.take_slot_ops();
    assert_eq!((m.export_slot(), resume_of(&m).offset), (None, 0));
    assert_eq!(reload(&m, directive).take_slot_ops(), [Save(Slot::Safe)]);
}

#[test]
fn a_search_is_resumed_at_its_start() {
    let back = with(&[Restore(Slot::Start)], run(2, Phase::Warmup, 9, 0.05));
    let first = or_else(with(&[Save(Slot::Start)], run(1, Phase::Trial, 2, 0.1)), back.clone());
    let mut m = machine(first.clone());
    assert_eq!((m.export_slot(), resume_of(&m).slots.len()), (None, 0));
    m.take_slot_ops();
    assert_eq!(m.export_slot(), None, "the state at hand is the search's start");
    m.record(1.0);
    assert_eq!(m.export_slot(), Some(Slot::Start));
    m.record(1.0);
    m.handle_ack(next(1, or_else(with(&[Restore(Slot::Start)], run(4, Phase::Trial, 2, 0.2)), back)));
    m.take_slot_ops();
    m.record(1.0);
    let resume = resume_of(&m);
    assert_eq!((resume.seq, resume.offset, resume.slots), (1, 0, vec![Slot::Start]));
    let mut m = reload(&m, first);
    assert_eq!((m.seq(), m.offset(), m.total_step()), (1, 0, 0));
    assert_eq!(m.take_slot_ops(), [Save(Slot::Start)]);
}

#[test]
fn a_broken_state_is_not_kept() {
    let guarded = with(&[Restore(Slot::Safe)], run(3, Phase::Stable, 4, 0.05));
    let directive = on_stop(with(&[Save(Slot::Safe)], run(1, Phase::Stable, 5, 0.1)), guarded);
    let mut m = machine(directive.clone());
    m.take_slot_ops();
    m.record(f64::NAN);
    assert_eq!((m.export_slot(), resume_of(&m).offset), (Some(Slot::Safe), 1));
    let mut m = reload(&m, directive);
    assert!(m.waiting() && m.poll_report().unwrap().finished);
    assert_eq!(m.take_slot_ops(), []);
}

#[test]
fn a_detached_trainer_resumes_inside_its_fallback() {
    let fallback = run(2, Phase::Cooldown, 5, 0.05);
    let directive = or_else(run(1, Phase::Stable, 2, 0.1), fallback);
    let mut m = machine(directive.clone());
    m.record(1.0);
    m.record(2.0);
    m.handle_silence();
    m.record(3.0);
    let resume = resume_of(&m);
    assert_eq!((resume.seq, resume.offset), (1, 2));
    let mut m = reload(&m, directive);
    assert_eq!((m.seq(), m.offset(), m.is_detached(), m.total_step()), (2, 1, true, 3));
    let report = m.poll_report().unwrap();
    assert_eq!((report.seq, report.finished, report.train_losses), (1, true, vec![1.0, 2.0]));
}

#[test]
fn a_search_that_the_server_has_closed_gives_way_to_what_follows() {
    let mut m = machine(run(1, Phase::Stable, 5, 0.1));
    m.record(1.0);
    let mut m = reload(&m, with(&[Restore(Slot::Start)], run(8, Phase::Warmup, 3, 0.3)));
    assert_eq!((m.seq(), m.offset(), m.take_slot_ops()), (8, 0, vec![Restore(Slot::Start)]));
}

#[test]
fn damaged_foreign_and_newer_states_are_told_apart() {
    let bytes = machine(run(1, Phase::Stable, 5, 0.1)).export().unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Checkpoint::decode(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, b'X'), BadCheckpoint::Foreign);
    assert_eq!(changed(4, 9), BadCheckpoint::Version(9));
    assert_eq!(changed(bytes.len() - 1, 0xff), BadCheckpoint::Damaged);
    assert_eq!(Checkpoint::decode(b""), Err(BadCheckpoint::Foreign));
    assert_eq!(Checkpoint::decode(&bytes).unwrap().job(), "job");
}

#[test]
fn what_is_left_of_the_line_is_known() {
    let mut m = Machine::alone_with("job", vec![Piece::warmup(2, 0.2), Piece::constant(3, 0.2)], 0.1);
    m.record(1.0);
    assert_eq!(m.line(), [Piece { steps: 1, index: 1, ..Piece::warmup(2, 0.2) }, Piece::constant(3, 0.2)]);
    (0..4).for_each(|_| assert_ne!(m.record(1.0), Status::WantLosses));
    assert_eq!((m.line(), m.uid()), (vec![], 0));
    m.handle_silence();
    assert_eq!((m.done(), m.line()), (Some(DoneReason::Finished), vec![]));
}

#[test]
fn alone_a_constant_lr_is_run_to_the_end() {
    let mut m = Machine::alone("job", Budget::Known(3), 0.02);
    assert_eq!((m.lr(), m.due(), m.is_detached()), (0.02, Due::Never, true));
    m.record(1.0);
    let checkpoint = Checkpoint::decode(&m.export().unwrap()).unwrap();
    assert_eq!(checkpoint.resume(), None);
    let mut m = Machine::resume_alone(checkpoint, 0.02);
    assert_eq!((m.offset(), m.record(1.0), m.record(1.0)), (1, Status::GoOn, Status::Ended));
    m.handle_silence();
    assert_eq!((m.done(), m.total_step()), (Some(DoneReason::Finished), 3));
}

/// Trainers of several processes run these steps without a word between them.
#[test]
fn the_next_lrs_reach_to_where_something_else_may_change() {
    let mut directive = validated(&[11, 20], run(1, Phase::Stable, 20, 0.1));
    if let Action::Run(run) = &mut directive.action {
        run.lr = vec![Piece::warmup(10, 1.0), Piece::constant(10, 0.3)];
    }
    let mut m = Machine::open("job", 0.01, opened(directive, 8));
    m.take_slot_ops();
    let mut lengths = Vec::new();
    while m.status() == Status::GoOn {
        let lrs = m.next_lrs();
        lengths.push(lrs.len());
        for (k, lr) in lrs.iter().enumerate() {
            assert_eq!(m.lr().to_bits(), lr.to_bits());
            m.tick();
            let free = k + 1 < lrs.len();
            assert_eq!(m.next_lrs().len(), if free { lrs.len() - k - 1 } else { 0 }, "at {}", m.offset());
        }
        while m.status() == Status::WantLosses {
            m.losses(&[1.0; 8]);
        }
        if m.status() == Status::Validate {
            assert!(m.next_lrs().is_empty());
            m.validation(0.5);
        }
    }
    assert_eq!((lengths, m.waiting(), m.next_lrs()), (vec![8, 3, 5, 4], true, vec![]));
    m.handle_ack(next(1, run(2, Phase::Stable, 3, 0.2)));
    assert!(m.next_lrs().is_empty(), "it is begun by its slot operations");
    m.take_slot_ops();
    assert_eq!(m.next_lrs(), [0.2; 3]);
}

/// The trainer knows the last losses, but the other processes have not been heard yet.
#[test]
fn a_checkpoint_may_leave_out_the_steps_whose_losses_are_missing() {
    let mut m = Machine::open("job", 0.01, opened(run(1, Phase::Stable, 20, 0.1), 8));
    m.take_slot_ops();
    for _ in 0..8 {
        m.tick();
    }
    m.losses(&[1.0; 8]);
    for _ in 0..3 {
        m.tick();
    }
    assert_eq!(m.export(), Err(LossesMissing { offset: 11 }));
    let checkpoint = Checkpoint::decode(&m.export_delivered()).unwrap();
    assert_eq!(checkpoint.resume().map(|resume| (resume.seq, resume.offset)), Some((1, 8)));
    let mut again = Machine::resume(
        checkpoint,
        0.01,
        Opened { session: 2, received_through: 8, ..opened(run(1, Phase::Stable, 20, 0.1), 8) },
    );
    assert_eq!((again.offset(), again.total_step(), m.total_step()), (8, 8, 11));
    (0..3).for_each(|_| assert_eq!(again.record(2.0), Status::GoOn));
    assert_eq!((again.offset(), again.total_step(), again.next_lrs().len()), (11, 11, 5));
}

/// What follows the start of a search is undone when its checkpoint is loaded, heard of or not.
#[test]
fn a_step_into_a_search_its_checkpoint_is_the_start() {
    let back = with(&[Restore(Slot::Start)], run(0, Phase::Stable, 30, 0.05));
    let trial = with(&[Save(Slot::Start)], on_stop(run(1, Phase::Trial, 20, 0.1), back));
    let mut m = Machine::open("job", 0.01, opened(trial, 8));
    m.take_slot_ops();
    assert_eq!(m.export_slot(), None);
    m.tick();
    assert_eq!((m.export_slot(), m.delivered()), (Some(Slot::Start), 0));
    let checkpoint = Checkpoint::decode(&m.export_delivered()).unwrap();
    let resume = checkpoint.resume().unwrap();
    assert_eq!((resume.seq, resume.offset, resume.slots), (1, 0, vec![Slot::Start]));
}
