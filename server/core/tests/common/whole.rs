//! A whole trainer: a model whose losses depend on its state, slots, checkpoints of its own, losses that are kept until
//! the server has stored them, and fallbacks. What it sends goes over a line that loses and repeats.

use super::{Desk, UID};
use autolrs_core::{
    directive::{Action, Directive, DoneReason, Phase, Slot, SlotOp},
    job::{Ack, Open, Opened, Report, Resume, StoppedBecause, Validation},
    lr_pieces::lr_at,
    stop_rules::{Judge, switch_point},
};
use std::collections::BTreeMap;

/// One number that is trained, and the LRs that led to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    pub weight: f64,
    pub path: Vec<f64>,
}

/// Where the loss is NaN: after so many steps, at an LR above this.
pub type Cliff = Option<(usize, f64)>;

impl Model {
    pub fn new() -> Self {
        Self { weight: 2.0, path: Vec::new() }
    }

    fn validation(&self) -> f64 {
        0.5 * self.weight * self.weight + 0.4
    }

    /// One step of gradient descent on a noisy parabola; the loss before it.
    fn step(&mut self, lr: f64, cliff: Cliff) -> f64 {
        let n = self.path.len();
        let noise = libm::sin(n as f64 * 12.9898) * 0.05;
        let broken = cliff.is_some_and(|(after, limit)| n >= after && lr > limit);
        let loss = if broken { f64::NAN } else { 0.5 * self.weight * self.weight + 0.3 + noise };
        self.weight -= lr * (self.weight + noise);
        self.path.push(lr);
        loss
    }
}

/// Losses of a directive that the server may not have stored.
#[derive(Clone, Debug)]
struct Kept {
    seq: u64,
    losses: Vec<f64>,
    validations: Vec<Validation>,
    acked: usize,
    end: Option<Option<StoppedBecause>>,
}

impl Kept {
    fn new(seq: u64) -> Self {
        Self { seq, losses: Vec::new(), validations: Vec::new(), acked: 0, end: None }
    }
}

/// A trainer. Its clone is its checkpoint.
#[derive(Clone, Debug)]
pub struct Whole {
    pub model: Model,
    pub slots: BTreeMap<Slot, Model>,
    pub session: u64,
    pub done: Option<DoneReason>,
    /// Steps run, as the budget counts them.
    pub total: u64,
    /// Slots were lost and saved anew.
    pub refilled: bool,
    cliff: Cliff,
    /// It measures validation losses when asked.
    validates: bool,
    switch_every: u64,
    directive: Directive,
    judge: Judge,
    current: Kept,
    outbox: Vec<Kept>,
    interrupt: Option<u64>,
    /// The last rung that was passed.
    passed: u64,
    search_start: Option<Box<Self>>,
}

impl Whole {
    pub fn open(desk: &mut Desk, cliff: Cliff, validates: bool) -> Self {
        let opened = desk.open(Open { validate: validates, ..super::open() }).unwrap();
        let mut whole = Self {
            model: Model::new(),
            slots: BTreeMap::new(),
            session: opened.session,
            done: None,
            total: 0,
            refilled: false,
            cliff,
            validates,
            switch_every: opened.switch_every,
            directive: opened.directive.clone(),
            judge: Judge::new(&[]),
            current: Kept::new(0),
            outbox: Vec::new(),
            interrupt: None,
            passed: 0,
            search_start: None,
        };
        whole.enter(opened.directive);
        whole
    }

