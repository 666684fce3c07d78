//! Runs and what is kept of them.

use autolrs_core::{
    directive::DoneReason,
    simulate::{
        grid, reference, simulate,
        surface::{Settings, SurfaceName, Synthetic},
    },
    spec::{JobSpec, LrRange, PolicySpec, resolve},
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// What is common to all runs.
pub(crate) struct Bench {
    /// Budget of every run, its search included.
    pub(crate) steps: u64,
    /// Runs of every row, one seed each.
    pub(crate) seeds: u64,
    /// LRs that are searched, and that rivals are tuned over. All surfaces diverge above 1.
    pub(crate) range: LrRange,
    /// LR of the plain schedules that nobody tuned, and of a search that found nothing.
    pub(crate) shelf_lr: f64,
}

impl Default for Bench {
    fn default() -> Self {
        Self { steps: 20_000, seeds: 20, range: LrRange { lo: 1e-4, hi: 10.0 }, shelf_lr: 0.01 }
    }
}

/// A policy on a surface, over all seeds.
pub(crate) struct Row {
    pub(crate) surface: SurfaceName,
    pub(crate) policy: String,
    /// Whether it searches by itself.
    pub(crate) searches: bool,
    /// The LR of a plain schedule.
    pub(crate) lr: Option<f64>,
    /// LRs that were tried to find it, each with a full run per seed; 0: nobody tuned.
    pub(crate) tuned: usize,
    pub(crate) runs: Vec<Run>,
}

/// One run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run {
    pub(crate) loss: f64,
    pub(crate) regret: f64,
    pub(crate) overhead: f64,
    pub(crate) lost: f64,
    pub(crate) failed: bool,
}

impl Bench {
    /// The loss of the reference schedule for every seed.
    pub(crate) fn references(&self, surface: SurfaceName) -> Vec<f64> {
        self.each_seed(|seed| reference(&self.surface(surface, seed), self.steps, self.range).loss)
    }

    /// A policy at the shelf LR.
    pub(crate) fn run(
        &self,
        surface: SurfaceName,
        name: &str,
        policy: PolicySpec,
        references: &[f64],
    ) -> Row {
        let searches = matches!(policy, PolicySpec::Scan(_) | PolicySpec::Paper(_) | PolicySpec::Staged(_));
        let runs = self.runs(surface, policy, self.shelf_lr, references);
        let lr = (!searches).then_some(self.shelf_lr);
        Row { surface, policy: name.into(), searches, lr, tuned: 0, runs }
    }

    /// A plain policy at the LR of the grid whose mean final loss is least.
    pub(crate) fn tune(&self, surface: SurfaceName, policy: PolicySpec, references: &[f64]) -> Row {
        let lrs = grid(self.range);
        let tried = lrs.iter().map(|&lr| (lr, self.runs(surface, policy.clone(), lr, references)));
        let loss = |runs: &[Run]| {
            let mean = mean(runs.iter().map(|run| run.loss));
            if mean.is_nan() { f64::INFINITY } else { mean }
        };
        let (lr, runs) = tried.min_by(|a, b| loss(&a.1).total_cmp(&loss(&b.1))).expect("an LR");
        let (policy, tuned) = (policy.name().into(), lrs.len());
        Row { surface, policy, searches: false, lr: Some(lr), tuned, runs }
    }

    fn runs(
        &self,
        surface: SurfaceName,
        policy: PolicySpec,
        fallback_lr: f64,
        references: &[f64],
    ) -> Vec<Run> {
        let spec = JobSpec {
            total_steps: Some(self.steps),
            lr_min: Some(self.range.lo),
            lr_max: Some(self.range.hi),
            fallback_lr: Some(fallback_lr),
            policy: Some(policy),
            ..JobSpec::default()
        };
        let spec = resolve(&spec).expect("a valid spec");
        self.each_seed(|seed| {
            let (trace, _) = simulate(spec.clone(), self.surface(surface, seed)).expect("no refusal");
            Run {
                loss: trace.final_loss,
                regret: trace.final_loss - references[seed as usize],
                overhead: trace.overhead(),
                lost: trace.spent.lost as f64 / self.steps as f64,
                failed: trace.done != Some(DoneReason::Finished),
            }
        })
    }

    fn surface(&self, name: SurfaceName, seed: u64) -> Synthetic {
        Synthetic::new(name, Settings { breaks_at: 1.0, steps: self.steps, seed })
    }

    /// The results for seeds 0, 1, ... on all cores.
    fn each_seed<T: Send + Default + Clone>(&self, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let done: Vec<(usize, T)> = thread::scope(|scope| {
            let worker = || {
                let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&i| (i as u64) < self.seeds);
                std::iter::from_fn(take).map(|i| (i, work(i as u64))).collect::<Vec<_>>()
            };
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect()
        });
        let mut results = vec![T::default(); done.len()];
        for (i, result) in done {
            results[i] = result;
        }
        results
    }
}

impl Row {
    pub(crate) fn mean(&self, of: fn(&Run) -> f64) -> f64 {
        mean(self.runs.iter().map(of))
    }

    pub(crate) fn regret_sd(&self) -> f64 {
        let middle = self.mean(|run| run.regret);
        let squares: f64 = self.runs.iter().map(|run| (run.regret - middle) * (run.regret - middle)).sum();
        (squares / (self.runs.len() - 1) as f64).sqrt()
    }

    pub(crate) fn failed(&self) -> usize {
        self.runs.iter().filter(|run| run.failed).count()
    }

    pub(crate) fn json(&self, bench: &Bench, commit: &str) -> Value {
        json!({
            "commit": commit,
            "surface": self.surface.as_str(),
            "policy": self.policy,
            "lr": self.lr,
            "tuned_lrs": self.tuned,
            "steps": bench.steps,
            "seeds": bench.seeds,
            "final_loss": self.mean(|run| run.loss),
            "regret": self.mean(|run| run.regret),
            "regret_sd": self.regret_sd(),
            "overhead": self.mean(|run| run.overhead),
            "lost": self.mean(|run| run.lost),
            "failed_runs": self.failed(),
        })
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}
