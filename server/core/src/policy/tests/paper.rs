//! `paper`: the search as published, the budget, the guard.

use super::{
    Can, Trace, spec,
    surface::{Quadratic, Surface, in_unit},
    train, train_with,
};
use crate::{
    directive::{DoneReason, Failure, Phase, Run, Slot, SlotOp},
    policy::TrialOutcome,
    spec::{JobSpec, LossBound, Objective, PaperOptions, PolicySpec},
};

fn options() -> PaperOptions {
    PaperOptions { tau: Some(200), tau_max: Some(800), ..PaperOptions::default() }
}

fn paper(total: u64) -> JobSpec {
    spec(total, PolicySpec::Paper(options()))
}

fn healthy(spec: &JobSpec, surface: impl Surface) -> Trace {
    train(spec, surface, false, |_, _, loss| loss)
}

fn steps(trace: &Trace, phase: Phase) -> Vec<u64> {
    trace.segments.iter().filter(|(run, _)| run.phase == phase).map(|(run, _)| run.steps()).collect()
}

#[test]
fn stages_double_and_each_is_searched() {
    let trace = healthy(&paper(6000), Quadratic::new(1.0));
    assert_eq!(trace.done, Some(DoneReason::Finished));
    assert_eq!((trace.spent.total(), trace.spent.lost, trace.most_slots), (6000, 0, 1));
    assert_eq!(steps(&trace, Phase::Stable)[..4], [200, 400, 800, 800]);
    assert_eq!(
        steps(&trace, Phase::Trial)[..31],
        [[20; 10].as_slice(), &[40; 10], &[80; 10], &[80]].concat()
    );
    assert_eq!(trace.slot_ops[0], [SlotOp::Save(Slot::Stage)]);
    assert!(trace.slot_ops[1..=10].iter().all(|ops| *ops == [SlotOp::Restore(Slot::Stage)]));
    assert_eq!(trace.slot_ops[11], [SlotOp::Save(Slot::Stage)]);
    let commit = &trace.notes.commits[0];
    let best = trace.notes.trials[..10].iter().filter_map(|t| t.score).fold(f64::INFINITY, f64::min);
    assert_eq!((commit.forecast.map(|f| f.0), commit.curve.len()), (Some(best), 61));
    assert!(commit.curve.iter().all(|p| p.mean.is_finite() && p.sd >= 0.0));
    assert!(commit.lr < 2.0, "the loss diverges above 2, committed {}", commit.lr);
    assert_eq!(trace.notes.stage_ends.len(), trace.notes.commits.len());
    assert!(trace.notes.trials.iter().all(|t| (1e-4..=10.0).contains(&t.lr)));
}