    /// Does the slot operations of a directive and stands at its first step.
    fn enter(&mut self, directive: Directive) {
        let trial = directive.run().is_some_and(|run| run.phase == Phase::Trial);
        let starts = trial && !directive.slot_ops.iter().any(|op| matches!(op, SlotOp::Restore(_)));
        self.judge = Judge::new(directive.run().map_or(&[], |run| &run.stop_if));
        self.current = Kept::new(directive.seq);
        (self.interrupt, self.passed, self.directive) = (None, 0, directive);
        if starts {
            self.search_start = None;
            self.search_start = Some(Box::new(self.clone()));
        }
        let ops = self.directive.slot_ops.clone();
        self.operate(&ops);
        match &self.directive.action {
            Action::Done(reason) => self.done = Some(*reason),
            Action::Run(_) => assert!(
                self.refilled || self.directive.committed_step_at_start == self.model.path.len() as u64,
                "directive {} says {} committed steps, the model has {}",
                self.directive.seq,
                self.directive.committed_step_at_start,
                self.model.path.len()
            ),
        }
    }

    fn operate(&mut self, ops: &[SlotOp]) {
        for op in ops {
            match op {
                SlotOp::Save(slot) => drop(self.slots.insert(*slot, self.model.clone())),
                SlotOp::Restore(slot) => self.model = self.slots[slot].clone(),
                SlotOp::Drop(slot) => drop(self.slots.remove(slot)),
            }
        }
    }

    /// Runs at most `n` steps of the directive.
    pub fn run(&mut self, n: usize) {
        let Some(run) = self.directive.run() else { return };
        for _ in 0..n {
            if self.current.end.is_some() {
                return;
            }
            let offset = self.current.losses.len() as u64;
            let at_switch = offset.is_multiple_of(self.switch_every);
            if let Some(number) = self.interrupt.filter(|_| at_switch && self.judge.stop().is_none()) {
                self.current.end = Some(Some(StoppedBecause::Interrupt(number)));
                return;
            }
            if self.at_rung() {
                return;
            }
            let loss = self.model.step(lr_at(&run.lr, offset).unwrap(), self.cliff);
            self.total += 1;
            self.current.losses.push(loss);
            let stop = self.judge.push(loss);
            let end = stop.map_or(run.steps(), |s| switch_point(s.offset, self.switch_every, run.steps()));
            if offset + 1 == end {
                self.current.end = Some(stop.map(StoppedBecause::Rule));
            }
            let moot = offset + 1 == end && stop.is_some();
            if run.validate_at.contains(&(offset + 1)) && !moot {
                assert!(self.validates, "a trainer that can't is never asked");
                let validation = Validation { offset: offset + 1, loss: self.model.validation() };
                self.current.validations.push(validation);
            }
        }
    }

    /// Stands at a rung and waits.
    fn at_rung(&self) -> bool {
        let done = self.current.losses.len() as u64;
        let rung = self.directive.run().is_some_and(|run| run.is_rung(done, self.switch_every));
        self.current.end.is_none() && done > self.passed && rung && self.judge.stop().is_none()
    }

    /// The next report, of at most `chunk` losses; none once the server knows all.
    pub fn report(&self, chunk: usize) -> Option<Report> {
        let kept = self.outbox.first().unwrap_or(&self.current);
        if self.done.is_some() && self.outbox.is_empty() {
            return None;
        }
        let to = (kept.acked + chunk).min(kept.losses.len());
        let end = kept.end.filter(|_| to == kept.losses.len());
        Some(Report {
            session: self.session,
            seq: kept.seq,
            first_offset: kept.acked as u64,
            train_losses: kept.losses[kept.acked..to].to_vec(),
            validations: kept.validations.clone(),
            finished: end.is_some(),
            stopped_because: end.flatten(),
            at_rung: self.outbox.is_empty() && to == kept.losses.len() && self.at_rung(),
        })
    }

