//! The guards of `scan`: healthy curves never meet them, broken ones always do.

use super::{
    Trace,
    scan::scan,
    surface::{Quadratic, normal},
    train,
};
use crate::{
    directive::{DoneReason, Phase, Run},
    spec::{JobSpec, LossBound},
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
    train(&spec, surface.in_unit(scale, offset), true, move |run, total, loss| {
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
        loss + 0.3 * libm::pow(normal(total, 5).abs(), 3.0)
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
    ("collapses to the initial loss", |t, _| 30.0 + normal(t, 3)),
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
