//! A directive's segment, read as the proto defines it: the LR of every step, the rules, the rungs.

use super::verdict::{Broken, Verdict};
use crate::rpc::decode_piece;
use autolrs_core::{
    lr_pieces,
    stop_rules::{Judge, Stop, StopIf, switch_point},
};
use autolrs_proto::v1::{Directive, Phase, Run, directive::Action, stop_if::Rule};

/// What the trainer is to do.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) phase: Phase,
    /// LR of every step.
    pub(super) lrs: Vec<f64>,
    rules: Vec<StopIf>,
    /// Steps done at which it stands and waits, as far as they take effect.
    pub(super) stands: Vec<u64>,
    pub(super) validate_at: Vec<u64>,
}

impl Segment {
    pub(super) fn of(run: &Run, switch_every: u64) -> Verdict<Self> {
        let pieces = run.lr.iter().map(decode_piece).collect::<Option<Vec<_>>>();
        let pieces =
            pieces.ok_or_else(|| Broken::new("LR pieces of known shapes", format!("{:?}", run.lr)))?;
        let steps = pieces.iter().try_fold(0_u64, |sum, piece| sum.checked_add(piece.steps));
        let steps = steps.filter(|&steps| steps <= lr_pieces::MAX_RUN_STEPS);
        let steps = steps.ok_or_else(|| Broken::new("at most 65,536 steps", format!("{:?}", run.lr)))?;
        let lrs: Vec<f64> = pieces.iter().flat_map(|piece| (0..piece.steps).map(|i| piece.lr(i))).collect();
        let rules = run.stop_if.iter().map(|stop| stop.rule.as_ref().and_then(rule));
        let rules = rules.collect::<Option<Vec<_>>>();
        let rules = rules.ok_or_else(|| Broken::new("stop rules in range", format!("{:?}", run.stop_if)))?;
        let stands = run.rungs.iter().map(|&rung| switch_point(rung, switch_every, steps));
        let stands = stands.filter(|&end| end < steps).collect();
        Ok(Self { phase: run.phase(), lrs, rules, stands, validate_at: run.validate_at.clone() })
    }

    /// Steps, if nothing ends it early.
    pub(super) fn steps(&self) -> u64 {
        self.lrs.len() as u64
    }

    /// A judge of its stop rules.
    pub(super) fn judge(&self) -> Judge {
        Judge::new(&self.rules)
    }

    /// Steps that are run when a rule has matched.
    pub(super) fn end_after(&self, stop: Stop, switch_every: u64) -> u64 {
        switch_point(stop.offset, switch_every, self.steps())
    }

    /// Whether a loss that is no number ends it.
    pub(super) fn stops_at_non_finite(&self) -> bool {
        self.rules.contains(&StopIf::NonFinite)
    }
}

/// The segment of a directive; none at the end of a job.
pub(super) fn run(directive: &Directive) -> Option<&Run> {
    match &directive.action {
        Some(Action::Run(run)) => Some(run),
        _ => None,
    }
}

fn rule(rule: &Rule) -> Option<StopIf> {
    let rule = match *rule {
        Rule::NonFinite(_) => StopIf::NonFinite,
        Rule::Above(above) => StopIf::Above { limit: above.limit, from: above.from },
        Rule::AboveFirst(above) => {
            StopIf::AboveFirst { factor: above.factor, floor: above.floor, from: above.from }
        }
        Rule::MeanAbove(above) => {
            StopIf::MeanAbove { last: above.last, limit: above.limit, from: above.from }
        }
        Rule::EmaAbove(above) => StopIf::EmaAbove {
            decay: above.decay,
            start_value: above.start_value,
            limit: above.limit,
            from: above.from,
        },
    };
    rule.is_valid().then_some(rule)
}
