//! Reports and sessions that are repeated, late, cut or out of order.

mod common;

use autolrs_core::{
    directive::DoneReason,
    job::{End, Event, Open, Refusal, Report, Row, StoppedBecause, Validation},
    policy::CommitNote,
    stop_rules::Stop,
};
use common::{
    Desk,
    given::{
        broken, cancel, constant, finish, go_on, interrupted, losses, paper, scan, staged, started, whole,
    },
    open, resume,
};

#[test]
fn the_largest_numbers_do_no_harm() {
    let (mut desk, first) = started(constant(1000));
    let second = go_on(&mut desk, &first);
    for seq in [first.seq, second.seq, u64::MAX] {
        for first_offset in [1, u64::MAX - 1, u64::MAX] {
            let validations = vec![Validation { offset: u64::MAX, loss: 1.0 }];
            let report = Report { first_offset, ..losses(seq, 0, 3) };
            drop(desk.report(report.clone()));
            drop(desk.report(Report { validations, finished: true, ..report.clone() }));
            for because in [
                StoppedBecause::Interrupt(u64::MAX),
                StoppedBecause::Rule(Stop { rule: u32::MAX, offset: u64::MAX }),
            ] {
                drop(desk.report(Report {
                    stopped_because: Some(because),
                    finished: true,
                    ..report.clone()
                }));
            }
        }
    }
    assert!(matches!(
        desk.open(resume(second.seq, u64::MAX, &[])),
        Err(Refusal::InvalidField { field: "resume.offset", .. })
    ));
    assert!(matches!(desk.open(resume(u64::MAX, 0, &[])), Err(Refusal::CheckpointMismatch(_))));
    assert_eq!(desk.report(losses(second.seq, 0, 1)).unwrap().received_through, 1, "nothing has changed");
    desk.send(finish("f", Some(u64::MAX))).unwrap();
    let number = desk.job.interrupt().unwrap();
    let cooldown = desk.report(interrupted(&second, 10, number)).unwrap().directive.unwrap();
    assert_eq!(cooldown.run().unwrap().steps(), 1000 - 110);
}

#[test]
fn validations_count_once_and_are_limited() {
    let (mut desk, directive) = started(constant(10_000));
    let twice = vec![Validation { offset: 3, loss: 0.5 }, Validation { offset: 3, loss: 0.7 }];
    let report = Report { validations: twice, ..losses(directive.seq, 0, 10) };
    desk.report(report.clone()).unwrap();
    desk.report(report).unwrap();
    desk.report(Report { first_offset: 10, finished: true, ..losses(directive.seq, 10, 190) }).unwrap();
    let closed = desk.closed(directive.seq);
    assert_eq!(closed.validations, [Validation { offset: 3, loss: 0.5 }]);
    let many = vec![Validation { offset: 0, loss: 0.5 }; 5000];
    let report = Report { validations: many, ..losses(desk.job.heartbeat().seq, 0, 1) };
    assert!(matches!(desk.report(report), Err(Refusal::InvalidField { field: "report.validations", .. })));
}

#[test]
fn an_open_whose_answer_was_lost_is_asked_again_with_takeover() {
    let (mut desk, directive) = started(constant(1000));
    let again = Open { active: true, ..open() };
    assert!(matches!(desk.open(again.clone()), Err(Refusal::SessionActive { .. })));
    let opened = desk.open(Open { takeover: true, ..again.clone() }).unwrap();
    assert_eq!((opened.session, opened.directive.seq), (2, directive.seq));
    desk.report(Report { session: 2, ..losses(directive.seq, 0, 1) }).unwrap();
    let late = Open { restart: true, ..again };
    assert!(matches!(desk.open(late), Err(Refusal::SessionActive { .. })), "there is something to lose");
}

#[test]
fn the_same_resume_twice_leaves_the_same_job() {
    let (mut desk, first) = started(scan(2000));
    let second = go_on(&mut desk, &first);
    let third = go_on(&mut desk, &second);
    desk.report(losses(third.seq, 0, 9)).unwrap();
    for (seq, offset) in [(third.seq, 4), (second.seq, 7), (second.seq, 0), (first.seq, 0), (first.seq, 3)] {
        let answers = [(); 2].map(|()| desk.open(resume(seq, offset, &[])).unwrap());
        assert_eq!(answers[0].slot_ops, answers[1].slot_ops);
        assert_eq!(answers[0].directive.run(), answers[1].directive.run());
        assert_eq!(answers[0].directive.slot_ops, answers[1].directive.slot_ops);
        assert_eq!(
            answers[0].directive.committed_step_at_start,
            answers[1].directive.committed_step_at_start
        );
    }
}

#[test]
fn a_search_that_is_closed_counts_the_steps_the_trainer_has_done() {
    for restarted in [false, true] {
        let (mut desk, first) = started(scan(2000));
        let second = go_on(&mut desk, &first);
        desk.report(losses(second.seq, 0, 9)).unwrap();
        if restarted {
            desk.restart();
        }
        for _ in 0..2 {
            let opened = desk.open(resume(second.seq, 5, &[])).unwrap();
            let steps = first.run().unwrap().steps() + 5;
            assert_eq!(desk.job.view().spent.search, steps, "restarted: {restarted}");
            assert!(opened.directive.run().unwrap().trial.is_none());
        }
        assert_eq!(desk.closed(second.seq).end, End::Abandoned);
    }
}

