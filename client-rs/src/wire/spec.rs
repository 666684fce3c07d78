//! Job specs into messages.

use super::directive;
use autolrs_core::{
    forecast::Forecaster,
    spec::{JobSpec, LossBound, Objective, PolicySpec},
};
use autolrs_proto::v1::{self, job_spec};

pub(crate) fn job_spec(spec: &JobSpec) -> v1::JobSpec {
    v1::JobSpec {
        total_steps: spec.total_steps,
        open_budget: spec.open_budget.map(|open| v1::OpenBudget { expected_steps: open.expected_steps }),
        lr_min: spec.lr_min,
        lr_max: spec.lr_max,
        fallback_lr: spec.fallback_lr,
        seed: spec.seed,
        loss_bound: spec.loss_lower_bound.map(|bound| match bound {
            LossBound::At(bound) => job_spec::LossBound::LossLowerBound(bound),
            LossBound::None => job_spec::LossBound::LossUnbounded(true),
        }),
        max_overhead: spec.max_overhead,
        switch_every: spec.switch_every,
        guard: spec.guard,
        labels: spec.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        policy: spec.policy.as_ref().map(policy),
    }
}

fn policy(policy: &PolicySpec) -> job_spec::Policy {
    match policy {
        PolicySpec::Scan(o) => job_spec::Policy::Scan(v1::ScanPolicy {
            lr_factor: o.lr_factor,
            warmup_fraction: o.warmup_fraction,
            cooldown_fraction: o.cooldown_fraction,
            rms_decay: o.rms_decay,
        }),
        PolicySpec::Paper(o) => job_spec::Policy::Paper(v1::PaperPolicy {
            candidates: o.candidates,
            kappa: o.kappa,
            tau: o.tau,
            tau_max: o.tau_max,
            trial_fraction: o.trial_fraction,
            warmup_steps: o.warmup_steps,
            warmup_lr: o.warmup_lr,
            forecaster: o.forecaster.map(|forecaster| wire_forecaster(forecaster).into()),
            objective: o.objective.map(|objective| wire_objective(objective).into()),
        }),
        PolicySpec::Staged(o) => job_spec::Policy::Staged(v1::StagedPolicy {
            tau: o.tau,
            trial_fraction: o.trial_fraction,
            cooldown_fraction: o.cooldown_fraction,
        }),
        PolicySpec::Constant(o) => {
            job_spec::Policy::Constant(v1::ConstantPolicy { lr: o.lr, warmup_steps: o.warmup_steps })
        }
        PolicySpec::Cosine(o) => job_spec::Policy::Cosine(v1::CosinePolicy {
            lr: o.lr,
            warmup_steps: o.warmup_steps,
            end_factor: o.end_factor,
        }),
        PolicySpec::Wsd(o) => job_spec::Policy::Wsd(v1::WsdPolicy {
            lr: o.lr,
            warmup_steps: o.warmup_steps,
            cooldown_steps: o.cooldown_steps,
        }),
        PolicySpec::Step(o) => job_spec::Policy::Step(v1::StepPolicy {
            lr: o.lr,
            warmup_steps: o.warmup_steps,
            step_size: o.step_size,
            milestones: o.milestones.clone(),
            gamma: o.gamma,
        }),
        PolicySpec::OneCycle(o) => job_spec::Policy::OneCycle(v1::OneCyclePolicy {
            max_lr: o.max_lr,
            pct_start: o.pct_start,
            div_factor: o.div_factor,
            final_div_factor: o.final_div_factor,
        }),
        PolicySpec::Clr(o) => job_spec::Policy::Clr(v1::ClrPolicy {
            base_lr: o.base_lr,
            max_lr: o.max_lr,
            step_size: o.step_size,
        }),
        PolicySpec::Sgdr(o) => job_spec::Policy::Sgdr(v1::SgdrPolicy {
            lr: o.lr,
            warmup_steps: o.warmup_steps,
            t0: o.t0,
            t_mult: o.t_mult,
            end_factor: o.end_factor,
        }),
        PolicySpec::Replay(o) => {
            let pieces = o.pieces.iter().map(directive::piece_message).collect();
            job_spec::Policy::Replay(v1::ReplayPolicy { pieces })
        }
    }
}

const fn wire_forecaster(forecaster: Forecaster) -> v1::Forecaster {
    match forecaster {
        Forecaster::Exponential => v1::Forecaster::Exponential,
        Forecaster::Mixture => v1::Forecaster::Mixture,
    }
}

const fn wire_objective(objective: Objective) -> v1::Objective {
    match objective {
        Objective::Auto => v1::Objective::Auto,
        Objective::Training => v1::Objective::Training,
        Objective::Validation => v1::Objective::Validation,
    }
}
