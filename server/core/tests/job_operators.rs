//! What operators ask for, at every point of a job, repeated, racing, and lost on the way.

mod common;

use autolrs_core::{
    directive::{Directive, DoneReason, Phase, Slot, SlotOp},
    job::{Answer, Event, JobState, Open, Refusal, Report, Row},
    spec::{PolicySpec, ResolvedSpec, WsdOptions},
};
use common::{
    Desk,
    given::{broken, cancel, constant, finish, go_on, interrupted, losses, scan, started, whole},
    open, resume, spec,
};

fn wsd(total_steps: u64) -> ResolvedSpec {
    let options = WsdOptions { warmup_steps: Some(100), cooldown_steps: Some(400), ..WsdOptions::default() };
    spec(total_steps, PolicySpec::Wsd(options))
}

/// A job whose current directive is the first of `phase`.
fn at(spec: ResolvedSpec, phase: Phase) -> (Desk, Directive) {
    let (mut desk, mut directive) = started(spec);
    while directive.run().unwrap().phase != phase {
        directive = go_on(&mut desk, &directive);
    }
    (desk, directive)
}

fn done(directive: &Directive) -> bool {
    directive.run().is_none()
}

#[test]
fn finish_at_every_phase_and_offset_ends_cooled_and_in_budget() {
    for phase in [Phase::Warmup, Phase::Stable] {
        for (n, every) in [(0, 1), (0, 8), (8, 8), (40, 1), (100, 8)] {
            let mut spec = wsd(1000);
            spec.switch_every = every;
            let (mut desk, directive) = at(spec, phase);
            let before = desk.job.view().spent.committed;
            desk.send(finish("f", None)).unwrap();
            let number = desk.job.interrupt().unwrap();
            let report = if n == 100 { whole(&directive) } else { interrupted(&directive, n, number) };
            let next = desk.report(report).unwrap().directive.unwrap();
            let run = before + n as u64;
            let expected = (run * 2 / 3).min(1000 - run);
            assert_eq!(next.run().map_or(0, |run| run.steps()), expected, "{phase:?} {n}");
            let end = if done(&next) { next } else { go_on(&mut desk, &next) };
            assert!(done(&end));
            assert_eq!(desk.job.view().state, JobState::Finished);
        }
    }
}

#[test]
fn finish_in_a_cooldown_changes_nothing() {
    let (mut desk, _) = at(wsd(1000), Phase::Cooldown);
    let stored = desk.job.clone();
    desk.send(finish("f", Some(3))).unwrap();
    assert_eq!(desk.job, stored);
}

/// The LR of every step from here to the end.
fn line(desk: &mut Desk, mut next: Directive) -> Vec<f64> {
    let mut line = Vec::new();
    while let Some(run) = next.run() {
        line.extend(run.lr.iter().flat_map(|piece| (0..piece.steps).map(|i| piece.lr(i))));
        next = go_on(desk, &next);
    }
    line
}

#[test]
fn a_finish_that_meets_the_cooldown_goes_on_with_it() {
    // A guard fires at the last stable step and leads to the cooldown before the request takes effect.
    let stable = |desk: &mut Desk, first: Directive| {
        let mut next = first;
        while next.run().unwrap().steps() == 100 && desk.job.view().spent.total() < 500 {
            next = go_on(desk, &next);
        }
        next
    };
    let (mut desk, first) = at(wsd(1000), Phase::Stable);
    let last = stable(&mut desk, first);
    let mut asked = desk.clone();
    asked.send(finish("f", Some(0))).unwrap();
    let cooldowns = [&mut desk, &mut asked].map(|desk| {
        let next = desk.report(broken(&last, 99)).unwrap().directive.unwrap();
        assert_eq!(next.run().unwrap().phase, Phase::Cooldown, "{next:?}");
        line(desk, next)
    });
    assert_eq!(cooldowns[0], cooldowns[1]);
}

