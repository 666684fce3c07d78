//! The training: trainer and server, and what happens to them on the way.

use super::{
    SimServer,
    model::{File, Optimum, SimTrainer, Step},
};
use autolrs_client::{
    Status,
    session::{Checkpoint, Due, Machine, Refused},
};
use autolrs_core::{
    directive::DoneReason,
    job::{Ack, Open, Refusal, Report, StoppedBecause},
    lr_pieces,
    policy::Change,
    spec::ResolvedSpec,
};
use std::collections::VecDeque;

/// What the network does to one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// The report is lost.
    LoseReport,
    /// The answer is lost.
    LoseAnswer,
    /// The report arrives twice; the first answer comes second.
    Repeat,
    /// The answer comes after a later one.
    Delay,
    /// The server crashes and starts again before the report arrives.
    RestartBefore,
    /// The server crashes and starts again before its answer is out.
    RestartAfter,
}

/// What happens to the trainer or the job before some step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// The trainer writes a checkpoint.
    Checkpoint,
    /// The trainer is killed and a new one goes on from the last checkpoint.
    Crash,
    /// The server is out of reach for this many exchanges.
    Outage(u32),
    /// An operator finishes the job, with so many steps of cooldown.
    Finish(u64),
    /// An operator cancels the job.
    Cancel,
    /// An operator sets the LR, in thousandths.
    SetLr(u32),
    /// An operator sets the budget.
    SetBudget(u64),
}

/// Where an operator's request takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Before the first step of a directive that was just given.
    BeforeFirstStep,
    /// Within a directive.
    Within,
    /// At a directive's own end.
    AtEnd,
}

/// Attempts at an answer before the trainer gives up waiting.
const PATIENCE: u32 = 8;
/// Steps between reports of a directive under way.
const REPORT_EVERY: u64 = 7;
/// Steps after which the loop of a trainer with an open budget gives up: nobody is left who would end it.
const OPEN_STEPS: u64 = 20_000;

/// A training.
pub struct World {
    spec: ResolvedSpec,
    surface: Optimum,
    /// Losses come late, as from a device.
    device: bool,
    /// The trainer measures validation losses when asked.
    validates: bool,
    /// The server with the job.
    pub server: SimServer,
    /// The trainer's session.
    pub machine: Machine,
    /// The trainer.
    pub trainer: SimTrainer,
    /// Losses that were not delivered yet.
    late: Vec<f64>,
    faults: VecDeque<Fault>,
    mishaps: VecDeque<(u64, Mishap)>,
    delayed: Vec<Ack>,
    outage: u32,
    file: Option<File>,
    /// Where the trainer measured a validation loss: directive and steps of it done.
    pub validated: Vec<(u64, u64)>,
    /// Steps run by all trainers together.
    pub steps_run: u64,
    /// Line length at which a fallback was adopted for the first time.
    pub adopted_at: Option<usize>,
    /// Line length at which an operator's request took effect, and how.
    pub effect_at: Option<(usize, Effect)>,
    /// A request that is to take effect exactly there.
    request_at: Option<(usize, Effect, Mishap)>,
    /// Line length after which an operator finishes the job, and the steps of the cooldown.
    finish_after: Option<(usize, u64)>,
    /// Refusals of reports.
    pub refusals: Vec<Refusal>,
    /// Crashes so far.
    pub crashes: u32,
    /// The trainer was killed and came back to a job that had been cancelled: it does not train on.
    pub cancelled: bool,
}

impl World {
    /// A training before its first step.
    pub fn new(spec: ResolvedSpec, surface: Optimum, device: bool, validates: bool) -> Self {
        let mut server = SimServer::new(spec.clone());
        let open = Open { replay: true, validate: validates, ..Open::default() };
        let opened = server.open(open).expect("a new job can be opened");
        let machine = Machine::open("job", spec.fallback_lr, opened);
        let mut world = Self {
            spec,
            surface,
            device,
            validates,
            server,
            machine,
            trainer: SimTrainer::new(surface),
            late: Vec::new(),
            faults: VecDeque::new(),
            mishaps: VecDeque::new(),
            delayed: Vec::new(),
            outage: 0,
            file: None,
            validated: Vec::new(),
            steps_run: 0,
            adopted_at: None,
            effect_at: None,
            request_at: None,
            finish_after: None,
            refusals: Vec::new(),
            crashes: 0,
            cancelled: false,
        };
        world.checkpoint();
        world
    }

