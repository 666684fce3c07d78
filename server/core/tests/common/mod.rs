//! A trainer at the level of the core: it carries out directives on a loss function and reports.

#![allow(dead_code, unreachable_pub)] // each test file uses its own part

pub mod given;
pub mod steps;
pub mod whole;

use autolrs_core::{
    directive::{Action, Directive, DoneReason, Slot, SlotOp},
    job::{
        Ack, Answer, Checkpoint, DirectiveRecord, Effects, End, Event, Holder, Job, Open, Opened, Refusal,
        Report, Resume, Row, StoppedBecause, Stretch, Validation,
    },
    lr_pieces::{MAX_RUN_STEPS, lr_at},
    spec::{JobSpec, OpenBudget, PolicySpec, ResolvedSpec, resolve},
    stop_rules::{Judge, StopIf, switch_point},
};
use std::collections::BTreeMap;

pub const UID: u64 = 7;

/// A resolved spec with a range of five decades.
pub fn spec(total_steps: u64, policy: PolicySpec) -> ResolvedSpec {
    resolve(&JobSpec {
        total_steps: Some(total_steps),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.05),
        policy: Some(policy),
        ..JobSpec::default()
    })
    .unwrap()
}

/// A scan of the same range without a known budget.
pub fn open_scan() -> ResolvedSpec {
    resolve(&JobSpec {
        open_budget: Some(OpenBudget::default()),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.05),
        ..JobSpec::default()
    })
    .unwrap()
}

/// A job with its checkpoints, as the store would hold them.
#[derive(Clone)]
pub struct Desk {
    pub job: Job,
    pub checkpoints: BTreeMap<u64, Checkpoint>,
    pub directives: BTreeMap<u64, DirectiveRecord>,
    pub rows: Vec<Row>,
}

impl Desk {
    pub fn new(spec: ResolvedSpec) -> Self {
        Self {
            job: Job::create(spec, UID),
            checkpoints: BTreeMap::new(),
            directives: BTreeMap::new(),
            rows: Vec::new(),
        }
    }

    pub fn send(&mut self, mut event: Event) -> Result<Answer, Refusal> {
        if let Event::Open(open) = &mut event {
            let seq = self.job.needs_checkpoint(open);
            open.checkpoint = seq.and_then(|seq| self.checkpoints.get(&seq)).cloned().map(Box::new);
        }
        let admitted = self.job.admit(event)?;
        let Effects { answer, rows } = self.job.apply(admitted);
        for row in &rows {
            match row {
                Row::Checkpoint(checkpoint) => {
                    self.checkpoints.insert(checkpoint.seq(), (**checkpoint).clone());
                }
                Row::DropCheckpoint(seq) => {
                    self.checkpoints.remove(seq).expect("a checkpoint that is dropped was kept");
                }
                Row::Directive(record) => {
                    self.directives.insert(record.directive.seq, (**record).clone());
                }
                Row::Clear => {
                    self.checkpoints.clear();
                    self.directives.clear();
                }
                _ => {}
            }
        }
        let from = self.rows.len();
        self.rows.extend(rows);
        check_plans(&self.job, &self.rows[from..]);
        let spent = self.job.view().spent;
        assert!(spent.total() <= self.job.spec().budget.limit(), "over budget: {spent:?}");
        Ok(answer)
    }

    pub fn open(&mut self, open: Open) -> Result<Opened, Refusal> {
        match self.send(Event::Open(open))? {
            Answer::Opened(opened) => Ok(*opened),
            other => panic!("expected a session, got {other:?}"),
        }
    }

    pub fn report(&mut self, report: Report) -> Result<Ack, Refusal> {
        match self.send(Event::Report(report))? {
            Answer::Ack(ack) => Ok(ack),
            other => panic!("expected an ack, got {other:?}"),
        }
    }

    /// The newest record of a directive.
    pub fn closed(&self, seq: u64) -> &DirectiveRecord {
        let records = self.rows.iter().rev().filter_map(|row| match row {
            Row::Directive(record) => Some(&**record),
            _ => None,
        });
        records.into_iter().find(|record| record.directive.seq == seq).expect("it was given")
    }

    /// Number, steps and end of every record, in the order of their writing.
    pub fn history(&self) -> String {
        let records = self.rows.iter().filter_map(|row| match row {
            Row::Directive(r) => Some(format!("{} {:?} {}", r.directive.seq, r.end, r.steps)),
            _ => None,
        });
        records.collect::<Vec<_>>().join("; ")
    }

    /// What the store would hold of the job.
    pub fn stored(&self) -> Vec<u8> {
        postcard::to_stdvec(&self.job).unwrap()
    }

    /// The LR of every kept step, as an export gives it.
    pub fn kept_lrs(&self) -> Vec<f64> {
        let mut line = self.job.kept_line();
        while let Some(seq) = line.wants() {
            line.add(&self.directives[&seq]);
        }
        line.finish().iter().flat_map(|piece| (0..piece.steps).map(|i| piece.lr(i))).collect()
    }

