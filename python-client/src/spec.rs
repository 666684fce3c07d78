//! The dictionary that describes a job, as the client's type. What it holds too much, or of the wrong type, is named;
//! values are judged by the server.

use crate::line::Line;
use autolrs_client::{
    ClrOptions, ConstantOptions, CosineOptions, Error, Forecaster, JobSpec, LossBound, Objective,
    OneCycleOptions, OpenBudget, PaperOptions, PolicySpec, ReplayOptions, ScanOptions, SgdrOptions,
    StagedOptions, StepOptions, WsdOptions,
};
use pyo3::{
    prelude::*,
    types::{PyBool, PyDict},
};
use std::collections::BTreeMap;

const POLICIES: &str = "scan, paper, staged, constant, cosine, wsd, step, one_cycle, clr, sgdr, replay";

/// Reads the description. Every violation is reported.
pub(crate) fn read(spec: &Bound<'_, PyDict>, switch_every: u64) -> Result<JobSpec, Error> {
    let mut fields = Fields::new(spec.as_any(), "");
    let loss_lower_bound = match fields.optional::<f64>("loss_lower_bound") {
        Some(Some(bound)) => Some(LossBound::At(bound)),
        Some(None) => Some(LossBound::None),
        None => None,
    };
    let job = JobSpec {
        total_steps: fields.take("total_steps"),
        open_budget: open_budget(&mut fields),
        lr_min: fields.take("lr_min"),
        lr_max: fields.take("lr_max"),
        fallback_lr: fields.take("fallback_lr"),
        seed: fields.take("seed"),
        loss_lower_bound,
        max_overhead: fields.take("max_overhead"),
        switch_every: Some(switch_every),
        guard: fields.take("guard"),
        labels: fields.take::<BTreeMap<String, String>>("labels").unwrap_or_default(),
        policy: None,
    };
    let name: Option<String> = fields.take("policy");
    let options: Option<Bound<'_, PyDict>> = fields.take("options");
    let mut violations = fields.finish();
    let name = name.unwrap_or_else(|| "scan".into());
    let options = options.unwrap_or_else(|| PyDict::new(spec.py()));
    let mut options = Fields::new(options.as_any(), &name);
    let policy = policy(&name, &mut options);
    match policy {
        Some(_) => violations.extend(options.finish()),
        None => violations.push(("policy".into(), format!("must be one of {POLICIES}, is {name:?}"))),
    }
    if violations.is_empty() { Ok(JobSpec { policy, ..job }) } else { Err(Error::InvalidSpec { violations }) }
}

/// A dictionary of its own, so that its absence says something.
fn open_budget(fields: &mut Fields<'_, '_>) -> Option<OpenBudget> {
    let open: Bound<'_, PyDict> = fields.take("open_budget")?;
    let mut open = Fields::new(open.as_any(), "open_budget");
    let budget = OpenBudget { expected_steps: open.take("expected_steps") };
    fields.violations.extend(open.finish());
    Some(budget)
}

fn policy(name: &str, options: &mut Fields<'_, '_>) -> Option<PolicySpec> {
    Some(match name {
        "scan" => PolicySpec::Scan(ScanOptions {
            lr_factor: options.take("lr_factor"),
            warmup_fraction: options.take("warmup_fraction"),
            cooldown_fraction: options.take("cooldown_fraction"),
            rms_decay: options.take("rms_decay"),
        }),
        "paper" => PolicySpec::Paper(PaperOptions {
            candidates: options.take("candidates"),
            kappa: options.take("kappa"),
            tau: options.take("tau"),
            tau_max: options.take("tau_max"),
            trial_fraction: options.take("trial_fraction"),
            warmup_steps: options.take("warmup_steps"),
            warmup_lr: options.take("warmup_lr"),
            forecaster: options.choice(
                "forecaster",
                &[("exponential", Forecaster::Exponential), ("mixture", Forecaster::Mixture)],
            ),
            objective: options.choice(
                "objective",
                &[
                    ("auto", Objective::Auto),
                    ("training", Objective::Training),
                    ("validation", Objective::Validation),
                ],
            ),
        }),
        "staged" => PolicySpec::Staged(StagedOptions {
            tau: options.take("tau"),
            trial_fraction: options.take("trial_fraction"),
            cooldown_fraction: options.take("cooldown_fraction"),
        }),
        "constant" => PolicySpec::Constant(ConstantOptions {
            lr: options.take("lr"),
            warmup_steps: options.take("warmup_steps"),
        }),
        "cosine" => PolicySpec::Cosine(CosineOptions {
            lr: options.take("lr"),
            warmup_steps: options.take("warmup_steps"),
            end_factor: options.take("end_factor"),
        }),
        "wsd" => PolicySpec::Wsd(WsdOptions {
            lr: options.take("lr"),
            warmup_steps: options.take("warmup_steps"),
            cooldown_steps: options.take("cooldown_steps"),
        }),
        "step" => PolicySpec::Step(StepOptions {
            lr: options.take("lr"),
            warmup_steps: options.take("warmup_steps"),
            step_size: options.take("step_size"),
            milestones: options.take("milestones").unwrap_or_default(),
            gamma: options.take("gamma"),
        }),
        "one_cycle" => PolicySpec::OneCycle(OneCycleOptions {
            max_lr: options.take("max_lr"),
            pct_start: options.take("pct_start"),
            div_factor: options.take("div_factor"),
            final_div_factor: options.take("final_div_factor"),
        }),
        "clr" => PolicySpec::Clr(ClrOptions {
            base_lr: options.take("base_lr"),
            max_lr: options.take("max_lr"),
            step_size: options.take("step_size"),
        }),
        "sgdr" => PolicySpec::Sgdr(SgdrOptions {
            lr: options.take("lr"),
            warmup_steps: options.take("warmup_steps"),
            t0: options.take("t0"),
            t_mult: options.take("t_mult"),
            end_factor: options.take("end_factor"),
        }),
        "replay" => PolicySpec::Replay(replay(options)),
        _ => return None,
    })
}

