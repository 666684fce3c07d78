//! The plain schedules.

use super::{spec, surface::Quadratic, train};
use crate::{
    directive::{DoneReason, Failure, Phase, Slot, SlotOp},
    lr_pieces::{self, Piece, Shape},
    spec::{
        ClrOptions, ConstantOptions, CosineOptions, JobSpec, OneCycleOptions, PolicySpec, ReplayOptions,
        SgdrOptions, StepOptions, WsdOptions,
    },
};
use serde::Deserialize;

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

/// A case of `tests/golden/schedules.json`, which `tests/golden/schedules.py` at the repository's top made.
#[derive(Deserialize)]
struct Golden {
    policy: String,
    options: Options,
    lr: f64,
    lrs: Vec<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Options {
    step_size: Option<u64>,
    milestones: Vec<u64>,
    gamma: Option<f64>,
    pct_start: Option<f64>,
    div_factor: Option<f64>,
    final_div_factor: Option<f64>,
    base_lr: Option<f64>,
    t0: Option<u64>,
    t_mult: Option<u32>,
    end_factor: Option<f64>,
}

impl Golden {
    fn spec(&self) -> JobSpec {
        let Options { step_size, ref milestones, gamma, pct_start, div_factor, final_div_factor, .. } =
            self.options;
        let Options { base_lr, t0, t_mult, end_factor, .. } = self.options;
        let (milestones, max_lr) = (milestones.clone(), None);
        let policy = match self.policy.as_str() {
            "step" => {
                PolicySpec::Step(StepOptions { step_size, milestones, gamma, ..StepOptions::default() })
            }
            "one_cycle" => {
                PolicySpec::OneCycle(OneCycleOptions { max_lr, pct_start, div_factor, final_div_factor })
            }
            "clr" => PolicySpec::Clr(ClrOptions { base_lr, max_lr, step_size }),
            "sgdr" => PolicySpec::Sgdr(SgdrOptions { t0, t_mult, end_factor, ..SgdrOptions::default() }),
            other => panic!("{other}"),
        };
        JobSpec { fallback_lr: Some(self.lr), ..spec(self.lrs.len() as u64, policy) }
    }
}

#[test]
fn every_lr_is_that_of_pytorch() {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Golden>,
    }
    let file: File = serde_json::from_str(include_str!("../../../tests/golden/schedules.json")).unwrap();
    assert_eq!(file.cases.len(), 20);
    for case in file.cases {
        let lrs = train(&case.spec(), Quadratic::new(1.0), false, |_, _, loss| loss).lrs();
        assert_eq!(lrs.len(), case.lrs.len());
        for (i, (lr, expected)) in lrs.iter().zip(&case.lrs).enumerate() {
            assert!((lr - expected).abs() <= 1e-12 * case.lr, "{} {i}: {lr} {expected}", case.policy);
        }
    }
}

#[test]
fn a_warm_up_takes_the_first_steps_of_step_and_comes_before_the_cycles_of_sgdr() {
    let step =
        StepOptions { warmup_steps: Some(4), milestones: vec![6], lr: Some(0.4), ..StepOptions::default() };
    let trace = train(&spec(8, PolicySpec::Step(step)), Quadratic::new(1.0), false, |_, _, loss| loss);
    let expected = [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.04, 0.04];
    assert!(trace.lrs().iter().zip(expected).all(|(lr, e)| (lr - e).abs() < 1e-15), "{:?}", trace.lrs());
    let sgdr = SgdrOptions { warmup_steps: Some(2), t0: Some(2), lr: Some(0.4), ..SgdrOptions::default() };
    let trace = train(&spec(6, PolicySpec::Sgdr(sgdr)), Quadratic::new(1.0), false, |_, _, loss| loss);
    let wave = 0.2 * (1.0 + core::f64::consts::FRAC_1_SQRT_2);
    let expected = [0.2, 0.4, 0.4, 0.2, 0.4, wave];
    assert!(trace.lrs().iter().zip(expected).all(|(lr, e)| (lr - e).abs() < 1e-15), "{:?}", trace.lrs());
}

/// A line as of a run that was rolled back in the middle of its curves: 1000 steps.
fn exported() -> Vec<Piece> {
    let power = Piece::new(200, 0.3, 0.0, Shape::Power { exponent: -1.0 / 3.0, origin: 7.0 });
    let cosine = Piece::new(400, 0.4, 0.0, Shape::Cosine);
    let rest = Piece { steps: 399, index: 1, ..cosine }.scaled(0.5);
    vec![Piece::warmup(100, 0.3), Piece::constant(300, 0.3), power, Piece { steps: 1, ..cosine }, rest]
}

