//! `scan` from a trained model: there is little to gain, every loss is near its floor, and what looks like a gain or
//! an explosion may be the noise of small batches.

use super::{
    Trace,
    scan::scan,
    surface::{Quadratic, Surface, normal},
    train,
};
use crate::{
    directive::{DoneReason, Phase},
    policy::TrialOutcome,
    spec::JobSpec,
    stop_rules::{Judge, StopIf},
};

const TOTAL: u64 = 3000;

/// A trained model, with its own noise of the loss.
#[derive(Clone)]
struct Trained {
    model: Quadratic,
    seed: u64,
    noise: Noise,
}

impl Surface for Trained {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        self.model.step(lr, batch) + (self.noise)(normal(self.seed, batch, 77))
    }

    fn true_loss(&self) -> f64 {
        self.model.true_loss()
    }
}

type Noise = fn(f64) -> f64;

const NOISES: [(&str, Noise); 4] = [
    ("none", |_| 0.0),
    ("even", |n| 0.1 * n),
    ("heavy tails", |n| 0.1 * libm::pow(n.abs(), 3.0)),
    // As a classifier that is nearly always right: most losses are close to 0.
    ("mostly nothing", |n| 0.002 * libm::exp(2.0 * n) - 0.3),
];

fn model(far: f64, seed: u64) -> Quadratic {
    Quadratic::new(1.0).noisy(0.02, 0.0).started_at(far).seeded(seed)
}

/// `far`: what is left to learn, as a share of the distance from scratch.
fn tune(spec: &JobSpec, far: f64, seed: u64, noise: Noise) -> Trace {
    let model = model(far, seed);
    train(spec, Trained { model, seed, noise }, true, |_, _, loss| loss)
}

fn cases() -> impl Iterator<Item = (&'static str, f64, u64, Noise)> {
    NOISES.into_iter().flat_map(|(name, noise)| {
        [0.0, 0.03, 0.2].into_iter().flat_map(move |far| (1..=8).map(move |seed| (name, far, seed, noise)))
    })
}

fn guards_fired(trace: &Trace) -> usize {
    trace.segments.iter().filter(|(run, stop)| run.phase != Phase::Trial && stop.is_some()).count()
}

#[test]
fn noise_is_hardly_ever_a_ground_for_a_guard() {
    let mut fired = Vec::new();
    for (name, far, seed, noise) in cases() {
        let trace = tune(&scan(TOTAL), far, seed, noise);
        assert_eq!((trace.spent.total(), trace.done), (TOTAL, Some(DoneReason::Finished)));
        if trace.spent.lost > 0 {
            fired.push((name, far, seed, guards_fired(&trace)));
        }
    }
    // A burst that no branch has seen; what came of it is learnt.
    assert!(fired.len() <= 3 && fired.iter().all(|(.., times)| *times <= 2), "of 96: {fired:?}");
}

/// What is left of the loss above its floor at the end of a run, without the noise of its report.
fn excess(spec: &JobSpec, far: f64, seed: u64, noise: Noise) -> f64 {
    let trace = tune(spec, far, seed, noise);
    assert!(trace.committed.len() as u64 > TOTAL / 2);
    let mut model = model(far, seed);
    let losses = (0..).zip(&trace.committed).map(|(batch, (lr, _))| model.step(*lr, batch));
    losses.last().unwrap() - 0.3
}

#[test]
fn the_outcome_is_not_worse_than_that_of_the_fallback_lr() {
    let without = JobSpec { max_overhead: Some(0.0), ..scan(TOTAL) };
    for (name, noise) in NOISES {
        for far in [0.0, 0.03, 0.2] {
            let mean = |spec: &JobSpec| (1..=8).map(|seed| excess(spec, far, seed, noise)).sum::<f64>() / 8.0;
            let (searched, fallback) = (mean(&scan(TOTAL)), mean(&without));
            let at_start = Quadratic::new(1.0).noisy(0.0, 0.0).started_at(far).step(0.0, 0) - 0.3;
            assert!(searched <= fallback + 0.05 * at_start + 2e-4, "{name} {far}: {searched} {fallback}");
        }
    }
}

#[test]
fn nothing_learnt_is_said_and_the_fallback_lr_used() {
    for (_, noise) in &NOISES[1..] {
        for seed in 1..=8 {
            let trace = tune(&scan(TOTAL), 0.0, seed, *noise);
            assert_eq!(trace.notes.commits[0].lr, 0.1, "{:?}", trace.notes.commits);
            let said = trace.notes.warnings.iter().any(|w| w.contains("branches learnt anything"));
            assert!(said, "{:?}", trace.notes.warnings);
        }
    }
}

#[test]
fn a_burst_of_noise_is_no_explosion() {
    let (mut seen, mut misled) = (0, 0);
    for (seed, far) in (1..=12).flat_map(|seed| [(seed, 0.03), (seed, 0.2)]) {
        let trace = tune(&scan(TOTAL), far, seed, NOISES[3].1);
        // Below LR 1 nothing explodes.
        for trial in trace.notes.trials.iter().filter(|trial| trial.lr < 1.0) {
            seen += 1;
            let first = StopIf::AboveFirst { factor: 4.0, floor: 0.0, from: 0 };
            misled += usize::from(Judge::over(&[first], &trial.losses).stop().is_some());
            assert!(trial.outcome == TrialOutcome::Completed, "{seed} {far}: {trial:?}");
        }
    }
    assert!(2 * misled > seen, "one loss against the first would stop {misled} of {seen} branches");
}
