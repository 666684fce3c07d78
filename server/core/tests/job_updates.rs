//! What operators change in the course of a job: its LR and its budget, in every phase, waiting, repeated, and lost on the
//! way.

mod common;

use autolrs_core::{
    directive::{Directive, DoneReason, Phase, Slot},
    job::{Answer, Event, JobState, Open, Refusal, Report, Row},
    lr_pieces::lr_at,
    policy::CommitNote,
    spec::{
        Budget, ClrOptions, CosineOptions, OneCycleOptions, PolicySpec, ResolvedSpec, SgdrOptions,
        StepOptions, WsdOptions,
    },
};
use common::{
    Desk,
    given::{
        broken, cancel, constant, finish, go_on, interrupted, losses, paper, scan, staged, started, update,
        whole,
    },
    open, open_scan, resume, spec,
};

fn wsd(total_steps: u64) -> ResolvedSpec {
    let options = WsdOptions { warmup_steps: Some(100), cooldown_steps: Some(400), ..WsdOptions::default() };
    spec(total_steps, PolicySpec::Wsd(options))
}

fn cosine(total_steps: u64) -> ResolvedSpec {
    spec(
        total_steps,
        PolicySpec::Cosine(CosineOptions { warmup_steps: Some(100), ..CosineOptions::default() }),
    )
}

/// A job whose current directive is the first of `phase`.
fn at(spec: ResolvedSpec, phase: Phase) -> (Desk, Directive) {
    let (mut desk, mut directive) = started(spec);
    while directive.run().unwrap().phase != phase {
        directive = go_on(&mut desk, &directive);
    }
    (desk, directive)
}

/// What follows after `n` steps of a directive: an interrupt is obeyed there.
fn obey(desk: &mut Desk, directive: &Directive, n: usize) -> Directive {
    let number = desk.job.interrupt().expect("a request waits");
    desk.report(interrupted(directive, n, number)).unwrap().directive.unwrap()
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

/// The same, were there no update.
fn unchanged(desk: &Desk, directive: &Directive, n: usize) -> Vec<f64> {
    line(&mut desk.clone(), directive.clone()).split_off(n)
}

fn assert_near(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-14, "step {i}: {a}, not {b}");
    }
}

#[test]
fn an_lr_scales_what_is_left_of_the_line_in_every_phase() {
    use Phase::{Cooldown, Stable, Warmup};
    let plain = |policy| spec(1000, policy);
    let step = plain(PolicySpec::Step(StepOptions::default()));
    let one_cycle = plain(PolicySpec::OneCycle(OneCycleOptions::default()));
    let clr = plain(PolicySpec::Clr(ClrOptions::default()));
    let sgdr = plain(PolicySpec::Sgdr(SgdrOptions::default()));
    let cases = [
        (constant(1000), Stable),
        (wsd(1000), Warmup),
        (wsd(1000), Stable),
        (wsd(1000), Cooldown),
        (cosine(1000), Warmup),
        (cosine(1000), Stable),
        (step, Stable),
        (one_cycle.clone(), Warmup),
        (one_cycle, Stable),
        (clr, Stable),
        (sgdr, Stable),
        (scan(2000), Warmup),
        (scan(2000), Stable),
        (scan(2000), Cooldown),
    ];
    for (spec, phase) in cases {
        for (n, every) in [(0, 1), (3, 1), (8, 8), (100, 1)] {
            let policy = spec.policy_name();
            let (mut desk, directive) = at(ResolvedSpec { switch_every: every, ..spec.clone() }, phase);
            let n = n.min(directive.run().unwrap().steps() as usize);
            let rest = unchanged(&desk, &directive, n);
            let highest = rest.iter().copied().fold(0.0, f64::max);
            desk.send(update("u", Some(0.02), None)).unwrap();
            let next = if n == directive.run().unwrap().steps() as usize {
                desk.report(whole(&directive)).unwrap().directive.unwrap()
            } else {
                obey(&mut desk, &directive, n)
            };
            assert_eq!(desk.job.interrupt(), None);
            assert_eq!(desk.job.view().commits.last().unwrap().1, 0.02, "{policy} {phase:?}");
            let found = line(&mut desk, next);
            let expected: Vec<f64> = rest.iter().map(|lr| lr / highest * 0.02).collect();
            assert_near(&found, &expected);
            assert_eq!(desk.job.ended(), Some(DoneReason::Finished));
            assert_eq!(desk.kept_lrs()[desk.kept_lrs().len() - found.len()..], found, "the export");
        }
    }
}

