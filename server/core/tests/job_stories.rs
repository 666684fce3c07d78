//! Stories of one job: each refusal, and what duplicates, gaps, operators, resumes and outages do.

mod common;

use autolrs_core::{
    directive::{Directive, DoneReason, Phase, Slot, SlotOp},
    job::{Cancel, Event, Finish, JobState, Open, Refusal, Report, StoppedBecause},
    spec::{ConstantOptions, PolicySpec, ResolvedSpec, ScanOptions},
    stop_rules::Stop,
};
use common::{Desk, Trainer, open, resume, run_job, spec};

fn constant(total_steps: u64) -> ResolvedSpec {
    spec(total_steps, PolicySpec::Constant(ConstantOptions::default()))
}

fn scan(total_steps: u64) -> ResolvedSpec {
    spec(total_steps, PolicySpec::Scan(ScanOptions::default()))
}

fn flat(_: f64, _: f64) -> f64 {
    1.0
}

/// A loss with its best LR near 0.3.
fn bowl(_: f64, lr: f64) -> f64 {
    let decades = libm::log10(lr.max(1e-12)) + 0.5;
    if decades > 1.0 { f64::NAN } else { 1.0 + 0.2 * decades * decades }
}

fn started(spec: ResolvedSpec) -> (Desk, Directive) {
    let mut desk = Desk::new(spec);
    let directive = desk.open(open()).unwrap().directive;
    (desk, directive)
}

fn losses(seq: u64, first_offset: u64, n: usize) -> Report {
    Report { session: 1, seq, first_offset, train_losses: vec![1.0; n], ..Report::default() }
}

#[test]
fn a_plain_job_runs_its_whole_budget() {
    let (mut desk, mut trainer) = (Desk::new(constant(1000)), Trainer::default());
    assert_eq!(run_job(&mut desk, &mut trainer, &mut flat), DoneReason::Finished);
    assert_eq!(trainer.executed.len(), 1000);
    assert_eq!(desk.job.view().spent.committed, 1000);
    assert_eq!(desk.job.view().state, JobState::Finished);
}

#[test]
fn a_duplicate_changes_nothing_and_a_gap_is_answered() {
    let (mut desk, directive) = started(constant(1000));
    let seq = directive.seq;
    assert_eq!(desk.report(losses(seq, 0, 10)).unwrap().received_through, 10);
    assert_eq!(desk.report(losses(seq, 0, 10)).unwrap().received_through, 10);
    assert_eq!(desk.report(losses(seq, 5, 10)).unwrap().received_through, 15);
    let gap = desk.report(losses(seq, 40, 10)).unwrap();
    assert_eq!((gap.seq, gap.received_through, gap.durable_seq), (seq, 15, 0));
}

#[test]
fn the_answer_to_an_end_can_be_asked_for_again() {
    let (mut desk, directive) = started(constant(1000));
    let report = Trainer::default().run(&directive, 1, 1, &mut flat).unwrap();
    let first = desk.report(report.clone()).unwrap();
    desk.restart();
    assert_eq!(desk.report(report).unwrap(), first);
    assert_eq!(first.durable_seq, directive.seq);
}

#[test]
fn a_wrong_end_is_refused() {
    let (mut desk, directive) = started(constant(1000));
    let good = Trainer::default().run(&directive, 1, 1, &mut flat).unwrap();
    let stop = Some(StoppedBecause::Rule(Stop { rule: 0, offset: 3 }));
    let wrong = Report { stopped_because: stop, ..good.clone() };
    assert!(matches!(desk.report(wrong), Err(Refusal::StopMismatch { .. })));
    let short = Report { finished: true, ..losses(directive.seq, 0, 5) };
    assert!(matches!(desk.report(short), Err(Refusal::InvalidField { field: "report.finished", .. })));
    let mut nan = good.clone();
    nan.train_losses[7] = f64::NAN;
    nan.train_losses.truncate(8);
    assert!(matches!(desk.report(nan.clone()), Err(Refusal::StopMismatch { .. })));
    nan.train_losses.push(1.0);
    let late = desk.report(nan);
    assert!(matches!(late, Err(Refusal::InvalidField { field: "report.train_losses", .. })), "{late:?}");
    assert!(desk.report(good).unwrap().directive.is_some(), "a refused report has changed nothing");
}

