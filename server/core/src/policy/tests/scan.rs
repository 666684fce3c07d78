//! `scan` on healthy surfaces: the books, the search and the choice.

use super::{
    Trace, spec,
    surface::{Quadratic, Surface, in_unit},
    train,
};
use crate::{
    directive::{Batches, DoneReason, Failure, Phase, Slot, SlotOp},
    policy::{TrialNote, TrialOutcome},
    spec::{JobSpec, LossBound, PolicySpec, ScanOptions},
};

pub(super) fn scan(total: u64) -> JobSpec {
    spec(total, PolicySpec::Scan(ScanOptions::default()))
}

fn healthy(spec: &JobSpec, surface: impl Surface) -> Trace {
    train(spec, surface, true, |_, _, loss| loss)
}

fn committed_lr(trace: &Trace) -> f64 {
    trace.notes.commits[0].lr
}

fn trial_lrs(trace: &Trace) -> Vec<f64> {
    trace.notes.trials.iter().map(|trial| trial.lr).collect()
}

#[test]
fn a_run_from_start_to_end() {
    let trace = healthy(&scan(4500), Quadratic::new(1.0));
    assert_eq!(trace.done, Some(DoneReason::Finished));
    assert_eq!((trace.spent.total(), trace.spent.lost, trace.most_slots), (4500, 0, 2));
    assert_eq!(trace.phases(), [Phase::Trial, Phase::Warmup, Phase::Stable, Phase::Cooldown]);
    assert_eq!(trace.slot_ops[0], [SlotOp::Save(Slot::Start)]);
    assert_eq!(trace.slot_ops[1], [SlotOp::Restore(Slot::Start)]);
    let first_stable = trace.segments.iter().position(|(run, _)| run.phase == Phase::Stable).unwrap();
    assert_eq!(trace.slot_ops[first_stable], [SlotOp::Save(Slot::Safe), SlotOp::Drop(Slot::Start)]);
    assert_eq!(trace.slot_ops[first_stable + 1], [SlotOp::Save(Slot::SafePrev)]);
    let batches: Vec<Batches> = trace.segments[..3].iter().map(|(run, _)| run.batches).collect();
    assert_eq!(batches, [Batches::Fresh, Batches::Replay, Batches::Replay]);
    assert_eq!(trace.segments[first_stable].0.batches, Batches::Fresh);
    assert_eq!(trace.notes.stage_ends.len(), 2);
}

#[test]
fn the_line_is_the_documented_one() {
    let trace = healthy(&scan(4500), Quadratic::new(1.0));
    let (lrs, eta) = (trace.lrs(), committed_lr(&trace));
    assert_eq!((lrs[0], lrs[449], lrs[450]), (eta / 450.0, eta, eta));
    let cooling = lrs.len() - 1800;
    assert_eq!(lrs[cooling - 1], eta);
    assert!((lrs[cooling] / (eta * 1800.0 / 1801.0) - 1.0).abs() < 1e-12);
    assert!((lrs[lrs.len() - 1] / (eta / 1801.0) - 1.0).abs() < 1e-9);
}

#[test]
fn the_search_goes_down_by_decades_and_refines() {
    let trace = healthy(&scan(4500), Quadratic::new(1.0));
    let lrs = trial_lrs(&trace);
    let decades: Vec<f64> = lrs.iter().map(|lr| libm::log10(*lr)).collect();
    assert!((decades[0] - 0.5).abs() < 1e-9 && (decades[1] + 0.5).abs() < 1e-9, "{decades:?}");
    let (up, down) = (decades[decades.len() - 2], decades[decades.len() - 1]);
    assert!((up - down - 1.0).abs() < 1e-9, "{decades:?}");
    assert_ne!(trace.notes.trials[0].outcome, TrialOutcome::Completed);
    assert!(trace.notes.trials.iter().all(|t| (t.score.is_some()) == (t.outcome == TrialOutcome::Completed)));
    let lr = committed_lr(&trace);
    assert!((0.02..0.5).contains(&lr), "stability ends at 2, committed {lr}");
    assert!(trace.notes.commits[0].why.contains("0.22"));
    assert_eq!(trace.notes.commits[0].curve.len(), 33);
}