#[test]
fn finish_at_the_very_end_finishes() {
    let (mut desk, mut directive) = started(constant(300));
    for _ in 0..2 {
        directive = go_on(&mut desk, &directive);
    }
    desk.send(finish("f", None)).unwrap();
    assert!(done(&go_on(&mut desk, &directive)));
    assert_eq!(desk.job.view().spent.total(), 300);
    assert_eq!(desk.send(finish("g", None)), Err(Refusal::Ended(DoneReason::Finished)));
    assert_eq!(desk.send(finish("f", None)), Ok(Answer::Accepted), "repeated");
    assert_eq!(desk.send(cancel("c", true)), Ok(Answer::Accepted));
    assert_eq!(desk.job.ended(), Some(DoneReason::Finished));
}

#[test]
fn finish_in_a_trial_goes_back_to_the_start() {
    for (steps, n) in [(None, 0), (None, 9), (Some(50), 0), (Some(50), 24), (Some(u64::MAX), 5)] {
        let (mut desk, first) = started(scan(2000));
        let second = go_on(&mut desk, &first);
        desk.send(finish("f", steps)).unwrap();
        let number = desk.job.interrupt().unwrap();
        let report = if n == 24 { whole(&second) } else { interrupted(&second, n, number) };
        let next = desk.report(report).unwrap().directive.unwrap();
        assert_eq!(next.slot_ops[0], SlotOp::Restore(Slot::Start));
        let left = 2000 - desk.job.view().spent.total();
        assert_eq!(next.run().map_or(0, |run| run.steps()), steps.unwrap_or(0).min(left));
        let end = if done(&next) { next } else { go_on(&mut desk, &next) };
        assert!(done(&end));
    }
}

#[test]
fn finish_at_the_end_of_a_trial_uses_its_score() {
    let falling = |directive: &Directive| {
        let mut report = whole(directive);
        for (i, loss) in report.train_losses.iter_mut().enumerate() {
            *loss = 0.99_f64.powi(i as i32);
        }
        report
    };
    let (mut desk, first) = started(scan(2000));
    let fallback_lr = desk.job.spec().fallback_lr;
    let candidate =
        first.run().unwrap().lr.iter().map(|piece| piece.start.max(piece.end)).fold(0.0, f64::max);
    desk.send(finish("f", Some(50))).unwrap();
    let next = desk.report(falling(&first)).unwrap().directive.unwrap();
    assert_eq!((next.slot_ops[0], next.run().unwrap().steps()), (SlotOp::Restore(Slot::Start), 50));
    let [(0, lr)] = desk.job.view().commits[..] else { panic!("{:?}", desk.job.view().commits) };
    assert!(lr != fallback_lr && (lr / (0.22 * candidate) - 1.0).abs() < 0.1, "{lr} from {candidate}");
    let scored = |row: &Row| matches!(row, Row::Trial(note) if note.score.is_some());
    assert!(desk.rows.iter().any(scored));
}

#[test]
fn a_cancel_beats_a_finish_and_a_stop_beats_both() {
    let (mut desk, first) = started(constant(1000));
    let second = go_on(&mut desk, &first);
    desk.send(finish("f", None)).unwrap();
    let old = desk.job.interrupt().unwrap();
    desk.send(cancel("c", true)).unwrap();
    desk.send(finish("g", None)).unwrap();
    let guarded = desk.report(broken(&second, 40)).unwrap();
    let retry = guarded.directive.unwrap();
    assert!(guarded.interrupt > Some(old) && !done(&retry), "the guard first");
    let end = desk.report(interrupted(&retry, 1, old)).unwrap().directive.unwrap();
    assert!(done(&end), "an older number is obeyed as the newest request");
    assert_eq!(desk.job.ended(), Some(DoneReason::Cancelled));
}

