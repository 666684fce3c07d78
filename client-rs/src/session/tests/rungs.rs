//! At a rung of a trial.

use super::*;

/// A trial of 16 steps with rungs at the given offsets, whose fallback restores a slot.
fn rungs(rungs: &[u64]) -> Directive {
    let mut trial = run(1, Phase::Trial, 16, 0.1);
    if let Action::Run(run) = &mut trial.action {
        run.rungs = rungs.to_vec();
    }
    or_else(trial, with(&[Restore(Slot::Stage)], run(9, Phase::Stable, 5, 0.02)))
}

fn go_on(done: u64) -> Ack {
    Ack { go_on: Some(done), ..ack(1, done) }
}

#[test]
fn at_a_rung_the_trainer_reports_and_waits_until_it_may_go_on() {
    let mut m = machine(rungs(&[1, 5]));
    assert_eq!([m.record(3.0), m.record(2.0), m.record(1.0)], [Status::GoOn, Status::Ended, Status::Ended]);
    assert_eq!((m.offset(), m.waiting(), m.due(), m.is_flushed()), (2, true, Due::Now, false));
    let report = m.poll_report().unwrap();
    assert_eq!((report.at_rung, report.finished, report.train_losses), (true, false, vec![3.0, 2.0]));
    m.handle_ack(ack(1, 0));
    assert_eq!(m.poll_report().unwrap().train_losses.len(), 2, "a server that lost its memory gets all");
    for other in [ack(1, 2), go_on(1), Ack { session: 9, ..go_on(2) }, Ack { seq: 3, ..go_on(2) }] {
        m.handle_ack(other);
        assert!(m.waiting());
    }
    m.handle_ack(go_on(2));
    assert_eq!((m.waiting(), m.seq(), m.status(), m.take_slot_ops()), (false, 1, Status::GoOn, vec![]));
    m.handle_ack(go_on(6));
    for _ in 0..3 {
        assert_eq!(m.record(1.0), Status::GoOn);
    }
    assert_eq!(m.record(1.0), Status::Ended, "an answer that came before the rung is not for it");
    m.handle_ack(go_on(6));
    assert_eq!((m.record(1.0), m.poll_report().unwrap().at_rung), (Status::GoOn, false));
}

#[test]
fn a_trial_may_end_at_a_rung() {
    let mut m = machine(rungs(&[1]));
    m.record(1.0);
    m.record(1.0);
    m.handle_ack(next(1, with(&[Restore(Slot::Stage)], run(12, Phase::Trial, 3, 0.2))));
    assert_eq!((m.seq(), m.waiting(), m.total_step()), (12, false, 2));
    assert_eq!((m.take_slot_ops(), m.due()), (vec![Restore(Slot::Stage)], Due::Heartbeat));
}

#[test]
fn without_an_answer_at_a_rung_the_fallback_runs_and_the_server_is_told() {
    let mut m = machine(rungs(&[1]));
    m.record(1.0);
    m.record(1.0);
    m.handle_silence();
    assert_eq!((m.seq(), m.lr(), m.take_slot_ops()), (9, 0.02, vec![Restore(Slot::Stage)]));
    let report = m.poll_report().unwrap();
    assert_eq!((report.seq, report.finished, report.at_rung), (1, true, false));
    assert_eq!(report.stopped_because, Some(StoppedBecause::NoAnswer));
    m.handle_ack(Ack { seq: 9, durable_seq: 1, ..ack(9, 0) });
    m.record(1.0);
    assert_eq!((m.poll_report().unwrap().seq, m.is_detached()), (9, false));
}

#[test]
fn rungs_wait_for_late_losses_and_a_stop_goes_before_them() {
    let mut m = Machine::open("job", 0.01, opened(rungs(&[0]), 8));
    for _ in 0..7 {
        m.tick();
    }
    assert_eq!((m.tick(), m.wanted(), m.waiting()), (Status::WantLosses, 8, false));
    m.losses(&[1.0; 7]);
    assert_eq!((m.status(), m.waiting()), (Status::WantLosses, false));
    let mut stopped = m;
    stopped.losses(&[f64::NAN]);
    assert_eq!((stopped.status(), stopped.offset()), (Status::GoOn, 8), "it ends at its own switch point");
    let mut m = Machine::open("job", 0.01, opened(rungs(&[0, 5]), 8));
    for _ in 0..8 {
        m.tick();
    }
    m.losses(&[1.0; 8]);
    assert_eq!((m.status(), m.waiting()), (Status::Ended, true));
    m.handle_ack(go_on(8));
    for _ in 0..7 {
        assert_eq!(m.tick(), Status::GoOn);
    }
    assert_eq!(m.tick(), Status::Ended, "a rung at the end is the end");
    m.losses(&[1.0; 8]);
    let report = m.poll_report().unwrap();
    assert_eq!((report.finished, report.at_rung, report.train_losses.len()), (true, false, 8));
}

#[test]
fn operators_and_refusals_reach_a_trainer_at_a_rung() {
    let at_rung = || {
        let mut m = machine(with(&[Save(Slot::Stage)], rungs(&[1])));
        m.take_slot_ops();
        m.record(1.0);
        m.record(1.0);
        m
    };
    let mut m = at_rung();
    m.handle_ack(Ack { interrupt: Some(4), ..go_on(2) });
    assert_eq!(m.poll_report().unwrap().stopped_because, Some(StoppedBecause::Interrupt(4)));
    m = at_rung();
    m.handle_ack(next(0, done(5, DoneReason::Cancelled)));
    assert_eq!((m.done(), m.take_slot_ops()), (Some(DoneReason::Cancelled), vec![Restore(Slot::Stage)]));
    m = at_rung();
    m.handle_refusal(1, Refused::JobNotFound);
    assert_eq!(m.done(), Some(DoneReason::Cancelled));
    m = at_rung();
    m.handle_refusal(1, Refused::Fenced("newer".into()));
    assert!(m.waiting() && !m.expects_answer());
    m.handle_silence();
    assert_eq!((m.seq(), m.take_slot_ops()), (9, vec![Restore(Slot::Stage)]));
}

#[test]
fn a_checkpoint_at_a_rung_asks_again() {
    let mut m = machine(rungs(&[1]));
    m.record(1.0);
    m.record(1.0);
    m.handle_ack(go_on(2));
    let resumed = reload(&m, rungs(&[1]));
    assert!(resumed.waiting() && resumed.offset() == 2, "no slot is held: the trial itself goes on");
    m.record(1.0);
    assert!(!reload(&m, rungs(&[1])).waiting());
}
