//! Checks a [`JobSpec`] and fills in the defaults. Every violation is reported, not the first alone.

mod plain;

use super::{
    Budget, JobSpec, LossBound, LrRange, POLICY_REVISION, PaperOptions, PolicySpec, ResolvedPaper,
    ResolvedPolicy, ResolvedScan, ResolvedSpec, ResolvedStaged, ScanOptions, StagedOptions,
};
use crate::schedule::MAX_STEPS;
use std::{borrow::Cow, collections::BTreeMap};

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, as in the proto: `lr_min`, `scan.lr_factor`, `replay.pieces[3].steps`.
    pub field: Cow<'static, str>,
    /// What it must be instead, with the value found.
    pub description: String,
}

/// Largest LR that a job may be given.
pub const MAX_LR: f64 = 1e6;

/// The resolved spec, or every violation.
pub fn resolve(spec: &JobSpec) -> Result<ResolvedSpec, Vec<Violation>> {
    let mut check = Check::default();
    let default_policy = PolicySpec::Scan(ScanOptions::default());
    let policy_spec = spec.policy.as_ref().unwrap_or(&default_policy);
    let budget = check.budget(spec, policy_spec);
    let fallback_lr =
        check.required("fallback_lr", spec.fallback_lr, "the LR to use when nothing is measured");
    check.positive("fallback_lr", fallback_lr);
    let switch_every = spec.switch_every.unwrap_or(1);
    check.that((1..=1024).contains(&switch_every), "switch_every", || {
        format!("must be 1 to 1024, is {switch_every}")
    });
    let loss_lower_bound = match spec.loss_lower_bound.unwrap_or(LossBound::At(0.0)) {
        LossBound::None => None,
        LossBound::At(bound) => {
            check.that(bound.is_finite(), "loss_lower_bound", || format!("must be finite, is {bound}"));
            Some(bound)
        }
    };
    check.labels(&spec.labels);
    let base = Base { range: check.range(spec, policy_spec), fallback_lr, budget };
    let policy = check.policy(policy_spec, &base);
    let max_overhead = spec.max_overhead.unwrap_or(match policy {
        ResolvedPolicy::Scan(_) => 0.10,
        ResolvedPolicy::Paper(_) => 0.55,
        ResolvedPolicy::Staged(_) => 0.20,
        ResolvedPolicy::Plain(_) => 0.0,
    });
    check.within("max_overhead", max_overhead, 0.0, 1.0);
    let guard = spec.guard.unwrap_or(true);
    check.violations.is_empty().then_some(()).ok_or(check.violations)?;
    Ok(ResolvedSpec {
        budget,
        fallback_lr,
        seed: spec.seed.unwrap_or(0),
        loss_lower_bound,
        max_overhead,
        switch_every,
        guard,
        policy,
        policy_revision: POLICY_REVISION,
    })
}

/// Whether a job may have these labels; if not, what they must be.
pub fn labels_fit(labels: &BTreeMap<String, String>) -> Result<(), String> {
    let long = labels.iter().any(|(k, v)| k.is_empty() || k.len() > 256 || v.len() > 256);
    if labels.len() <= 64 && !long {
        return Ok(());
    }
    Err("must be at most 64, with keys of 1 to 256 bytes and values of at most 256 bytes".into())
}

struct Base {
    range: LrRange,
    fallback_lr: f64,
    budget: Budget,
}

#[derive(Default)]
struct Check {
    violations: Vec<Violation>,
}

