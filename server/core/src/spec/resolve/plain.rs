//! The options of the plain schedules.

use super::{Base, Check};
use crate::lr_pieces::Piece;
use crate::schedule::MAX_STEPS;
use crate::spec::{
    ClrOptions, ConstantOptions, CosineOptions, Milestones, OneCycleOptions, PlainKind, ReplayOptions,
    ResolvedPlain, ResolvedPolicy, SgdrOptions, StepOptions, Violation, WsdOptions, plain::MAX_PIECES,
};

/// Cycles of `sgdr` and `clr` in the budget unless their user says otherwise.
const DEFAULT_CYCLES: u32 = 4;

impl Check {
    pub(super) fn constant(&mut self, o: &ConstantOptions, base: &Base) -> ResolvedPolicy {
        let lr = self.positive("constant.lr", o.lr.unwrap_or(base.fallback_lr));
        self.plain(PlainKind::Constant, lr, "constant.warmup_steps", o.warmup_steps, base)
    }

    pub(super) fn cosine(&mut self, o: &CosineOptions, base: &Base) -> ResolvedPolicy {
        let lr = self.positive("cosine.lr", o.lr.unwrap_or(base.fallback_lr));
        let end_factor = self.within("cosine.end_factor", o.end_factor.unwrap_or(0.0), 0.0, 1.0);
        self.plain(PlainKind::Cosine { end_factor }, lr, "cosine.warmup_steps", o.warmup_steps, base)
    }

    pub(super) fn wsd(&mut self, o: &WsdOptions, base: &Base) -> ResolvedPolicy {
        let lr = self.positive("wsd.lr", o.lr.unwrap_or(base.fallback_lr));
        let room = room(o.warmup_steps, base);
        let default = libm::round(0.2 * base.budget.nominal() as f64) as u64;
        let cooldown_steps = o.cooldown_steps.unwrap_or(default.min(room));
        self.that(cooldown_steps <= room, "wsd.cooldown_steps", || {
            format!("must be at most total_steps - warmup_steps = {room}, is {cooldown_steps}")
        });
        self.plain(PlainKind::Wsd { cooldown_steps }, lr, "wsd.warmup_steps", o.warmup_steps, base)
    }

    pub(super) fn step(&mut self, o: &StepOptions, base: &Base) -> ResolvedPolicy {
        let lr = self.positive("step.lr", o.lr.unwrap_or(base.fallback_lr));
        let gamma = o.gamma.unwrap_or(0.1);
        self.that(gamma > 0.0 && gamma <= 1.0, "step.gamma", || {
            format!("must be above 0 and at most 1, is {gamma}")
        });
        let milestones = self.milestones(o, base.budget.nominal());
        let first = match &milestones {
            Milestones::Every(steps) => *steps,
            Milestones::At(steps) => steps.first().copied().unwrap_or(u64::MAX),
        };
        let warmup = o.warmup_steps.unwrap_or(0);
        self.that(warmup <= first || warmup > base.budget.nominal(), "step.warmup_steps", || {
            format!("must be over when the LR falls for the first time, after {first} steps; is {warmup}")
        });
        self.plain(PlainKind::Step { milestones, gamma }, lr, "step.warmup_steps", o.warmup_steps, base)
    }

    fn milestones(&mut self, o: &StepOptions, total: u64) -> Milestones {
        if let Some(step_size) = o.step_size {
            self.that(o.milestones.is_empty(), "step.milestones", || {
                "must not be set together with step_size".into()
            });
            self.pieces("step.step_size", step_size, total);
            return Milestones::Every(step_size);
        }
        if o.milestones.is_empty() {
            // One of a budget of one step is past it.
            let at = |share: f64| (libm::round(share * total as f64) as u64).max(1);
            let (half, later) = (at(0.5), at(0.75));
            return Milestones::At(if half < later { vec![half, later] } else { vec![half] });
        }
        let ascending = o.milestones[0] >= 1 && o.milestones.windows(2).all(|pair| pair[0] < pair[1]);
        self.that(ascending && o.milestones.len() < MAX_PIECES as usize, "step.milestones", || {
            format!("must be at least 1, ascending, and fewer than {MAX_PIECES}")
        });
        Milestones::At(o.milestones.clone())
    }

    pub(super) fn one_cycle(&mut self, o: &OneCycleOptions, base: &Base) -> ResolvedPolicy {
        let lr = self.positive("one_cycle.max_lr", o.max_lr.unwrap_or(base.fallback_lr));
        let kind = PlainKind::OneCycle {
            pct_start: self.within("one_cycle.pct_start", o.pct_start.unwrap_or(0.3), 0.0, 1.0),
            div_factor: self.at_least_1("one_cycle.div_factor", o.div_factor.unwrap_or(25.0)),
            final_div_factor: self
                .at_least_1("one_cycle.final_div_factor", o.final_div_factor.unwrap_or(1e4)),
        };
        ResolvedPolicy::Plain(ResolvedPlain { kind, lr, warmup_steps: 0 })
    }

