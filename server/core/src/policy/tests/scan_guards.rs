//! The guards of `scan`: healthy curves never meet them, broken ones always do.

use super::{
    Trace,
    scan::scan,
    surface::{Quadratic, in_unit, normal},
    train,
};
use crate::{
    directive::{DoneReason, Failure, Phase, Run},
    spec::{JobSpec, LossBound},
    stop_rules::StopIf,
};

const TOTAL: u64 = 4500;

/// (scale, offset, bound): units in which every story is told.
const UNITS: [(f64, f64, LossBound); 5] = [
    (1.0, 0.0, LossBound::At(0.0)),
    (0.001, 0.0, LossBound::At(0.0)),
    (1.0, 0.0, LossBound::None),
    (1000.0, -5000.0, LossBound::None),
    (1.0, -50.0, LossBound::At(0.0)),
];

fn run(
    unit: (f64, f64, LossBound),
    surface: Quadratic,
    mut fault: impl FnMut(&Run, u64, f64) -> f64,
) -> Trace {
    let (scale, offset, bound) = unit;
    let spec = JobSpec { loss_lower_bound: Some(bound), ..scan(TOTAL) };
    train(&spec, in_unit(surface, scale, offset), true, move |run, total, loss| {
        scale * fault(run, total, (loss - offset) / scale) + offset
    })
}

/// Guards that fired: stops outside trials.
fn fired(trace: &Trace) -> Vec<(Phase, u64)> {
    let committed = trace.segments.iter().filter(|(run, _)| run.phase != Phase::Trial);
    committed.filter_map(|(run, stop)| stop.map(|stop| (run.phase, stop.offset))).collect()
}

#[test]
fn healthy_curves_never_meet_a_guard() {
    for unit in UNITS {
        for (gradient, loss) in [(0.0, 0.0), (0.02, 0.02), (0.3, 0.1), (0.02, 1.0)] {
            let trace = run(unit, Quadratic::new(1.0).noisy(gradient, loss), |_, _, loss| loss);
            assert_eq!((fired(&trace), trace.spent.lost), (vec![], 0), "{unit:?} {gradient} {loss}");
        }
    }
}

#[test]
fn spikes_that_recover_meet_no_guard() {
    for unit in UNITS {
        let trace = run(unit, Quadratic::new(1.0), |run, total, loss| {
            if run.phase != Phase::Trial && total % 97 == 0 { loss + 3.0 } else { loss }
        });
        assert_eq!(fired(&trace), [], "{unit:?}");
    }
}

#[test]
fn heavy_tails_meet_no_guard() {
    let trace = run(UNITS[0], Quadratic::new(1.0), |_, total, loss| {
        loss + 0.3 * libm::pow(normal(0, total, 5).abs(), 3.0)
    });
    assert_eq!(fired(&trace), []);
}

/// A story of a break, told from the first loss at or after total step 2000: (steps since, healthy loss) -> loss.
type Story = fn(u64, f64) -> f64;

const STORIES: [(&str, Story); 6] = [
    ("explodes", |t, loss| loss * libm::pow(1.2, t.min(2000) as f64)),
    ("explodes slowly", |t, loss| loss * libm::pow(1.05, t.min(2000) as f64)),
    ("NaN", |_, _| f64::NAN),
    ("infinite", |_, _| f64::INFINITY),
    ("collapses to the initial loss", |t, _| 0.99 + 0.02 * normal(0, t, 3)),
    ("jumps far above", |_, _| 1e6),
];

#[test]
fn broken_curves_meet_a_guard_within_60_steps() {
    for unit in UNITS {
        for (name, story) in STORIES {
            let trace = run(unit, Quadratic::new(1.0), |run, total, loss| {
                // The break is in the weights: a restore of an earlier slot heals it.
                if run.phase == Phase::Stable && (2000..2100).contains(&total) {
                    story(total - 2000, loss)
                } else {
                    loss
                }
            });
            let first = trace
                .segments
                .iter()
                .scan(0, |total, (run, stop)| {
                    let at = stop.map(|stop| *total + stop.offset);
                    *total += stop.map_or(run.steps(), |stop| stop.offset + 1);
                    Some(at.filter(|_| run.phase == Phase::Stable))
                })
                .flatten()
                .next();
            let slow = if name == "explodes slowly" { 100 } else { 60 };
            assert!(first.is_some_and(|at| at < 2000 + slow), "{unit:?} {name}: {first:?}");
            assert_eq!(
                (trace.spent.total(), trace.done),
                (TOTAL, Some(DoneReason::Finished)),
                "{unit:?} {name}"
            );
        }
    }
}

#[test]
fn a_slow_drift_is_caught_before_it_has_undone_the_training() {
    for unit in UNITS {
        let trace = run(unit, Quadratic::new(1.0), |run, total, loss| {
            if run.phase == Phase::Stable && total > 1200 {
                loss + 0.002 * (total - 1200) as f64
            } else {
                loss
            }
        });
        assert!(!fired(&trace).is_empty(), "{unit:?}");
        assert_eq!(trace.spent.total(), TOTAL, "{unit:?}");
    }
}

/// LRs at the end of the warm-ups that were begun.
fn warmups(trace: &Trace) -> Vec<f64> {
    let warmups = trace.segments.iter().filter(|(run, _)| run.phase == Phase::Warmup);
    warmups.map(|(run, _)| run.lr[0].end).collect()
}

