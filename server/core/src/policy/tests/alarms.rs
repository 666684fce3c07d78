//! The guards of the policies that search, over seeds and kinds of noise: how often a healthy run meets one, and whether
//! a broken one does in time.
//!
//! Of 100 seeds of each kind of noise, half of them with a lower bound, these meet a guard (`SEEDS = 100` shows it): with
//! `scan` 4 of heavy tails and 7 of serially correlated noise, with `paper` 1 of noise of the gradient, else none. Losses
//! alone can't tell a burst of the size of all that was gained from a break.

use super::{
    Trace,
    scan::scan,
    spec,
    staged::staged,
    surface::{Quadratic, Surface, normal},
    train,
};
use crate::{
    directive::{Phase, Run},
    lr_pieces,
    spec::{JobSpec, LossBound, PaperOptions, PolicySpec},
};

const SEEDS: u64 = 4;
const TOTAL: u64 = 3000;
/// Where a story of a break begins, and how many steps may pass until a guard fires.
const BREAK: u64 = 1500;
const IN_TIME: u64 = 60;
/// Loss of the surface in its initial state.
const START: f64 = 0.99;

fn paper() -> JobSpec {
    let options = PaperOptions { tau: Some(200), tau_max: Some(800), ..PaperOptions::default() };
    spec(TOTAL, PolicySpec::Paper(options))
}

/// What is added to a loss: a function of independent standard normal numbers, 0 of this batch, k of the one k before.
type Noise = fn(&dyn Fn(u64) -> f64) -> f64;

/// With the noise of the gradient.
const NOISES: [(&str, f64, Noise); 7] = [
    ("none", 0.02, |_| 0.0),
    ("white", 0.02, |n| 0.02 * n(0)),
    ("most of what is gained", 0.02, |n| 0.5 * n(0)),
    ("heavy tails", 0.02, |n| 0.3 * libm::pow(n(0).abs(), 3.0)),
    ("serially correlated", 0.02, |n| 0.1 * (n(0) + n(1) + n(2) + n(3))),
    ("mostly nothing", 0.02, |n| 0.002 * libm::exp(2.0 * n(0))),
    ("of the gradient", 0.3, |n| 0.1 * n(0)),
];
/// Those that hide no break.
const QUIET: [usize; 3] = [0, 1, 5];
/// Those that `scan` may take for a break, in one run of the few.
const LOUD: [&str; 2] = ["heavy tails", "serially correlated"];

#[derive(Clone)]
struct Noisy {
    model: Quadratic,
    seed: u64,
    noise: Noise,
}

impl Surface for Noisy {
    fn step(&mut self, lr: f64, batch: u64) -> f64 {
        self.model.step(lr, batch) + noise(self.noise, self.seed, batch)
    }

    fn true_loss(&self) -> f64 {
        self.model.true_loss()
    }
}

fn noise(noise: Noise, seed: u64, batch: u64) -> f64 {
    noise(&|back| normal(seed, batch + 3 - back, 77))
}

/// A run whose losses `fault` may change.
fn run(
    spec: &JobSpec,
    (_, gradient, noise): (&str, f64, Noise),
    seed: u64,
    fault: impl FnMut(&Run, u64, f64) -> f64,
) -> Trace {
    let bound = if seed.is_multiple_of(2) { LossBound::None } else { LossBound::At(0.0) };
    let spec = JobSpec { loss_lower_bound: Some(bound), ..spec.clone() };
    let model = Quadratic::new(1.0).noisy(gradient, 0.0).seeded(seed);
    train(&spec, Noisy { model, seed, noise }, true, fault)
}

/// Guards that fired: at which step.
fn fired(trace: &Trace) -> impl Iterator<Item = (&Run, u64)> {
    let segments = trace.segments.iter().zip(&trace.ends);
    let stopped = segments.filter(|((run, stop), _)| run.phase != Phase::Trial && stop.is_some());
    stopped.map(|((run, _), end)| (run, end - 1))
}

/// Seeds and kinds of noise whose healthy run meets a guard. Above an LR of 2 the surface breaks: a guard is right there.
fn false_alarms(spec: &JobSpec) -> Vec<(&'static str, u64)> {
    let mut alarms = Vec::new();
    for kind in NOISES {
        for seed in 1..=SEEDS {
            let trace = run(spec, kind, seed, |_, _, loss| loss);
            let held = |run: &Run| lr_pieces::highest(&run.lr) < 1.9;
            if fired(&trace).any(|(run, _)| held(run)) {
                alarms.push((kind.0, seed));
            }
        }
    }
    alarms
}

/// (steps since the break, healthy loss, the noise alone) -> loss.
type Story = fn(u64, f64, f64) -> f64;

const STORIES: [(&str, Story); 4] = [
    ("explodes", |t, loss, _| loss.abs() * libm::pow(1.2, t.min(2000) as f64)),
    ("NaN", |_, _, _| f64::NAN),
    ("jumps far above", |_, _, _| 1e6),
    ("collapses to the initial loss", |_, _, noise| START + noise),
];

/// Kinds of noise and stories of a break that meet no guard in time.
fn missed(spec: &JobSpec) -> Vec<(&'static str, &'static str)> {
    let mut missed = Vec::new();
    for (i, kind) in NOISES.into_iter().enumerate() {
        let stories = if QUIET.contains(&i) { &STORIES[..] } else { &STORIES[..3] };
        for (story, tell) in stories {
            let seed = i as u64;
            let mut broke = None;
            let trace = run(spec, kind, seed, |run, total, loss| {
                if run.phase == Phase::Stable && total >= BREAK {
                    broke.get_or_insert(total);
                }
                match broke {
                    // The break is in the weights: a restore of an earlier slot heals it.
                    Some(at) if run.phase == Phase::Stable && total < at + IN_TIME => {
                        tell(total - at, loss, noise(kind.2, 1000 + seed, total))
                    }
                    _ => loss,
                }
            });
            let at = broke.expect("a stable stretch in the second half");
            if !fired(&trace).any(|(_, step)| (at..at + IN_TIME).contains(&step)) {
                missed.push((kind.0, *story));
            }
        }
    }
    missed
}

#[test]
fn scan_tells_breaks_from_noise() {
    let alarms = false_alarms(&scan(TOTAL));
    assert!(alarms.len() <= 1 && alarms.iter().all(|(kind, _)| LOUD.contains(kind)), "{alarms:?}");
    assert_eq!(missed(&scan(TOTAL)), []);
}

#[test]
fn paper_tells_breaks_from_noise() {
    assert_eq!((false_alarms(&paper()), missed(&paper())), (vec![], vec![]));
}

#[test]
fn staged_tells_breaks_from_noise() {
    assert_eq!((false_alarms(&staged(TOTAL)), missed(&staged(TOTAL))), (vec![], vec![]));
}