    pub(super) fn clr(&mut self, o: &ClrOptions, base: &Base) -> ResolvedPolicy {
        let lr = self.positive("clr.max_lr", o.max_lr.unwrap_or(base.fallback_lr));
        let base_lr = o.base_lr.unwrap_or(lr / 4.0);
        self.that(base_lr > 0.0 && base_lr <= lr || o.base_lr.is_none(), "clr.base_lr", || {
            format!("must be above 0 and at most max_lr = {lr}, is {base_lr}")
        });
        let default = base.budget.nominal().div_ceil(2 * u64::from(DEFAULT_CYCLES)).max(1);
        let step_size = o.step_size.unwrap_or(default);
        self.pieces("clr.step_size", step_size, base.budget.nominal());
        let kind = PlainKind::Clr { base_lr, step_size };
        ResolvedPolicy::Plain(ResolvedPlain { kind, lr, warmup_steps: 0 })
    }

    pub(super) fn sgdr(&mut self, o: &SgdrOptions, base: &Base) -> ResolvedPolicy {
        let lr = self.positive("sgdr.lr", o.lr.unwrap_or(base.fallback_lr));
        let end_factor = self.within("sgdr.end_factor", o.end_factor.unwrap_or(0.0), 0.0, 1.0);
        let t_mult = o.t_mult.unwrap_or(2);
        self.that(t_mult >= 1, "sgdr.t_mult", || "must be at least 1, is 0".into());
        let room = room(o.warmup_steps, base);
        let firsts: u64 = (0..DEFAULT_CYCLES)
            .fold(0, |sum: u64, i| sum.saturating_add(u64::from(t_mult).saturating_pow(i)));
        let t0 = o.t0.unwrap_or(room.div_ceil(firsts.max(1)).max(1));
        let longest = if t_mult <= 1 { room } else { 0 };
        self.pieces("sgdr.t0", t0, longest);
        let kind = PlainKind::Sgdr { t0, t_mult, end_factor };
        self.plain(kind, lr, "sgdr.warmup_steps", o.warmup_steps, base)
    }

    pub(super) fn replay(&mut self, o: &ReplayOptions) -> ResolvedPolicy {
        let found = self.violations.len();
        let (most, pieces) = (MAX_PIECES as usize, o.pieces.len());
        self.that((1..=most).contains(&pieces), "replay.pieces", || {
            format!("must be 1 to {most} (a longer schedule is replayed without a server), are {pieces}")
        });
        for (i, piece) in o.pieces.iter().take(most).enumerate() {
            if let Some((field, description)) = piece.fault() {
                let field = format!("replay.pieces[{i}].{field}").into();
                self.violations.push(Violation { field, description });
            }
        }
        let steps = replay_steps(&o.pieces);
        self.that(steps <= MAX_STEPS, "replay.pieces", || {
            format!("must have at most {MAX_STEPS} steps, have {steps}")
        });
        let valid = self.violations.len() == found;
        let highest = o.pieces.iter().filter(|_| valid).map(Piece::highest);
        let lr = highest.fold(0.0, f64::max);
        let kind = PlainKind::Replay { pieces: o.pieces.clone() };
        ResolvedPolicy::Plain(ResolvedPlain { kind, lr, warmup_steps: 0 })
    }

    fn plain(
        &mut self,
        kind: PlainKind,
        lr: f64,
        field: &'static str,
        warmup: Option<u64>,
        base: &Base,
    ) -> ResolvedPolicy {
        let warmup_steps = warmup.unwrap_or(0);
        self.that(warmup_steps <= base.budget.nominal(), field, || {
            format!("must be at most total_steps = {}, is {warmup_steps}", base.budget.nominal())
        });
        ResolvedPolicy::Plain(ResolvedPlain { kind, lr, warmup_steps })
    }

    /// `steps` that are repeated over a line of `total`.
    fn pieces(&mut self, field: &'static str, steps: u64, total: u64) {
        self.that(steps >= 1 && steps >= total.div_ceil(MAX_PIECES), field, || {
            let least = total.div_ceil(MAX_PIECES).max(1);
            format!("must be at least {least} (a line has at most {MAX_PIECES} pieces), is {steps}")
        });
    }

    fn at_least_1(&mut self, field: &'static str, value: f64) -> f64 {
        self.that(value.is_finite() && value >= 1.0, field, || {
            format!("must be finite and at least 1, is {value}")
        });
        value
    }
}

/// Steps of a schedule that is not checked yet.
pub(super) fn replay_steps(pieces: &[Piece]) -> u64 {
    pieces.iter().fold(0, |sum: u64, piece| sum.saturating_add(piece.steps))
}

