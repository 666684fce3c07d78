//! The scripted trainer: carries out directives on a [`Surface`], judges each of them by the [`Ledger`], and reports.

use super::{
    kit::Kit,
    ledger::{Ledger, operate},
    surface::Surface,
};
use crate::cli::conformance::{
    segment::{Segment, run},
    verdict::{Broken, Verdict, expect, same, short},
};
use autolrs_proto::v1::{
    Ack, Capabilities, Directive, Done, Holder, JobSpec, OpenSessionRequest, OpenSessionResponse, Phase,
    Report, Resume, Slot, SlotOp, StoppedBecause, Validation, directive::Action, slot_op::Kind,
    stopped_because,
};
use std::collections::BTreeMap;

/// Who the trainer says that it is.
pub(super) const HOST: &str = "conformance.invalid";
/// See [`HOST`].
pub(super) const PID: u32 = 4711;

/// A step that was run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) seq: u64,
    pub(super) phase: Phase,
    pub(super) lr: f64,
    pub(super) loss: f64,
}

/// One trainer of one job.
#[derive(Clone)]
pub(super) struct Trainer<'a> {
    pub(super) kit: &'a Kit,
    pub(super) job: String,
    pub(super) uid: String,
    pub(super) session: u64,
    pub(super) directive: Directive,
    pub(super) ledger: Ledger,
    pub(super) surface: Surface,
    /// All steps that were run.
    pub(super) line: Vec<Step>,
    /// The LR of every step that is kept.
    pub(super) kept: Vec<f64>,
    /// The same of the trial's steps that the state holds: kept if training goes on from its end.
    tried: Vec<f64>,
    slots: BTreeMap<Slot, (Surface, usize, Vec<f64>)>,
    /// Of the directive under way.
    pub(super) losses: Vec<f64>,
    validations: Vec<Validation>,
    begun: bool,
}

/// Where a trainer has come to.
pub(super) enum Reached {
    /// The end of the job.
    Done(Done),
    /// The end of a directive: the report that says so.
    End(Report),
    /// The next directive: the one before was ended at a rung.
    Next,
}

impl<'a> Trainer<'a> {
    /// Makes a job and becomes its trainer.
    pub(super) async fn start(kit: &'a Kit, spec: JobSpec) -> Verdict<Self> {
        Self::start_with(kit, spec, Capabilities { replay: true, validate: true }).await
    }

    pub(super) async fn start_with(kit: &'a Kit, spec: JobSpec, capabilities: Capabilities) -> Verdict<Self> {
        let job = kit.create(spec).await?;
        Self::of(kit, job.name, capabilities, job.total_steps).await
    }

    /// Becomes the trainer of a job that exists.
    pub(super) async fn of(
        kit: &'a Kit,
        job: String,
        capabilities: Capabilities,
        budget: Option<u64>,
    ) -> Verdict<Self> {
        let open = OpenSessionRequest { capabilities: Some(capabilities), ..opening(&job) };
        let opened = kit.open(open).await?;
        let ledger = Ledger {
            slots: [].into(),
            session: opened.session,
            seq: 0,
            spent: 0,
            budget,
            switch_every: opened.switch_every,
            capabilities,
            cut: false,
        };
        let mut trainer = Self {
            kit,
            job,
            uid: opened.uid.clone(),
            session: opened.session,
            directive: Directive::default(),
            ledger,
            surface: Surface::new(),
            line: Vec::new(),
            kept: Vec::new(),
            tried: Vec::new(),
            slots: BTreeMap::new(),
            losses: Vec::new(),
            validations: Vec::new(),
            begun: false,
        };
        let first = opened.directive.ok_or_else(|| Broken::new("a directive", "none"))?;
        trainer.ledger.judge(&first)?;
        trainer.directive = first;
        Ok(trainer)
    }

    /// Opens another session at a place in the directive under way: `offset` steps of it are in the checkpoint.
    pub(super) async fn reopen(&mut self, offset: u64, takeover: bool) -> Verdict<OpenSessionResponse> {
        let capabilities = Some(self.ledger.capabilities);
        let resume = Some(self.resume(offset));
        let open = OpenSessionRequest { capabilities, resume, takeover, ..opening(&self.job) };
        let opened = self.kit.open(open).await?;
        self.session = opened.session;
        self.ledger.session = opened.session;
        Ok(opened)
    }

