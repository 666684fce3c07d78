//! The trainer: it carries directives out on a surface, as a client of the real server does.

use super::{
    surface::Surface,
    trace::{Segment, Step},
};
use crate::{
    directive::{Batches, Directive, Run, Slot, SlotOp},
    job::{Report, StoppedBecause},
    lr_pieces::Cursor,
    stop_rules::{Judge, Stop, switch_point},
};
use std::collections::BTreeMap;

/// A trainer with its state and its slots. [`Trainer::begin`] takes a directive, [`Trainer::advance`] runs it.
#[derive(Debug, Clone)]
pub struct Trainer<S> {
    state: State<S>,
    slots: BTreeMap<Slot, State<S>>,
    /// The first batch that was never used.
    fresh: u64,
    switch_every: u64,
    replay: bool,
    under_way: Option<UnderWay>,
    steps: Vec<Step>,
    segments: Vec<Segment>,
}

/// What a slot holds.
#[derive(Debug, Clone)]
struct State<S> {
    surface: S,
    /// The batch that follows.
    batch: u64,
    /// Positions of the segments whose steps it has behind it.
    past: Vec<usize>,
}

/// The segment of the last directive, and how far it has come.
#[derive(Debug, Clone)]
struct UnderWay {
    seq: u64,
    run: Run,
    judge: Judge,
    cursor: Cursor,
    done: u64,
}

impl<S: Surface> Trainer<S> {
    /// A trainer before its first step; `replay`: it can give the same batches once more.
    pub fn new(surface: S, switch_every: u64, replay: bool) -> Self {
        Self {
            state: State { surface, batch: 0, past: Vec::new() },
            slots: BTreeMap::new(),
            fresh: 0,
            switch_every,
            replay,
            under_way: None,
            steps: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// Takes the directive that follows, and does its slot operations.
    pub fn begin(&mut self, directive: &Directive) {
        for &op in &directive.slot_ops {
            self.operate(op);
        }
        self.under_way = directive.run().map(|run| self.enter(directive.seq, run));
    }

    /// Runs the directive to its next rung or its end; the report, with all its losses. None: there is no segment, the
    /// job has ended.
    pub fn advance(&mut self, session: u64) -> Option<Report> {
        let UnderWay { seq, run, mut judge, mut cursor, mut done } = self.under_way.take()?;
        let (steps, mut at_rung) = (run.steps(), false);
        let end = |judge: &Judge| {
            judge.stop().map_or(steps, |stop| switch_point(stop.offset, self.switch_every, steps))
        };
        while done < end(&judge) && !at_rung {
            let Some(lr) = cursor.lr(&run.lr) else { break };
            cursor.advance(&run.lr);
            let loss = self.state.surface.step(lr, self.state.batch);
            self.steps.push(Step { lr, loss });
            judge.push(loss);
            (self.state.batch, done) = (self.state.batch + 1, done + 1);
            at_rung = judge.stop().is_none() && run.is_rung(done, self.switch_every);
        }
        self.fresh = self.fresh.max(self.state.batch);
        let stop = judge.stop();
        let train_losses = self.close(done, stop);
        let report = Report { session, seq, train_losses, at_rung, finished: !at_rung, ..Report::default() };
        self.under_way = at_rung.then_some(UnderWay { seq, run, judge, cursor, done });
        Some(Report { stopped_because: stop.map(StoppedBecause::Rule), ..report })
    }

    /// Steps run.
    pub fn steps(&self) -> u64 {
        self.steps.len() as u64
    }

    /// The surface in its final state, every step and every segment.
    pub fn finish(mut self) -> (S, Vec<Step>, Vec<Segment>) {
        for &i in &self.state.past {
            self.segments[i].kept = true;
        }
        (self.state.surface, self.steps, self.segments)
    }

    fn operate(&mut self, op: SlotOp) {
        match op {
            SlotOp::Save(slot) => {
                self.slots.insert(slot, State { batch: self.fresh, ..self.state.clone() });
            }
            SlotOp::Drop(slot) => drop(self.slots.remove(&slot)),
            SlotOp::Restore(slot) => {
                if let Some(saved) = self.slots.get(&slot) {
                    self.state = saved.clone();
                }
            }
        }
    }

    fn enter(&mut self, seq: u64, run: &Run) -> UnderWay {
        if !(self.replay && run.batches == Batches::Replay) {
            self.state.batch = self.fresh;
        }
        self.state.past.push(self.segments.len());
        let (phase, stage, trial, first) = (run.phase, run.stage, run.trial, self.steps.len());
        self.segments.push(Segment { seq, phase, stage, trial, first, steps: 0, stop: None, kept: false });
        let (judge, cursor) = (Judge::new(&run.stop_if), Cursor::at(&run.lr, 0));
        UnderWay { seq, run: run.clone(), judge, cursor, done: 0 }
    }

    /// Enters that the last segment has come so far; its losses.
    fn close(&mut self, done: u64, stop: Option<Stop>) -> Vec<f64> {
        let Some(segment) = self.segments.last_mut() else { return Vec::new() };
        (segment.steps, segment.stop) = (done as usize, stop);
        self.steps[segment.first..].iter().map(|step| step.loss).collect()
    }
}