#[test]
fn an_lr_in_a_stage_of_paper_holds_for_the_rest_of_the_stage() {
    let (mut desk, stage) = at(paper(2000, 100), Phase::Stable);
    desk.send(update("u", Some(0.02), None)).unwrap();
    let next = obey(&mut desk, &stage, 30);
    let run = next.run().unwrap();
    assert_eq!((run.phase, run.stage, run.steps(), run.lr[0].lr(0)), (Phase::Stable, 0, 70, 0.02));
    let search = go_on(&mut desk, &next);
    assert_eq!(search.run().unwrap().phase, Phase::Trial, "later searches go on as usual");
    let refused = desk.send(update("v", Some(0.02), None));
    assert_eq!(refused, Err(Refusal::UpdateInSearch));
    line(&mut desk, search);
    assert_eq!(desk.job.view().spent.total(), 2000);
}

#[test]
fn the_note_of_a_stage_keeps_what_its_search_has_forecast() {
    for spec in [paper(2000, 100), staged(6000, 200)] {
        let (mut desk, stage) = at(spec, Phase::Stable);
        desk.send(update("u", Some(0.02), None)).unwrap();
        let next = obey(&mut desk, &stage, 30);
        desk.restart();
        desk.report(broken(&next, 10)).unwrap();
        let notes: Vec<&CommitNote> = desk
            .rows
            .iter()
            .filter_map(|row| if let Row::Commit(note) = row { Some(note) } else { None })
            .collect();
        let [chosen, set, lowered] = notes[..] else { panic!("{notes:?}") };
        assert!(chosen.forecast.is_some() && (set.lr, lowered.lr) == (0.02, 0.02 / 3.0), "{notes:?}");
        for note in [set, lowered] {
            assert_eq!((note.stage, note.forecast, &note.curve), (0, chosen.forecast, &chosen.curve));
            assert_ne!(note.why, chosen.why);
        }
    }
}

#[test]
fn a_guard_goes_on_from_the_new_lr() {
    for (spec, phase, share) in [
        (constant(1000), Phase::Stable, 0.5),
        (scan(2000), Phase::Stable, 0.5),
        (scan(2000), Phase::Warmup, 1.0 / 3.0),
    ] {
        let (mut desk, directive) = at(spec, phase);
        desk.send(update("u", Some(0.02), None)).unwrap();
        let next = obey(&mut desk, &directive, 50);
        let retry = desk.report(broken(&next, 10)).unwrap().directive.unwrap();
        let highest = line(&mut desk, retry).into_iter().fold(0.0, f64::max);
        assert_near(&[highest], &[0.02 * share]);
    }
}

#[test]
fn with_an_open_budget_the_law_goes_on_from_the_new_lr() {
    let (mut desk, directive) = at(open_scan(), Phase::Stable);
    let refused = desk.send(update("u", None, Some(5000)));
    assert!(matches!(refused, Err(Refusal::BudgetFixed(why)) if why.contains("open")), "{refused:?}");
    desk.send(update("u", Some(0.02), None)).unwrap();
    let next = obey(&mut desk, &directive, 40);
    let lrs = |directive: &Directive, from: u64| -> Vec<f64> {
        (from..from + 50).map(|i| lr_at(&directive.run().unwrap().lr, i).unwrap()).collect()
    };
    let planned = lrs(&directive, 40);
    let expected: Vec<f64> = planned.iter().map(|lr| lr / planned[0] * 0.02).collect();
    assert_near(&lrs(&next, 0), &expected);
    assert_eq!(desk.job.view().commits.last().unwrap().1, 0.02);
}

#[test]
fn a_guard_in_a_cooldown_never_rises_above_half_of_the_new_lr() {
    let (mut desk, directive) = at(scan(2000), Phase::Cooldown);
    let directive = go_on(&mut desk, &directive);
    desk.send(update("u", Some(1e-4), None)).unwrap();
    let next = obey(&mut desk, &directive, 50);
    let retry = desk.report(broken(&next, 10)).unwrap().directive.unwrap();
    let highest = line(&mut desk, retry).into_iter().fold(0.0, f64::max);
    assert!(highest < 0.7e-4, "{highest}");
}

