//! The spec of a job.

use super::{Violations, directive};
use autolrs_core::{
    forecast::Forecaster,
    lr_pieces::Piece,
    spec::{
        self, ClrOptions, ConstantOptions, CosineOptions, JobSpec, LossBound, Objective, OneCycleOptions,
        OpenBudget, PaperOptions, PolicySpec, ReplayOptions, ResolvedSpec, ScanOptions, SgdrOptions,
        StagedOptions, StepOptions, WsdOptions,
    },
};
use autolrs_proto::v1 as pb;

/// A spec as it was asked for and as it was resolved.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::rpc) struct Specs {
    pub(in crate::rpc) asked: JobSpec,
    pub(in crate::rpc) resolved: ResolvedSpec,
}

/// The spec in the field `spec`, checked; none if anything is wrong with it.
pub(super) fn decode(wire: pb::JobSpec, violations: &mut Violations) -> Option<Specs> {
    let asked = asked(wire, violations);
    match spec::resolve(&asked) {
        Ok(resolved) => Some(Specs { asked, resolved }),
        Err(found) => {
            violations.extend("spec.", found);
            None
        }
    }
}

fn asked(wire: pb::JobSpec, violations: &mut Violations) -> JobSpec {
    use pb::job_spec::LossBound as Wire;
    JobSpec {
        total_steps: wire.total_steps,
        open_budget: wire.open_budget.map(|open| OpenBudget { expected_steps: open.expected_steps }),
        lr_min: wire.lr_min,
        lr_max: wire.lr_max,
        fallback_lr: wire.fallback_lr,
        seed: wire.seed,
        loss_lower_bound: wire.loss_bound.and_then(|bound| match bound {
            Wire::LossLowerBound(at) => Some(LossBound::At(at)),
            Wire::LossUnbounded(unbounded) => unbounded.then_some(LossBound::None),
        }),
        max_overhead: wire.max_overhead,
        switch_every: wire.switch_every,
        guard: wire.guard,
        policy: wire.policy.map(|wire| policy(wire, violations)),
        labels: wire.labels.into_iter().collect(),
    }
}

fn policy(wire: pb::job_spec::Policy, violations: &mut Violations) -> PolicySpec {
    use pb::job_spec::Policy as Wire;
    match wire {
        Wire::Scan(p) => PolicySpec::Scan(ScanOptions {
            lr_factor: p.lr_factor,
            warmup_fraction: p.warmup_fraction,
            cooldown_fraction: p.cooldown_fraction,
            rms_decay: p.rms_decay,
        }),
        Wire::Paper(p) => PolicySpec::Paper(PaperOptions {
            candidates: p.candidates,
            kappa: p.kappa,
            tau: p.tau,
            tau_max: p.tau_max,
            trial_fraction: p.trial_fraction,
            warmup_steps: p.warmup_steps,
            warmup_lr: p.warmup_lr,
            forecaster: forecaster(p.forecaster, violations),
            objective: objective(p.objective, violations),
        }),
        Wire::Staged(p) => PolicySpec::Staged(StagedOptions {
            tau: p.tau,
            trial_fraction: p.trial_fraction,
            cooldown_fraction: p.cooldown_fraction,
        }),
        Wire::Constant(p) => PolicySpec::Constant(ConstantOptions { lr: p.lr, warmup_steps: p.warmup_steps }),
        Wire::Cosine(p) => PolicySpec::Cosine(CosineOptions {
            lr: p.lr,
            warmup_steps: p.warmup_steps,
            end_factor: p.end_factor,
        }),
        Wire::Wsd(p) => PolicySpec::Wsd(WsdOptions {
            lr: p.lr,
            warmup_steps: p.warmup_steps,
            cooldown_steps: p.cooldown_steps,
        }),
        Wire::Step(p) => PolicySpec::Step(StepOptions {
            lr: p.lr,
            warmup_steps: p.warmup_steps,
            step_size: p.step_size,
            milestones: p.milestones,
            gamma: p.gamma,
        }),
        Wire::OneCycle(p) => PolicySpec::OneCycle(OneCycleOptions {
            max_lr: p.max_lr,
            pct_start: p.pct_start,
            div_factor: p.div_factor,
            final_div_factor: p.final_div_factor,
        }),
        Wire::Clr(p) => {
            PolicySpec::Clr(ClrOptions { base_lr: p.base_lr, max_lr: p.max_lr, step_size: p.step_size })
        }
        Wire::Sgdr(p) => PolicySpec::Sgdr(SgdrOptions {
            lr: p.lr,
            warmup_steps: p.warmup_steps,
            t0: p.t0,
            t_mult: p.t_mult,
            end_factor: p.end_factor,
        }),
        Wire::Replay(p) => PolicySpec::Replay(ReplayOptions { pieces: pieces(&p.pieces, violations) }),
    }
}

