//! `staged`: its searches, the books, rungs, the guard.

use super::{
    Trace, spec,
    surface::{Quadratic, Surface, in_unit, normal},
    train, train_changed,
};
use crate::{
    directive::{Batches, DoneReason, Failure, Phase, Run, Slot, SlotOp},
    policy::{CommitNote, TrialOutcome},
    spec::{JobSpec, LossBound, PolicySpec, StagedOptions},
};

pub(super) fn staged(total: u64) -> JobSpec {
    spec(total, PolicySpec::Staged(StagedOptions::default()))
}

fn healthy(spec: &JobSpec, surface: impl Surface) -> Trace {
    train(spec, surface, true, |_, _, loss| loss)
}

fn trials_of(trace: &Trace, stage: u32) -> usize {
    trace.notes.trials.iter().filter(|t| t.stage == stage).count()
}

/// The slot that a committed segment starts from, and whose save that was; none: where the trainer stood.
fn restored(ops: &[SlotOp]) -> Option<Slot> {
    ops.iter().find_map(|op| if let SlotOp::Restore(slot) = op { Some(*slot) } else { None })
}

#[test]
fn a_run_from_start_to_end() {
    let trace = healthy(&staged(12_000), Quadratic::new(1.0));
    assert_eq!(trace.done, Some(DoneReason::Finished));
    assert_eq!((trace.spent.total(), trace.spent.lost), (12_000, 0));
    assert!(trace.most_slots <= 2, "{}", trace.most_slots);
    assert_eq!([0, 1].map(|stage| trials_of(&trace, stage)), [8, 6]);
    assert!((2..6).all(|stage| trials_of(&trace, stage) <= 4));
    assert_eq!(*trace.phases().last().unwrap(), Phase::Cooldown);
    let lrs = trace.lrs();
    let (cooling, last) = (lrs.len() - 3600, lrs[lrs.len() - 1]);
    assert!(lrs[cooling] < lrs[cooling - 1] && last < 1e-3 * lrs[cooling]);
    let first = &trace.segments[0].0;
    assert_eq!((first.steps(), &first.rungs[..], first.batches), (100, &[24, 49][..], Batches::Fresh));
    assert_eq!(trace.segments[1].0.batches, Batches::Replay);
    assert_eq!(trace.slot_ops[0], [SlotOp::Save(Slot::Stage)]);
}

#[test]
fn the_first_candidates_are_the_sixths_and_later_ones_lie_around_the_last_lr() {
    let trace = healthy(&staged(12_000), Quadratic::new(1.0));
    let z = |stage: u32| -> Vec<f64> {
        let of_stage = trace.notes.trials.iter().filter(|t| t.stage == stage);
        of_stage.map(|t| libm::log10(t.lr)).collect()
    };
    let first = z(0);
    for (i, sixth) in [1.0, 3.0, 5.0].into_iter().enumerate() {
        assert!((first[i] - (-4.0 + 5.0 * sixth / 6.0)).abs() < 1e-9, "{first:?}");
    }
    let committed = |stage: u32| {
        let commit = trace.notes.commits.iter().find(|commit| commit.stage == stage).unwrap();
        libm::log10(commit.lr)
    };
    assert!((z(1)[0] - committed(0)).abs() < 1e-9);
    let third = z(2);
    assert!((third[0] - committed(1)).abs() < 1e-9);
    assert!((third[2] - third[0] - (third[0] - third[1])).abs() < 1e-9 || third[2] > 0.98, "{third:?}");
}

#[test]
fn a_stage_goes_on_from_its_best_trial() {
    let mut from = [0; 3];
    for largest in [0.1, 1.0, 10.0] {
        let trace = healthy(&staged(12_000), Quadratic::new(largest));
        for (i, (run, _)) in trace.segments.iter().enumerate().skip(1) {
            let after_trial = trace.segments[i - 1].0.phase == Phase::Trial;
            if run.phase != Phase::Trial && after_trial {
                let slot = restored(&trace.slot_ops[i]);
                from[slot.map_or(0, |slot| if slot == Slot::Best { 1 } else { 2 })] += 1;
                let steps = if slot == Some(Slot::Stage) { 1000 } else { 900 };
                assert!(run.steps() == steps || i + 20 > trace.segments.len(), "{slot:?} {}", run.steps());
            }
        }
    }
    assert!(from[0] + from[1] > 0, "{from:?}");
    assert!(from[1] > 0, "BEST is used: {from:?}");
}

