//! `scan` without a known budget: the search keeps to the budget that its length stands for, the LR falls with the
//! cube root of the steps, and the guards know it.

use super::{
    Trace, spec,
    surface::{Quadratic, normal},
    train_until,
};
use crate::{
    directive::{DoneReason, Failure, Phase, Run, Slot, SlotOp},
    lr_pieces,
    plan::Plan,
    spec::{JobSpec, OpenBudget, PolicySpec, ScanOptions},
};

const STEPS: u64 = 6000;

fn open_with(expected_steps: Option<u64>, options: ScanOptions) -> JobSpec {
    let open_budget = Some(OpenBudget { expected_steps });
    JobSpec { total_steps: None, open_budget, ..spec(0, PolicySpec::Scan(options)) }
}

fn open(expected_steps: Option<u64>) -> JobSpec {
    open_with(expected_steps, ScanOptions::default())
}

fn run(spec: &JobSpec, fault: impl FnMut(&Run, u64, f64) -> f64) -> Trace {
    train_until(STEPS, spec, Quadratic::new(1.0), true, fault)
}

fn healthy(spec: &JobSpec) -> Trace {
    run(spec, |_, _, loss| loss)
}

/// eta(t) of the choice `best_lr`, written down anew.
fn eta(best_lr: f64, l: f64, t: u64) -> f64 {
    best_lr * (l / (t as f64 / 0.6)).powf(1.0 / 3.0)
}

/// 10^z*, from the LR that was committed for the end of a warm-up of 10 L.
fn best_lr(trace: &Trace) -> f64 {
    trace.notes.commits[0].lr / 0.06f64.powf(1.0 / 3.0)
}

fn near(a: f64, b: f64) -> bool {
    (a / b - 1.0).abs() < 1e-13
}

#[test]
fn any_guess_keeps_the_searchs_share_of_what_it_stands_for() {
    for (expected, l) in
        [(None, 24), (Some(1), 24), (Some(2400), 24), (Some(12_345), 123), (Some(1_000_000_000_000), 1000)]
    {
        for max_overhead in [0.0, 0.02, 0.1, 1.0] {
            let spec = JobSpec { max_overhead: Some(max_overhead), ..open(expected) };
            let trace = train_until(12 * l, &spec, Quadratic::new(1.0), true, |_, _, loss| loss);
            let cap = (max_overhead * 100.0 * l as f64) as u64;
            assert!(trace.spent.search <= cap, "{expected:?} {max_overhead}: {:?}", trace.spent);
            assert_eq!(trace.spent.search > 0, cap >= 3 * l, "{expected:?} {max_overhead}");
            assert_eq!((trace.done, trace.spent.lost), (None, 0));
            let branches = trace.notes.trials.iter().map(|trial| trial.steps);
            assert!(branches.clone().max().is_none_or(|steps| steps == l), "{expected:?}");
        }
    }
}

#[test]
fn the_lr_falls_with_the_cube_root_of_the_steps() {
    for (expected, l) in [(None, 24), (Some(5000), 50)] {
        let trace = healthy(&open(expected));
        assert_eq!(trace.phases(), [Phase::Trial, Phase::Warmup, Phase::Stable]);
        assert_eq!((trace.spent.lost, trace.most_slots), (0, 2));
        let (lrs, best) = (trace.lrs(), best_lr(&trace));
        assert!((0.1..2.0).contains(&best), "the search stops being stable at 2, chose {best}");
        let warmup = 10 * l as u64;
        for (i, lr) in lrs.iter().enumerate() {
            let t = i as u64 + 1;
            let law = eta(best, l as f64, t.max(warmup));
            let wanted = if t < warmup { law * t as f64 / warmup as f64 } else { law };
            assert!(near(*lr, wanted), "step {t}: {lr} for {wanted}");
        }
        assert!(trace.notes.commits[0].why.contains("cube root"), "{:?}", trace.notes.commits);
    }
}

#[test]
fn the_law_is_one_piece_whatever_it_is_cut_into() {
    let trace = healthy(&open(None));
    let mut line = Vec::new();
    for (run, _) in trace.segments.iter().filter(|(run, _)| run.phase == Phase::Stable) {
        run.lr.iter().for_each(|&piece| lr_pieces::push(&mut line, piece));
    }
    assert_eq!((line.len(), line[0].index, line[0].steps), (1, 1, trace.spent.committed - 240));
}

/// The LRs of a fallback's first `steps`.
fn fallback_lrs(plan: &Plan, steps: u64) -> Vec<f64> {
    let run = plan.run().unwrap();
    (0..steps).map(|i| lr_pieces::lr_at(&run.lr, i).unwrap()).collect()
}