/// A shape that this server does not know is a violation.
fn pieces(wire: &[pb::LrPiece], violations: &mut Violations) -> Vec<Piece> {
    let named = wire.iter().enumerate().map(|(i, piece)| {
        directive::decode_piece(piece).unwrap_or_else(|| {
            let field = format!("spec.replay.pieces[{i}].shape");
            violations.add(field, "must be constant, linear, cosine or power");
            Piece::constant(piece.steps, 0.0)
        })
    });
    named.collect()
}

/// A value that this server does not know is a violation.
fn forecaster(wire: Option<i32>, violations: &mut Violations) -> Option<Forecaster> {
    match pb::Forecaster::try_from(wire?) {
        Ok(pb::Forecaster::Exponential) => Some(Forecaster::Exponential),
        Ok(pb::Forecaster::Mixture) => Some(Forecaster::Mixture),
        Ok(pb::Forecaster::Unspecified) | Err(_) => {
            violations.add("spec.paper.forecaster", "must be exponential or mixture");
            None
        }
    }
}

const fn encode_forecaster(forecaster: Forecaster) -> pb::Forecaster {
    match forecaster {
        Forecaster::Exponential => pb::Forecaster::Exponential,
        Forecaster::Mixture => pb::Forecaster::Mixture,
    }
}

/// See [`forecaster`].
fn objective(wire: Option<i32>, violations: &mut Violations) -> Option<Objective> {
    match pb::Objective::try_from(wire?) {
        Ok(pb::Objective::Auto) => Some(Objective::Auto),
        Ok(pb::Objective::Training) => Some(Objective::Training),
        Ok(pb::Objective::Validation) => Some(Objective::Validation),
        Ok(pb::Objective::Unspecified) | Err(_) => {
            violations.add("spec.paper.objective", "must be auto, training or validation");
            None
        }
    }
}

const fn encode_objective(objective: Objective) -> pb::Objective {
    match objective {
        Objective::Auto => pb::Objective::Auto,
        Objective::Training => pb::Objective::Training,
        Objective::Validation => pb::Objective::Validation,
    }
}

/// A spec as it was asked for.
pub(super) fn encode(spec: &JobSpec) -> pb::JobSpec {
    use pb::job_spec::LossBound as Wire;
    pb::JobSpec {
        total_steps: spec.total_steps,
        open_budget: spec.open_budget.map(|open| pb::OpenBudget { expected_steps: open.expected_steps }),
        lr_min: spec.lr_min,
        lr_max: spec.lr_max,
        fallback_lr: spec.fallback_lr,
        seed: spec.seed,
        loss_bound: spec.loss_lower_bound.map(|bound| match bound {
            LossBound::At(at) => Wire::LossLowerBound(at),
            LossBound::None => Wire::LossUnbounded(true),
        }),
        max_overhead: spec.max_overhead,
        switch_every: spec.switch_every,
        guard: spec.guard,
        policy: spec.policy.as_ref().map(encode_policy),
        labels: spec.labels.clone().into_iter().collect(),
    }
}