    /// Where its checkpoint stands.
    pub(super) fn resume(&self, offset: u64) -> Resume {
        let held: Vec<Slot> = self.slots.keys().copied().collect();
        Resume {
            uid: self.uid.clone(),
            seq: self.directive.seq,
            offset,
            slots: held.into_iter().map(Into::into).collect(),
        }
    }

    /// Trains to the end of the job.
    pub(super) async fn finish(&mut self) -> Verdict<Done> {
        loop {
            match self.reach().await? {
                Reached::Done(done) => return Ok(done),
                Reached::End(report) => self.hand_in(report).await?,
                Reached::Next => {}
            }
        }
    }

    /// Trains until a directive of this phase is to be begun.
    pub(super) async fn until(&mut self, phase: Phase) -> Verdict {
        while run(&self.directive).is_none_or(|run| run.phase() != phase) {
            let expected = format!("a directive of {}", phase.as_str_name());
            let went_on = self.advance().await?;
            expect(went_on, expected, "the end of the job")?;
        }
        Ok(())
    }

    /// Carries out the directive and takes the next; false at the end of the job.
    pub(super) async fn advance(&mut self) -> Verdict<bool> {
        Ok(match self.reach().await? {
            Reached::Done(_) => false,
            Reached::End(report) => {
                self.hand_in(report).await?;
                true
            }
            Reached::Next => true,
        })
    }

    /// Sends a report and takes the directive that follows.
    pub(super) async fn hand_in(&mut self, report: Report) -> Verdict {
        let ack = self.kit.advance(report).await?;
        self.take(ack)
    }

    /// Runs the directive to its end, through its rungs. Nothing but the rungs is reported on the way.
    pub(super) async fn reach(&mut self) -> Verdict<Reached> {
        self.begin()?;
        if let Some(Action::Done(done)) = &self.directive.action {
            return Ok(Reached::Done(*done));
        }
        loop {
            let (report, at_rung) = self.run_on(u64::MAX)?;
            if !at_rung {
                return Ok(Reached::End(report));
            }
            let ack = self.kit.advance(report).await?;
            if ack.directive.is_some() {
                self.ledger.cut = true;
                self.take(ack)?;
                return Ok(Reached::Next);
            }
            let stands = self.losses.len() as u64;
            same("at a rung a directive, or the word to go on:", &Some(stands), &ack.go_on)?;
        }
    }

    /// Does the slot operations of the directive, once.
    pub(super) fn begin(&mut self) -> Verdict {
        if !self.begun {
            self.begun = true;
            self.losses.clear();
            self.validations.clear();
            let ops = self.directive.slot_ops.clone();
            self.operate(&ops)?;
            if run(&self.directive).is_none_or(|run| run.phase() != Phase::Trial) {
                self.kept.append(&mut self.tried);
            }
            let trained = self.kept.len() as u64;
            let counted = self.directive.committed_step_at_start;
            if run(&self.directive).is_some_and(|run| run.phase() != Phase::Trial) {
                expect(trained == counted, format!("committed_step_at_start {trained}"), counted)?;
            }
        }
        Ok(())
    }

    /// Does slot operations.
    pub(super) fn operate(&mut self, ops: &[SlotOp]) -> Verdict {
        self.ledger.slots = operate(&self.ledger.slots, ops)?;
        for op in ops {
            match op.kind() {
                Kind::Save => {
                    let copy = (self.surface, self.kept.len(), self.tried.clone());
                    self.slots.insert(op.slot(), copy);
                }
                Kind::Restore => {
                    let Some((surface, kept, tried)) = self.slots.get(&op.slot()) else { continue };
                    self.surface = surface.breaking_at(self.surface.breaks_at);
                    self.kept.truncate(*kept);
                    self.tried.clone_from(tried);
                }
                Kind::Drop | Kind::Unspecified => drop(self.slots.remove(&op.slot())),
            }
        }
        Ok(())
    }