#[test]
fn any_budget_and_range_keeps_the_budget_and_the_overhead() {
    for total in [1, 2, 3, 30, 199, 400, 719, 2250, 45_000] {
        for max_overhead in [0.0, 0.05, 0.20, 1.0] {
            for cooldown_fraction in [0.0, 0.3, 0.8] {
                for (lo, hi) in [(1e-4, 10.0), (0.1, 0.2)] {
                    let options = StagedOptions {
                        cooldown_fraction: Some(cooldown_fraction),
                        ..StagedOptions::default()
                    };
                    let spec = JobSpec {
                        max_overhead: Some(max_overhead),
                        lr_min: Some(lo),
                        lr_max: Some(hi),
                        ..spec(total, PolicySpec::Staged(options))
                    };
                    let trace = healthy(&spec, Quadratic::new(1.0));
                    assert_eq!((trace.spent.total(), trace.done), (total, Some(DoneReason::Finished)));
                    assert!(trace.notes.trials.iter().all(|t| (lo..=hi).contains(&t.lr)));
                }
            }
        }
    }
}

#[test]
fn long_stages_and_short_ones() {
    for (total, tau) in [(3000, Some(20)), (500_000, Some(200_000))] {
        let options = StagedOptions { tau, ..StagedOptions::default() };
        let trace = train(&spec(total, PolicySpec::Staged(options)), Flat, false, |_, _, loss| loss);
        assert_eq!((trace.spent.total(), trace.done), (total, Some(DoneReason::Finished)));
        assert!(trace.spent.search > 0);
    }
}

#[derive(Clone)]
struct Flat;

impl Surface for Flat {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        1.0 + lr.min(1.0) + 0.01 * normal(0, batch, 0)
    }

    fn true_loss(&self) -> f64 {
        f64::NAN
    }
}

#[test]
fn without_room_fewer_candidates_then_none() {
    let trace = healthy(&JobSpec { max_overhead: Some(0.04), ..staged(12_000) }, Quadratic::new(1.0));
    assert_eq!(trials_of(&trace, 0), 4);
    assert!(trace.notes.commits.iter().any(|commit| commit.why.contains("no room")));
    let trace = healthy(&JobSpec { max_overhead: Some(0.02), ..staged(12_000) }, Quadratic::new(1.0));
    assert!(trace.notes.trials.is_empty() && trace.lrs()[..8400].iter().all(|lr| *lr == 0.1));
    assert!(trace.notes.commits[0].why.contains("fallback_lr"));
}

#[test]
fn advice_says_when_no_search_fits() {
    let advice = |total: u64| crate::policy::advice(&crate::spec::resolve(&staged(total)).unwrap()).len();
    assert_eq!((advice(299), advice(300)), (1, 0), "3 trials of 20 steps in 0.20 of the budget");
}

#[test]
fn a_diverged_candidate_never_wins() {
    let trace = train(&staged(12_000), Quadratic::new(1.0), true, |run, _, loss| {
        if run.phase == Phase::Trial && run.lr[0].start > 1e-2 { f64::INFINITY } else { loss }
    });
    assert!(trace.notes.trials.iter().any(|t| t.outcome == TrialOutcome::Diverged));
    assert!(trace.notes.commits.iter().all(|commit| commit.lr <= 1e-2));
}