fn encode_policy(policy: &PolicySpec) -> pb::job_spec::Policy {
    use pb::job_spec::Policy as Wire;
    match policy {
        PolicySpec::Scan(p) => Wire::Scan(pb::ScanPolicy {
            lr_factor: p.lr_factor,
            warmup_fraction: p.warmup_fraction,
            cooldown_fraction: p.cooldown_fraction,
            rms_decay: p.rms_decay,
        }),
        PolicySpec::Paper(p) => Wire::Paper(pb::PaperPolicy {
            candidates: p.candidates,
            kappa: p.kappa,
            tau: p.tau,
            tau_max: p.tau_max,
            trial_fraction: p.trial_fraction,
            warmup_steps: p.warmup_steps,
            warmup_lr: p.warmup_lr,
            forecaster: p.forecaster.map(|forecaster| encode_forecaster(forecaster).into()),
            objective: p.objective.map(|objective| encode_objective(objective).into()),
        }),
        PolicySpec::Staged(p) => Wire::Staged(pb::StagedPolicy {
            tau: p.tau,
            trial_fraction: p.trial_fraction,
            cooldown_fraction: p.cooldown_fraction,
        }),
        PolicySpec::Constant(p) => {
            Wire::Constant(pb::ConstantPolicy { lr: p.lr, warmup_steps: p.warmup_steps })
        }
        PolicySpec::Cosine(p) => Wire::Cosine(pb::CosinePolicy {
            lr: p.lr,
            warmup_steps: p.warmup_steps,
            end_factor: p.end_factor,
        }),
        PolicySpec::Wsd(p) => Wire::Wsd(pb::WsdPolicy {
            lr: p.lr,
            warmup_steps: p.warmup_steps,
            cooldown_steps: p.cooldown_steps,
        }),
        PolicySpec::Step(p) => Wire::Step(pb::StepPolicy {
            lr: p.lr,
            warmup_steps: p.warmup_steps,
            step_size: p.step_size,
            milestones: p.milestones.clone(),
            gamma: p.gamma,
        }),
        PolicySpec::OneCycle(p) => Wire::OneCycle(pb::OneCyclePolicy {
            max_lr: p.max_lr,
            pct_start: p.pct_start,
            div_factor: p.div_factor,
            final_div_factor: p.final_div_factor,
        }),
        PolicySpec::Clr(p) => {
            Wire::Clr(pb::ClrPolicy { base_lr: p.base_lr, max_lr: p.max_lr, step_size: p.step_size })
        }
        PolicySpec::Sgdr(p) => Wire::Sgdr(pb::SgdrPolicy {
            lr: p.lr,
            warmup_steps: p.warmup_steps,
            t0: p.t0,
            t_mult: p.t_mult,
            end_factor: p.end_factor,
        }),
        PolicySpec::Replay(p) => {
            Wire::Replay(pb::ReplayPolicy { pieces: p.pieces.iter().map(directive::piece).collect() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_policies() -> Vec<pb::job_spec::Policy> {
        use pb::job_spec::Policy as Wire;
        let scan = pb::ScanPolicy {
            lr_factor: Some(0.3),
            warmup_fraction: Some(0.1),
            cooldown_fraction: Some(0.2),
            rms_decay: Some(0.99),
        };
        let paper = pb::PaperPolicy {
            candidates: Some(5),
            kappa: Some(2.0),
            tau: Some(100),
            tau_max: Some(400),
            trial_fraction: Some(0.2),
            warmup_steps: Some(7),
            warmup_lr: Some(0.01),
            forecaster: Some(pb::Forecaster::Mixture.into()),
            objective: Some(pb::Objective::Validation.into()),
        };
        vec![
            Wire::Scan(scan),
            Wire::Scan(pb::ScanPolicy::default()),
            Wire::Paper(paper),
            Wire::Staged(pb::StagedPolicy {
                tau: Some(100),
                trial_fraction: Some(0.2),
                cooldown_fraction: Some(0.4),
            }),
            Wire::Constant(pb::ConstantPolicy { lr: Some(0.1), warmup_steps: Some(3) }),
            Wire::Cosine(pb::CosinePolicy { lr: Some(0.1), warmup_steps: None, end_factor: Some(0.1) }),
            Wire::Wsd(pb::WsdPolicy { lr: None, warmup_steps: Some(3), cooldown_steps: Some(4) }),
            Wire::Step(pb::StepPolicy {
                lr: Some(0.1),
                warmup_steps: Some(3),
                step_size: Some(30),
                milestones: vec![],
                gamma: Some(0.5),
            }),
            Wire::Step(pb::StepPolicy { milestones: vec![100, 200], ..pb::StepPolicy::default() }),
            Wire::OneCycle(pb::OneCyclePolicy {
                max_lr: Some(0.1),
                pct_start: Some(0.2),
                div_factor: Some(5.0),
                final_div_factor: Some(7.0),
            }),
            Wire::Clr(pb::ClrPolicy { base_lr: Some(0.1), max_lr: Some(0.3), step_size: Some(40) }),
            Wire::Sgdr(pb::SgdrPolicy {
                lr: Some(0.1),
                warmup_steps: Some(3),
                t0: Some(30),
                t_mult: Some(1),
                end_factor: Some(0.1),
            }),
            Wire::Replay(pb::ReplayPolicy { pieces: vec![linear(), power()] }),
        ]
    }

    fn linear() -> pb::LrPiece {
        let shape = pb::lr_piece::Shape::Linear.into();
        pb::LrPiece { steps: 7, start: 0.1, end: 0.2, shape, index: 1, of: 9, ..pb::LrPiece::default() }
    }

    fn power() -> pb::LrPiece {
        let shape = pb::lr_piece::Shape::Power.into();
        pb::LrPiece { shape, exponent: -0.5, origin: 3.0, ..linear() }
    }

    fn spec() -> pb::JobSpec {
        pb::JobSpec {
            total_steps: Some(2000),
            open_budget: None,
            lr_min: Some(1e-4),
            lr_max: Some(10.0),
            fallback_lr: Some(0.1),
            seed: Some(3),
            loss_bound: Some(pb::job_spec::LossBound::LossUnbounded(true)),
            max_overhead: Some(0.2),
            switch_every: Some(8),
            guard: Some(false),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            policy: None,
        }
    }

    #[test]
    fn what_was_asked_comes_back() {
        for policy in all_policies() {
            let wire = pb::JobSpec { policy: Some(policy), ..spec() };
            let specs = decode(wire.clone(), &mut Violations::default()).unwrap();
            assert_eq!(encode(&specs.asked), wire);
        }
        let bounded = pb::job_spec::LossBound::LossLowerBound(-1.0);
        let open = Some(pb::OpenBudget { expected_steps: Some(700) });
        let wire = pb::JobSpec { loss_bound: Some(bounded), total_steps: None, open_budget: open, ..spec() };
        assert_eq!(encode(&asked(wire.clone(), &mut Violations::default())), wire);
    }

    #[test]
    fn a_forecaster_of_another_release_is_refused() {
        for forecaster in [0, 3, -1] {
            let paper = pb::PaperPolicy { forecaster: Some(forecaster), ..pb::PaperPolicy::default() };
            let wire = pb::JobSpec { policy: Some(pb::job_spec::Policy::Paper(paper)), ..spec() };
            let mut violations = Violations::default();
            let specs = decode(wire, &mut violations);
            assert_eq!(super::super::fields(violations.finish("j", specs)), ["spec.paper.forecaster"]);
        }
    }

    #[test]
    fn a_schedule_is_named_piece_by_piece() {
        let unknown = pb::LrPiece { shape: 9, ..linear() };
        let pieces = vec![linear(), unknown, pb::LrPiece { end: -1.0, ..power() }];
        let replay = pb::job_spec::Policy::Replay(pb::ReplayPolicy { pieces });
        let mut violations = Violations::default();
        let specs = decode(pb::JobSpec { policy: Some(replay), ..spec() }, &mut violations);
        let expected = ["spec.replay.pieces[1].shape", "spec.replay.pieces[2].end"];
        assert_eq!(super::super::fields(violations.finish("j", specs)), expected);
    }

    #[test]
    fn not_unbounded_is_as_absent() {
        let wire = pb::JobSpec { loss_bound: Some(pb::job_spec::LossBound::LossUnbounded(false)), ..spec() };
        assert_eq!(asked(wire, &mut Violations::default()).loss_lower_bound, None);
    }
}