#[test]
fn an_unattended_trainer_goes_on_along_the_law() {
    let trace = healthy(&open(None));
    let lrs = trace.lrs();
    let mut committed = 0;
    for (plan, (run, _)) in
        trace.plans.iter().zip(&trace.segments).filter(|(_, (r, _))| r.phase != Phase::Trial)
    {
        committed += run.steps();
        let fallback = plan.fallback.as_deref().unwrap();
        assert!(fallback.run().unwrap().steps() > 999_999_000_000);
        let ahead = (lrs.len() as u64 - committed).min(500);
        let planned = &lrs[committed as usize..(committed + ahead) as usize];
        assert_eq!(fallback_lrs(fallback, ahead), planned);
        // After a stop: the law from the slot's step on, at half.
        let on_stop = plan.fallback_on_stop.as_ref().unwrap().plan();
        if run.phase == Phase::Stable {
            let from = committed - run.steps();
            let halved: Vec<f64> = lrs[from as usize..].iter().take(50).map(|lr| lr / 2.0).collect();
            assert_eq!(fallback_lrs(on_stop, halved.len() as u64), halved);
        }
    }
    let first_branch = trace.plans[1].fallback.as_deref().unwrap();
    let scored = trace.notes.trials[0].score.is_some();
    assert!(!scored, "the first branch tells nothing");
    assert!(fallback_lrs(first_branch, 1000)[240..].iter().all(|lr| *lr == 0.1), "fallback_lr is held");
}

#[test]
fn the_factor_of_the_user_multiplies_the_law() {
    let options = ScanOptions { lr_factor: Some(0.25), ..ScanOptions::default() };
    let (base, quarter) = (healthy(&open(None)), healthy(&open_with(None, options)));
    let pairs = base.lrs().into_iter().zip(quarter.lrs());
    assert!(pairs.into_iter().all(|(whole, part)| near(part * 4.0, whole)));
}

#[test]
fn an_uncorrected_second_moment_raises_the_law_up_to_the_choice() {
    let with = |rms_decay| healthy(&open_with(None, ScanOptions { rms_decay, ..ScanOptions::default() }));
    let (base, raised) = (with(None), with(Some(0.99)));
    let (best, f) = (best_lr(&base), 3.412_125_864_769_916_6_f64);
    // 0.6 L f^3 is 572.05.
    let begins = 573;
    for (i, lr) in raised.lrs().iter().enumerate() {
        let t = i as u64 + 1;
        let law = f * eta(best, 24.0, t.max(begins));
        let wanted = if t < 240 { law * t as f64 / 240.0 } else { law };
        assert!(*lr <= best && near(*lr, wanted), "step {t}: {lr} for {wanted}");
    }
    assert_eq!(raised.spent.lost, 0);
    let small = with(Some(0.5));
    let ratios: Vec<f64> = small.lrs().iter().zip(base.lrs()).map(|(with, without)| with / without).collect();
    assert!(
        ratios[0] > 1.0 && ratios.iter().all(|ratio| near(*ratio, ratios[0])),
        "the law begins as without"
    );
    let (all, choice) = (with(Some(1.0 - f64::EPSILON)), best);
    assert!(all.lrs()[240..].iter().all(|lr| near(*lr, choice)), "the law begins after all steps");
}

#[test]
fn nothing_measured_holds_the_fallback_lr() {
    let trace = run(&open(None), |_, _, _| 0.7);
    assert_eq!(trace.notes.commits[0].lr, 0.1);
    assert!(trace.lrs()[240..].iter().all(|lr| *lr == 0.1), "fallback_lr has no law");
    assert!(trace.notes.warnings.iter().any(|w| w.contains("none of")), "{:?}", trace.notes.warnings);
}

#[test]
fn saves_keep_their_distance_to_the_length_of_the_run() {
    let trace = train_until(60_000, &open(None), Quadratic::new(1.0), true, |_, _, loss| loss);
    let mut committed = 0;
    for (run, _) in trace.segments.iter().filter(|(run, _)| run.phase != Phase::Trial) {
        if run.phase == Phase::Stable {
            assert_eq!(run.steps(), (committed as f64 / 50.0).round().max(100.0) as u64);
        }
        committed += run.steps();
    }
    let (even, odd) = (SlotOp::Save(Slot::Safe), SlotOp::Save(Slot::SafePrev));
    let stable: Vec<_> =
        trace.slot_ops.iter().filter(|ops| ops.contains(&even) || ops.contains(&odd)).collect();
    assert!(stable.windows(2).all(|pair| pair[0].contains(&even) != pair[1].contains(&even)));
}

/// A story of a break, told for so many steps from total step 2000 on: (steps since, healthy loss) -> loss.
type Story = fn(u64, f64) -> f64;