#[test]
fn where_all_diverge_the_range_is_lowered() {
    let above = |limit: f64| {
        move |run: &Run, _, loss| {
            if run.phase == Phase::Trial && run.lr[0].start > limit { f64::NAN } else { loss }
        }
    };
    let trace = train(&staged(12_000), Quadratic::new(1.0), true, above(2e-5));
    assert!(trace.notes.commits[0].lr <= 2e-5);
    assert!(trace.notes.warnings[0].contains("the lowest LR to try is now"));
    let trace = train(&staged(12_000), Quadratic::new(1.0), true, above(0.0));
    let failed = Some(DoneReason::Failed(Failure::AllCandidatesDiverged));
    assert_eq!((trace.done, trace.notes.trials.len()), (failed, 32));
    let tight = JobSpec { max_overhead: Some(0.07), ..staged(12_000) };
    let trace = train(&tight, Quadratic::new(1.0), true, above(0.0));
    let tried = trace.notes.trials.iter().map(|t| t.lr).fold(f64::INFINITY, f64::min);
    assert!(trace.lrs().iter().all(|lr| *lr <= tried / 10.0), "no LR that diverged is committed");
}

#[test]
fn an_lr_that_breaks_in_a_later_search_is_left() {
    let trace = train(&staged(12_000), Quadratic::new(1.0), true, |run, _, loss| {
        if run.phase == Phase::Trial && run.stage == 2 { f64::NAN } else { loss }
    });
    let lr = |stage: u32| trace.notes.commits.iter().find(|c| c.stage == stage).unwrap().lr;
    assert!(lr(2) <= lr(1) / 3.0);
    assert_eq!(trace.done, Some(DoneReason::Finished));
}

#[derive(Clone)]
struct Growing {
    factor: f64,
    loss: f64,
}

impl Surface for Growing {
    fn step(&mut self, _: f64, _: u64) -> f64 {
        let loss = self.loss;
        self.loss *= self.factor;
        loss
    }

    fn true_loss(&self) -> f64 {
        f64::NAN
    }
}

#[test]
fn a_loss_that_grows_is_stopped_at_a_rung() {
    for bound in [LossBound::At(0.0), LossBound::None] {
        for tau in [400, 1000, 4000] {
            let options = StagedOptions { tau: Some(tau), ..StagedOptions::default() };
            let spec =
                JobSpec { loss_lower_bound: Some(bound), ..spec(10 * tau, PolicySpec::Staged(options)) };
            let trace = healthy(&spec, Growing { factor: 1.05, loss: 1.0 });
            assert!(trace.cut.iter().all(|steps| *steps <= tau / 20), "{bound:?} {tau}: {:?}", trace.cut);
            assert_eq!(trace.cut.len(), trace.notes.trials.len());
        }
    }
}

#[test]
fn a_candidate_that_is_clearly_worse_ends_early() {
    let trace = healthy(&staged(48_000), Quadratic::new(1.0).noisy(0.02, 0.001));
    assert!(!trace.cut.is_empty());
    let stopped = trace.notes.trials.iter().filter(|t| t.outcome == TrialOutcome::Stopped);
    assert_eq!(stopped.clone().count(), trace.cut.len());
    for trial in stopped {
        let commit = trace.notes.commits.iter().find(|c| c.stage == trial.stage).unwrap();
        assert!(commit.lr != trial.lr, "{trial:?}");
    }
}

#[test]
fn the_unit_of_the_loss_changes_nothing() {
    let unbounded = JobSpec { loss_lower_bound: Some(LossBound::None), ..staged(6000) };
    let base = healthy(&unbounded, Quadratic::new(1.0));
    for (scale, offset) in [(0.01, 0.0), (1.0, 10.0), (64.0, -1024.0)] {
        let trace = healthy(&unbounded, in_unit(Quadratic::new(1.0), scale, offset));
        for (a, b) in trace.notes.commits.iter().zip(&base.notes.commits) {
            assert!((libm::log10(a.lr) - libm::log10(b.lr)).abs() < 0.05, "{scale} {offset}: {a:?} {b:?}");
        }
    }
}