#[test]
fn a_late_copy_of_an_opening_opens_nothing() {
    let with = |nonce: &str, open: Open| Open { nonce: nonce.into(), ..open };
    let mut desk = Desk::new(constant(1000));
    let first = desk.open(with("a", open())).unwrap();
    desk.report(losses(first.directive.seq, 0, 60)).unwrap();
    let resumed = with("b", resume(first.directive.seq, 20, &[]));
    let opened = desk.open(resumed.clone()).unwrap();
    assert_eq!((opened.session, opened.received_through, opened.slot_ops.len()), (2, 20, 1));
    assert_eq!(desk.open(resumed.clone()).unwrap(), opened, "a copy, and the answer once more");
    let report = Report { session: 2, ..losses(first.directive.seq, 20, 30) };
    desk.report(report).unwrap();
    let stored = desk.stored();
    let late = desk.open(resumed.clone()).unwrap();
    assert_eq!((late.session, late.received_through), (2, 50), "nothing is rewound");
    assert_eq!(desk.open(with("a", open())), Err(Refusal::Fenced { session: 1, newest: 2 }));
    assert_eq!(desk.stored(), stored);
    desk.restart();
    assert_eq!(desk.open(resumed.clone()).unwrap().session, 2, "the server remembers");
    let seq = desk.open(with("c", Open { restart: true, ..open() })).unwrap().directive.seq;
    assert_eq!(desk.open(resumed), Err(Refusal::Fenced { session: 2, newest: 3 }));
    assert!(matches!(
        desk.open(with(&"x".repeat(129), open())),
        Err(Refusal::InvalidField { field: "nonce", .. })
    ));
    for n in 0..1000 {
        desk.open(with(&format!("{n:0128}"), resume(seq, 0, &[]))).unwrap();
    }
    assert!(desk.stored().len() < 16_384);
}

#[test]
fn only_the_newest_session_speaks() {
    let (mut desk, directive) = started(constant(1000));
    let active = Open { active: true, ..open() };
    assert!(matches!(desk.open(active.clone()), Err(Refusal::SessionActive { .. })));
    let opened = desk.open(Open { takeover: true, ..active }).unwrap();
    assert_eq!((opened.session, &opened.directive), (2, &directive));
    assert_eq!(
        desk.report(losses(directive.seq, 0, 1)),
        Err(Refusal::Fenced { session: 1, newest: 2 }),
        "the older is fenced"
    );
    assert!(matches!(
        desk.report(Report { session: 3, ..losses(directive.seq, 0, 1) }),
        Err(Refusal::UnknownDirective { .. })
    ));
    assert!(matches!(
        desk.report(Report { session: 2, ..losses(999, 0, 1) }),
        Err(Refusal::UnknownDirective { .. })
    ));
}

#[test]
fn a_job_that_has_progressed_wants_a_checkpoint() {
    let (mut desk, directive) = started(constant(1000));
    desk.report(losses(directive.seq, 0, 10)).unwrap();
    assert_eq!(desk.open(open()), Err(Refusal::ResumeRequired { total_steps_done: 10 }));
    let opened = desk.open(Open { restart: true, ..open() }).unwrap();
    assert!(opened.directive.seq > directive.seq, "numbers are never used again");
    assert_eq!(desk.job.view().spent.total(), 0);
}

#[test]
fn a_finished_job_says_so() {
    let (mut desk, mut trainer) = (Desk::new(constant(300)), Trainer::default());
    run_job(&mut desk, &mut trainer, &mut flat);
    assert_eq!(desk.open(open()), Err(Refusal::Ended(DoneReason::Finished)));
    assert!(desk.open(Open { restart: true, ..open() }).is_ok());
}