/// The Python side has read the file.
fn replay(options: &mut Fields<'_, '_>) -> ReplayOptions {
    let line: Option<Bound<'_, Line>> = options.take("schedule");
    if line.is_none() && options.violations.is_empty() {
        options
            .violations
            .push(("replay.schedule".into(), "must be set: a schedule that was exported".into()));
    }
    ReplayOptions { pieces: line.map(|line| line.get().0.pieces().to_vec()).unwrap_or_default() }
}

/// A dictionary that is read key by key; what was not asked for is a violation.
struct Fields<'a, 'py> {
    dict: &'a Bound<'py, PyAny>,
    prefix: String,
    known: Vec<&'static str>,
    violations: Vec<(String, String)>,
}

impl<'a, 'py> Fields<'a, 'py> {
    fn new(dict: &'a Bound<'py, PyAny>, prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}.") };
        Self { dict, prefix, known: Vec::new(), violations: Vec::new() }
    }

    /// The value of a key; `None` as absent.
    fn take<T: for<'x> FromPyObject<'x, 'py>>(&mut self, key: &'static str) -> Option<T> {
        self.optional(key).flatten()
    }

    /// The value of a key, and whether it is there at all.
    fn optional<T: for<'x> FromPyObject<'x, 'py>>(&mut self, key: &'static str) -> Option<Option<T>> {
        self.known.push(key);
        let value = self.dict.get_item(key).ok()?;
        if value.is_none() {
            return Some(None);
        }
        // Python's bool is an int; a switch where a number belongs is a mistake.
        let number = std::any::type_name::<T>();
        let mistaken = value.is_instance_of::<PyBool>() && ["f64", "u64", "u32"].contains(&number);
        match value.extract::<T>() {
            Ok(value) if !mistaken => Some(Some(value)),
            _ => {
                let shown = value.repr().map_or_else(|_| "unreadable".into(), |repr| repr.to_string());
                let what = format!("must be {}, is {shown}", kind(number));
                self.violations.push((format!("{}{key}", self.prefix), what));
                None
            }
        }
    }

    /// The value of a key that is one of these words.
    fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let word: String = self.take(key)?;
        let value = words.iter().find(|(known, _)| *known == word).map(|(_, value)| *value);
        if value.is_none() {
            let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            let what = format!("must be {}, is {word:?}", known.join(" or "));
            self.violations.push((format!("{}{key}", self.prefix), what));
        }
        value
    }

    fn finish(self) -> Vec<(String, String)> {
        let mut violations = self.violations;
        let keys =
            self.dict.call_method0("keys").and_then(|keys| keys.try_iter()?.collect::<PyResult<Vec<_>>>());
        for key in keys.unwrap_or_default() {
            let key = key.to_string();
            if !self.known.contains(&key.as_str()) {
                let known = self.known.join(", ");
                violations
                    .push((format!("{}{key}", self.prefix), format!("is not an option; there are: {known}")));
            }
        }
        violations
    }
}

fn kind(rust: &str) -> &'static str {
    match rust {
        "f64" => "a number",
        "u64" | "u32" => "a whole number that is not negative",
        "alloc::vec::Vec<u64>" => "a list of whole numbers that are not negative",
        "bool" => "True or False",
        "alloc::string::String" => "a string",
        line if line.ends_with("Line>") => "the path of a schedule that was exported, or the loaded schedule",
        _ => "a dictionary",
    }
}