#[test]
fn a_stage_that_breaks_is_rolled_back_at_a_third() {
    for (scale, offset, bound) in
        [(1.0, 0.0, LossBound::At(0.0)), (100.0, -1e3, LossBound::None), (1.0, -20.0, LossBound::At(0.0))]
    {
        for broken in [f64::NAN, f64::INFINITY, 1e9] {
            let spec = JobSpec { loss_lower_bound: Some(bound), ..staged(12_000) };
            let surface = in_unit(Quadratic::new(1.0), scale, offset);
            let mut done = false;
            let trace = train(&spec, surface, true, |run, total, loss| {
                let here = run.phase == Phase::Stable && total > 1500 && !done;
                done |= here;
                if here { broken } else { loss }
            });
            assert_eq!((trace.done, trace.spent.total()), (Some(DoneReason::Finished), 12_000));
            assert!(trace.spent.lost > 0 && trace.notes.warnings[0].contains("divided by 3"));
            let lowered = trace.notes.commits.iter().position(|c| c.why.contains("broke")).unwrap();
            assert_eq!(trace.notes.commits[lowered].lr, trace.notes.commits[lowered - 1].lr / 3.0);
        }
    }
}

#[test]
fn a_cooldown_that_breaks_goes_on_at_half() {
    let mut done = false;
    let trace = train(&staged(6000), Quadratic::new(1.0), true, |run, total, loss| {
        let here = run.phase == Phase::Cooldown && total > 5000 && !done;
        done |= here;
        if here { f64::NAN } else { loss }
    });
    assert_eq!((trace.done, trace.spent.total()), (Some(DoneReason::Finished), 6000));
    assert!(trace.notes.warnings[0].contains("divided by 2"));
    assert!(trace.lrs().windows(2).rev().take(900).all(|lr| lr[1] <= lr[0]));
}

#[test]
fn a_healthy_run_meets_no_guard() {
    for noise in [0.0, 0.02, 0.5] {
        for bound in [LossBound::At(0.0), LossBound::None] {
            let spec = JobSpec { loss_lower_bound: Some(bound), ..staged(6000) };
            let trace = healthy(&spec, Quadratic::new(1.0).noisy(0.02, noise));
            assert_eq!(trace.spent.lost, 0, "{noise} {bound:?}: {:?}", trace.notes.warnings);
        }
    }
}

#[test]
fn after_three_retries_it_cools_down_at_once_and_then_gives_up() {
    let broken = |run: &Run, _, loss| if run.phase == Phase::Trial { loss } else { f64::NAN };
    let trace = train(&staged(6000), Quadratic::new(1.0), true, broken);
    assert_eq!(trace.done, Some(DoneReason::Failed(Failure::Unstable)));
    assert_eq!(trace.phases(), [Phase::Trial, Phase::Stable, Phase::Cooldown]);
    assert_eq!((trace.stops(), trace.spent.committed), (8, 0));
    let unguarded = JobSpec { guard: Some(false), ..staged(6000) };
    let trace = train(&unguarded, Quadratic::new(1.0), true, broken);
    assert_eq!((trace.stops(), trace.done), (1, Some(DoneReason::Failed(Failure::Unstable))));
}

/// The LR of every kept step, from the one at which the operator's is in force.
fn changed(trace: &Trace, lr: f64) -> Vec<f64> {
    let at = trace.notes.commits.iter().position(|c| c.why.contains("an operator set it")).unwrap();
    assert_eq!(trace.notes.commits[at].lr, lr);
    let lrs = trace.lrs();
    let from = lrs.iter().position(|other| *other == lr).expect("a step at the operator's LR");
    lrs[from..].to_vec()
}