const STORIES: [(&str, u64, Story); 5] = [
    ("explodes", 40, |t, loss| loss * libm::pow(1.2, t.min(2000) as f64)),
    ("NaN", 3, |_, _| f64::NAN),
    ("infinite", 3, |_, _| f64::INFINITY),
    ("collapses to the initial loss", 100, |t, _| 0.99 + 0.02 * normal(0, t, 3)),
    ("jumps far above", 3, |_, _| 1e6),
];

#[test]
fn broken_curves_meet_a_guard_and_go_on_at_half_the_law() {
    for (name, steps, story) in STORIES {
        let trace = run(&open(None), |run, total, loss| {
            if run.phase == Phase::Stable && (2000..2000 + steps).contains(&total) {
                story(total - 2000, loss)
            } else {
                loss
            }
        });
        assert!(trace.stops() > 0 && trace.spent.lost > 0, "{name}: {:?}", trace.spent);
        let divisors =
            trace.notes.commits.iter().filter_map(|c| c.why.split_once("divided by ")?.1.split(' ').next());
        let divided: f64 = divisors.map(|by| by.trim_end_matches(',').parse::<f64>().unwrap()).product();
        assert!((2.0..=32.0).contains(&divided), "{name}: {:?}", trace.notes.commits);
        let (lrs, best) = (trace.lrs(), best_lr(&trace));
        let last = eta(best, 24.0, lrs.len() as u64) / divided;
        assert!(near(lrs[lrs.len() - 1], last), "{name}: {} for {last}", lrs[lrs.len() - 1]);
    }
}

#[test]
fn a_warm_up_that_breaks_is_shorter_and_its_lr_is_held_until_the_law_begins() {
    let mut broken = 0;
    let trace = run(&open(None), |run, _, loss| {
        let breaks = run.phase == Phase::Warmup && broken < 3;
        broken += i32::from(breaks);
        if breaks { f64::NAN } else { loss }
    });
    let (lrs, eta0) = (trace.lrs(), trace.notes.commits[0].lr);
    let retries = trace.notes.commits.iter().filter(|c| c.why.contains("back to the start")).count() as i32;
    assert_eq!(retries, 3);
    let reached = eta0 / 3f64.powi(retries);
    assert!(lrs[48..240].iter().all(|lr| near(*lr, reached)), "{:?}", &lrs[40..60]);
    let last = eta(best_lr(&trace), 24.0, lrs.len() as u64) / 3f64.powi(retries);
    assert!(near(lrs[lrs.len() - 1], last));
}

#[test]
fn it_cools_down_over_two_thirds_after_five_retries_and_then_fails() {
    let until = |end: u64| {
        move |run: &Run, total: u64, loss: f64| {
            if run.phase != Phase::Trial && (1500..end).contains(&total) { f64::NAN } else { loss }
        }
    };
    let trace = run(&open(None), until(1506));
    assert_eq!(trace.done, Some(DoneReason::Finished));
    let cooling: Vec<&Run> =
        trace.segments.iter().map(|(run, _)| run).filter(|run| run.phase == Phase::Cooldown).collect();
    let steps: u64 = cooling.iter().map(|run| run.steps()).sum();
    let held = trace.spent.committed - steps;
    assert_eq!(steps, held * 2 / 3, "{:?}", trace.spent);
    let (lrs, n) = (trace.lrs(), steps as f64);
    let at_start = eta(best_lr(&trace), 24.0, held + 1) / 64.0;
    assert!(near(lrs[held as usize], at_start * n / (n + 1.0)));
    assert!((lrs[lrs.len() - 1] / (at_start / (n + 1.0)) - 1.0).abs() < 1e-9);
    assert_eq!(run(&open(None), until(STEPS)).done, Some(DoneReason::Failed(Failure::Unstable)));
}

#[test]
fn a_cooldown_that_breaks_ends_where_it_was_planned() {
    let trace = run(&open(None), |run, total, loss| {
        let broken = (1500..1506).contains(&total) || run.phase == Phase::Cooldown && total == 1900;
        if run.phase != Phase::Trial && broken { f64::NAN } else { loss }
    });
    assert_eq!(trace.done, Some(DoneReason::Failed(Failure::Unstable)), "no retry is left in the cooldown");
}

#[test]
fn healthy_curves_never_meet_a_guard() {
    for (gradient, loss) in [(0.0, 0.0), (0.02, 0.02), (0.3, 0.1), (0.02, 1.0)] {
        let surface = Quadratic::new(1.0).noisy(gradient, loss);
        let trace = train_until(STEPS, &open(None), surface, true, |_, _, loss| loss);
        let fired =
            trace.segments.iter().filter(|(r, stop)| r.phase != Phase::Trial && stop.is_some()).count();
        assert_eq!((fired, trace.spent.lost), (0, 0), "{gradient} {loss}");
    }
}