/// The committed LR with this decay, of a surface whose branches say the same with any.
fn with_decay(total: u64, lr_factor: Option<f64>, rms_decay: Option<f64>) -> Trace {
    let options = ScanOptions { lr_factor, rms_decay, ..ScanOptions::default() };
    healthy(&spec(total, PolicySpec::Scan(options)), Quadratic::new(1.0))
}

#[test]
fn an_uncorrected_second_moment_raises_the_factor() {
    let lr = |total, decay| committed_lr(&with_decay(total, None, decay));
    let without = healthy(&scan(4500), Quadratic::new(1.0));
    assert_eq!(with_decay(4500, None, Some(0.0)), without);
    // f(24, 0.99) and f(45, 0.99).
    for (total, f) in [(2250, 3.412_125_864_769_916_6), (4500, 2.561_707_728_386_154_2)] {
        assert!((lr(total, Some(0.99)) / lr(total, None) / f - 1.0).abs() < 1e-13, "{total}");
    }
    let why = &with_decay(4500, None, Some(0.99)).notes.commits[0].why;
    assert!(why.contains("0.564 times") && why.contains("2.56 times too large"), "{why}");
}

#[test]
fn a_raised_factor_stays_at_most_one() {
    let choice = committed_lr(&with_decay(2250, Some(1.0), None));
    for (factor, decay) in [(None, 0.999), (Some(0.5), 0.99), (Some(1.0), 0.9), (None, 1.0 - f64::EPSILON)] {
        let trace = with_decay(2250, factor, Some(decay));
        assert_eq!(committed_lr(&trace), choice, "{factor:?} {decay}");
        assert_eq!(trace.done, Some(DoneReason::Finished));
    }
}

#[test]
fn an_unattended_trainer_goes_on_with_the_raised_factor() {
    let lr = |trace: &Trace| {
        let second = trace.plans[2].fallback.as_deref().unwrap();
        second.run().unwrap().lr.iter().map(|piece| piece.lr(piece.steps - 1)).fold(0.0, f64::max)
    };
    let ratio = lr(&with_decay(2250, None, Some(0.99))) / lr(&with_decay(2250, None, None));
    assert!((ratio / 3.412_125_864_769_916_6 - 1.0).abs() < 1e-13, "{ratio}");
}

#[test]
fn the_choice_follows_the_curvature() {
    for largest in [0.1, 1.0, 10.0, 100.0] {
        let lr = committed_lr(&healthy(&scan(4500), Quadratic::new(largest)));
        assert!((0.02..0.5).contains(&(lr * largest)), "curvature {largest}: {lr}");
    }
}

#[test]
fn the_unit_of_the_loss_changes_nothing() {
    let base = healthy(&scan(4500), Quadratic::new(1.0));
    for (scale, offset, bound) in
        [(0.01, 0.0, LossBound::At(0.0)), (1e6, 0.0, LossBound::At(0.0)), (1.0, 10.0, LossBound::At(10.0))]
    {
        let spec = JobSpec { loss_lower_bound: Some(bound), ..scan(4500) };
        let trace = healthy(&spec, in_unit(Quadratic::new(1.0), scale, offset));
        assert_eq!(trial_lrs(&trace), trial_lrs(&base), "{scale} {offset}");
        assert!((committed_lr(&trace) / committed_lr(&base) - 1.0).abs() < 1e-6);
    }
    let unbounded = JobSpec { loss_lower_bound: Some(LossBound::None), ..scan(4500) };
    let base = healthy(&unbounded, Quadratic::new(1.0));
    for (scale, offset) in [(0.01, 0.0), (1.0, 10.0), (1.0, -100.0), (50.0, -1e5)] {
        let trace = healthy(&unbounded, in_unit(Quadratic::new(1.0), scale, offset));
        assert!((committed_lr(&trace) / committed_lr(&base) - 1.0).abs() < 1e-4, "{scale} {offset}");
        assert_eq!(trace.stops(), base.stops());
    }
}

