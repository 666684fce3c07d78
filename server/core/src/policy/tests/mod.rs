//! Policies against a simulated trainer. The books are kept here once more, without the job's help, and every plan is
//! checked on its way.

mod alarms;
mod paper;
mod plain;
mod scan;
mod scan_fine_tuning;
mod scan_guards;
mod scan_open;
mod staged;
mod surface;

use super::{Change, Context, Notes, PolicyState, Segment, SlotEntry, Spent};
use crate::{
    directive::{Action, Batches, DoneReason, Phase, Run, Slot, SlotOp},
    job::Validation,
    lr_pieces::{Cursor, MAX_RUN_STEPS, Piece},
    plan::Plan,
    spec::{JobSpec, PolicySpec, ResolvedSpec, resolve},
    stop_rules::{Judge, Stop, StopIf, switch_point},
};
use std::collections::BTreeMap;
use surface::Surface;

/// A spec with the usual range.
pub(super) fn spec(total_steps: u64, policy: PolicySpec) -> JobSpec {
    JobSpec {
        total_steps: Some(total_steps),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.1),
        policy: Some(policy),
        ..JobSpec::default()
    }
}

/// What happened.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trace {
    pub(super) spent: Spent,
    pub(super) done: Option<DoneReason>,
    pub(super) notes: Notes,
    /// Every directive with the LR of its first step and its last, and the stop that ended it.
    pub(super) segments: Vec<(Run, Option<Stop>)>,
    /// Steps of all kinds at the end of each.
    pub(super) ends: Vec<u64>,
    pub(super) slot_ops: Vec<Vec<SlotOp>>,
    pub(super) plans: Vec<Plan>,
    /// Of the steps that were kept.
    pub(super) committed: Vec<(f64, f64)>,
    /// Trials that the policy ended at a rung, after so many steps.
    pub(super) cut: Vec<u64>,
    /// Largest number of slots held at once.
    pub(super) most_slots: usize,
}

impl Trace {
    pub(super) fn stops(&self) -> usize {
        self.segments.iter().filter(|(_, stop)| stop.is_some()).count()
    }

    pub(super) fn phases(&self) -> Vec<Phase> {
        let mut phases: Vec<Phase> = self.segments.iter().map(|(run, _)| run.phase).collect();
        phases.dedup();
        phases
    }

    pub(super) fn lrs(&self) -> Vec<f64> {
        self.committed.iter().map(|(lr, _)| *lr).collect()
    }
}

/// How a segment ended.
enum End {
    Completed,
    Stopped(Stop),
    /// At a rung; with what follows.
    Cut(Box<Plan>),
    /// Where an operator's LR takes effect.
    Changed(f64),
}

/// The trainer's own state: what a slot holds.
#[derive(Clone)]
struct State<S> {
    surface: S,
    batch: u64,
    /// Steps of a trial in it: (LR, loss).
    tried: Vec<(f64, f64)>,
}

/// Trains a job to its end. `fault` may replace the loss of a step: (its run, total steps before it, loss).
pub(super) fn train<S: Surface>(
    spec: &JobSpec,
    surface: S,
    replay: bool,
    fault: impl FnMut(&Run, u64, f64) -> f64,
) -> Trace {
    train_until(u64::MAX, spec, surface, replay, fault)
}

/// As [`train`], but no directive is begun after `steps` of all kinds.
pub(super) fn train_until<S: Surface>(
    steps: u64,
    spec: &JobSpec,
    surface: S,
    replay: bool,
    fault: impl FnMut(&Run, u64, f64) -> f64,
) -> Trace {
    simulate(steps, spec, surface, Can { replay, validate: false }, fault)
}

/// As [`train`], with a trainer that can do this.
pub(super) fn train_with<S: Surface>(
    spec: &JobSpec,
    surface: S,
    can: Can,
    fault: impl FnMut(&Run, u64, f64) -> f64,
) -> Trace {
    simulate(u64::MAX, spec, surface, can, fault)
}

