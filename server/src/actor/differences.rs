//! Whether a job that exists is what was asked for: compared over the fields that the caller set.

use autolrs_core::spec::{
    Budget, JobSpec, LrRange, Milestones, PlainKind, PolicySpec, ResolvedPolicy, ResolvedSpec,
};

/// The fields, as in the proto, that are set in `asked` and that the job has otherwise. `wanted` is `asked` resolved;
/// `had` and `had_asked` are the job's.
pub(super) fn differences(
    asked: &JobSpec,
    wanted: &ResolvedSpec,
    had: &ResolvedSpec,
    had_asked: &JobSpec,
) -> Vec<&'static str> {
    let mut found = Found(Vec::new());
    found.field("total_steps", asked.total_steps.is_some(), wanted.budget == had.budget);
    found.field("open_budget", asked.open_budget.is_some(), same_open(wanted.budget, had.budget));
    let (lo, hi) = range(had, had_asked);
    found.field("lr_min", asked.lr_min.is_some(), asked.lr_min == lo);
    found.field("lr_max", asked.lr_max.is_some(), asked.lr_max == hi);
    found.field("fallback_lr", asked.fallback_lr.is_some(), wanted.fallback_lr == had.fallback_lr);
    found.field("seed", asked.seed.is_some(), wanted.seed == had.seed);
    let bound = wanted.loss_lower_bound == had.loss_lower_bound;
    found.field("loss_bound", asked.loss_lower_bound.is_some(), bound);
    found.field("max_overhead", asked.max_overhead.is_some(), wanted.max_overhead == had.max_overhead);
    found.field("switch_every", asked.switch_every.is_some(), wanted.switch_every == had.switch_every);
    found.field("guard", asked.guard.is_some(), wanted.guard == had.guard);
    found.field("labels", !asked.labels.is_empty(), asked.labels == had_asked.labels);
    if let Some(policy) = &asked.policy {
        found.policy(policy, &had.policy);
    }
    found.0
}

/// A guess that was not given is not compared.
fn same_open(wanted: Budget, had: Budget) -> bool {
    match (wanted, had) {
        (Budget::Open { expected: None }, had) => had.is_open(),
        (wanted, had) => wanted == had,
    }
}

/// The range of the job: plain policies keep none, so that only what was asked for is known.
fn range(had: &ResolvedSpec, had_asked: &JobSpec) -> (Option<f64>, Option<f64>) {
    let ends = |range: &LrRange| (Some(range.lo), Some(range.hi));
    match &had.policy {
        ResolvedPolicy::Scan(scan) => ends(&scan.range),
        ResolvedPolicy::Paper(paper) => ends(&paper.range),
        ResolvedPolicy::Staged(staged) => ends(&staged.range),
        ResolvedPolicy::Plain(_) => (had_asked.lr_min, had_asked.lr_max),
    }
}

