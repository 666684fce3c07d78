//! The trainer: it carries directives out on a surface, as a client of the real server does.

use super::{
    surface::Surface,
    trace::{Segment, Step},
};
use crate::{
    directive::{Batches, Directive, Phase, Run, Slot, SlotOp},
    job::{Report, StoppedBecause},
    lr_pieces::Cursor,
    stop_rules::{Judge, switch_point},
};
use std::collections::BTreeMap;

/// A trainer with its state and its slots.
#[derive(Debug, Clone)]
pub struct Trainer<S> {
    state: State<S>,
    slots: BTreeMap<Slot, State<S>>,
    /// The first batch that was never used.
    fresh: u64,
    switch_every: u64,
    replay: bool,
    steps: Vec<Step>,
    segments: Vec<Segment>,
}

/// What a slot holds.
#[derive(Debug, Clone)]
struct State<S> {
    surface: S,
    /// The batch that follows.
    batch: u64,
    /// Segments in its past.
    segments: usize,
}

impl<S: Surface> Trainer<S> {
    /// A trainer before its first step; `replay`: it can give the same batches once more.
    pub fn new(surface: S, switch_every: u64, replay: bool) -> Self {
        Self {
            state: State { surface, batch: 0, segments: 0 },
            slots: BTreeMap::new(),
            fresh: 0,
            switch_every,
            replay,
            steps: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// Does the directive's slot operations and runs its segment; the report of its end, with all its losses. None: it
    /// has no segment, the job has ended.
    pub fn carry_out(&mut self, directive: &Directive, session: u64) -> Option<Report> {
        for &op in &directive.slot_ops {
            self.operate(op);
        }
        let run = directive.run()?;
        let first = self.steps.len();
        let stopped_because = self.run(run).map(StoppedBecause::Rule);
        let stop = match stopped_because {
            Some(StoppedBecause::Rule(stop)) => Some(stop),
            _ => None,
        };
        let (seq, steps) = (directive.seq, self.steps.len() - first);
        let (phase, kept) = (run.phase, run.phase != Phase::Trial);
        let segment = Segment { seq, phase, stage: run.stage, trial: run.trial, first, steps, stop, kept };
        self.segments.push(segment);
        let train_losses = self.steps[first..].iter().map(|step| step.loss).collect();
        Some(Report { session, seq, train_losses, finished: true, stopped_because, ..Report::default() })
    }

    /// Steps run.
    pub fn steps(&self) -> u64 {
        self.steps.len() as u64
    }

    /// The surface in its final state, every step and every segment.
    pub fn finish(self) -> (S, Vec<Step>, Vec<Segment>) {
        (self.state.surface, self.steps, self.segments)
    }

    fn operate(&mut self, op: SlotOp) {
        match op {
            SlotOp::Save(slot) => {
                let (batch, segments) = (self.fresh, self.segments.len());
                self.slots.insert(slot, State { batch, segments, ..self.state.clone() });
            }
            SlotOp::Drop(slot) => drop(self.slots.remove(&slot)),
            SlotOp::Restore(slot) => {
                if let Some(saved) = self.slots.get(&slot) {
                    self.state = saved.clone();
                    self.segments[saved.segments..].iter_mut().for_each(|segment| segment.kept = false);
                }
            }
        }
    }

    fn run(&mut self, run: &Run) -> Option<crate::stop_rules::Stop> {
        let replayed = self.replay && run.batches == Batches::Replay;
        let mut batch = if replayed { self.state.batch } else { self.fresh };
        let (mut judge, mut cursor) = (Judge::new(&run.stop_if), Cursor::at(&run.lr, 0));
        let (mut done, mut end) = (0, run.steps());
        while done < end {
            let Some(lr) = cursor.lr(&run.lr) else { break };
            cursor.advance(&run.lr);
            let loss = self.state.surface.step(lr, batch);
            self.steps.push(Step { lr, loss });
            (batch, done) = (batch + 1, done + 1);
            if let Some(stop) = judge.push(loss) {
                end = end.min(switch_point(stop.offset, self.switch_every, run.steps()));
            }
        }
        self.fresh = self.fresh.max(batch);
        judge.stop()
    }
}