#[test]
fn a_warm_up_that_breaks_starts_again_at_a_third() {
    for unit in UNITS {
        for broken in [f64::NAN, 1e7] {
            let trace = run(unit, Quadratic::new(1.0), |run, total, loss| {
                if run.phase == Phase::Warmup && total % 100 > 50 && run.lr[0].end > 0.02 {
                    broken
                } else {
                    loss
                }
            });
            let lrs = warmups(&trace);
            assert!(lrs.len() > 1 && lrs[lrs.len() - 1] <= 0.02, "{unit:?} {broken}: {lrs:?}");
            assert!(lrs.windows(2).all(|pair| (pair[1] * 3.0 / pair[0] - 1.0).abs() < 1e-12), "{lrs:?}");
            assert_eq!((trace.spent.total(), trace.done), (TOTAL, Some(DoneReason::Finished)));
            assert_eq!(trace.notes.commits.last().map(|c| c.lr), lrs.last().copied());
        }
    }
}

#[test]
fn the_last_warm_up_is_ended_by_a_non_finite_loss_alone() {
    let trace = run(
        UNITS[0],
        Quadratic::new(1.0),
        |run, _, loss| {
            if run.phase == Phase::Warmup { 1e7 } else { loss }
        },
    );
    let (lrs, commits) = (warmups(&trace), &trace.notes.commits);
    assert_eq!((lrs.len(), trace.done), (7, Some(DoneReason::Finished)));
    assert!((lrs[6] * 729.0 / commits[0].lr - 1.0).abs() < 1e-12);
    let last = trace.segments.iter().rfind(|(run, _)| run.phase == Phase::Warmup);
    assert_eq!(last.map(|(run, _)| run.stop_if.as_slice()), Some([StopIf::NonFinite].as_slice()));
    let trace = run(
        UNITS[0],
        Quadratic::new(1.0),
        |run, _, loss| {
            if run.phase == Phase::Warmup { f64::NAN } else { loss }
        },
    );
    assert_eq!((warmups(&trace).len(), trace.done), (7, Some(DoneReason::Failed(Failure::Unstable))));
}

#[test]
fn a_warm_up_that_learns_nothing_starts_again() {
    let trace = run(UNITS[0], Quadratic::new(1.0), |run, total, loss| {
        if run.phase == Phase::Warmup && total < 800 { 0.97 + 0.02 * normal(0, total, 1) } else { loss }
    });
    assert_eq!((warmups(&trace).len(), fired(&trace).len()), (2, 0));
    assert_eq!((trace.spent.lost, trace.done), (450, Some(DoneReason::Finished)));
}

#[test]
fn a_cooldown_that_breaks_goes_on_from_half_the_lr_at_its_slot() {
    let trace =
        run(UNITS[0], Quadratic::new(1.0), |_, total, loss| if total == 3555 { f64::NAN } else { loss });
    assert_eq!((fired(&trace).len(), trace.spent.total()), (1, TOTAL));
    let lrs = trace.lrs();
    let kept = (3556 - trace.spent.search - trace.spent.lost) as usize;
    let after = lrs[kept];
    assert!((after / lrs[kept - 1] - 0.5).abs() < 0.01, "{} then {after}", lrs[kept - 1]);
    let left = (TOTAL - 3556) as f64;
    assert!((lrs[lrs.len() - 1] / (after / (left + 1.0)) - 1.0).abs() < 1e-9);
}

#[test]
fn it_cools_down_after_five_retries_and_then_fails() {
    let until = |end: u64| {
        move |run: &Run, total: u64, loss: f64| {
            if run.phase != Phase::Trial && (1500..end).contains(&total) { f64::NAN } else { loss }
        }
    };
    let trace = run(UNITS[0], Quadratic::new(1.0), until(1506));
    assert_eq!((fired(&trace).len(), trace.done), (6, Some(DoneReason::Finished)));
    let eta = trace.notes.commits[0].lr;
    assert!((trace.notes.commits.last().unwrap().lr * 64.0 / eta - 1.0).abs() < 1e-12);
    let last = &trace.segments[trace.segments.len() - 1].0;
    assert_eq!((last.phase, trace.spent.total()), (Phase::Cooldown, TOTAL));
    let trace = run(UNITS[0], Quadratic::new(1.0), until(TOTAL));
    assert_eq!((fired(&trace).len(), trace.done), (7, Some(DoneReason::Failed(Failure::Unstable))));
}

#[test]
fn without_guards_only_a_non_finite_loss_stops() {
    let spec = JobSpec { guard: Some(false), ..scan(TOTAL) };
    let trace = train(
        &spec,
        Quadratic::new(1.0),
        true,
        |run, _, loss| {
            if run.phase == Phase::Stable { 1e7 } else { loss }
        },
    );
    assert_eq!((fired(&trace), trace.done), (vec![], Some(DoneReason::Finished)));
    for phase in [Phase::Warmup, Phase::Stable, Phase::Cooldown] {
        let trace = train(
            &spec,
            Quadratic::new(1.0),
            true,
            |run, _, loss| {
                if run.phase == phase { f64::NAN } else { loss }
            },
        );
        assert_eq!((fired(&trace).len(), trace.done), (1, Some(DoneReason::Failed(Failure::Unstable))));
    }
}

#[test]
fn guards_keep_to_switch_points() {
    let spec = JobSpec { switch_every: Some(8), ..scan(TOTAL) };
    let trace =
        train(
            &spec,
            Quadratic::new(1.0),
            true,
            |_, total, loss| {
                if total % 1000 == 999 { f64::INFINITY } else { loss }
            },
        );
    assert_eq!((fired(&trace).len(), trace.done), (4, Some(DoneReason::Finished)));
}
