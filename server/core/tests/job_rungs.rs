//! A trial that may end at a rung, and training that goes on from one.

mod common;

use autolrs_core::{
    directive::{Directive, Phase, Slot, SlotOp},
    job::{Ack, End, Event, Refusal, Report, StoppedBecause},
    spec::ResolvedSpec,
};
use common::{
    Desk, Trainer,
    given::{cancel, finish, interrupted, losses, staged, started, whole},
    resume,
    whole::Whole,
};

fn spec() -> ResolvedSpec {
    staged(2000, 200)
}

/// A report of a trainer at its first rung. Losses that rise by a factor from step to step.
fn at_rung(directive: &Directive, factor: f64) -> Report {
    let run = directive.run().unwrap();
    let done = (1..run.steps()).find(|&done| run.is_rung(done, 1)).expect("a trial has rungs") as usize;
    let train_losses = (0..done).map(|k| factor.powi(k as i32)).collect();
    Report { at_rung: true, train_losses, ..losses(directive.seq, 0, 0) }
}

fn next(ack: &Ack) -> &Directive {
    ack.directive.as_ref().expect("the trial has ended")
}

#[test]
fn that_a_trial_goes_on_is_not_stored_and_can_be_asked_again() {
    let (mut desk, first) = started(spec());
    assert_eq!(first.run().unwrap().rungs, [9, 19]);
    let report = at_rung(&first, 0.99);
    assert!(!desk.job.admit(Event::Report(report.clone())).unwrap().must_store());
    let answer = desk.report(report.clone()).unwrap();
    assert_eq!((answer.go_on, answer.received_through, &answer.directive), (Some(10), 10, &None));
    assert_eq!(desk.report(report.clone()).unwrap(), answer);
    desk.restart();
    assert_eq!(desk.report(report.clone()).unwrap(), answer, "the report alone is enough");
    let rest = Report { first_offset: 10, ..losses(first.seq, 10, 5) };
    assert_eq!(desk.report(rest.clone()).unwrap().go_on, None);
    let late = desk.report(report).unwrap();
    assert_eq!((late.go_on, late.received_through), (None, 15), "a late copy asks for nothing");
    desk.restart();
    let gap = desk.report(Report { at_rung: true, ..rest }).unwrap();
    assert_eq!((gap.go_on, gap.received_through), (None, 0));
}

#[test]
fn a_trial_that_ends_at_a_rung_is_stored_before_it_is_told() {
    let (mut desk, first) = started(spec());
    let report = at_rung(&first, 1.5);
    assert!(desk.job.admit(Event::Report(report.clone())).unwrap().must_store());
    let answer = desk.report(report.clone()).unwrap();
    assert_eq!((answer.go_on, answer.durable_seq), (None, first.seq));
    assert_eq!(next(&answer).slot_ops, [SlotOp::Restore(Slot::Stage)]);
    assert_eq!((desk.closed(first.seq).end, desk.closed(first.seq).steps), (End::Rung, 10));
    assert_eq!(desk.job.view().spent.search, 10);
    desk.restart();
    assert_eq!(desk.report(report).unwrap(), answer);
}

#[test]
fn a_trainer_that_left_a_rung_is_followed() {
    for decided in [false, true] {
        let (mut desk, first) = started(spec());
        let asked = at_rung(&first, if decided { 1.5 } else { 0.99 });
        desk.report(asked.clone()).unwrap();
        desk.restart();
        let left = Report {
            at_rung: false,
            finished: true,
            stopped_because: Some(StoppedBecause::NoAnswer),
            ..asked
        };
        let fallback = (**first.fallback.as_ref().unwrap()).clone();
        for _ in 0..2 {
            assert_eq!(desk.report(left.clone()).unwrap().durable_seq, first.seq);
        }
        let ack = desk.report(losses(fallback.seq, 0, 5)).unwrap();
        assert_eq!(ack.seq, fallback.seq);
        let end = if decided { End::Rung } else { End::NoAnswer };
        assert_eq!((desk.closed(first.seq).end, desk.job.view().spent.search), (end, 10));
        assert!(desk.job.view().warnings.iter().any(|w| w.contains("fallback")));
    }
}

#[test]
fn what_is_no_rung_is_refused() {
    let (mut desk, first) = started(spec());
    let report = at_rung(&first, 0.99);
    let mut short = report.clone();
    short.train_losses.pop();
    for wrong in [short.clone(), Report { finished: true, ..report.clone() }] {
        assert!(matches!(desk.report(wrong), Err(Refusal::InvalidField { field: "report.at_rung", .. })));
    }
    let mut broken = report.clone();
    broken.train_losses[9] = f64::NAN;
    assert!(matches!(desk.report(broken), Err(Refusal::StopMismatch { .. })));
    let left =
        Report { finished: true, at_rung: false, stopped_because: Some(StoppedBecause::NoAnswer), ..short };
    assert!(matches!(desk.report(left), Err(Refusal::StopMismatch { .. })));
    assert_eq!(desk.report(report).unwrap().go_on, Some(10), "nothing has changed");
}