#[test]
fn a_budget_is_laid_out_anew() {
    for (total, n) in [(1600, 40), (700, 40), (900, 0)] {
        for spec in [constant(1000), wsd(1000), cosine(1000), scan(1000), paper(1000, 60)] {
            let policy = spec.policy_name();
            let (mut desk, directive) = at(spec.clone(), Phase::Stable);
            desk.send(update("u", None, Some(total))).unwrap();
            let next = obey(&mut desk, &directive, n);
            let done = desk.job.view().spent.total() as usize;
            let found = line(&mut desk, next);
            let view = desk.job.view();
            assert_eq!((view.spent.total(), view.state), (total, JobState::Finished), "{policy}");
            assert!(view.warnings.iter().any(|w| w.contains(&format!("{total} steps, not 1000"))));
            let kept = desk.kept_lrs();
            if ["constant", "wsd", "cosine"].contains(&policy) {
                let (mut fresh, first) = started(ResolvedSpec { budget: Budget::Known(total), ..spec });
                assert_eq!(
                    found,
                    line(&mut fresh, first)[done..],
                    "{policy}: as if it had been so from the start"
                );
            } else if policy == "scan" {
                let cooldown = (0.4 * total as f64).round() as usize;
                let eta = kept[kept.len() - cooldown - 1];
                let falls = kept.iter().rposition(|lr| *lr == eta).unwrap();
                assert_eq!(kept.len() - falls - 1, cooldown, "the cooldown is a share of the new budget");
            }
        }
    }
}

#[test]
fn a_budget_that_is_nearly_spent_is_cooled_down_in_what_is_left() {
    for phase in [Phase::Warmup, Phase::Stable] {
        let (mut desk, directive) = at(scan(2000), phase);
        let done = desk.job.view().spent.total();
        desk.send(update("u", None, Some(done + 30))).unwrap();
        let next = obey(&mut desk, &directive, 10);
        assert_eq!(next.run().unwrap().phase, Phase::Cooldown);
        let last = directive.run().unwrap().lr[0].lr(10);
        let found = line(&mut desk, next);
        assert!(found.len() == 20 && found.windows(2).all(|pair| pair[1] < pair[0]), "{found:?}");
        assert!(found[0] <= last);
        let (mut desk, directive) = at(scan(2000), phase);
        desk.send(update("u", None, Some(done + 1))).unwrap();
        assert!(obey(&mut desk, &directive, 40).run().is_none(), "it was spent while the request waited");
        assert_eq!(
            (desk.job.spec().budget.limit(), desk.job.ended()),
            (done + 40, Some(DoneReason::Finished))
        );
    }
}

#[test]
fn a_warm_up_that_no_longer_fits_goes_on_straight_to_its_lr() {
    let (mut desk, directive) = at(scan(2000), Phase::Warmup);
    let (done, eta) = (desk.job.view().spent.total(), directive.run().unwrap().lr[0].end);
    desk.send(update("u", None, Some((done + 60) * 5 / 3))).unwrap();
    let next = obey(&mut desk, &directive, 20);
    let found = line(&mut desk, next);
    let rise = found.windows(2).take_while(|pair| pair[1] > pair[0]).count() + 1;
    assert!(rise > 30 && rise < 45, "{rise}");
    assert_eq!(found[rise - 1], eta);
}

#[test]
fn after_an_lr_a_longer_budget_never_rises_above_it() {
    let (mut desk, mut directive) = started(cosine(1000));
    for _ in 0..9 {
        directive = go_on(&mut desk, &directive);
    }
    desk.send(update("u", Some(0.05), None)).unwrap();
    let next = obey(&mut desk, &directive, 90);
    desk.send(update("v", None, Some(3000))).unwrap();
    let next = obey(&mut desk, &next, 1);
    let found = line(&mut desk, next);
    assert_eq!(found.len(), 2009);
    let highest = found.iter().copied().fold(0.0, f64::max);
    assert!((0.049..=0.05).contains(&highest), "{highest}");
}