    /// Takes an answer, old or new.
    pub fn take(&mut self, ack: Ack) {
        if ack.session != self.session {
            return;
        }
        for kept in self.outbox.iter_mut().chain([&mut self.current]).filter(|kept| kept.seq == ack.seq) {
            kept.acked = kept.losses.len().min(ack.received_through as usize);
        }
        let stands = self.current.end.is_some() || self.at_rung();
        let waiting = self.outbox.is_empty() && stands && self.done.is_none();
        if let Some(done) = ack.go_on
            && ack.seq == self.current.seq
            && done == self.current.losses.len() as u64
        {
            self.passed = done;
        }
        match ack.directive {
            Some(next) if waiting && ack.seq == self.current.seq => self.enter(next),
            Some(next) if next.action == Action::Done(DoneReason::Cancelled) => {
                self.done = Some(DoneReason::Cancelled);
            }
            _ => {}
        }
        self.outbox.retain(|kept| kept.seq > ack.durable_seq);
        if ack.seq == self.current.seq || waiting {
            self.interrupt = ack.interrupt.filter(|_| self.current.end.is_none());
        }
    }

    /// No answer comes.
    pub fn silence(&mut self) {
        if self.at_rung() {
            self.current.end = Some(Some(StoppedBecause::NoAnswer));
        }
        let Some(end) = self.current.end.filter(|_| self.done.is_none()) else { return };
        let stopped = matches!(end, Some(StoppedBecause::Rule(_)));
        let interrupted = matches!(end, Some(StoppedBecause::Interrupt(_)));
        if interrupted && self.directive.fallback.is_none() {
            return; // its work is not done: it waits for the answer
        }
        let next =
            if stopped { self.directive.fallback_on_stop.take() } else { self.directive.fallback.take() };
        self.outbox.push(self.current.clone());
        match next {
            Some(fallback) => {
                // An interrupt ends a directive before the step that its fallback counts on.
                let early = (self.current.losses.len() as u64) < self.directive.run().unwrap().steps();
                self.refilled |= early && interrupted;
                self.enter(*fallback);
            }
            None => {
                assert!(!stopped, "a directive with rules has a fallback for them");
                self.done = Some(DoneReason::Finished);
            }
        }
    }

    /// What the trainer writes to disk: in a search without its slots, the state at the search's start.
    pub fn checkpoint(&self, with_slots: bool) -> Self {
        let trial = self.directive.run().is_some_and(|run| run.phase == Phase::Trial);
        let mut saved = match &self.search_start {
            Some(start) if trial && !with_slots => (**start).clone(),
            _ => self.clone(),
        };
        if !with_slots {
            saved.slots.clear();
        }
        saved
    }

    /// A new process goes on from a checkpoint; none if the server refuses, or if there is nothing left to do.
    pub fn resume(mut self, desk: &mut Desk, takeover: bool) -> Option<Self> {
        self.report(1)?;
        let oldest = self.outbox.first().unwrap_or(&self.current);
        let (seq, offset) = (oldest.seq, oldest.losses.len() as u64);
        let slots: Vec<Slot> = self.slots.keys().copied().collect();
        let resume = Some(Resume { uid: UID, seq, offset, slots });
        let opened = desk
            .open(Open { resume, takeover, active: true, validate: self.validates, ..super::open() })
            .ok()?;
        self.go_on(opened, seq);
        Some(self)
    }

    fn go_on(&mut self, opened: Opened, seq: u64) {
        self.session = opened.session;
        self.interrupt = None;
        if opened.directive.seq != seq && self.outbox.is_empty() {
            // The search was closed.
            (self.refilled, self.search_start) = (true, None);
            self.operate(&opened.slot_ops);
            return self.enter(opened.directive);
        }
        let start = self.current.losses.is_empty() && self.search_start.is_none() && self.slots.is_empty();
        self.refilled |= !opened.slot_ops.is_empty();
        self.operate(&opened.slot_ops);
        for op in self.directive.slot_ops.clone() {
            if let SlotOp::Save(slot) = op
                && !self.slots.contains_key(&slot)
            {
                self.refilled |= !start;
                self.slots.insert(slot, self.model.clone());
            }
        }
        let oldest = self.outbox.first_mut().unwrap_or(&mut self.current);
        oldest.acked = oldest.losses.len().min(opened.received_through as usize);
    }
}