/// As [`train`], where an operator sets the LR `lr` once `at` steps of all kinds are done, outside of trials.
pub(super) fn train_changed<S: Surface>(
    spec: &JobSpec,
    surface: S,
    at: u64,
    lr: f64,
    fault: impl FnMut(&Run, u64, f64) -> f64,
) -> Trace {
    let mut sim = Sim::new(spec, surface, Can { replay: true, validate: false }, fault);
    sim.change = Some((at, lr));
    sim.train(u64::MAX);
    sim.trace
}

/// What the trainer can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Can {
    pub(super) replay: bool,
    pub(super) validate: bool,
}

fn simulate<S: Surface>(
    steps: u64,
    spec: &JobSpec,
    surface: S,
    can: Can,
    fault: impl FnMut(&Run, u64, f64) -> f64,
) -> Trace {
    let mut sim = Sim::new(spec, surface, can, fault);
    sim.train(steps);
    sim.trace
}

struct Sim<S, F> {
    spec: ResolvedSpec,
    policy: PolicyState,
    trainer: State<S>,
    /// Of the stream of fresh batches.
    next_batch: u64,
    saved: BTreeMap<Slot, State<S>>,
    slots: BTreeMap<Slot, SlotEntry>,
    can: Can,
    fault: F,
    /// An operator's LR that waits, and for which step.
    change: Option<(u64, f64)>,
    trace: Trace,
}

impl<S: Surface, F: FnMut(&Run, u64, f64) -> f64> Sim<S, F> {
    fn new(spec: &JobSpec, surface: S, can: Can, fault: F) -> Self {
        let spec = resolve(spec).unwrap();
        Self {
            policy: PolicyState::new(&spec),
            spec,
            trainer: State { surface, batch: 0, tried: Vec::new() },
            next_batch: 0,
            saved: BTreeMap::new(),
            slots: BTreeMap::new(),
            can,
            fault,
            change: None,
            trace: Trace::default(),
        }
    }

    fn train(&mut self, steps: u64) {
        let mut plan = self.decide(|policy, cx, notes| policy.get_mut().begin(cx, notes));
        for seq in 1.. {
            let budget = self.spec.budget.limit() - self.trace.spent.total();
            plan = if self.can.validate { plan.validated() } else { plan };
            check(&plan, budget, true);
            self.trace.slot_ops.push(plan.slot_ops.clone());
            plan.slot_ops.iter().for_each(|op| self.operate(*op, seq));
            self.trace.plans.push(plan.clone());
            if plan.run().is_none_or(|run| run.phase != Phase::Trial) {
                self.keep_trial();
            }
            let run = match plan.action {
                Action::Run(_) if self.trace.spent.total() >= steps => break,
                Action::Done(reason) => {
                    self.trace.done = Some(reason);
                    break;
                }
                Action::Run(run) => run,
            };
            let (losses, validations, end) = self.run(&run);
            self.trace.ends.push(self.trace.spent.total());
            let mut changed = None;
            let stop = match end {
                End::Cut(next) => {
                    self.trace.segments.push((run, None));
                    self.trace.cut.push(losses.len() as u64);
                    plan = *next;
                    continue;
                }
                End::Stopped(stop) => Some(stop),
                End::Changed(lr) => {
                    changed = Some(Change { lr: Some(lr), total_steps: None });
                    None
                }
                End::Completed => None,
            };
            self.trace.segments.push((run.clone(), stop));
            plan = self.decide(|policy, cx, notes| {
                let segment = Segment { run: &run, losses: &losses, validations: &validations };
                if let Some(change) = changed {
                    policy.get_mut().update(change, cx, notes);
                }
                match stop {
                    Some(stop) => policy.get_mut().stopped(&segment, stop, cx, notes).into(),
                    None => policy.get_mut().ended(&segment, cx, notes),
                }
            });
        }
        assert!(self.trace.spent.total() <= self.spec.budget.limit());
        let searched = self.trace.spent.search as f64;
        assert!(searched <= self.spec.max_overhead * self.spec.budget.nominal() as f64);
        assert_eq!(self.trace.spent.committed, self.trace.committed.len() as u64);
    }