#[test]
fn what_can_not_be_updated_is_refused_and_changes_nothing() {
    let refused = |desk: &Desk, event: Event| {
        let stored = desk.stored();
        let refusal = desk.clone().send(event).unwrap_err();
        assert_eq!(desk.stored(), stored);
        refusal
    };
    let field = |refusal: Refusal| match refusal {
        Refusal::InvalidField { field, .. } => field,
        other => panic!("{other:?}"),
    };
    let (searching, _) = started(scan(2000));
    assert_eq!(refused(&searching, update("u", Some(0.1), None)), Refusal::UpdateInSearch);
    assert_eq!(refused(&searching, update("u", None, Some(3000))), Refusal::UpdateInSearch);
    let (mut cooling, last) = at(wsd(1000), Phase::Cooldown);
    assert_eq!(refused(&cooling, update("u", None, Some(3000))), Refusal::BudgetFixed("it cools down"));
    let (mut desk, directive) = started(constant(1000));
    for lr in [0.0, -1.0, f64::NAN, f64::INFINITY, 1.1e6] {
        assert_eq!(field(refused(&desk, update("u", Some(lr), None))), "lr_override");
    }
    desk.report(losses(directive.seq, 0, 30)).unwrap();
    for total in [0, 30, 1_000_000_000_001] {
        assert_eq!(field(refused(&desk, update("u", None, Some(total)))), "total_steps");
    }
    let many = spec(1000, PolicySpec::Clr(ClrOptions { step_size: Some(2), ..ClrOptions::default() }));
    assert_eq!(field(refused(&started(many).0, update("u", None, Some(2001)))), "total_steps");
    assert_eq!(field(refused(&desk, update("", Some(0.1), None))), "request_id");
    desk.send(finish("f", None)).unwrap();
    assert!(matches!(refused(&desk, update("u", None, Some(900))), Refusal::BudgetFixed(_)));
    line(&mut cooling, last);
    assert_eq!(refused(&cooling, update("u", Some(0.1), None)), Refusal::Ended(DoneReason::Finished));
    assert_eq!(cooling.send(update("u", None, None)), Ok(Answer::Accepted), "labels alone");
}

#[test]
fn updates_that_wait_are_one_and_take_effect_before_a_finish() {
    let (mut desk, directive) = started(constant(1000));
    desk.send(update("u", Some(0.3), None)).unwrap();
    desk.send(update("v", Some(0.02), Some(1200))).unwrap();
    desk.send(update("u", Some(0.3), None)).unwrap();
    desk.send(finish("f", Some(60))).unwrap();
    let cooldown = obey(&mut desk, &directive, 10);
    let found = line(&mut desk, cooldown);
    assert_eq!((found.len(), found[0]), (60, 0.02 * 60.0 / 61.0));
    assert_eq!(desk.job.spec().budget.limit(), 1200);
}

#[test]
fn a_cancellation_drops_what_waits() {
    let (mut desk, directive) = started(constant(1000));
    desk.send(update("u", Some(0.02), Some(500))).unwrap();
    desk.send(cancel("c", true)).unwrap();
    desk.send(update("v", Some(0.03), None)).unwrap();
    assert!(obey(&mut desk, &directive, 10).run().is_none());
    let view = desk.job.view();
    assert_eq!((view.state, desk.job.spec().budget.limit()), (JobState::Cancelled, 1000));
    assert_eq!(view.commits, [(0, 0.05)]);
}

#[test]
fn a_guard_comes_before_an_update() {
    let (mut desk, directive) = started(constant(1000));
    desk.send(update("u", Some(0.02), None)).unwrap();
    let retry = desk.report(broken(&directive, 40)).unwrap().directive.unwrap();
    assert_eq!(retry.run().unwrap().lr[0].lr(0), 0.025, "half of what was");
    let next = obey(&mut desk, &retry, 0);
    assert_near(&line(&mut desk, next), &[0.02; 959]);
}

#[test]
fn before_the_first_trainer_a_budget_is_taken_at_once_and_an_lr_waits() {
    let mut desk = Desk::new(scan(2000));
    desk.send(update("u", Some(0.02), Some(3000))).unwrap();
    assert_eq!(desk.job.spec().budget.limit(), 3000);
    let mut directive = desk.open(open()).unwrap().directive;
    while directive.run().unwrap().phase == Phase::Trial {
        assert_eq!(desk.job.interrupt(), None, "no search is interrupted");
        directive = go_on(&mut desk, &directive);
    }
    let next = obey(&mut desk, &directive, 1);
    let found = line(&mut desk, next);
    assert_eq!(found.iter().copied().fold(0.0, f64::max), 0.02);
    assert_eq!(desk.job.view().spent.total(), 3000);
}