    /// What was run and measured, as an export gives it.
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut line = self.job.kept_line_with_losses();
        while let Some(seq) = line.wants() {
            line.add(&self.directives[&seq]);
        }
        line.finish_with_losses().1
    }

    /// The server dies and comes back: what is not stored is gone.
    pub fn restart(&mut self) {
        self.job = postcard::from_bytes(&self.stored()).unwrap();
    }
}

/// What a directive foresees stays within the budget, whichever way it goes, and starts its fallbacks after a stop with
/// a restore.
fn check_plans(job: &Job, rows: &[Row]) {
    let new = rows.iter().filter_map(|row| match row {
        Row::Directive(record) if record.end == End::Open => Some(&record.directive),
        _ => None,
    });
    for directive in new {
        let left = job.spec().budget.limit() - job.view().spent.total();
        check_plan(directive, left);
        let steps = directive.run().map_or(0, |run| run.steps());
        let adopted = job.view().warnings.iter().any(|w| w.contains(&format!("fallback {} ", directive.seq)));
        assert!(steps <= MAX_RUN_STEPS || adopted, "a run of {steps} steps");
    }
}

fn check_plan(directive: &Directive, left: u64) {
    let Some(run) = directive.run() else { return };
    assert!(run.steps() <= left, "directive {} has {} steps of {left}", directive.seq, run.steps());
    assert!(run.lr.iter().all(|piece| piece.is_valid()), "{:?}", run.lr);
    assert!(run.rungs.is_sorted() && run.rungs.iter().all(|&rung| rung < run.steps()));
    assert!(run.rungs.is_empty() || run.trial.is_some() && directive.fallback.is_some());
    assert!(run.stop_if.contains(&StopIf::NonFinite) && run.stop_if.iter().all(StopIf::is_valid));
    for fallback in [&directive.fallback, &directive.fallback_on_stop].into_iter().flatten() {
        assert!(fallback.seq > directive.seq);
        check_plan(fallback, left - run.steps());
    }
    if let Some(on_stop) = &directive.fallback_on_stop {
        assert!(on_stop.slot_ops.iter().any(|op| matches!(op, SlotOp::Restore(_))));
    }
}

pub fn open() -> Open {
    Open { replay: true, holder: Holder { host: "node".into(), pid: 1 }, ..Open::default() }
}

pub fn resume(seq: u64, offset: u64, slots: &[Slot]) -> Open {
    Open { resume: Some(Resume { uid: UID, seq, offset, slots: slots.to_vec() }), ..open() }
}

/// A model of one number: each step adds the LR to it, so a wrong restore shows.
#[derive(Clone, Default)]
pub struct Trainer {
    pub state: f64,
    pub slots: BTreeMap<Slot, f64>,
    pub executed: Vec<(u64, f64)>,
}

impl Trainer {
    pub fn operate(&mut self, ops: &[SlotOp]) {
        for op in ops {
            match op {
                SlotOp::Save(slot) => drop(self.slots.insert(*slot, self.state)),
                SlotOp::Restore(slot) => {
                    self.state = *self.slots.get(slot).expect("a restored slot was saved");
                }
                SlotOp::Drop(slot) => drop(self.slots.remove(slot).expect("a dropped slot was saved")),
            }
        }
    }

    /// Runs a directive to its end (or to where its stop rules end it) and makes the finishing report.
    pub fn run(
        &mut self,
        directive: &Directive,
        session: u64,
        switch_every: u64,
        loss: &mut dyn FnMut(f64, f64) -> f64,
    ) -> Result<Report, DoneReason> {
        self.operate(&directive.slot_ops);
        let run = match &directive.action {
            Action::Run(run) => run,
            Action::Done(reason) => return Err(*reason),
        };
        let mut judge = Judge::new(&run.stop_if);
        let (mut losses, mut end) = (Vec::new(), run.steps());
        while (losses.len() as u64) < end {
            let lr = lr_at(&run.lr, losses.len() as u64).unwrap();
            let y = loss(self.state, lr);
            self.state += lr;
            self.executed.push((directive.seq, lr));
            losses.push(y);
            if let Some(stop) = judge.push(y) {
                end = switch_point(stop.offset, switch_every, run.steps());
            }
        }
        let early = judge.stop().is_some();
        let needed = run.validate_at.iter().filter(|at| **at < end || !early);
        let validations = needed.map(|&offset| Validation { offset, loss: losses[offset as usize - 1] });
        Ok(Report {
            session,
            seq: directive.seq,
            validations: validations.collect(),
            train_losses: losses,
            finished: true,
            stopped_because: judge.stop().map(StoppedBecause::Rule),
            ..Report::default()
        })
    }
}

/// Runs a whole job undisturbed.
pub fn run_job(desk: &mut Desk, trainer: &mut Trainer, loss: &mut dyn FnMut(f64, f64) -> f64) -> DoneReason {
    let opened = desk.open(open()).unwrap();
    let mut directive = opened.directive;
    for _ in 0..100_000 {
        match trainer.run(&directive, opened.session, opened.switch_every, loss) {
            Ok(report) => directive = desk.report(report).unwrap().directive.expect("an end is answered"),
            Err(reason) => return reason,
        }
    }
    panic!("the job does not end");
}