#[test]
fn an_operators_lr_is_held_to_the_stages_end_and_searched_around() {
    for lr in [0.003, 0.5] {
        let trace = train_changed(&staged(12_000), Quadratic::new(1.0), 6000, lr, |_, _, loss| loss);
        assert_eq!(
            (trace.done, trace.spent.total(), trace.spent.lost),
            (Some(DoneReason::Finished), 12_000, 0)
        );
        let noted = trace.notes.commits.iter().position(|c| c.why.contains("an operator set it")).unwrap();
        let stage = trace.notes.commits[noted].stage;
        let next: Vec<f64> =
            trace.notes.trials.iter().filter(|t| t.stage == stage + 1).map(|t| t.lr).collect();
        assert!((next[0] / lr - 1.0).abs() < 1e-9, "the incumbent is the operator's: {next:?}");
        assert!(next[1] < lr && next[2] > lr, "{next:?}");
        let mut held =
            trace.segments.iter().filter(|(run, _)| run.stage == stage && run.phase == Phase::Stable);
        assert_eq!(held.next_back().unwrap().0.lr[0].start, lr);
        assert!(changed(&trace, lr).len() > 3600);
    }
}

#[test]
fn an_operators_lr_waits_for_the_search_to_end() {
    let trace = train_changed(&staged(12_000), Quadratic::new(1.0), 50, 0.04, |_, _, loss| loss);
    let whys: Vec<&str> = trace.notes.commits.iter().map(|c| c.why.as_str()).collect();
    assert!(whys[0].contains("largest LR") && whys[1].contains("operator"), "{whys:?}");
    assert_eq!(trace.notes.commits[1].stage, 0);
    let first = trace.segments.iter().find(|(run, _)| run.phase == Phase::Stable).unwrap();
    assert_ne!(first.0.lr[0].start, 0.04);
    assert!(changed(&trace, 0.04).len() >= 11_000 - trace.spent.search as usize);
}

#[test]
fn an_operators_lr_may_lie_outside_of_the_range() {
    let (lo, hi) = (1e-3, 0.1);
    let spec = JobSpec { lr_min: Some(lo), lr_max: Some(hi), fallback_lr: Some(0.01), ..staged(12_000) };
    for lr in [1e-5, 0.2] {
        let trace = train_changed(&spec, Flat, 6000, lr, |_, _, loss| loss);
        assert_eq!((trace.spent.total(), trace.spent.lost), (12_000, 0));
        assert!(trace.notes.trials.iter().all(|t| (lo..=hi).contains(&t.lr)), "searches keep to the range");
        let stage = trace.notes.commits.iter().find(|c| c.why.contains("operator")).unwrap().stage;
        let next: Vec<f64> =
            trace.notes.trials.iter().filter(|t| t.stage == stage + 1).map(|t| t.lr).collect();
        let nearest: f64 = if lr < lo { lo } else { hi };
        assert!((next[0] / nearest - 1.0).abs() < 1e-9, "{next:?}");
    }
}

#[test]
fn an_operators_lr_ends_the_skipping_of_searches() {
    let options = StagedOptions { tau: Some(500), ..StagedOptions::default() };
    let spec = spec(24_000, PolicySpec::Staged(options));
    let trace = healthy(&spec, Indifferent { steps: 0.0 });
    let rows = trace.notes.commits.windows(2);
    let twice = |pair: &[CommitNote]| pair.iter().all(|c| c.why.contains("changed nothing"));
    let skipped = rows.filter(|pair| twice(pair)).map(|pair| pair[0].stage).next().unwrap();
    let (_, ends) = trace
        .segments
        .iter()
        .zip(&trace.ends)
        .find(|((run, _), _)| run.stage == skipped && run.phase == Phase::Stable)
        .unwrap();
    let trace = train_changed(&spec, Indifferent { steps: 0.0 }, ends - 100, 0.2, |_, _, loss| loss);
    assert!(trials_of(&trace, skipped + 1) > 0, "{skipped}");
}

#[test]
fn an_operators_lr_rescales_the_cooldown() {
    let plain = healthy(&staged(6000), Quadratic::new(1.0)).lrs();
    for factor in [0.1, 3.0] {
        // 1000 steps before the end.
        let from = plain.len() - 1000;
        let lr = factor * plain[from];
        let trace = train_changed(&staged(6000), Quadratic::new(1.0), 5000, lr, |_, _, loss| loss);
        let lrs = trace.lrs();
        assert_eq!((lrs.len(), &lrs[..from]), (plain.len(), &plain[..from]));
        for (changed, planned) in lrs[from..].iter().zip(&plain[from..]) {
            assert!((changed / (factor * planned) - 1.0).abs() < 1e-9, "{changed} {planned}");
        }
    }
}