#[test]
fn an_update_outlives_an_answer_that_was_lost() {
    let (mut desk, first) = started(constant(1000));
    desk.send(update("u", Some(0.02), Some(2000))).unwrap();
    go_on(&mut desk, &first);
    assert_eq!(desk.job.spec().budget.limit(), 2000);
    let fallback = (**first.fallback.as_ref().unwrap()).clone();
    let ack = desk.report(losses(fallback.seq, 0, 5)).unwrap();
    assert!(ack.interrupt.is_some(), "the trainer is asked again");
    assert_eq!(desk.job.spec().budget.limit(), 1000, "the fallback was made for this budget");
    let next = obey(&mut desk, &fallback, 20);
    let found = line(&mut desk, next);
    assert_near(&found, &[0.02; 880]);
    let view = desk.job.view();
    assert_eq!((view.spent.total(), desk.job.spec().budget.limit()), (1000, 1000));
    assert!(view.warnings.iter().any(|w| w.contains("2000 steps came too late")), "{:?}", view.warnings);
}

#[test]
fn a_fallback_takes_an_lr_but_no_budget() {
    let (mut desk, first) = started(wsd(1000));
    let stable = go_on(&mut desk, &first);
    go_on(&mut desk, &stable);
    let fallback = (**stable.fallback.as_ref().unwrap()).clone();
    desk.report(losses(fallback.seq, 0, 5)).unwrap();
    assert!(matches!(desk.send(update("u", None, Some(2000))), Err(Refusal::BudgetFixed(_))));
    desk.send(update("v", Some(0.02), None)).unwrap();
    let rest: Vec<f64> = unchanged(&desk, &fallback, 20).iter().map(|lr| lr / 0.05 * 0.02).collect();
    let next = obey(&mut desk, &fallback, 20);
    assert_near(&line(&mut desk, next), &rest);
}

#[test]
fn an_update_outlives_a_rewind_to_before_it() {
    let (mut desk, first) = started(constant(1000));
    let second = go_on(&mut desk, &first);
    desk.send(update("u", Some(0.02), Some(1500))).unwrap();
    let third = obey(&mut desk, &second, 20);
    desk.send(update("v", Some(0.01), None)).unwrap();
    obey(&mut desk, &third, 5);
    desk.open(resume(third.seq, 3, &[Slot::Safe, Slot::SafePrev])).unwrap();
    assert_eq!(desk.job.spec().budget.limit(), 1500);
    desk.open(resume(first.seq, 30, &[Slot::Safe])).unwrap();
    assert_eq!(desk.job.spec().budget.limit(), 1000, "the budget of that time");
    let number = desk.job.interrupt().expect("both wait once more");
    let report = Report { session: 3, ..interrupted(&first, 30, number) };
    let next = desk.report(report).unwrap().directive.unwrap();
    assert_eq!((desk.job.spec().budget.limit(), next.run().unwrap().lr[0].lr(0)), (1500, 0.01));
    assert_eq!(desk.job.interrupt(), None);
}

#[test]
fn ten_thousand_updates_leave_a_small_job() {
    let (mut desk, mut directive) = started(constant(100_000));
    for i in 0..10_000 {
        desk.send(update(&format!("{i:0128}"), Some(0.1 + f64::from(i) * 1e-5), Some(100_000))).unwrap();
        if i % 100 == 0 {
            directive = obey(&mut desk, &directive, 1);
        }
    }
    let size = desk.stored().len();
    assert!(size < 20_000, "{size} bytes");
}

#[test]
fn a_restart_forgets_what_waits_and_keeps_the_budget() {
    let (mut desk, directive) = started(constant(1000));
    desk.send(update("u", Some(0.02), Some(1500))).unwrap();
    obey(&mut desk, &directive, 10);
    desk.send(update("v", Some(0.01), None)).unwrap();
    desk.open(Open { restart: true, ..open() }).unwrap();
    assert_eq!((desk.job.interrupt(), desk.job.spec().budget.limit()), (None, 1500));
}