#[test]
fn operators_are_heard_at_a_rung() {
    let (mut desk, first) = started(spec());
    desk.send(finish("f", Some(50))).unwrap();
    let number = desk.job.interrupt().unwrap();
    let going_on = desk.report(at_rung(&first, 0.99)).unwrap();
    assert_eq!((going_on.go_on, going_on.interrupt), (Some(10), Some(number)));
    let ack = desk.report(interrupted(&first, 10, number)).unwrap();
    assert_eq!(next(&ack).slot_ops[0], SlotOp::Restore(Slot::Stage));

    let (mut desk, first) = started(spec());
    desk.send(finish("f", Some(50))).unwrap();
    let ack = desk.report(at_rung(&first, 1.5)).unwrap();
    assert_eq!((ack.interrupt, next(&ack).run().unwrap().phase), (None, Phase::Cooldown));

    let (mut desk, first) = started(spec());
    desk.send(cancel("c", false)).unwrap();
    assert!(next(&desk.report(at_rung(&first, 0.99)).unwrap()).run().is_none());
}

#[test]
fn a_trial_is_resumed_before_and_after_a_rung() {
    let (mut desk, first) = started(spec());
    let rung = at_rung(&first, 0.99);
    desk.report(rung.clone()).unwrap();
    for offset in [4, 10, 12] {
        let opened = desk.open(resume(first.seq, offset, &[Slot::Stage])).unwrap();
        assert_eq!(opened.directive, first);
        let from = Report { session: opened.session, ..rung.clone() };
        assert_eq!(desk.report(from).unwrap().go_on, Some(10));
    }
    desk.report(Report { session: 4, ..at_rung(&first, 1.5) }).unwrap();
    let opened = desk.open(resume(first.seq, 10, &[Slot::Stage])).unwrap();
    assert_eq!(opened.directive, first, "the decision is taken back");
    assert_eq!(desk.report(Report { session: 5, ..rung }).unwrap().go_on, Some(10));
}

#[test]
fn a_trainer_that_knows_no_rungs_runs_its_trials_to_the_end() {
    let (mut desk, first) = started(spec());
    let ack = desk.report(whole(&first)).unwrap();
    assert_eq!((next(&ack).run().unwrap().trial, desk.job.view().spent.search), (Some(1), 40));
}

/// Training that goes on from a trial keeps its steps: in the books, in every directive, and in the export.
#[test]
fn the_line_that_is_kept_is_the_one_that_was_run() {
    let mut kept = 0;
    for seed in 0..6 {
        let mut spec = spec();
        spec.loss_lower_bound = (seed % 2 == 0).then_some(0.0);
        let mut desk = Desk::new(spec);
        let mut trainer = Whole::open(&mut desk, (seed > 3).then_some((900, 0.05)), false);
        while trainer.done.is_none() {
            trainer.run(23 + seed);
            if let Some(report) = trainer.report(1000) {
                let ack = desk.report(report).unwrap();
                trainer.take(ack);
            }
            assert!(desk.kept_lrs().len() as u64 <= desk.job.spec().budget.limit());
        }
        let spent = desk.job.view().spent;
        let (kept_lrs, path) = (desk.kept_lrs(), &trainer.model.path);
        let other = kept_lrs.iter().zip(path).position(|(a, b)| a != b);
        assert_eq!((kept_lrs.len(), other), (path.len(), None));
        assert_eq!((spent.committed, spent.total()), (trainer.model.path.len() as u64, trainer.total));
        let trials: u64 = (desk.directives.values())
            .filter(|record| record.directive.run().is_some_and(|run| run.phase == Phase::Trial))
            .map(|record| record.steps)
            .sum();
        kept += trials - spent.search;
    }
    assert!(kept > 0, "trials were gone on from");
}

#[test]
fn a_trainer_without_slots_starts_the_search_again() {
    let (mut desk, first) = started(spec());
    let mut trainer = Trainer::default();
    let report = trainer.run(&first, 1, 1, &mut |_, _| 1.0).unwrap();
    let second = desk.report(report).unwrap().directive.unwrap();
    assert_eq!(second.slot_ops, [SlotOp::Save(Slot::Best), SlotOp::Restore(Slot::Stage)]);
    let opened = desk.open(resume(first.seq, 0, &[Slot::Stage])).unwrap();
    assert_eq!(
        (opened.directive.seq, opened.directive.slot_ops),
        (first.seq, vec![SlotOp::Save(Slot::Stage)])
    );
    assert_eq!(desk.job.view().spent.search, 0);
}