#[test]
fn a_negative_loss_disproves_the_default_bound() {
    let trace = healthy(&scan(4500), in_unit(Quadratic::new(1.0), 1.0, -30.0));
    assert_eq!((trace.done, trace.spent.lost), (Some(DoneReason::Finished), 0));
    assert!((0.02..0.5).contains(&committed_lr(&trace)));
}

#[test]
fn any_budget_and_range() {
    for total in [1, 3, 24, 100, 719, 720, 2250, 45_000] {
        for (lo, hi) in [(1e-4, 10.0), (0.1, 0.1 * 1.26), (1e-7, 10.0), (1e-300, 1e6)] {
            for max_overhead in [0.0, 0.1, 1.0] {
                let spec = JobSpec {
                    lr_min: Some(lo),
                    lr_max: Some(hi),
                    max_overhead: Some(max_overhead),
                    ..scan(total)
                };
                let trace = healthy(&spec, Quadratic::new(1.0));
                assert_eq!((trace.spent.total(), trace.done), (total, Some(DoneReason::Finished)));
                let commit = &trace.notes.commits[0];
                let lowered =
                    if trace.notes.warnings.iter().any(|w| w.contains("is now")) { lo / 1000.0 } else { lo };
                assert!(
                    (lowered..=hi).contains(&commit.lr) || commit.why.contains("fallback_lr"),
                    "{commit:?}"
                );
                let diverged = trace.notes.trials.iter().filter(|t| t.score.is_none());
                assert!(diverged.into_iter().all(|t| t.lr != commit.lr));
            }
        }
    }
}

#[test]
fn a_budget_of_millions() {
    let trace = healthy(&scan(5_000_000), Quadratic::new(1.0));
    assert_eq!((trace.spent.total(), trace.spent.lost, trace.stops() < 4), (5_000_000, 0, true));
    let warmup: Vec<u64> = trace
        .segments
        .iter()
        .filter(|(run, _)| run.phase == Phase::Warmup)
        .map(|(run, _)| run.steps())
        .collect();
    assert_eq!((warmup[0], warmup.iter().sum::<u64>()), (65_536, 500_000));
}

#[test]
fn a_small_budget_is_not_searched() {
    let trace = healthy(&scan(719), Quadratic::new(1.0));
    assert_eq!((trace.spent.search, committed_lr(&trace)), (0, 0.1));
    assert!(trace.notes.warnings[0].contains("fallback_lr"));
    let trace = healthy(&scan(720), Quadratic::new(1.0));
    assert!((48..=72).contains(&trace.spent.search), "{}", trace.spent.search);
}

#[test]
fn all_branches_fail_and_the_range_is_lowered_once() {
    let spec = JobSpec { lr_min: Some(1.0), lr_max: Some(1000.0), max_overhead: Some(0.3), ..scan(4500) };
    let trace = healthy(&spec, Quadratic::new(50.0));
    assert!(trial_lrs(&trace).iter().any(|lr| *lr < 1.0), "{:?}", trial_lrs(&trace));
    assert!(trace.notes.warnings.iter().any(|w| w.contains("is now 1.000e-3")), "{:?}", trace.notes.warnings);
    assert!((1e-3..0.04).contains(&committed_lr(&trace)));
    let trace = train(&spec, Quadratic::new(1.0), true, |run, total, loss| {
        if run.phase == Phase::Trial && total > 0 { f64::INFINITY } else { loss }
    });
    assert!(
        trace.notes.warnings.iter().any(|w| w.contains("none of 6 branches")),
        "{:?}",
        trace.notes.warnings
    );
    assert_eq!((committed_lr(&trace), trace.done), (0.1, Some(DoneReason::Finished)));
}