struct Found(Vec<&'static str>);

impl Found {
    fn field(&mut self, name: &'static str, set: bool, equal: bool) {
        if set && !equal {
            self.0.push(name);
        }
    }

    fn option<T: PartialEq>(&mut self, name: &'static str, asked: Option<T>, had: &T) {
        self.field(name, asked.is_some(), asked.as_ref() == Some(had));
    }

    fn policy(&mut self, asked: &PolicySpec, had: &ResolvedPolicy) {
        match (asked, had) {
            (PolicySpec::Scan(o), ResolvedPolicy::Scan(r)) => {
                self.option("scan.lr_factor", o.lr_factor, &r.lr_factor);
                self.option("scan.warmup_fraction", o.warmup_fraction, &r.warmup_fraction);
                self.option("scan.cooldown_fraction", o.cooldown_fraction, &r.cooldown_fraction);
                self.option("scan.rms_decay", o.rms_decay, &r.rms_decay);
            }
            (PolicySpec::Paper(o), ResolvedPolicy::Paper(r)) => {
                self.option("paper.candidates", o.candidates, &r.candidates);
                self.option("paper.kappa", o.kappa, &r.kappa);
                self.option("paper.tau", o.tau, &r.tau);
                self.option("paper.tau_max", o.tau_max, &r.tau_max);
                self.option("paper.trial_fraction", o.trial_fraction, &r.trial_fraction);
                self.option("paper.warmup_steps", o.warmup_steps, &r.warmup_steps);
                self.option("paper.warmup_lr", o.warmup_lr, &r.warmup_lr);
                self.option("paper.forecaster", o.forecaster, &r.forecaster);
                self.option("paper.objective", o.objective, &r.objective);
            }
            (PolicySpec::Staged(o), ResolvedPolicy::Staged(r)) => {
                self.option("staged.tau", o.tau, &r.tau);
                self.option("staged.trial_fraction", o.trial_fraction, &r.trial_fraction);
                self.option("staged.cooldown_fraction", o.cooldown_fraction, &r.cooldown_fraction);
            }
            (asked, ResolvedPolicy::Plain(r)) => match (asked, &r.kind) {
                (PolicySpec::Constant(o), PlainKind::Constant) => {
                    self.option("constant.lr", o.lr, &r.lr);
                    self.option("constant.warmup_steps", o.warmup_steps, &r.warmup_steps);
                }
                (PolicySpec::Cosine(o), PlainKind::Cosine { end_factor }) => {
                    self.option("cosine.lr", o.lr, &r.lr);
                    self.option("cosine.warmup_steps", o.warmup_steps, &r.warmup_steps);
                    self.option("cosine.end_factor", o.end_factor, end_factor);
                }
                (PolicySpec::Wsd(o), PlainKind::Wsd { cooldown_steps }) => {
                    self.option("wsd.lr", o.lr, &r.lr);
                    self.option("wsd.warmup_steps", o.warmup_steps, &r.warmup_steps);
                    self.option("wsd.cooldown_steps", o.cooldown_steps, cooldown_steps);
                }
                (PolicySpec::Step(o), PlainKind::Step { milestones, gamma }) => {
                    self.option("step.lr", o.lr, &r.lr);
                    self.option("step.warmup_steps", o.warmup_steps, &r.warmup_steps);
                    let equal = matches!(milestones, Milestones::Every(n) if o.step_size == Some(*n));
                    self.field("step.step_size", o.step_size.is_some(), equal);
                    let equal = matches!(milestones, Milestones::At(at) if o.milestones == *at);
                    self.field("step.milestones", !o.milestones.is_empty(), equal);
                    self.option("step.gamma", o.gamma, gamma);
                }
                (
                    PolicySpec::OneCycle(o),
                    PlainKind::OneCycle { pct_start, div_factor, final_div_factor },
                ) => {
                    self.option("one_cycle.max_lr", o.max_lr, &r.lr);
                    self.option("one_cycle.pct_start", o.pct_start, pct_start);
                    self.option("one_cycle.div_factor", o.div_factor, div_factor);
                    self.option("one_cycle.final_div_factor", o.final_div_factor, final_div_factor);
                }
                (PolicySpec::Clr(o), PlainKind::Clr { base_lr, step_size }) => {
                    self.option("clr.base_lr", o.base_lr, base_lr);
                    self.option("clr.max_lr", o.max_lr, &r.lr);
                    self.option("clr.step_size", o.step_size, step_size);
                }
                (PolicySpec::Sgdr(o), PlainKind::Sgdr { t0, t_mult, end_factor }) => {
                    self.option("sgdr.lr", o.lr, &r.lr);
                    self.option("sgdr.warmup_steps", o.warmup_steps, &r.warmup_steps);
                    self.option("sgdr.t0", o.t0, t0);
                    self.option("sgdr.t_mult", o.t_mult, t_mult);
                    self.option("sgdr.end_factor", o.end_factor, end_factor);
                }
                (PolicySpec::Replay(o), PlainKind::Replay { pieces }) => {
                    self.field("replay.pieces", true, o.pieces == *pieces);
                }
                _ => self.0.push("policy"),
            },
            _ => self.0.push("policy"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_core::spec::{ConstantOptions, OpenBudget, ScanOptions, StepOptions, WsdOptions, resolve};

    fn spec() -> JobSpec {
        JobSpec {
            total_steps: Some(2000),
            lr_min: Some(1e-4),
            lr_max: Some(10.0),
            fallback_lr: Some(0.1),
            ..JobSpec::default()
        }
    }

    fn compare(asked: &JobSpec, had: &JobSpec) -> Vec<&'static str> {
        differences(asked, &resolve(asked).unwrap(), &resolve(had).unwrap(), had)
    }

    #[test]
    fn only_the_fields_that_are_set_count() {
        let had = JobSpec { seed: Some(5), guard: Some(false), ..spec() };
        assert_eq!(compare(&spec(), &had), [""; 0]);
        assert_eq!(compare(&had, &spec()), ["seed", "guard"]);
        assert_eq!(compare(&JobSpec { seed: Some(0), ..spec() }, &spec()), [""; 0]);
    }

    #[test]
    fn open_budgets_are_compared_by_the_guess_that_is_given() {
        let open = |expected_steps| JobSpec {
            total_steps: None,
            open_budget: Some(OpenBudget { expected_steps }),
            ..spec()
        };
        assert_eq!(compare(&open(None), &open(Some(5))), [""; 0]);
        assert_eq!(compare(&open(Some(5)), &open(Some(5))), [""; 0]);
        assert_eq!(compare(&open(Some(6)), &open(Some(5))), ["open_budget"]);
        assert_eq!(compare(&open(None), &spec()), ["open_budget"]);
        assert_eq!(compare(&spec(), &open(None)), ["total_steps"]);
    }

    #[test]
    fn milestones_are_compared() {
        let step = |options| JobSpec { policy: Some(PolicySpec::Step(options)), ..spec() };
        let at = |milestones: &[u64]| {
            step(StepOptions { milestones: milestones.to_vec(), ..StepOptions::default() })
        };
        let every = |n| step(StepOptions { step_size: Some(n), ..StepOptions::default() });
        let default = step(StepOptions::default());
        assert_eq!(compare(&at(&[1000, 1500]), &default), [""; 0]);
        assert_eq!(compare(&at(&[1000]), &default), ["step.milestones"]);
        assert_eq!(compare(&every(10), &default), ["step.step_size"]);
        assert_eq!(compare(&every(10), &every(10)), [""; 0]);
        assert_eq!(compare(&default, &every(10)), [""; 0]);
    }

    #[test]
    fn options_of_a_policy_are_compared_with_its_defaults() {
        let scan = |lr_factor, rms_decay| {
            let options = ScanOptions { lr_factor, rms_decay, ..ScanOptions::default() };
            JobSpec { policy: Some(PolicySpec::Scan(options)), ..spec() }
        };
        assert_eq!(compare(&scan(Some(0.22), Some(0.0)), &spec()), [""; 0]);
        assert_eq!(compare(&scan(Some(0.5), None), &spec()), ["scan.lr_factor"]);
        assert_eq!(compare(&scan(None, Some(0.99)), &spec()), ["scan.rms_decay"]);
        assert_eq!(compare(&scan(None, Some(0.99)), &scan(None, Some(0.99))), [""; 0]);
        let constant = PolicySpec::Constant(ConstantOptions::default());
        let constant = JobSpec { policy: Some(constant), ..spec() };
        assert_eq!(compare(&constant, &spec()), ["policy"]);
        assert_eq!(compare(&spec(), &constant), [""; 0]);
        let wsd = PolicySpec::Wsd(WsdOptions { cooldown_steps: Some(7), ..WsdOptions::default() });
        let wsd = JobSpec { policy: Some(wsd), ..spec() };
        assert_eq!(compare(&wsd, &constant), ["policy"]);
        assert_eq!(compare(&wsd, &JobSpec { total_steps: Some(1000), ..wsd.clone() }), ["total_steps"]);
    }
}