#[test]
fn a_resume_truncates() {
    let (mut desk, directive) = started(constant(1000));
    desk.report(losses(directive.seq, 0, 50)).unwrap();
    let opened = desk.open(resume(directive.seq, 20, &[Slot::Safe])).unwrap();
    assert_eq!((opened.received_through, &opened.directive), (20, &directive));
    assert_eq!(opened.slot_ops, []);
    assert_eq!(desk.job.view().repeated, 30);
}

#[test]
fn a_lost_slot_is_saved_from_the_checkpoint_at_hand() {
    let (mut desk, directive) = started(constant(1000));
    desk.report(losses(directive.seq, 0, 50)).unwrap();
    let opened = desk.open(resume(directive.seq, 20, &[])).unwrap();
    assert_eq!(opened.slot_ops, [SlotOp::Save(Slot::Safe)]);
}

#[test]
fn an_older_checkpoint_rewinds_and_goes_the_same_way() {
    let (mut desk, first) = started(constant(1000));
    let mut trainer = Trainer::default();
    let report = trainer.run(&first, 1, 1, &mut flat).unwrap();
    let second = desk.report(report).unwrap().directive.unwrap();
    let report = trainer.run(&second, 1, 1, &mut flat).unwrap();
    let third = desk.report(report.clone()).unwrap().directive.unwrap();
    let opened = desk.open(resume(second.seq, 0, &[Slot::Safe, Slot::SafePrev])).unwrap();
    assert_eq!((&opened.directive, opened.received_through), (&second, 0));
    assert_eq!(desk.job.view().repeated, second.run().unwrap().steps());
    let again = desk.report(Report { session: 2, ..report }).unwrap().directive.unwrap();
    assert_eq!(again.run(), third.run());
    assert!(again.seq > third.seq);
}

#[test]
fn a_checkpoint_of_another_job_or_too_old_is_refused() {
    let (mut desk, mut directive) = started(constant(100_000));
    let mut trainer = Trainer::default();
    let first = directive.seq;
    for _ in 0..40 {
        let report = trainer.run(&directive, 1, 1, &mut flat).unwrap();
        directive = desk.report(report).unwrap().directive.unwrap();
    }
    assert!(desk.open(resume(first, 0, &[])).is_ok(), "a stage start is always kept");
    let mut other = resume(directive.seq, 0, &[]);
    other.resume.as_mut().unwrap().uid = 8;
    assert!(matches!(desk.open(other), Err(Refusal::CheckpointMismatch(_))));
    assert!(matches!(desk.open(resume(99_999, 0, &[])), Err(Refusal::CheckpointMismatch(_))));
    let gone = first + 1;
    assert!(matches!(
        desk.open(resume(gone, 0, &[])),
        Err(Refusal::CheckpointMismatch(_) | Refusal::CheckpointTooOld { .. })
    ));
}

#[test]
fn finish_cools_down_from_the_reported_offset() {
    let (mut desk, directive) = started(constant(10_000));
    desk.report(losses(directive.seq, 0, 90)).unwrap();
    let finish = Event::Finish(Finish { request_id: "r1".into(), cooldown_steps: None });
    desk.send(finish.clone()).unwrap();
    desk.send(finish).unwrap();
    let number = desk.job.interrupt().expect("the trainer is asked");
    let report = Report {
        finished: true,
        stopped_because: Some(StoppedBecause::Interrupt(number)),
        ..losses(directive.seq, 90, 9)
    };
    let cooldown = desk.report(report).unwrap().directive.unwrap();
    let run = cooldown.run().unwrap();
    assert_eq!((run.phase, run.steps()), (Phase::Cooldown, 66));
    let report = Trainer::default().run(&cooldown, 1, 1, &mut flat).unwrap();
    let done = desk.report(report).unwrap().directive.unwrap();
    assert_eq!(done.run(), None);
    assert_eq!(desk.job.view().spent.committed, 99 + 66);
}