#[test]
fn the_seed_draws_the_first_candidate() {
    let first = |seed| {
        let trace = healthy(&JobSpec { seed: Some(seed), ..paper(1000) }, Quadratic::new(1.0));
        trace.notes.trials[0].lr
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

#[test]
fn the_budget_is_kept_at_any_size() {
    for total in [1, 3, 50, 219, 220, 400, 719, 2250, 45_000] {
        for max_overhead in [0.0, 0.1, 0.55, 1.0] {
            for warmup in [0, 1, total / 2, total] {
                let policy = PolicySpec::Paper(PaperOptions { warmup_steps: Some(warmup), ..options() });
                let spec = JobSpec { max_overhead: Some(max_overhead), ..spec(total, policy) };
                let trace = healthy(&spec, Quadratic::new(1.0));
                assert_eq!((trace.spent.total(), trace.done), (total, Some(DoneReason::Finished)));
                assert!(trace.most_slots <= 2);
            }
        }
    }
}

#[test]
fn the_warm_up_is_not_searched() {
    let policy =
        PolicySpec::Paper(PaperOptions { warmup_steps: Some(100), warmup_lr: Some(0.3), ..options() });
    let trace = healthy(&spec(2000, policy), Quadratic::new(1.0));
    assert_eq!(trace.phases()[..2], [Phase::Warmup, Phase::Trial]);
    let lrs = trace.lrs();
    assert!((lrs[0] - 0.003).abs() < 1e-12 && lrs[99] == 0.3);
}

#[test]
fn without_room_for_a_search_the_last_lr_is_held() {
    let trace = healthy(&JobSpec { max_overhead: Some(0.1), ..paper(4000) }, Quadratic::new(1.0));
    assert_eq!(trace.spent.search, 200);
    let lrs = trace.lrs();
    assert!(lrs.iter().all(|lr| *lr == trace.notes.commits[0].lr) && lrs.len() == 3800);
    let trace = healthy(&paper(50), Quadratic::new(1.0));
    assert!(trace.lrs().iter().all(|lr| *lr == 0.1));
}

#[test]
fn a_diverged_candidate_never_wins() {
    let trace = train(&paper(6000), Quadratic::new(1.0), false, |run, _, loss| {
        if run.phase == Phase::Trial && run.lr[0].start > 1e-2 { f64::INFINITY } else { loss }
    });
    assert!(trace.notes.trials.iter().any(|t| t.outcome == TrialOutcome::Diverged));
    assert!(trace.notes.commits.iter().all(|commit| commit.lr <= 1e-2));
}

#[test]
fn where_all_diverge_the_range_is_lowered_three_times() {
    let above = |limit: f64| {
        move |run: &Run, _, loss| {
            if run.phase == Phase::Trial && run.lr[0].start > limit { f64::NAN } else { loss }
        }
    };
    let trace = train(&paper(6000), Quadratic::new(1.0), false, above(2e-5));
    assert!(trace.notes.commits[0].lr <= 2e-5);
    assert!(trace.notes.warnings[0].contains("the lowest LR to try is now"));
    let trace = train(&paper(6000), Quadratic::new(1.0), false, above(0.0));
    assert_eq!(trace.done, Some(DoneReason::Failed(Failure::AllCandidatesDiverged)));
    assert_eq!((trace.notes.trials.len(), trace.notes.warnings.len()), (40, 4));
    let trials: Vec<u32> = trace.notes.trials.iter().map(|t| t.trial).collect();
    assert_eq!(trials, (0..40).collect::<Vec<_>>());
}

#[test]
fn the_unit_of_the_loss_changes_nothing() {
    let unbounded = JobSpec { loss_lower_bound: Some(LossBound::None), ..paper(3000) };
    let base = healthy(&unbounded, Quadratic::new(1.0));
    for (scale, offset) in [(0.01, 0.0), (1.0, 10.0), (64.0, -1024.0)] {
        let trace = healthy(&unbounded, in_unit(Quadratic::new(1.0), scale, offset));
        for (a, b) in trace.notes.commits.iter().zip(&base.notes.commits) {
            assert!((libm::log10(a.lr) - libm::log10(b.lr)).abs() < 0.02, "{scale} {offset}: {a:?} {b:?}");
        }
    }
}

#[test]
fn a_stage_that_breaks_is_rolled_back_at_a_third() {
    for (scale, offset, bound) in
        [(1.0, 0.0, LossBound::At(0.0)), (100.0, -1e3, LossBound::None), (1.0, -20.0, LossBound::At(0.0))]
    {
        for broken in [f64::NAN, f64::INFINITY, 1e9] {
            let spec = JobSpec { loss_lower_bound: Some(bound), ..paper(6000) };
            let surface = in_unit(Quadratic::new(1.0), scale, offset);
            let trace = train(&spec, surface, false, |run, total, loss| {
                if run.phase == Phase::Stable && total == 250 { broken } else { loss }
            });
            assert_eq!((trace.done, trace.spent.total()), (Some(DoneReason::Finished), 6000));
            assert!(trace.spent.lost > 0 && trace.notes.warnings[0].contains("divided by 3"));
            assert_eq!(trace.notes.commits[1].lr, trace.notes.commits[0].lr / 3.0);
        }
    }
}

#[test]
fn a_healthy_stage_meets_no_guard() {
    for noise in [0.0, 0.02, 0.5] {
        for bound in [LossBound::At(0.0), LossBound::None] {
            let spec = JobSpec { loss_lower_bound: Some(bound), ..paper(6000) };
            let trace = healthy(&spec, Quadratic::new(1.0).noisy(0.02, noise));
            assert_eq!(trace.spent.lost, 0, "{noise} {bound:?}: {:?}", trace.notes.warnings);
        }
    }
}

#[test]
fn it_gives_up_after_three_retries() {
    let broken = |run: &Run, _, loss| if run.phase == Phase::Trial { loss } else { f64::NAN };
    let trace = train(&paper(6000), Quadratic::new(1.0), false, broken);
    assert_eq!((trace.stops(), trace.done), (4, Some(DoneReason::Failed(Failure::Unstable))));
    let unguarded = JobSpec { guard: Some(false), ..paper(6000) };
    let trace = train(&unguarded, Quadratic::new(1.0), false, broken);
    assert_eq!((trace.stops(), trace.done), (1, Some(DoneReason::Failed(Failure::Unstable))));
}

#[test]
fn advice_says_when_no_search_fits() {
    let advice = |total: u64, warmup_steps: u64| {
        let options = PaperOptions { warmup_steps: Some(warmup_steps), ..PaperOptions::default() };
        let spec = crate::spec::resolve(&super::spec(total, PolicySpec::Paper(options))).unwrap();
        crate::policy::advice(&spec).len()
    };
    assert_eq!((advice(1818, 0), advice(1819, 0)), (1, 0), "10 trials of 100 steps in 0.55 of the budget");
    assert_eq!(
        (advice(2000, 901), advice(2000, 900)),
        (1, 0),
        "and a trial more than that after the warm-up"
    );
}

fn small(objective: Option<Objective>) -> JobSpec {
    let options = PaperOptions { tau: Some(50), tau_max: Some(200), objective, ..PaperOptions::default() };
    spec(3000, PolicySpec::Paper(options))
}

/// A trainer that validates.
fn validated(spec: &JobSpec, fault: impl FnMut(&Run, u64, f64) -> f64) -> Trace {
    train_with(spec, Quadratic::new(1.0), Can { replay: false, validate: true }, fault)
}

/// Whether the search of each stage went by the validation loss.
fn objectives(trace: &Trace) -> Vec<bool> {
    let searched = trace.notes.commits.iter().filter(|commit| commit.forecast.is_some());
    searched.map(|commit| commit.why.contains("the validation loss")).collect()
}

#[test]
fn the_objective_is_the_validation_loss_once_a_longest_stage_is_behind() {
    let trace = validated(&small(None), |_, _, loss| loss);
    let expected: Vec<bool> = (0..objectives(&trace).len()).map(|stage| stage >= 3).collect();
    assert!(expected.len() > 5 && objectives(&trace) == expected);
    for trial in &trace.notes.trials {
        assert_eq!(trial.validations.len(), if trial.stage < 3 { 0 } else { 16 });
        assert!(trial.validations.last().is_none_or(|last| last.offset == 20));
    }
    let ends: Vec<f64> = trace.notes.stage_ends.iter().map(|end| end.loss).collect();
    let forecasts = trace.notes.commits.iter().filter_map(|commit| commit.forecast);
    for (stage, (end, (mean, _))) in ends.iter().zip(forecasts).enumerate() {
        assert!((end - mean).abs() < 0.3, "stage {stage}: forecast {mean}, came {end}");
    }
    assert!(trace.notes.warnings.is_empty());
    assert_eq!((trace.spent.total(), trace.done), (3000, Some(DoneReason::Finished)));
}

#[test]
fn the_objective_can_be_set() {
    let trace = validated(&small(Some(Objective::Validation)), |_, _, loss| loss);
    assert!(objectives(&trace).iter().all(|validation| *validation));
    // 5 steps of a first trial: all of them.
    assert_eq!(trace.notes.trials[0].validations.len(), 5);
    let trace = validated(&small(Some(Objective::Training)), |_, _, loss| loss);
    assert!(objectives(&trace).iter().all(|validation| !validation));
    assert!(trace.segments.iter().all(|(run, _)| run.trial.is_none() || run.validate_at.is_empty()));
}

#[test]
fn a_trainer_that_does_not_validate_is_told_once() {
    for (objective, says) in
        [(None, "stages after one of tau_max"), (Some(Objective::Validation), "asked for")]
    {
        let trace = healthy(&small(objective), Quadratic::new(1.0));
        assert!(objectives(&trace).iter().all(|validation| !validation));
        assert!(
            trace.notes.warnings.len() == 1 && trace.notes.warnings[0].contains(says),
            "{:?}",
            trace.notes.warnings
        );
    }
    assert!(healthy(&small(Some(Objective::Training)), Quadratic::new(1.0)).notes.warnings.is_empty());
}

/// A validation loss that breaks at high LRs, of a training loss that does not.
#[derive(Clone)]
struct Overfits {
    inner: Quadratic,
    highest: f64,
}

impl Surface for Overfits {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        self.highest = self.highest.max(lr);
        self.inner.step(lr, batch)
    }

    fn true_loss(&self) -> f64 {
        if self.highest > 1e-2 { f64::NAN } else { self.inner.true_loss() }
    }
}

#[test]
fn a_validation_loss_that_is_not_finite_is_a_diverged_trial() {
    let surface = Overfits { inner: Quadratic::new(1.0), highest: 0.0 };
    let can = Can { replay: false, validate: true };
    let trace = train_with(&small(Some(Objective::Validation)), surface, can, |_, _, loss| loss);
    assert!(trace.notes.trials.iter().any(|trial| trial.outcome == TrialOutcome::Diverged));
    assert!(trace.notes.trials.iter().all(|trial| (trial.lr > 1e-2) == trial.score.is_none()));
    assert!(trace.notes.commits.iter().all(|commit| commit.lr <= 1e-2));
}