#[test]
fn a_cancel_that_waits_in_vain_is_carried_out_when_it_is_repeated() {
    let (mut desk, _) = started(constant(1000));
    desk.send(cancel("c", true)).unwrap();
    desk.send(cancel("c", true)).unwrap();
    assert_eq!(desk.job.ended(), None);
    desk.send(cancel("c", false)).unwrap();
    assert_eq!(desk.job.ended(), Some(DoneReason::Cancelled));
}

#[test]
fn a_late_copy_of_a_request_leaves_the_restarted_job_alone() {
    let (mut desk, _) = started(constant(1000));
    desk.send(cancel("c", false)).unwrap();
    desk.open(Open { restart: true, ..open() }).unwrap();
    desk.send(cancel("c", false)).unwrap();
    desk.send(cancel("c", true)).unwrap();
    assert_eq!((desk.job.ended(), desk.job.interrupt()), (None, None));
}

#[test]
fn a_finish_outlives_an_answer_that_was_lost() {
    let (mut desk, first) = started(constant(1000));
    desk.send(finish("f", Some(50))).unwrap();
    let cooldown = go_on(&mut desk, &first);
    assert_eq!(cooldown.run().unwrap().phase, Phase::Cooldown);
    let fallback = (**first.fallback.as_ref().unwrap()).clone();
    let ack = desk.report(losses(fallback.seq, 0, 5)).unwrap();
    let number = ack.interrupt.expect("the trainer is asked again");
    let cooldown = desk.report(interrupted(&fallback, 20, number)).unwrap().directive.unwrap();
    assert_eq!((cooldown.run().unwrap().phase, cooldown.run().unwrap().steps()), (Phase::Cooldown, 50));
    assert!(done(&go_on(&mut desk, &cooldown)));
}

#[test]
fn a_finish_outlives_a_rewind_to_before_it() {
    let (mut desk, first) = started(constant(1000));
    let second = go_on(&mut desk, &first);
    desk.send(finish("f", Some(50))).unwrap();
    let number = desk.job.interrupt().unwrap();
    let cooldown = desk.report(interrupted(&second, 20, number)).unwrap().directive.unwrap();
    let end = go_on(&mut desk, &cooldown);
    assert!(done(&end));
    desk.open(resume(cooldown.seq, 10, &[Slot::Safe, Slot::SafePrev])).unwrap();
    assert_eq!(desk.job.interrupt(), None, "after it: it has taken effect");
    desk.open(resume(first.seq, 30, &[Slot::Safe])).unwrap();
    let again = desk.job.interrupt().expect("before it: it waits");
    assert!(again > number);
    let report = Report { session: 3, ..interrupted(&first, 30, again) };
    let cooldown = desk.report(report).unwrap().directive.unwrap();
    assert_eq!((cooldown.run().unwrap().phase, cooldown.run().unwrap().steps()), (Phase::Cooldown, 50));
    assert_eq!(desk.job.interrupt(), None);
}

#[test]
fn ten_thousand_requests_leave_a_small_job() {
    let (mut desk, _) = started(constant(1000));
    for i in 0..10_000 {
        let id = format!("{i:0128}");
        desk.send(if i % 2 == 0 { finish(&id, None) } else { cancel(&id, true) }).unwrap();
    }
    let size = postcard::to_stdvec(&desk.job).unwrap().len();
    assert!(size < 16_384, "{size} bytes");
    for id in [String::new(), "x".repeat(129)] {
        let refused = desk.job.admit(cancel(&id, true));
        assert!(matches!(refused, Err(Refusal::InvalidField { field: "request_id", .. })));
    }
    assert!(matches!(desk.job.admit(finish("f", None)).map(|a| a.must_store()), Ok(false)));
}

#[test]
fn a_job_that_nobody_opened_can_be_cancelled() {
    let mut desk = Desk::new(constant(1000));
    desk.send(cancel("c", false)).unwrap();
    assert_eq!(desk.open(open()), Err(Refusal::Ended(DoneReason::Cancelled)));
    assert!(desk.send(Event::Report(losses(1, 0, 1))).is_err());
}
