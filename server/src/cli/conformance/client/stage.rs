//! The scripted server: gives its directives in their order, and looks at everything that the client says.

use super::{
    script::{Fault, Needs, Script},
    toy::{Expected, Toy},
};
use crate::cli::conformance::verdict::{Broken, Verdict, expect, same, short};
use autolrs_proto::{
    ERROR_DOMAIN, reason_name,
    v1::{
        Ack, Capabilities, Directive, ErrorReason, OpenSessionRequest, OpenSessionResponse, Phase, Report,
        directive::Action, stopped_because::Cause,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What the server's RetryInfo says.
const RETRY: Duration = Duration::from_millis(300);
/// How long the server is silent where a fallback must be run: longer than the program waits.
const SILENCE: Duration = Duration::from_secs(5);
/// The number of the interrupt.
const INTERRUPT: u64 = 77;
const UID: &str = "c0f0a0b0c0d0e0f0";

/// Everything that one server knows.
pub(super) struct Stage {
    pub(super) script: Script,
    job: String,
    session: u64,
    nonces: Vec<String>,
    pub(super) capabilities: Option<Capabilities>,
    toy: Toy,
    /// The same before the directive in force.
    before: Toy,
    /// Place of the directive in the line that is in force, or that the fallback in force follows.
    at: usize,
    current: Directive,
    expected: Option<Expected>,
    held: Vec<f64>,
    validations: BTreeMap<u64, f64>,
    committed: u64,
    /// Answers to ends, by seq, for when they are asked for again.
    answers: BTreeMap<u64, Directive>,
    /// Reports of a directive so far, by seq and whether they end it.
    reports: BTreeMap<(u64, bool), u32>,
    /// How often something went wrong on purpose.
    faults: u32,
    /// Steps done of the directive in force at which the trainer stood and said so.
    stood: BTreeSet<u64>,
    /// Reports after a refusal that is for good.
    pub(super) after_refusal: u32,
    refused: bool,
    adopted: bool,
    early: bool,
    /// A stop rule has ended the directive before the one in force.
    stopped: bool,
    /// Losses that were held when the interrupt was told.
    interrupted: Option<usize>,
    /// When it fell silent.
    silent_since: Option<Instant>,
    /// What the client did wrong first.
    pub(super) broken: Option<Broken>,
}

impl Stage {
    pub(super) fn new(script: Script, job: String) -> Self {
        Self {
            job,
            session: 0,
            nonces: Vec::new(),
            capabilities: None,
            toy: Toy::new(),
            before: Toy::new(),
            at: 0,
            current: Directive::default(),
            expected: None,
            held: Vec::new(),
            validations: BTreeMap::new(),
            committed: 0,
            answers: BTreeMap::new(),
            reports: BTreeMap::new(),
            faults: 0,
            stood: BTreeSet::new(),
            after_refusal: 0,
            refused: false,
            adopted: false,
            early: false,
            stopped: false,
            interrupted: None,
            silent_since: None,
            broken: None,
            script,
        }
    }

    /// Answers an opening.
    pub(super) fn open(&mut self, request: &OpenSessionRequest) -> Result<OpenSessionResponse, Status> {
        if let Err(broken) = self.judge_opening(request) {
            return Err(self.blame(broken));
        }
        self.capabilities = Some(request.capabilities.unwrap_or_default());
        let again = self.nonces.last().is_some_and(|last| *last == request.nonce && !last.is_empty());
        let first = self.nonces.is_empty();
        if !again {
            self.session += 1;
            self.nonces.push(request.nonce.clone());
        }
        if first {
            let directive = self.script.line[0].clone();
            self.enter(directive).map_err(|broken| self.blame(broken))?;
        }
        if std::mem::take(&mut self.script.loses_opening) {
            self.faults += 1;
            return Err(Status::unavailable("the answer is lost on purpose"));
        }
        Ok(OpenSessionResponse {
            session: self.session,
            directive: Some(self.told(&self.current)),
            received_through: self.held.len() as u64,
            slot_ops: Vec::new(),
            uid: UID.into(),
            switch_every: self.script.switch_every,
        })
    }

    fn judge_opening(&self, request: &OpenSessionRequest) -> Verdict {
        same("the job of AUTOLRS_JOB in OpenSession:", &self.job, &request.job)?;
        expect(request.nonce.len() <= 128, "a nonce of at most 128 bytes", request.nonce.len())?;
        let known = !request.nonce.is_empty() || self.nonces.is_empty();
        expect(known, "a nonce in an opening that is sent again", "none")?;
        let resumes = request.resume.is_some() || request.restart;
        expect(!resumes, "no resume and no restart in a first opening", short(request))?;
        let other = self.nonces.last().is_some_and(|last| *last != request.nonce);
        expect(!other, "the same nonce in every copy of an opening", short(&request.nonce))
    }

    /// Answers a report.
    pub(super) fn report(&mut self, report: &Report) -> Result<Ack, Status> {
        if self.refused {
            self.after_refusal += 1;
            return Err(refusal(ErrorReason::Fenced));
        }
        let place = self.script.line.iter().position(|directive| directive.seq == report.seq);
        let count = self.reports.entry((report.seq, report.finished)).or_default();
        let before = *count;
        *count += 1;
        let silent = place.is_some() && place == self.script.adopts && report.finished;
        if silent && self.silent_since.get_or_insert_with(Instant::now).elapsed() < SILENCE {
            self.take(report)?;
            return Err(Status::unavailable("silent on purpose"));
        }
        let fault = (self.script.fault)(place, before, report.finished);
        self.faults += u32::from(fault != Fault::None);
        match fault {
            Fault::None => self.take(report),
            Fault::LoseReply => {
                self.take(report)?;
                Err(Status::unavailable("the answer is lost on purpose"))
            }
            Fault::Twice => {
                self.take(report)?;
                self.take(report)
            }
            Fault::Unavailable => Err(refusal(ErrorReason::StoreUnavailable)),
            Fault::Forget => {
                self.held.clear();
                self.validations.clear();
                Ok(self.ack())
            }
            Fault::Refuse(reason) => {
                self.refused = true;
                Err(refusal(reason))
            }
            Fault::Interrupt => {
                let ack = self.take(report)?;
                self.interrupted.get_or_insert(self.held.len());
                Ok(Ack { interrupt: Some(INTERRUPT), ..ack })
            }
        }
    }

    fn take(&mut self, report: &Report) -> Result<Ack, Status> {
        self.judge(report).map_err(|broken| {
            let directive = format!("directive {}", report.seq);
            self.blame(broken.at(directive))
        })
    }

    fn judge(&mut self, report: &Report) -> Verdict<Ack> {
        same("the job of AUTOLRS_JOB in a report:", &self.job, &report.job)?;
        same("the session of OpenSessionResponse in a report:", &self.session, &report.session)?;
        if report.seq != self.current.seq {
            if self.answers.contains_key(&report.seq) && !self.is_fallback(report.seq) {
                return Ok(self.again(report));
            }
            self.adopt(report.seq)?;
            if report.first_offset > 0 || report.train_losses.is_empty() {
                return Ok(self.ack());
            }
        }
        let Some(expected) = self.expected.clone() else { return Ok(self.ack()) };
        let (first, n) = (report.first_offset as usize, report.train_losses.len());
        if first > self.held.len() {
            return Ok(self.ack());
        }
        for (i, loss) in report.train_losses.iter().enumerate() {
            let offset = first + i;
            let wanted = expected.losses.get(offset).copied();
            let wanted = wanted.ok_or_else(|| {
                Broken::new(
                    format!("at most {} losses", expected.losses.len()),
                    format!("{} of them", first + n),
                )
            })?;
            let near = (wanted - loss).abs() <= 1e-9 * wanted.abs().max(1.0);
            let right = near || (wanted.is_nan() && !loss.is_finite());
            expect(
                right,
                format!("loss {wanted} at offset {offset}: the LRs, slots and batches as told"),
                loss,
            )?;
        }
        if first + n > self.held.len() {
            let new = self.held.len() - first;
            self.held.extend_from_slice(&report.train_losses[new..]);
        }
        for validation in &report.validations {
            let wanted = expected.validation(validation.offset);
            let right = wanted.is_some_and(|wanted| (wanted - validation.loss).abs() <= 1e-9 * wanted.abs());
            let said = format!("validation loss {wanted:?} after {} steps", validation.offset);
            expect(right, said, validation.loss)?;
            self.validations.insert(validation.offset, validation.loss);
        }
        if first + n < self.held.len() {
            return Ok(self.ack());
        }
        match (report.finished, report.at_rung) {
            (true, true) => Err(Broken::new("either finished or at_rung", "both")),
            (true, false) => self.finish(report, &expected),
            (false, true) => self.stand(&expected),
            (false, false) => {
                self.early |= n > 0;
                expect(
                    report.stopped_because.is_none(),
                    "stopped_because only with finished",
                    short(report),
                )?;
                Ok(self.ack())
            }
        }
    }

    /// The directive has ended: is it the end that follows from its losses?
    fn finish(&mut self, report: &Report, expected: &Expected) -> Verdict<Ack> {
        let ran = self.held.len();
        let cause = report.stopped_because.and_then(|because| because.cause);
        match cause {
            Some(Cause::Interrupt(number)) if self.interrupted.is_some() => {
                same("the number of the interrupt that was told:", &INTERRUPT, &number)?;
                let every = self.script.switch_every;
                let whole = (ran as u64).is_multiple_of(every) || ran == expected.losses.len();
                expect(whole, format!("an end at a multiple of {every}"), ran)?;
            }
            cause => {
                let in_time = self.interrupted.is_some_and(|told| told < expected.losses.len() / 2);
                expect(
                    !in_time,
                    "an end by the interrupt, told in the first half of the steps",
                    short(&cause),
                )?;
                let claim = cause.map(|cause| match cause {
                    Cause::StopRule(stop) => Ok((stop.rule, stop.offset)),
                    other => Err(short(&other)),
                });
                let wanted = expected.stop.map(|stop| Ok((stop.rule, stop.offset)));
                same("stopped_because (rule, offset) as the losses say:", &wanted, &claim)?;
                same("steps of the segment:", &expected.losses.len(), &ran)?;
            }
        }
        let passed = expected.segment.stands.iter().find(|&&at| at < ran as u64 && !self.stood.contains(&at));
        if let Some(passed) = passed {
            return Err(Broken::new(format!("at_rung after {passed} steps"), "steps beyond it"));
        }
        for &at in &expected.segment.validate_at {
            let due = at < ran as u64 || (at == ran as u64 && expected.stop.is_none());
            let held = !due || self.validations.contains_key(&at);
            expect(held, format!("the validation loss after {at} steps with the end"), "none")?;
        }
        self.go_on(expected)
    }

    fn stand(&mut self, expected: &Expected) -> Verdict<Ack> {
        let done = self.held.len() as u64;
        let rung = expected.segment.stands.contains(&done);
        expect(rung, format!("at_rung after {:?} steps", expected.segment.stands), done)?;
        self.stood.insert(done);
        if self.script.goes_on_at.contains(&done) {
            return Ok(Ack { go_on: Some(done), ..self.ack() });
        }
        self.go_on(expected)
    }

    /// What follows.
    fn go_on(&mut self, expected: &Expected) -> Verdict<Ack> {
        let (seq, ran) = (self.current.seq, self.held.len());
        self.toy.ran(expected, ran);
        self.stopped = expected.stop.is_some();
        if expected.segment.phase != Phase::Trial {
            self.committed += ran as u64;
        }
        let adopted = self.is_fallback(seq);
        let last = self.script.line.len() - 1;
        self.at = if adopted { last } else { (self.at + 1).min(last) };
        let mut next = self.script.line[self.at].clone();
        if adopted {
            next.slot_ops.clear();
        }
        self.enter(next.clone())?;
        let directive = self.told(&next);
        self.answers.insert(seq, directive.clone());
        Ok(Ack { seq, received_through: ran as u64, directive: Some(directive), ..self.ack() })
    }

    fn enter(&mut self, directive: Directive) -> Verdict {
        self.before = self.toy.clone();
        self.expected = self.toy.begin(&directive, self.script.switch_every)?;
        self.current = directive;
        self.held.clear();
        self.stood.clear();
        self.validations.clear();
        Ok(())
    }

    /// The trainer says that it runs a fallback.
    fn adopt(&mut self, seq: u64) -> Verdict {
        let after = self.script.adopts;
        let parent = after.and_then(|place| self.script.line.get(place)).cloned().unwrap_or_default();
        let child = match (self.stopped, &parent.fallback_on_stop) {
            (true, Some(on_stop)) => Some(on_stop),
            _ => parent.fallback.as_ref(),
        };
        let wanted = child.map_or(self.current.seq, |child| child.seq);
        let child = child.filter(|child| child.seq == seq);
        let child = child.ok_or_else(|| Broken::new(format!("a report of {wanted}"), seq))?;
        let closed = self.answers.contains_key(&parent.seq) && self.held.is_empty() && !self.adopted;
        expect(closed, "the end of the directive before its fallback", format!("a report of {seq}"))?;
        self.adopted = true;
        // Of the directive that was never heard of nothing was done.
        self.toy = self.before.clone();
        self.enter((**child).clone())
    }

    fn is_fallback(&self, seq: u64) -> bool {
        !self.script.line.iter().any(|directive| directive.seq == seq)
    }

    fn again(&self, report: &Report) -> Ack {
        let directive = self.answers.get(&report.seq).cloned();
        let received_through = report.first_offset + report.train_losses.len() as u64;
        Ack { seq: report.seq, received_through, directive, ..self.ack() }
    }

    fn ack(&self) -> Ack {
        let closed = self.answers.keys().copied().filter(|seq| *seq < self.current.seq).max();
        Ack {
            session: self.session,
            seq: self.current.seq,
            received_through: self.held.len() as u64,
            durable_seq: closed.unwrap_or(0),
            ..Ack::default()
        }
    }

    fn told(&self, directive: &Directive) -> Directive {
        let mut told =
            Directive { session: self.session, committed_step_at_start: self.committed, ..directive.clone() };
        for child in [&mut told.fallback, &mut told.fallback_on_stop].into_iter().flatten() {
            child.session = self.session;
            child.committed_step_at_start = self.committed;
        }
        told
    }

    fn blame(&mut self, broken: Broken) -> Status {
        let status = Status::invalid_argument(short(&broken));
        self.broken.get_or_insert(broken);
        status
    }

    /// What is to be said when the program has ended.
    pub(super) fn verdict(&self) -> Verdict {
        let Some(capabilities) = self.capabilities else {
            return Err(Broken::new("OpenSession on the server of AUTOLRS_SERVER", "no call"));
        };
        let skip = |what: &str| Err(Broken::Skipped(format!("the client {what}")));
        match self.script.needs {
            Needs::Replay if !capabilities.replay => return skip("can't replay batches"),
            Needs::Validate if !capabilities.validate => return skip("can't validate"),
            _ => {}
        }
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        if self.script.needs == Needs::EarlyReports && !self.early {
            return skip("reports nothing before the end of a directive");
        }
        if self.script.ends_with_line {
            let (least, happened) = (self.script.faults, self.faults);
            expect(happened >= least, format!("calls enough for {least} faults"), happened)?;
        } else {
            expect(self.refused, "a report that is refused", "none")?;
            let after = self.after_refusal;
            return expect(after == 0, "no report of a session after it was refused for good", after);
        }
        let ended = matches!(self.current.action, Some(Action::Done(_)));
        expect(ended, "every directive carried out and reported", format!("{} was not", self.current.seq))?;
        match self.script.adopts {
            Some(place) if !self.adopted => {
                Err(Broken::new(format!("the fallback of directive {}", self.script.line[place].seq), "none"))
            }
            _ => Ok(()),
        }
    }
}

fn refusal(reason: ErrorReason) -> Status {
    let (code, retry) = match reason {
        ErrorReason::StoreUnavailable => (Code::Unavailable, Some(RETRY)),
        ErrorReason::JobNotFound => (Code::NotFound, None),
        _ => (Code::FailedPrecondition, None),
    };
    let mut details = ErrorDetails::new();
    details.set_error_info(reason_name(reason), ERROR_DOMAIN, std::collections::HashMap::new());
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, "refused on purpose by the conformance kit", details)
}