#[test]
fn a_guard_in_the_cooldown_never_rises_above_half_of_an_operators_lr() {
    // Of the last directive, one in which the LR falls by a factor of 100.
    for at in [5000, 5990] {
        let mut broken = false;
        let trace = train_changed(&staged(6000), Quadratic::new(1.0), at, 1e-3, |run, total, loss| {
            let here = run.phase == Phase::Cooldown && total >= at + 5 && !broken;
            broken |= here;
            if here { f64::NAN } else { loss }
        });
        assert_eq!((trace.done, trace.spent.total()), (Some(DoneReason::Finished), 6000));
        let after = &trace.segments[trace.segments.len() - 1].0;
        let lowered = trace.notes.commits.last().unwrap();
        assert!(lowered.why.contains("divided by 2") && lowered.lr <= 0.5e-3, "{lowered:?}");
        assert!(after.lr[0].start <= 0.5e-3, "{:?}", after.lr);
    }
}

#[test]
fn an_operators_lr_without_a_search_is_not_called_the_fallback() {
    let spec = JobSpec { max_overhead: Some(0.0), ..staged(12_000) };
    let trace = train_changed(&spec, Quadratic::new(1.0), 500, 0.04, |_, _, loss| loss);
    let whys: Vec<&str> = trace.notes.commits.iter().map(|c| c.why.as_str()).collect();
    assert!(whys[0].contains("fallback_lr") && whys[2].contains("the last LR is held"), "{whys:?}");
    assert!(trace.lrs()[500..8400].iter().all(|lr| *lr == 0.04));
}

/// The best LR falls by a factor of 100 on the way.
#[derive(Clone)]
struct Drifting {
    steps: f64,
    loss: f64,
}

impl Surface for Drifting {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        self.steps += 1.0;
        let best = -1.0 - 2.0 * (self.steps / 8000.0).min(1.0);
        let misfit = libm::log10(lr) - best;
        let level = 0.1 + 1.0 / (1.0 + self.steps / 500.0) + 0.3 * misfit * misfit;
        self.loss += 0.05 * (level - self.loss);
        self.loss + 0.002 * normal(0, batch, 7)
    }

    fn true_loss(&self) -> f64 {
        f64::NAN
    }
}

#[test]
fn the_lr_follows_a_drift() {
    let trace = healthy(&staged(12_000), Drifting { steps: 0.0, loss: 3.0 });
    let lr = |stage: u32| trace.notes.commits.iter().rev().find(|c| c.stage <= stage).unwrap().lr;
    assert!(lr(0) / lr(5) > 5.0, "{} {}", lr(0), lr(5));
}

/// The loss depends on the LR alone, and hardly: there is nothing to gain.
#[derive(Clone)]
struct Indifferent {
    steps: f64,
}

impl Surface for Indifferent {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        self.steps += 1.0;
        let misfit = libm::log10(lr) + 1.0;
        3.0 * libm::exp(-self.steps / 3000.0) + 0.2 * (misfit * misfit).min(4.0) + 1e-6 * normal(0, batch, 3)
    }

    fn true_loss(&self) -> f64 {
        f64::NAN
    }
}

#[test]
fn searches_that_change_nothing_are_skipped() {
    let options = StagedOptions { tau: Some(500), ..StagedOptions::default() };
    let trace = healthy(&spec(24_000, PolicySpec::Staged(options)), Indifferent { steps: 0.0 });
    let skipped = trace.notes.commits.iter().filter(|c| c.why.contains("changed nothing")).count();
    assert!(skipped > 2, "{:?}", trace.notes.commits.iter().map(|c| (c.lr, &c.why)).collect::<Vec<_>>());
}