    /// What the network will do, exchange by exchange; nothing after that.
    #[must_use]
    pub fn with_faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults = faults.into_iter().collect();
        self
    }

    /// What will happen, each after so many more steps.
    #[must_use]
    pub fn with_mishaps(mut self, mishaps: impl IntoIterator<Item = (u64, Mishap)>) -> Self {
        self.mishaps = mishaps.into_iter().collect();
        self
    }

    /// A request that takes effect at this length of the line, and in this way.
    #[must_use]
    pub fn with_request_at(mut self, at: usize, effect: Effect, request: Mishap) -> Self {
        self.request_at = Some((at, effect, request));
        self
    }

    /// An operator finishes the job at the end of the first directive at this length of the line.
    #[must_use]
    pub fn with_finish_after(mut self, steps: usize, cooldown_steps: u64) -> Self {
        self.finish_after = Some((steps, cooldown_steps));
        self
    }

    /// Trains to the end and lets the last reports through.
    pub fn run(&mut self) -> &[Step] {
        let bound = self.spec.budget.limit() * 30 + 10_000;
        self.enter();
        while self.machine.done().is_none() {
            if self.spec.budget.is_open() && self.steps_run >= OPEN_STEPS {
                break;
            }
            self.mishap();
            if self.cancelled {
                return &self.trainer.line;
            }
            self.request();
            self.finish_if_due(3);
            if self.machine.status() != Status::Ended {
                self.step();
            }
            if self.machine.status() == Status::Ended {
                self.end_directive();
                self.enter();
            }
            assert!(self.steps_run < bound, "the training does not end");
        }
        self.outage = 0;
        for _ in 0..1000 {
            if self.machine.is_flushed() {
                break;
            }
            self.exchange();
        }
        &self.trainer.line
    }

    /// Why the trainer's session ended.
    pub fn done(&self) -> DoneReason {
        self.machine.done().expect("the training has ended")
    }

    fn enter(&mut self) {
        let ops = self.machine.take_slot_ops();
        self.trainer.carry_out(&ops, self.machine.replay());
        self.validate();
    }

    /// The validation loss, if it is asked for.
    fn validate(&mut self) {
        if self.machine.status() == Status::WantLosses {
            self.deliver_wanted();
        }
        if self.machine.status() == Status::Validate {
            assert!(self.validates, "a trainer that can't is never asked");
            let loss = self.trainer.validate();
            self.machine.validation(loss);
            self.validated.push((self.machine.seq(), self.machine.offset()));
            assert_ne!(self.machine.status(), Status::Validate);
        }
    }

    fn step(&mut self) {
        let (seq, offset, lr) = (self.machine.seq(), self.machine.offset(), self.machine.lr());
        self.check_lr(seq, offset, lr);
        let loss = self.trainer.step(seq, lr);
        self.steps_run += 1;
        if self.device {
            self.late.push(loss);
            self.machine.tick();
        } else {
            self.machine.record(loss);
        }
        self.validate();
        assert_eq!(self.machine.total_step(), self.trainer.line.len() as u64, "both count the same steps");
        let reports = self.machine.offset().is_multiple_of(REPORT_EVERY) && self.machine.due() != Due::Never;
        if reports && self.machine.status() != Status::Ended {
            self.exchange();
        }
    }

    /// The LR of every step is the directive's.
    fn check_lr(&self, seq: u64, offset: u64, lr: f64) {
        if let Some(run) = self.server.directive(seq).and_then(|directive| directive.run()) {
            assert_eq!(Some(lr), lr_pieces::lr_at(&run.lr, offset), "directive {seq} at {offset}");
        } else {
            assert_eq!(seq, 0, "a directive that nobody gave");
        }
    }

    fn deliver_wanted(&mut self) {
        let known = self.machine.offset() - self.late.len() as u64;
        let due = usize::try_from(self.machine.wanted().saturating_sub(known)).expect("small");
        let losses: Vec<f64> = self.late.drain(..due).collect();
        self.machine.losses(&losses);
        assert_ne!(self.machine.status(), Status::WantLosses);
    }

    fn deliver_all(&mut self) {
        let losses = std::mem::take(&mut self.late);
        self.machine.losses(&losses);
    }

    fn end_directive(&mut self) {
        self.deliver_all();
        self.finish_if_due(1);
        self.request_at_end();
        for _ in 0..PATIENCE {
            if !self.machine.waiting() || !self.machine.expects_answer() {
                break;
            }
            self.exchange();
        }
        // Unless the server is out of reach the trainer is as patient as it takes.
        let mut bound = 1000;
        while self.machine.waiting() && self.machine.expects_answer() && self.outage == 0 {
            self.exchange();
            bound -= 1;
            assert!(bound > 0, "no answer leads on");
        }
        if self.machine.waiting() {
            self.machine.handle_silence();
            self.adopted_at.get_or_insert(self.trainer.line.len());
        }
    }

    /// Within a directive only long after: a fallback has no end.
    fn finish_if_due(&mut self, times: usize) {
        let due = self.finish_after.filter(|(steps, _)| self.trainer.line.len() >= times * steps);
        if let Some((_, cooldown_steps)) = due {
            self.finish_after = None;
            self.happen(Mishap::Finish(cooldown_steps));
        }
    }

    /// Makes the request that is to take effect at an exact place.
    fn request(&mut self) {
        let Some((at, effect, request)) = self.request_at else { return };
        if effect == Effect::Within && self.trainer.line.len() + 1 == at {
            self.request_at = None;
            self.happen(request);
            self.exchange();
        }
    }

    /// The same, where a directive has ended.
    fn request_at_end(&mut self) {
        let Some((at, effect, request)) = self.request_at else { return };
        if self.trainer.line.len() != at || effect == Effect::Within {
            return;
        }
        self.request_at = None;
        if effect == Effect::BeforeFirstStep {
            // The directive is given, but its first answer is lost.
            while self.machine.waiting() {
                let Some(report) = self.machine.poll_report() else { break };
                let ends = report.finished || report.at_rung;
                let answer = self.server.report(report);
                if ends {
                    break;
                }
                answer.into_iter().for_each(|ack| self.hear(ack));
            }
        }
        self.happen(request);
    }

    fn mishap(&mut self) {
        let Some((wait, mishap)) = self.mishaps.front_mut() else { return };
        if *wait > 0 {
            *wait -= 1;
            return;
        }
        let mishap = *mishap;
        self.mishaps.pop_front();
        self.happen(mishap);
    }

    fn happen(&mut self, mishap: Mishap) {
        match mishap {
            Mishap::Checkpoint => self.checkpoint(),
            Mishap::Crash => self.crash(),
            Mishap::Outage(exchanges) => self.outage = exchanges,
            Mishap::Finish(steps) => drop(self.server.finish(Some(steps))),
            Mishap::Cancel => drop(self.server.cancel()),
            Mishap::SetLr(lr) => {
                let lr = Some(f64::from(lr) / 1000.0);
                drop(self.server.update(Change { lr, ..Change::default() }));
            }
            Mishap::SetBudget(steps) => {
                drop(self.server.update(Change { total_steps: Some(steps), ..Change::default() }));
            }
        }
    }

    /// Writes the trainer's checkpoint.
    pub fn checkpoint(&mut self) {
        self.deliver_all();
        let session = self.machine.export().expect("every loss was delivered");
        self.file = Some(self.trainer.file(session, self.machine.export_slot()));
    }

    fn crash(&mut self) {
        let Some(file) = self.file.clone() else { return };
        let checkpoint = Checkpoint::decode(&file.session).expect("the session's bytes can be read");
        let resume = checkpoint.resume();
        self.crashes += 1;
        self.late.clear();
        self.delayed.clear();
        self.outage = 0;
        self.machine = match resume {
            None => Machine::resume_alone(checkpoint, self.spec.fallback_lr),
            Some(resume) => {
                let validate = self.validates;
                let open =
                    Open { resume: Some(resume), replay: true, validate, active: true, ..Open::default() };
                match self.server.open(open) {
                    Ok(opened) => Machine::resume(checkpoint, self.spec.fallback_lr, opened),
                    Err(Refusal::Ended(DoneReason::Cancelled)) => {
                        self.cancelled = true;
                        return;
                    }
                    Err(refusal) => panic!("the job's own checkpoint is refused: {refusal}"),
                }
            }
        };
        self.trainer = SimTrainer::load(&file, self.surface, self.machine.total_step());
        self.enter();
    }

    /// One report and what becomes of it.
    fn exchange(&mut self) {
        if self.outage > 0 {
            self.outage -= 1;
            return;
        }
        let Some(report) = self.machine.poll_report() else { return };
        match self.faults.pop_front().unwrap_or(Fault::None) {
            Fault::None => self.deliver(report),
            Fault::LoseReport => {}
            Fault::LoseAnswer => drop(self.submit(report)),
            Fault::Repeat => {
                let first = self.submit(report.clone());
                self.deliver(report);
                first.into_iter().for_each(|ack| self.hear(ack));
            }
            Fault::Delay => {
                let answer = self.submit(report);
                self.delayed.extend(answer);
            }
            Fault::RestartBefore => {
                self.server.restart();
                self.deliver(report);
            }
            Fault::RestartAfter => {
                drop(self.submit(report));
                self.server.restart();
            }
        }
    }

    fn deliver(&mut self, report: Report) {
        let seq = report.seq;
        match self.submit(report) {
            Ok(ack) => self.hear(ack),
            Err(refusal) => {
                let refused = match &refusal {
                    Refusal::StopMismatch { .. } => Refused::StopMismatch(refusal.to_string()),
                    Refusal::Fenced { .. } => Refused::Fenced(refusal.to_string()),
                    _ => Refused::Other(refusal.to_string()),
                };
                self.refusals.push(refusal);
                self.machine.handle_refusal(seq, refused);
            }
        }
        for ack in std::mem::take(&mut self.delayed) {
            self.hear(ack);
        }
    }

    /// The report at the server; notes where an operator's request takes effect.
    fn submit(&mut self, report: Report) -> Result<Ack, Refusal> {
        let pending = self.server.job().interrupt();
        let first = report.first_offset + report.train_losses.len() as u64 == 0;
        let interrupted = matches!(report.stopped_because, Some(StoppedBecause::Interrupt(_)));
        let answer = self.server.report(report);
        if pending.is_some() && self.server.job().interrupt() != pending {
            let effect = match (interrupted, first) {
                (true, true) => Effect::BeforeFirstStep,
                (true, false) => Effect::Within,
                (false, _) => Effect::AtEnd,
            };
            self.effect_at = Some((self.trainer.line.len(), effect));
        }
        answer
    }

    fn hear(&mut self, ack: Ack) {
        self.machine.handle_ack(ack);
    }
}