fn replay(total_steps: Option<u64>) -> JobSpec {
    JobSpec { total_steps, ..spec(0, PolicySpec::Replay(ReplayOptions { pieces: exported() })) }
}

#[test]
fn a_replay_is_the_exported_line_to_the_bit() {
    let line: Vec<u64> =
        (0..1000).filter_map(|i| lr_pieces::lr_at(&exported(), i)).map(f64::to_bits).collect();
    let last = line[999];
    for (total, switch_every) in [(None, 1), (None, 8), (Some(1000), 1024), (Some(777), 8), (Some(1300), 1)] {
        let job = JobSpec { switch_every: Some(switch_every), ..replay(total) };
        let trace = train(&job, Quadratic::new(1.0), false, |_, _, loss| loss);
        let lrs: Vec<u64> = trace.lrs().into_iter().map(f64::to_bits).collect();
        assert_eq!((lrs.len() as u64, trace.done), (total.unwrap_or(1000), Some(DoneReason::Finished)));
        assert!(lrs.iter().enumerate().all(|(i, lr)| lr == line.get(i).unwrap_or(&last)));
        assert_eq!((trace.phases(), trace.notes.commits[0].lr), (vec![Phase::Stable], 0.4));
    }
}

#[test]
fn a_replay_that_breaks_goes_on_at_half_the_line() {
    let broken = |_: &_, total, loss| if total == 550 { f64::NAN } else { loss };
    let trace = train(&replay(None), Quadratic::new(1.0), false, broken);
    let lrs = trace.lrs();
    let half = |i: u64| lr_pieces::lr_at(&exported(), i).map(|lr| lr / 2.0);
    assert_eq!((Some(lrs[551]), Some(lrs[948])), (half(602), half(999)));
    assert_eq!((trace.spent.total(), trace.done), (1000, Some(DoneReason::Finished)));
}

#[test]
fn advice_says_where_budget_and_schedule_differ() {
    let advice = |total| {
        let spec = crate::spec::resolve(&replay(total)).unwrap();
        crate::policy::advice(&spec)
            .into_iter()
            .map(|a| format!("{} {}", a.field, a.description))
            .collect::<Vec<_>>()
    };
    assert_eq!((advice(None), advice(Some(1000))), (vec![], vec![]));
    let short = "total_steps is 900 and the schedule has 1000 steps: the last 100 are left out";
    assert_eq!(advice(Some(900)), [short]);
    let long =
        "total_steps is 1300 and the schedule has 1000 steps: the last LR holds for the 300 steps after them";
    assert_eq!(advice(Some(1300)), [long]);
}

#[test]
fn a_broken_loss_halves_a_curve_of_many_pieces() {
    let clr = ClrOptions { base_lr: Some(0.1), max_lr: Some(0.5), step_size: Some(10) };
    let broken = |_: &_, total, loss| if total == 550 { f64::NAN } else { loss };
    let trace = train(&spec(1000, PolicySpec::Clr(clr)), Quadratic::new(1.0), false, broken);
    let lrs = trace.lrs();
    assert!(lrs.iter().all(|lr| (0.05..=0.5).contains(lr)));
    let lowest = lrs.iter().copied().fold(f64::INFINITY, f64::min);
    assert!((lowest - 0.05).abs() < 1e-15 && trace.done == Some(DoneReason::Finished));
    // The pieces of one directive are many, so that a slot is not saved at each.
    assert!(trace.segments.iter().all(|(run, _)| run.steps() >= 49), "about 100 steps each");
}

#[test]
fn any_budget_is_spent_to_the_step() {
    for total in [1, 3, 100, 719, 720, 2250, 45_000] {
        for policy in [
            PolicySpec::Constant(ConstantOptions::default()),
            PolicySpec::Cosine(CosineOptions { warmup_steps: Some(total / 3), ..CosineOptions::default() }),
            PolicySpec::Wsd(WsdOptions::default()),
            PolicySpec::Step(StepOptions::default()),
            PolicySpec::Step(StepOptions { step_size: Some(total.div_ceil(1000)), ..StepOptions::default() }),
            PolicySpec::OneCycle(OneCycleOptions::default()),
            PolicySpec::Clr(ClrOptions::default()),
            PolicySpec::Sgdr(SgdrOptions { warmup_steps: Some(total / 2), ..SgdrOptions::default() }),
            PolicySpec::Sgdr(SgdrOptions { t_mult: Some(u32::MAX), ..SgdrOptions::default() }),
            PolicySpec::Replay(ReplayOptions { pieces: exported() }),
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