/// Steps after the warm-up.
fn room(warmup: Option<u64>, base: &Base) -> u64 {
    base.budget.nominal().saturating_sub(warmup.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lr_pieces::Shape;
    use crate::spec::{Budget, JobSpec, PolicySpec, resolve};
    use std::borrow::Cow;

    fn spec(total: u64, policy: PolicySpec) -> JobSpec {
        JobSpec {
            total_steps: Some(total),
            fallback_lr: Some(0.1),
            policy: Some(policy),
            ..JobSpec::default()
        }
    }

    fn kind(total: u64, policy: PolicySpec) -> PlainKind {
        match resolve(&spec(total, policy)).unwrap().policy {
            ResolvedPolicy::Plain(plain) => plain.kind,
            other => panic!("{other:?}"),
        }
    }

    fn fields(policy: PolicySpec) -> Vec<Cow<'static, str>> {
        resolve(&spec(2000, policy)).err().unwrap_or_default().into_iter().map(|v| v.field).collect()
    }

    #[test]
    fn the_documented_defaults() {
        let step = kind(2000, PolicySpec::Step(StepOptions::default()));
        assert_eq!(step, PlainKind::Step { milestones: Milestones::At(vec![1000, 1500]), gamma: 0.1 });
        let one_cycle = kind(2000, PolicySpec::OneCycle(OneCycleOptions::default()));
        let expected = PlainKind::OneCycle { pct_start: 0.3, div_factor: 25.0, final_div_factor: 1e4 };
        assert_eq!(one_cycle, expected);
        let clr = kind(2001, PolicySpec::Clr(ClrOptions::default()));
        assert_eq!(clr, PlainKind::Clr { base_lr: 0.025, step_size: 251 });
        let warm = SgdrOptions { warmup_steps: Some(500), ..SgdrOptions::default() };
        assert_eq!(
            kind(2000, PolicySpec::Sgdr(warm)),
            PlainKind::Sgdr { t0: 100, t_mult: 2, end_factor: 0.0 }
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let step = StepOptions {
            warmup_steps: Some(20),
            step_size: Some(1),
            milestones: vec![5],
            gamma: Some(2.0),
            ..StepOptions::default()
        };
        assert_eq!(
            fields(PolicySpec::Step(step)),
            ["step.gamma", "step.milestones", "step.step_size", "step.warmup_steps"]
        );
        let step = StepOptions { milestones: vec![5, 5], ..StepOptions::default() };
        assert_eq!(fields(PolicySpec::Step(step)), ["step.milestones"]);
        let late = StepOptions { milestones: vec![9000], warmup_steps: Some(2000), ..StepOptions::default() };
        assert_eq!(fields(PolicySpec::Step(late)), [""; 0]);
        let one_cycle = OneCycleOptions {
            pct_start: Some(f64::NAN),
            div_factor: Some(0.5),
            final_div_factor: Some(f64::INFINITY),
            max_lr: Some(0.0),
        };
        assert_eq!(
            fields(PolicySpec::OneCycle(one_cycle)),
            ["one_cycle.max_lr", "one_cycle.pct_start", "one_cycle.div_factor", "one_cycle.final_div_factor"]
        );
        let clr = ClrOptions { base_lr: Some(0.2), step_size: Some(0), max_lr: None };
        assert_eq!(fields(PolicySpec::Clr(clr)), ["clr.base_lr", "clr.step_size"]);
        let sgdr = SgdrOptions { t0: Some(0), t_mult: Some(0), ..SgdrOptions::default() };
        assert_eq!(fields(PolicySpec::Sgdr(sgdr)), ["sgdr.t_mult", "sgdr.t0"]);
        let short = SgdrOptions { t0: Some(1), ..SgdrOptions::default() };
        assert_eq!(fields(PolicySpec::Sgdr(short)), [""; 0]);
    }

    #[test]
    fn a_schedule_is_checked_piece_by_piece() {
        let replay = |pieces: &[Piece]| PolicySpec::Replay(ReplayOptions { pieces: pieces.to_vec() });
        let line = [Piece::warmup(10, 0.3), Piece::constant(20, 0.3), Piece::cooldown(5, 0.2)];
        let short = JobSpec { total_steps: None, ..spec(0, replay(&line)) };
        let resolved = resolve(&short).unwrap();
        assert_eq!((resolved.budget, resolved.policy_name()), (Budget::Known(35), "replay"));
        let expected = ResolvedPlain {
            kind: PlainKind::Replay { pieces: line.to_vec() },
            lr: line[0].lr(9),
            warmup_steps: 0,
        };
        assert_eq!(resolved.policy, ResolvedPolicy::Plain(expected));
        let negative = Piece::new(3, -0.1, 0.2, Shape::Linear);
        let cut = Piece { of: 2, index: u64::MAX, ..line[1] };
        let wrong = replay(&[line[0], negative, line[1], cut]);
        assert_eq!(fields(wrong), ["replay.pieces[1].start", "replay.pieces[3].of"]);
        assert_eq!(fields(replay(&[])), ["replay.pieces"]);
        assert_eq!(fields(replay(&[line[0]; 1001])), ["replay.pieces"]);
        assert_eq!(fields(replay(&[Piece::constant(u64::MAX, 0.1); 2])), ["replay.pieces"]);
    }
}