#[test]
fn an_interrupt_takes_effect_only_at_a_switch_point() {
    let mut spec = constant(10_000);
    spec.switch_every = 8;
    let (mut desk, directive) = started(spec);
    desk.send(Event::Finish(Finish { request_id: "r1".into(), cooldown_steps: Some(0) })).unwrap();
    let number = desk.job.interrupt().unwrap();
    let because = Some(StoppedBecause::Interrupt(number));
    let at = |n| Report { finished: true, stopped_because: because, ..losses(directive.seq, 0, n) };
    assert!(matches!(desk.report(at(9)), Err(Refusal::InvalidField { field: "report.finished", .. })));
    assert!(desk.report(at(16)).unwrap().directive.unwrap().run().is_none());
}

#[test]
fn cancel_in_a_search_restores_and_without_a_trainer_acts_at_once() {
    let (mut desk, directive) = started(scan(2000));
    assert_eq!(directive.run().unwrap().phase, Phase::Trial);
    desk.send(Event::Cancel(Cancel { request_id: "c".into(), live: true })).unwrap();
    assert_eq!(desk.job.view().state, JobState::Searching);
    desk.send(Event::Cancel(Cancel { request_id: "d".into(), live: false })).unwrap();
    assert_eq!(desk.job.view().state, JobState::Cancelled);
    let ack = desk.report(losses(directive.seq, 0, 3)).unwrap();
    assert_eq!(ack.directive.unwrap().slot_ops, [SlotOp::Restore(Slot::Start)]);
}

#[test]
fn a_job_may_be_deleted_before_its_first_trainer_and_after_its_end() {
    let mut desk = Desk::new(constant(1000));
    assert!(desk.job.may_be_deleted());
    desk.open(open()).unwrap();
    assert!(!desk.job.may_be_deleted());
    desk.send(Event::Cancel(Cancel { request_id: "c".into(), live: true })).unwrap();
    assert!(!desk.job.may_be_deleted(), "the trainer has not heard of it");
    desk.send(Event::Cancel(Cancel { request_id: "d".into(), live: false })).unwrap();
    assert!(desk.job.may_be_deleted());
}

#[test]
fn a_fallback_that_the_trainer_adopted_voids_the_decision_it_never_saw() {
    let (mut desk, first) = started(scan(2000));
    let mut trainer = Trainer::default();
    let report = trainer.run(&first, 1, 1, &mut bowl).unwrap();
    let unseen = desk.report(report.clone()).unwrap().directive.unwrap();
    let fallback = (**first.fallback.as_ref().unwrap()).clone();
    let losses = trainer.run(&fallback, 1, 1, &mut bowl).unwrap();
    assert_eq!(desk.report(report).unwrap().directive, Some(unseen.clone()), "asked again, not yet adopted");
    let adopted = desk.report(losses.clone()).unwrap();
    assert_eq!(
        (adopted.seq, adopted.received_through),
        (fallback.seq, 0),
        "entered, losses are asked for again"
    );
    let done = desk.report(losses).unwrap().directive.unwrap();
    assert!(done.run().is_none() && done.seq > unseen.seq);
    let view = desk.job.view();
    assert_eq!(view.state, JobState::Finished);
    assert_eq!(view.spent.committed, fallback.run().unwrap().steps());
    assert_eq!(view.commits.len(), 1, "an open search is closed: {:?}", view.commits);
}

#[test]
fn a_search_whose_slot_was_lost_is_closed_with_what_was_measured() {
    let (mut desk, mut directive) = started(scan(2000));
    let mut trainer = Trainer::default();
    for _ in 0..3 {
        let report = trainer.run(&directive, 1, 1, &mut bowl).unwrap();
        directive = desk.report(report).unwrap().directive.unwrap();
    }
    assert_eq!(directive.run().unwrap().phase, Phase::Trial);
    let opened = desk.open(resume(directive.seq, 5, &[])).unwrap();
    assert_eq!(opened.slot_ops, [SlotOp::Save(Slot::Start)]);
    assert_eq!(opened.directive.run().unwrap().phase, Phase::Warmup);
    assert_eq!(opened.directive.slot_ops[0], SlotOp::Restore(Slot::Start));
    assert!(desk.job.view().warnings.iter().any(|w| w.contains("slot")));
}