#[test]
fn a_trainer_that_knew_less_of_the_end_adopts_the_other_fallback() {
    let (mut desk, first) = started(constant(1000));
    let stopped = desk.report(broken(&first, 30)).unwrap().directive.unwrap();
    let fallback = (**first.fallback.as_ref().unwrap()).clone();
    let adopted = desk.report(losses(fallback.seq, 0, 5)).unwrap();
    assert_eq!((adopted.seq, adopted.received_through), (fallback.seq, 0));
    assert_eq!(desk.closed(stopped.seq).end, End::Void);
}

#[test]
fn nested_fallbacks_are_entered_one_after_the_other() {
    let (mut desk, first) = started(constant(1000));
    let middle = go_on(&mut desk, &first);
    let one = (**middle.fallback.as_ref().unwrap()).clone();
    let two = (**one.fallback_on_stop.as_ref().unwrap()).clone();
    let asked = desk.report(losses(two.seq, 0, 1)).unwrap();
    assert_eq!((asked.seq, asked.received_through), (middle.seq, 0), "the oldest losses first");
    let unseen = go_on(&mut desk, &middle);
    desk.report(losses(one.seq, 0, 1)).unwrap();
    assert_eq!(desk.job.heartbeat().seq, one.seq);
    let end = desk.report(broken(&one, 50)).unwrap().directive.unwrap();
    assert!(end.run().is_none() && end.seq > unseen.seq);
    assert!(matches!(desk.job.ended(), Some(DoneReason::Failed(_))));
    let late = desk.report(losses(one.seq, 0, 1)).unwrap();
    assert_eq!(late.directive, Some(end), "a repeated report gets the same answer");
}

#[test]
fn a_disputed_end_leads_to_the_fallback_and_late_copies_change_nothing() {
    let (mut desk, first) = started(constant(1000));
    desk.report(losses(first.seq, 0, 20)).unwrap();
    let fallback = (**first.fallback_on_stop.as_ref().unwrap()).clone();
    desk.report(losses(fallback.seq, 0, 5)).unwrap();
    assert_eq!(desk.closed(first.seq).end, End::Disputed);
    assert_eq!(desk.job.heartbeat().seq, fallback.seq);
    let stored = desk.job.clone();
    desk.report(whole(&first)).unwrap();
    desk.report(losses(first.seq, 0, 30)).unwrap();
    assert_eq!(desk.job, stored);
}

#[test]
fn a_trainer_that_went_on_alone_learns_that_the_job_was_cancelled() {
    let (mut desk, first) = started(constant(1000));
    let unseen = go_on(&mut desk, &first);
    desk.send(cancel("c", false)).unwrap();
    let fallback = first.fallback.as_ref().unwrap().seq;
    for seq in [first.seq, fallback, unseen.seq] {
        let told = desk.report(losses(seq, 0, 3)).unwrap().directive.unwrap();
        assert_eq!(told.action, autolrs_core::directive::Action::Done(DoneReason::Cancelled));
    }
}

#[test]
fn a_stop_whose_losses_come_late_beats_an_interrupt() {
    let mut spec = constant(1000);
    spec.switch_every = 8;
    let (mut desk, first) = started(spec);
    desk.send(finish("f", None)).unwrap();
    let number = desk.job.interrupt().unwrap();
    let mut report = interrupted(&first, 16, number);
    report.train_losses[12] = f64::NAN;
    let ack = desk.report(report).unwrap();
    assert!(matches!(desk.closed(first.seq).end, End::Stopped(Stop { rule: 0, offset: 12 })));
    assert_eq!(ack.interrupt, Some(number), "the request still waits");
}

#[test]
fn the_very_long_fallback_is_run_in_parts_once_the_server_is_back() {
    let (mut desk, first) = started(constant(1_000_000_000_000));
    let unseen = go_on(&mut desk, &first);
    let fallback = (**first.fallback.as_ref().unwrap()).clone();
    let ack = desk.report(losses(fallback.seq, 0, 5)).unwrap();
    assert_eq!(desk.closed(unseen.seq).end, End::Void);
    let number = ack.interrupt.expect("it is asked to end");
    let part = desk.report(interrupted(&fallback, 70, number)).unwrap().directive.unwrap();
    assert_eq!(part.run().unwrap().steps(), 65_536);
    assert_eq!(desk.job.interrupt(), None);
    let next = go_on(&mut desk, &part);
    let steps = first.run().unwrap().steps() + 70 + 65_536;
    assert_eq!(next.committed_step_at_start, steps);
    let rest = next.fallback.as_ref().unwrap().run().unwrap().steps();
    assert_eq!(steps + 65_536 + rest, 1_000_000_000_000, "no step of the budget is lost");
    let half = desk.report(broken(&next, 10)).unwrap().directive.unwrap();
    assert_eq!(half.run().unwrap().steps(), 65_536);
    assert_eq!(half.run().unwrap().lr[0].start, next.run().unwrap().lr[0].start / 2.0);
}