#[test]
fn a_wild_branch_does_not_hide_what_others_learnt() {
    let mut wild = 0;
    for total in [720, 1000, 2400] {
        for (seed, largest) in (1..=4).flat_map(|seed| [0.1, 1.0, 10.0, 100.0].map(|largest| (seed, largest)))
        {
            for noise in [0.0, 0.01] {
                let trace = healthy(&scan(total), Quadratic::new(largest).noisy(0.02, noise).seeded(seed));
                let why = &trace.notes.commits[0].why;
                assert!(
                    !why.contains("learnt anything"),
                    "{total} {largest} {noise}: {:?}",
                    trace.notes.trials
                );
                let lr = committed_lr(&trace);
                assert!(lr * largest < 1.0, "stability ends at {}, committed {lr}", 2.0 / largest);
                // The loss leaps first, for the first losses, then falls below those of every other branch.
                let trials = &trace.notes.trials;
                let least = trials.iter().filter_map(|t| t.score).fold(f64::INFINITY, f64::min);
                let by_noise = |t: &&TrialNote| t.score == Some(least) && t.sd > Some(0.1);
                wild += usize::from(trials.iter().any(|t| by_noise(&t)));
            }
        }
    }
    assert!(wild > 0, "the best score is that of a wild branch");
}

#[test]
fn a_flat_loss_is_no_ground_for_a_choice() {
    let trace = train(&scan(4500), Quadratic::new(1.0), true, |_, _, _| 0.7);
    assert_eq!((committed_lr(&trace), trace.spent.lost, trace.done), (0.1, 0, Some(DoneReason::Finished)));
}

#[test]
fn the_very_first_loss_must_be_finite() {
    let broken = |_: &_, total, loss| if total == 0 { f64::NAN } else { loss };
    let failed = Some(DoneReason::Failed(Failure::LossNotFiniteAtStart));
    assert_eq!(train(&scan(4500), Quadratic::new(1.0), true, broken).done, failed);
    assert_eq!(train(&scan(100), Quadratic::new(1.0), true, broken).done, failed);
    let later = train(
        &scan(4500),
        Quadratic::new(1.0),
        true,
        |_, total, loss| if total == 1 { f64::NAN } else { loss },
    );
    assert_eq!(
        (later.done, later.notes.trials[0].outcome),
        (Some(DoneReason::Finished), TrialOutcome::Diverged)
    );
}

#[test]
fn an_lr_whose_branch_diverged_is_not_committed() {
    let spec = JobSpec { lr_min: Some(0.1), lr_max: Some(0.2), max_overhead: Some(0.3), ..scan(4500) };
    let trace = train(&spec, Quadratic::new(1.0), true, |run, _, loss| {
        if run.phase == Phase::Trial && run.lr[1].start < 0.12 { f64::NAN } else { loss }
    });
    assert!(
        trace.notes.trials.iter().any(|t| t.outcome == TrialOutcome::Diverged && (t.lr - 0.1).abs() < 1e-9)
    );
    assert!(committed_lr(&trace) > 0.12, "{:?}", trace.notes.commits);
}

#[test]
fn advice_says_what_the_search_lacks() {
    let advice = |spec: &JobSpec| -> Vec<&str> {
        crate::policy::advice(&crate::spec::resolve(spec).unwrap()).iter().map(|a| a.field).collect()
    };
    assert_eq!((advice(&scan(719)), advice(&scan(720))), (vec!["total_steps"], vec![]));
    let narrow = JobSpec { lr_min: Some(0.11), ..scan(719) };
    assert_eq!(advice(&narrow), ["total_steps", "lr_max"]);
    assert_eq!(advice(&JobSpec { max_overhead: Some(0.2), ..scan(360) }), [""; 0]);
}