#[test]
fn bad_validations_are_refused() {
    let (mut desk, directive) = started(constant(1000));
    let validations = vec![autolrs_core::job::Validation { offset: 9999, loss: 1.0 }];
    let report = Report { validations, ..losses(directive.seq, 0, 1) };
    assert!(matches!(desk.report(report), Err(Refusal::InvalidField { field: "report.validations", .. })));
}

#[test]
fn the_kept_line_leaves_out_the_search_and_what_was_rolled_back() {
    let (mut desk, mut trainer) = (Desk::new(scan(4000)), Trainer::default());
    let mut calls = 0;
    let mut breaks_once = |_: f64, lr: f64| {
        calls += 1;
        if calls == 1500 { f64::NAN } else { bowl(0.0, lr) }
    };
    run_job(&mut desk, &mut trainer, &mut breaks_once);
    let spent = desk.job.view().spent;
    assert!(spent.search > 0 && spent.lost > 0, "{spent:?}");
    let kept = desk.kept_lrs();
    assert_eq!(kept.len() as u64, spent.committed);
    // The model's state is the sum of the LRs of the steps that it kept.
    let sum: f64 = kept.iter().sum();
    assert!((sum - trainer.state).abs() < 1e-9 * sum, "{sum} is not {}", trainer.state);
    // What was run is either kept or lost, and a lost stretch is where it was rolled back.
    let stretches = desk.stretches();
    let steps = |lost| stretches.iter().filter(|s| s.lost == lost).map(|s| s.steps).sum::<u64>();
    assert_eq!((steps(false), steps(true)), (spent.committed, spent.lost));
    let mut next = 0;
    for stretch in &stretches {
        let bins = stretch.steps.div_ceil(stretch.steps.div_ceil(128));
        assert_eq!((stretch.start_step, stretch.losses.len() as u64), (next, bins));
        next += if stretch.lost { 0 } else { stretch.steps };
        assert_eq!(
            kept.get(next as usize - 1).filter(|_| !stretch.lost),
            (!stretch.lost).then_some(&stretch.lr)
        );
    }
    assert!(stretches.iter().any(|s| s.lost && s.losses.iter().any(|loss| loss.is_nan())));
}

#[test]
fn the_kept_line_of_a_job_under_way_follows_a_rewind() {
    let (mut desk, first) = started(constant(100_000));
    let (mut trainer, mut directive, mut given) = (Trainer::default(), first, Vec::new());
    for _ in 0..3 {
        given.push(directive.clone());
        let report = trainer.run(&directive, 1, 1, &mut flat).unwrap();
        directive = desk.report(report).unwrap().directive.unwrap();
    }
    desk.report(losses(directive.seq, 0, 10)).unwrap();
    let steps: Vec<u64> = given.iter().map(|d| d.run().unwrap().steps()).collect();
    assert_eq!(desk.kept_lrs().len() as u64, steps.iter().sum::<u64>() + 10);
    desk.open(resume(given[1].seq, 5, &[Slot::Safe])).unwrap();
    assert_eq!(desk.kept_lrs().len() as u64, steps[0], "its losses are asked for again");
    desk.report(Report { session: 2, ..losses(given[1].seq, 0, 9) }).unwrap();
    assert_eq!(desk.kept_lrs(), vec![0.05; steps[0] as usize + 9]);
}

#[test]
fn the_kept_line_of_an_adopted_fallback_is_the_fallback() {
    let (mut desk, first) = started(scan(2000));
    let mut trainer = Trainer::default();
    let report = trainer.run(&first, 1, 1, &mut bowl).unwrap();
    desk.report(report).unwrap();
    let fallback = (**first.fallback.as_ref().unwrap()).clone();
    let losses = trainer.run(&fallback, 1, 1, &mut bowl).unwrap();
    desk.report(losses.clone()).unwrap();
    desk.report(losses).unwrap();
    let ran: Vec<f64> =
        trainer.executed.iter().filter(|(seq, _)| *seq == fallback.seq).map(|(_, lr)| *lr).collect();
    assert_eq!(desk.kept_lrs(), ran);
}