impl Check {
    fn that(&mut self, holds: bool, field: &'static str, description: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { field: field.into(), description: description() });
        }
    }

    fn required<T: Default>(&mut self, field: &'static str, value: Option<T>, what: &str) -> T {
        self.that(value.is_some(), field, || format!("must be set: {what}"));
        value.unwrap_or_default()
    }

    fn positive(&mut self, field: &'static str, value: f64) -> f64 {
        let absent = self.violations.last().is_some_and(|v| v.field == field);
        self.that(absent || (value > 0.0 && value <= MAX_LR), field, || {
            format!("must be above 0 and at most {MAX_LR:e}, is {value}")
        });
        value
    }

    fn within(&mut self, field: &'static str, value: f64, lo: f64, hi: f64) -> f64 {
        self.that((lo..=hi).contains(&value), field, || format!("must be {lo} to {hi}, is {value}"));
        value
    }

    fn budget(&mut self, spec: &JobSpec, policy: &PolicySpec) -> Budget {
        match (spec.total_steps, &spec.open_budget) {
            (Some(steps), open) => {
                self.steps("total_steps", steps);
                self.that(open.is_none(), "open_budget", || {
                    "must not be set together with total_steps".into()
                });
                Budget::Known(steps)
            }
            (None, Some(open)) => {
                if let Some(expected) = open.expected_steps {
                    self.steps("open_budget.expected_steps", expected);
                }
                self.that(matches!(policy, PolicySpec::Scan(_)), "total_steps", || {
                    format!("is required by policy {}: only scan trains on an open budget", policy.name())
                });
                Budget::Open { expected: open.expected_steps }
            }
            (None, None) => {
                if let PolicySpec::Replay(replay) = policy {
                    return Budget::Known(plain::replay_steps(&replay.pieces));
                }
                let what = "the number of optimizer steps to train (or open_budget, if nobody knows it)";
                Budget::Known(self.required("total_steps", None, what))
            }
        }
    }

    fn steps(&mut self, field: &'static str, steps: u64) {
        self.that((1..=MAX_STEPS).contains(&steps), field, || {
            format!("must be 1 to {MAX_STEPS}, is {steps}")
        });
    }

    fn labels(&mut self, labels: &BTreeMap<String, String>) {
        if let Err(description) = labels_fit(labels) {
            self.violations.push(Violation { field: "labels".into(), description });
        }
    }

    /// The LRs that are tried. Plain policies need none; what they are given is checked all the same.
    fn range(&mut self, spec: &JobSpec, policy: &PolicySpec) -> LrRange {
        let searches = matches!(policy, PolicySpec::Scan(_) | PolicySpec::Paper(_) | PolicySpec::Staged(_));
        let (lo, hi) = match (spec.lr_min, spec.lr_max) {
            (None, None) if !searches => return LrRange { lo: 1.0, hi: 10.0 },
            (lo, hi) => (
                self.required("lr_min", lo, "the lowest LR to try"),
                self.required("lr_max", hi, "the highest LR to try"),
            ),
        };
        if spec.lr_min.is_some() && spec.lr_max.is_some() {
            self.positive("lr_min", lo);
            self.positive("lr_max", hi);
            let decades = libm::log10(hi) - libm::log10(lo);
            self.that(!(lo > 0.0 && hi > 0.0) || decades >= 0.1, "lr_max", || {
                format!("must be at least 0.1 decade (a factor 1.26) above lr_min = {lo}, is {hi}")
            });
        }
        LrRange { lo, hi }
    }

    fn policy(&mut self, spec: &PolicySpec, base: &Base) -> ResolvedPolicy {
        match spec {
            PolicySpec::Scan(options) => ResolvedPolicy::Scan(self.scan(options, base)),
            PolicySpec::Paper(options) => ResolvedPolicy::Paper(self.paper(options, base)),
            PolicySpec::Staged(options) => ResolvedPolicy::Staged(self.staged(options, base)),
            PolicySpec::Constant(options) => self.constant(options, base),
            PolicySpec::Cosine(options) => self.cosine(options, base),
            PolicySpec::Wsd(options) => self.wsd(options, base),
            PolicySpec::Step(options) => self.step(options, base),
            PolicySpec::OneCycle(options) => self.one_cycle(options, base),
            PolicySpec::Clr(options) => self.clr(options, base),
            PolicySpec::Sgdr(options) => self.sgdr(options, base),
            PolicySpec::Replay(options) => self.replay(options),
        }
    }

    fn scan(&mut self, options: &ScanOptions, base: &Base) -> ResolvedScan {
        let open = base.budget.is_open();
        let lr_factor = options.lr_factor.unwrap_or(if open { 1.0 } else { 0.22 });
        self.that(lr_factor > 0.0 && lr_factor <= 1.0, "scan.lr_factor", || {
            format!("must be above 0 and at most 1, is {lr_factor}")
        });
        let warmup = options.warmup_fraction.unwrap_or(0.10);
        self.that(!open || options.cooldown_fraction.is_none(), "scan.cooldown_fraction", || {
            "must not be set with an open budget: finishing the job says how long it cools down".into()
        });
        let cooldown = options.cooldown_fraction.unwrap_or(0.40);
        let cooldown = self.within("scan.cooldown_fraction", cooldown, 0.05, 0.8);
        let rms_decay = options.rms_decay.unwrap_or(0.0);
        self.that((0.0..1.0).contains(&rms_decay), "scan.rms_decay", || {
            format!("must be at least 0 and below 1, is {rms_decay}")
        });
        ResolvedScan {
            range: base.range,
            lr_factor,
            warmup_fraction: self.within("scan.warmup_fraction", warmup, 0.01, 0.5),
            cooldown_fraction: if open { 0.0 } else { cooldown },
            rms_decay,
        }
    }

    fn paper(&mut self, options: &PaperOptions, base: &Base) -> ResolvedPaper {
        let tau = options.tau.unwrap_or(1000);
        let resolved = ResolvedPaper {
            range: base.range,
            candidates: options.candidates.unwrap_or(10),
            kappa: options.kappa.unwrap_or(1000.0),
            tau,
            tau_max: options.tau_max.unwrap_or(tau.max(8000)),
            trial_fraction: options.trial_fraction.unwrap_or(0.1),
            warmup_steps: options.warmup_steps.unwrap_or(0),
            warmup_lr: options.warmup_lr.unwrap_or(base.fallback_lr),
            forecaster: options.forecaster.unwrap_or_default(),
            objective: options.objective.unwrap_or_default(),
        };
        let r = &resolved;
        self.that((1..=64).contains(&r.candidates), "paper.candidates", || {
            format!("must be 1 to 64, is {}", r.candidates)
        });
        self.that(r.kappa.is_finite() && r.kappa >= 0.0, "paper.kappa", || {
            format!("must be finite and at least 0, is {}", r.kappa)
        });
        self.that((10..=65_536).contains(&r.tau), "paper.tau", || {
            format!("must be 10 to 65536 steps, is {}", r.tau)
        });
        self.that((r.tau..=65_536).contains(&r.tau_max), "paper.tau_max", || {
            format!("must be tau = {} to 65536 steps, is {}", r.tau, r.tau_max)
        });
        self.that(r.trial_fraction > 0.0 && r.trial_fraction <= 1.0, "paper.trial_fraction", || {
            format!("must be above 0 and at most 1, is {}", r.trial_fraction)
        });
        self.positive("paper.warmup_lr", r.warmup_lr);
        let total = base.budget.nominal();
        self.that(r.warmup_steps <= total, "paper.warmup_steps", || {
            format!("must be at most total_steps = {total}, is {}", r.warmup_steps)
        });
        resolved
    }

    fn staged(&mut self, options: &StagedOptions, base: &Base) -> ResolvedStaged {
        let twelfth = libm::round(base.budget.nominal() as f64 / 12.0) as u64;
        let tau = options.tau.unwrap_or(twelfth.max(200));
        self.that((20..=MAX_STEPS).contains(&tau), "staged.tau", || {
            format!("must be 20 to {MAX_STEPS} steps, is {tau}")
        });
        let trial_fraction = options.trial_fraction.unwrap_or(0.1);
        self.that(trial_fraction > 0.0 && trial_fraction <= 0.5, "staged.trial_fraction", || {
            format!("must be above 0 and at most 0.5, is {trial_fraction}")
        });
        let cooldown = options.cooldown_fraction.unwrap_or(0.30);
        ResolvedStaged {
            range: base.range,
            tau,
            trial_fraction,
            cooldown_fraction: self.within("staged.cooldown_fraction", cooldown, 0.0, 0.8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ConstantOptions, CosineOptions, OpenBudget, PaperOptions, WsdOptions};
    use super::*;

    fn spec() -> JobSpec {
        JobSpec {
            total_steps: Some(2000),
            lr_min: Some(1e-4),
            lr_max: Some(10.0),
            fallback_lr: Some(0.1),
            ..JobSpec::default()
        }
    }

    fn fields(spec: &JobSpec) -> Vec<Cow<'static, str>> {
        resolve(spec).err().unwrap_or_default().into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn defaults_are_filled_in() {
        let resolved = resolve(&spec()).unwrap();
        assert_eq!((resolved.max_overhead, resolved.loss_lower_bound), (0.10, Some(0.0)));
        assert_eq!(resolved.policy_name(), "scan");
        assert_eq!(resolved.max_search_steps(), 200);
    }

    #[test]
    fn every_violation_is_reported() {
        assert_eq!(fields(&JobSpec::default()), ["total_steps", "fallback_lr", "lr_min", "lr_max"]);
        let upside_down = JobSpec { lr_min: Some(1.0), lr_max: Some(0.1), ..spec() };
        assert_eq!(fields(&upside_down), ["lr_max"]);
        let nan = JobSpec { lr_min: Some(f64::NAN), max_overhead: Some(f64::NAN), ..spec() };
        assert_eq!(fields(&nan), ["lr_min", "max_overhead"]);
        let scan = ScanOptions { lr_factor: Some(0.0), ..ScanOptions::default() };
        let negative = JobSpec { fallback_lr: Some(-1.0), policy: Some(PolicySpec::Scan(scan)), ..spec() };
        assert_eq!(fields(&negative), ["fallback_lr", "scan.lr_factor"]);
    }

    #[test]
    fn a_decay_is_below_one() {
        let with = |rms_decay| {
            let options = ScanOptions { rms_decay: Some(rms_decay), ..ScanOptions::default() };
            JobSpec { policy: Some(PolicySpec::Scan(options)), ..spec() }
        };
        for decay in [-0.1, 1.0, 2.0, f64::NAN, f64::INFINITY] {
            let found = resolve(&with(decay)).unwrap_err();
            assert_eq!(found[0].field, "scan.rms_decay");
            let said = format!("must be at least 0 and below 1, is {decay}");
            assert_eq!((found.len(), &found[0].description), (1, &said));
        }
        for decay in [0.0, 0.99, 1.0 - f64::EPSILON / 2.0] {
            assert_eq!(fields(&with(decay)), [""; 0]);
        }
    }

    #[test]
    fn an_lr_is_bounded() {
        let huge = JobSpec { lr_max: Some(1e308), fallback_lr: Some(1.1e6), ..spec() };
        assert_eq!(fields(&huge), ["fallback_lr", "lr_max"]);
        assert_eq!(fields(&JobSpec { lr_max: Some(MAX_LR), ..spec() }), [""; 0]);
        let policy = Some(PolicySpec::Cosine(CosineOptions { lr: Some(1e308), ..CosineOptions::default() }));
        assert_eq!(fields(&JobSpec { policy, ..spec() }), ["cosine.lr"]);
    }

    #[test]
    fn only_scan_trains_on_an_open_budget() {
        let open = |expected_steps| JobSpec {
            total_steps: None,
            open_budget: Some(OpenBudget { expected_steps }),
            ..spec()
        };
        let resolved = resolve(&open(Some(5000))).unwrap();
        assert_eq!(resolved.budget, Budget::Open { expected: Some(5000) });
        assert_eq!(resolved.max_search_steps(), 500);
        let ResolvedPolicy::Scan(scan) = resolved.policy else { panic!("{:?}", resolved.policy) };
        assert_eq!((scan.lr_factor, scan.cooldown_fraction), (1.0, 0.0));
        assert_eq!(fields(&JobSpec { total_steps: Some(9), ..open(None) }), ["open_budget"]);
        assert_eq!(fields(&open(Some(0))), ["open_budget.expected_steps"]);
        for policy in [
            PolicySpec::Constant(ConstantOptions::default()),
            PolicySpec::Wsd(WsdOptions::default()),
            PolicySpec::Paper(PaperOptions::default()),
        ] {
            let name = policy.name();
            let violations = resolve(&JobSpec { policy: Some(policy), ..open(None) }).unwrap_err();
            assert_eq!(violations[0].field, "total_steps");
            assert!(violations[0].description.starts_with(&format!("is required by policy {name}")));
        }
        let cooled = ScanOptions { cooldown_fraction: Some(0.4), ..ScanOptions::default() };
        let cooled = JobSpec { policy: Some(PolicySpec::Scan(cooled)), ..open(None) };
        assert_eq!(fields(&cooled), ["scan.cooldown_fraction"]);
    }

    #[test]
    fn plain_policies_need_no_range() {
        let policy = Some(PolicySpec::Cosine(CosineOptions::default()));
        let plain = JobSpec { lr_min: None, lr_max: None, policy, ..spec() };
        assert_eq!(fields(&plain), [""; 0]);
        let long =
            WsdOptions { warmup_steps: Some(1500), cooldown_steps: Some(600), ..WsdOptions::default() };
        let plain = JobSpec { policy: Some(PolicySpec::Wsd(long)), ..plain };
        assert_eq!(fields(&plain), ["wsd.cooldown_steps"]);
    }
}