#[test]
fn an_event_that_only_asks_stores_nothing() {
    let (mut desk, first) = started(constant(1000));
    let second = go_on(&mut desk, &first);
    for report in [whole(&first), losses(second.seq, 5, 1), losses(first.seq, 0, 0)] {
        assert!(!desk.job.admit(Event::Report(report)).unwrap().must_store());
    }
}

fn validating() -> Open {
    Open { validate: true, ..open() }
}

fn at(offsets: &[u64]) -> Vec<Validation> {
    offsets.iter().map(|&offset| Validation { offset, loss: 0.5 }).collect()
}

#[test]
fn a_committed_stretch_waits_for_the_validation_at_its_end() {
    let mut desk = Desk::new(constant(250));
    let first = desk.open(validating()).unwrap().directive;
    assert_eq!(first.run().unwrap().validate_at, [100]);
    assert!(first.fallback.as_ref().unwrap().run().unwrap().validate_at.is_empty());
    let before = desk.stored();
    let early = Report { validations: at(&[99]), ..whole(&first) };
    let Err(Refusal::InvalidField { field: "report.validations", description }) = desk.report(early) else {
        panic!("an end without its validation is refused")
    };
    assert_eq!(description, "lack the one at offset 100, which the directive asks for");
    assert!(before == desk.stored());
    // A loss that came before counts, and the first one stands.
    desk.report(Report { validations: at(&[100]), ..losses(first.seq, 0, 100) }).unwrap();
    let other = vec![Validation { offset: 100, loss: 9.0 }];
    desk.report(Report { validations: other, ..whole(&first) }).unwrap();
    assert_eq!(desk.closed(first.seq).validations, at(&[100]));
}

#[test]
fn a_validation_at_an_early_end_is_moot() {
    let mut desk = Desk::new(constant(250));
    let first = desk.open(validating()).unwrap().directive;
    let report = Report { validations: Vec::new(), ..broken(&first, 99) };
    assert_eq!(report.train_losses.len(), 100, "it ends with its last step");
    assert!(desk.report(report).unwrap().directive.is_some());
}

#[test]
fn a_session_that_cannot_validate_is_asked_for_nothing() {
    let mut desk = Desk::new(constant(250));
    let first = desk.open(validating()).unwrap().directive;
    desk.report(losses(first.seq, 0, 40)).unwrap();
    let again = desk.open(resume(first.seq, 40, &[])).unwrap();
    assert!(again.directive.run().unwrap().validate_at.is_empty());
    let session = again.session;
    let next = desk.report(Report { session, ..whole(&first) }).unwrap().directive.unwrap();
    assert!(next.run().unwrap().validate_at.is_empty());
    // The one before is gone back to by a trainer that can, and by one that can't.
    for validate in [true, false] {
        let open = Open { validate, ..resume(first.seq, 0, &[]) };
        let run = desk.open(open).unwrap().directive.run().unwrap().clone();
        assert_eq!(run.validate_at, if validate { vec![100] } else { vec![] });
    }
}

#[test]
fn a_resume_forgets_the_validation_at_its_place() {
    let mut desk = Desk::new(constant(250));
    let first = desk.open(validating()).unwrap().directive;
    desk.report(Report { validations: at(&[10, 40, 50]), ..losses(first.seq, 0, 60) }).unwrap();
    let session = desk.open(Open { validate: true, ..resume(first.seq, 40, &[]) }).unwrap().session;
    let again = vec![Validation { offset: 40, loss: 7.0 }, Validation { offset: 100, loss: 0.1 }];
    desk.report(Report { session, validations: again.clone(), ..whole(&first) }).unwrap();
    assert_eq!(desk.closed(first.seq).validations, [at(&[10]), again].concat());
}

#[test]
fn a_choice_that_the_trainer_never_heard_of_explains_nothing() {
    for spec in [paper(1000, 50), staged(1000, 100)] {
        let (mut desk, mut last) = started(spec);
        let choice = loop {
            let next = go_on(&mut desk, &last);
            if next.run().unwrap().trial.is_none() {
                break commit(&desk);
            }
            last = next;
        };
        assert!(choice.forecast.is_some() && !choice.curve.is_empty());
        let fallback = (**last.fallback.as_ref().unwrap()).clone();
        desk.report(losses(fallback.seq, 0, 5)).unwrap();
        let taken = commit(&desk);
        assert_eq!(taken.stage, choice.stage);
        assert_eq!((taken.forecast, taken.curve), (None, Vec::new()), "{}", taken.why);
    }
}

/// The newest commit.
fn commit(desk: &Desk) -> CommitNote {
    let commits = desk.rows.iter().rev().filter_map(|row| match row {
        Row::Commit(note) => Some(note.clone()),
        _ => None,
    });
    commits.into_iter().next().expect("an LR was committed")
}