    /// Asks the policy, and a copy of it that was stored and loaded.
    fn decide(&mut self, ask: impl Fn(&mut PolicyState, &Context<'_>, &mut Notes) -> Plan) -> Plan {
        let stored = postcard::to_stdvec(&self.policy).unwrap();
        let mut copy: PolicyState = postcard::from_bytes(&stored).unwrap();
        assert_eq!(copy, self.policy);
        let Can { replay, validate } = self.can;
        let (spec, spent, slots) = (&self.spec, self.trace.spent, &self.slots);
        let cx = Context { spec, spent, slots, replay, validate };
        let plan = ask(&mut self.policy, &cx, &mut self.trace.notes);
        assert_eq!(ask(&mut copy, &cx, &mut Notes::default()), plan);
        assert_eq!(copy, self.policy);
        plan
    }

    /// Training goes on from a trial: its steps are kept.
    fn keep_trial(&mut self) {
        let tried = std::mem::take(&mut self.trainer.tried);
        self.trace.spent.search -= tried.len() as u64;
        self.trace.spent.committed += tried.len() as u64;
        self.trace.committed.extend(tried);
    }

    fn operate(&mut self, op: SlotOp, seq: u64) {
        let spent = &mut self.trace.spent;
        match op {
            SlotOp::Save(slot) => {
                let (committed, tried) = (spent.committed, self.trainer.tried.len() as u64);
                self.slots.insert(slot, SlotEntry { seq, committed, tried });
                let batch = self.next_batch;
                self.saved.insert(slot, State { batch, ..self.trainer.clone() });
            }
            SlotOp::Drop(slot) => {
                self.slots.remove(&slot);
                self.saved.remove(&slot).expect("a slot that is dropped is held");
            }
            SlotOp::Restore(slot) => {
                self.trainer = self.saved.get(&slot).expect("a slot that is restored is held").clone();
                let held = self.slots[&slot].committed;
                spent.lost += spent.committed - held;
                spent.committed = held;
                self.trace.committed.truncate(held as usize);
            }
        }
        self.trace.most_slots = self.trace.most_slots.max(self.slots.len());
    }

    fn run(&mut self, run: &Run) -> (Vec<f64>, Vec<Validation>, End) {
        assert!(run.batches == Batches::Fresh || self.can.replay, "this trainer can't replay");
        assert!(run.validate_at.is_empty() || self.can.validate, "this trainer can't validate");
        let mut validations = Vec::new();
        let mut batch = if run.batches == Batches::Replay { self.trainer.batch } else { self.next_batch };
        let (mut judge, mut cursor) = (Judge::new(&run.stop_if), Cursor::at(&run.lr, 0));
        let (mut losses, mut end, mut changed) = (Vec::new(), run.steps(), None);
        while (losses.len() as u64) < end {
            let lr = cursor.lr(&run.lr).unwrap();
            cursor.advance(&run.lr);
            let total = self.trace.spent.total() + losses.len() as u64;
            let committed = run.phase != Phase::Trial;
            if let Some((_, lr)) = self.change.take_if(|(at, _)| committed && total >= *at) {
                changed = Some(lr);
                break;
            }
            let loss = (self.fault)(run, total, self.trainer.surface.step(lr, batch));
            batch += 1;
            losses.push(loss);
            match run.phase {
                Phase::Trial => self.trainer.tried.push((lr, loss)),
                _ => self.trace.committed.push((lr, loss)),
            }
            let done = losses.len() as u64;
            let rung =
                run.is_rung(done, self.spec.switch_every) && judge.stop().is_none() && loss.is_finite();
            if let Some(plan) = rung.then(|| self.at_rung(run, &losses)).flatten() {
                self.next_batch = self.next_batch.max(batch);
                self.trace.spent.search += done;
                return (losses, validations, End::Cut(Box::new(plan)));
            }
            if let Some(stop) = judge.push(loss) {
                end = end.min(switch_point(stop.offset, self.spec.switch_every, run.steps()));
            }
            let offset = losses.len() as u64;
            let needed = offset < end || judge.stop().is_none();
            if needed && run.validate_at.contains(&offset) {
                validations.push(Validation { offset, loss: self.trainer.surface.true_loss() });
            }
        }
        self.next_batch = self.next_batch.max(batch);
        let steps = losses.len() as u64;
        match run.phase {
            Phase::Trial => self.trace.spent.search += steps,
            _ => self.trace.spent.committed += steps,
        }
        let end = match (judge.stop(), changed) {
            (Some(stop), _) => End::Stopped(stop),
            (None, Some(lr)) => End::Changed(lr),
            (None, None) => End::Completed,
        };
        (losses, validations, end)
    }

    /// Asks a copy of the policy twice; it becomes the policy if the trial is to end.
    fn at_rung(&mut self, run: &Run, losses: &[f64]) -> Option<Plan> {
        let segment = Segment { run, losses, validations: &[] };
        let spent = Spent { search: self.trace.spent.search + losses.len() as u64, ..self.trace.spent };
        let Can { replay, validate } = self.can;
        let cx = Context { spec: &self.spec, spent, slots: &self.slots, replay, validate };
        let ask = |notes: &mut Notes| {
            let mut copy = self.policy.clone();
            copy.get_mut().at_rung(&segment, &cx, notes).map(|plan| (copy, Plan::from(plan)))
        };
        let (policy, plan) = ask(&mut self.trace.notes)?;
        assert_eq!(ask(&mut Notes::default()), Some((policy.clone(), plan.clone())));
        self.policy = policy;
        Some(plan)
    }
}

/// More steps than any budget of these tests.
const OPEN: u64 = 1_000_000_000;

/// What every plan must keep to, with `budget` steps left.
fn check(plan: &Plan, budget: u64, top: bool) {
    let Action::Run(run) = &plan.action else {
        assert!(plan.fallback.is_none() && plan.fallback_on_stop.is_none());
        return;
    };
    assert!((1..=budget).contains(&run.steps()), "{} steps of {budget}", run.steps());
    assert!(!top || run.steps() <= MAX_RUN_STEPS);
    assert!(run.lr.iter().all(Piece::is_valid), "{:?}", run.lr);
    assert!(run.validates_in_order(), "{:?}", run.validate_at);
    assert!(top || run.validate_at.is_empty(), "nobody waits for the validations of a fallback");
    assert!(run.stop_if.contains(&StopIf::NonFinite));
    assert!(run.stop_if.iter().all(StopIf::is_valid), "{:?}", run.stop_if);
    assert_eq!(run.trial.is_some(), run.phase == Phase::Trial);
    assert!(run.rungs.is_sorted() && run.rungs.iter().all(|&rung| rung < run.steps()));
    assert!(run.rungs.is_empty() || top && run.phase == Phase::Trial && plan.fallback.is_some());
    assert!(plan.fallback_on_stop.is_some(), "an unattended stop needs a restore");
    let left = budget - run.steps();
    let end_of_trial = top && run.phase == Phase::Trial;
    // With an open budget a cooldown ends the job long before its last step.
    let is_last = left == 0 || budget > OPEN && run.phase == Phase::Cooldown;
    assert!(plan.fallback.is_some() || is_last || !top && !end_of_trial, "{left} steps would be left");
    for child in
        plan.fallback.as_deref().into_iter().chain(plan.fallback_on_stop.as_deref().map(|f| f.plan()))
    {
        check(child, left, false);
    }
}