    /// Runs steps of the directive to its end, its next rung, or until `most` steps of it are done; the report of it,
    /// with all losses, and whether the trainer stands at a rung.
    pub(super) fn run_on(&mut self, most: u64) -> Verdict<(Report, bool)> {
        self.begin()?;
        let segment = self.segment()?;
        let mut judge = segment.judge();
        for &loss in &self.losses {
            judge.push(loss);
        }
        let mut end = segment.steps();
        let mut at_rung = false;
        while (self.losses.len() as u64) < end.min(most) && !at_rung {
            let lr = segment.lrs[self.losses.len()];
            let loss = self.surface.step(lr);
            self.line.push(Step { seq: self.directive.seq, phase: segment.phase, lr, loss });
            (if segment.phase == Phase::Trial { &mut self.tried } else { &mut self.kept }).push(lr);
            self.losses.push(loss);
            let stop = judge.push(loss);
            end = stop.map_or(end, |stop| segment.end_after(stop, self.ledger.switch_every));
            let done = self.losses.len() as u64;
            if segment.validate_at.contains(&done) && (stop.is_none() || done < end) {
                self.validations.push(Validation { offset: done, loss: self.surface.loss() });
            }
            at_rung = stop.is_none() && done < end && segment.stands.contains(&done);
        }
        let finished = self.losses.len() as u64 == end;
        let stopped = judge.stop().filter(|_| finished);
        self.ledger.cut = stopped.is_some();
        let rule = |stop: autolrs_core::stop_rules::Stop| stopped_because::StopRule {
            rule: stop.rule,
            offset: stop.offset,
        };
        let because = stopped.map(|stop| stopped_because::Cause::StopRule(rule(stop)));
        let report = Report {
            finished,
            at_rung,
            stopped_because: because.map(|cause| StoppedBecause { cause: Some(cause) }),
            ..self.report(0)
        };
        Ok((report, at_rung))
    }

    /// All losses of the directive from an offset on.
    pub(super) fn report(&self, first: usize) -> Report {
        Report {
            job: self.job.clone(),
            session: self.session,
            seq: self.directive.seq,
            first_offset: first as u64,
            train_losses: self.losses[first..].to_vec(),
            validations: self.validations.clone(),
            ..Report::default()
        }
    }

    /// The directive's segment.
    pub(super) fn segment(&self) -> Verdict<Segment> {
        let none = || Broken::new("a directive to run", short(&self.directive));
        Segment::of(run(&self.directive).ok_or_else(none)?, self.ledger.switch_every)
    }

    /// Takes the directive of the answer to an end.
    pub(super) fn take(&mut self, ack: Ack) -> Verdict {
        same("an answer about directive", &self.directive.seq, &ack.seq)?;
        same("an answer to session", &self.session, &ack.session)?;
        let next = ack.directive.ok_or_else(|| {
            Broken::new(
                "the next directive in the answer to an end",
                format!("none after {}", self.directive.seq),
            )
        })?;
        let held = self.losses.len() as u64;
        same("received_through", &held, &ack.received_through)?;
        let closed = ack.durable_seq >= self.directive.seq;
        expect(closed, format!("durable_seq {} with what follows it", self.directive.seq), ack.durable_seq)?;
        self.enter(next)
    }

    /// Puts a directive in force after the one that has ended.
    pub(super) fn enter(&mut self, next: Directive) -> Verdict {
        self.ledger.spent += self.losses.len() as u64;
        self.ledger.seq = self.directive.seq;
        self.ledger.judge(&next)?;
        self.ledger.cut = false;
        self.directive = next;
        self.begun = false;
        self.losses.clear();
        Ok(())
    }
}

/// The opening of a session by this trainer.
pub(super) fn opening(job: &str) -> OpenSessionRequest {
    let holder = Some(Holder { host: HOST.into(), pid: PID });
    let capabilities = Some(Capabilities { replay: true, validate: true });
    OpenSessionRequest { job: job.into(), holder, capabilities, ..OpenSessionRequest::default() }
}
