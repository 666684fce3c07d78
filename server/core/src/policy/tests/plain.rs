//! The plain schedules.

use super::{spec, surface::Quadratic, train};
use crate::{
    directive::{DoneReason, Failure, Phase, Slot, SlotOp},
    spec::{ConstantOptions, CosineOptions, JobSpec, PolicySpec, WsdOptions},
};

fn wsd(total: u64) -> JobSpec {
    let options = WsdOptions { lr: Some(0.5), warmup_steps: Some(total / 10), cooldown_steps: None };
    spec(total, PolicySpec::Wsd(options))
}

#[test]
fn a_line_is_trained_step_for_step() {
    let trace = train(&wsd(1000), Quadratic::new(1.0), false, |_, _, loss| loss);
    let lrs = trace.lrs();
    assert_eq!((lrs.len(), trace.stops()), (1000, 0));
    assert_eq!([0, 99, 100, 799].map(|i| lrs[i]), [0.005, 0.5, 0.5, 0.5]);
    assert!((lrs[800] - 0.5 * 200.0 / 201.0).abs() < 1e-15 && (lrs[999] - 0.5 / 201.0).abs() < 1e-15);
    assert_eq!(trace.phases(), [Phase::Warmup, Phase::Stable, Phase::Cooldown]);
    assert_eq!(trace.done, Some(DoneReason::Finished));
    assert_eq!(trace.most_slots, 2);
    assert_eq!((trace.notes.commits[0].lr, trace.notes.stage_ends.len()), (0.5, 1));
}

#[test]
fn any_budget_is_spent_to_the_step() {
    for total in [1, 3, 100, 719, 720, 2250, 45_000] {
        for policy in [
            PolicySpec::Constant(ConstantOptions::default()),
            PolicySpec::Cosine(CosineOptions { warmup_steps: Some(total / 3), ..CosineOptions::default() }),
            PolicySpec::Wsd(WsdOptions::default()),
        ] {
            let trace = train(&spec(total, policy), Quadratic::new(1.0), true, |_, _, loss| loss);
            assert_eq!((trace.spent.committed, trace.done), (total, Some(DoneReason::Finished)));
        }
    }
}

#[test]
fn a_budget_of_millions_is_cut_at_the_largest_run() {
    let trace = train(&wsd(4_000_000), Quadratic::new(1.0), true, |_, _, loss| loss);
    assert_eq!((trace.spent.committed, trace.done), (4_000_000, Some(DoneReason::Finished)));
    assert_eq!(trace.segments[1].0.steps(), 65_536);
}

#[test]
fn a_broken_loss_restores_and_halves_the_rest_of_the_line() {
    let broken = |_: &_, total, loss| if total == 550 { f64::NAN } else { loss };
    let trace = train(&wsd(1000), Quadratic::new(1.0), false, broken);
    assert_eq!((trace.spent.total(), trace.spent.lost), (1000, 51));
    let lrs = trace.lrs();
    assert_eq!((lrs[499], lrs[500]), (0.5, 0.25));
    assert!((lrs[948] - 0.25 / 201.0).abs() < 1e-15);
    assert_eq!(trace.notes.commits.last().map(|c| c.lr), Some(0.25));
    assert_eq!(trace.slot_ops[6], [SlotOp::Restore(Slot::SafePrev)]);
}

#[test]
fn a_break_soon_after_a_save_restores_the_older_slot() {
    let broken = |_: &_, total, loss| if total == 539 { f64::INFINITY } else { loss };
    let trace = train(&wsd(1000), Quadratic::new(1.0), false, broken);
    assert_eq!(trace.spent.lost, 140);
}

#[test]
fn it_gives_up_after_five_retries() {
    let broken = |_: &_, total, loss| if total >= 300 { f64::NAN } else { loss };
    let trace = train(&wsd(1000), Quadratic::new(1.0), false, broken);
    assert_eq!((trace.stops(), trace.done), (6, Some(DoneReason::Failed(Failure::Unstable))));
    let unguarded = JobSpec { guard: Some(false), ..wsd(1000) };
    let trace = train(&unguarded, Quadratic::new(1.0), false, broken);
    assert_eq!((trace.stops(), trace.done), (1, Some(DoneReason::Failed(Failure::Unstable))));
}

#[test]
fn a_break_at_the_last_step_finishes_in_the_last_slot() {
    let broken = |_: &_, total, loss| if total == 999 { f64::NAN } else { loss };
    let trace = train(&wsd(1000), Quadratic::new(1.0), false, broken);
    assert_eq!((trace.spent.total(), trace.spent.lost), (1000, 100));
    assert_eq!(trace.done, Some(DoneReason::Finished));
}

#[test]
fn switch_points_are_kept() {
    let every = JobSpec { switch_every: Some(8), ..wsd(1000) };
    let trace = train(
        &every,
        Quadratic::new(1.0),
        false,
        |_, total, loss| if total == 550 { f64::NAN } else { loss },
    );
    assert_eq!(trace.spent.lost, 64);
}
