//! A trainer that speaks the protocol from the generated messages alone: no client library in between.

use crate::server::Server;
use autolrs_proto::v1::{
    AdvanceRequest, CreateJobRequest, Directive, JobSpec, LrPiece, OpenSessionRequest, OpenSessionResponse,
    Report, Slot, directive::Action, job_spec::Policy, lr_piece::Shape, slot_op::Kind,
};
use std::collections::BTreeMap;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A spec of `total_steps` that searches five decades.
pub fn spec(total_steps: u64, policy: Policy) -> JobSpec {
    JobSpec {
        total_steps: Some(total_steps),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.05),
        policy: Some(policy),
        ..JobSpec::default()
    }
}

/// Makes a job and opens its first session.
pub async fn open(server: &Server, name: &str, spec: JobSpec) -> Result<OpenSessionResponse, Status> {
    let create = CreateJobRequest { name: name.into(), spec: Some(spec), ..CreateJobRequest::default() };
    server.jobs().create_job(create).await?;
    let open = OpenSessionRequest { job: name.into(), ..OpenSessionRequest::default() };
    Ok(server.trainer().open_session(open).await?.into_inner())
}

/// Sends a report and returns the answer.
pub async fn advance(server: &Server, report: Report) -> Result<autolrs_proto::v1::Ack, Status> {
    let request = AdvanceRequest { report: Some(report) };
    Ok(server.trainer().advance(request).await?.into_inner().ack.unwrap_or_default())
}

/// The LR of every step of a directive's segment; empty at the end of a job.
pub fn lrs(directive: &Directive) -> Vec<f64> {
    let Some(Action::Run(run)) = &directive.action else { return Vec::new() };
    run.lr.iter().flat_map(piece_lrs).collect()
}

/// The LR of every step of a piece.
pub fn piece_lrs(piece: &LrPiece) -> impl Iterator<Item = f64> {
    (0..piece.steps).map(|i| lr(piece, i))
}

/// Written from the comment of the message, not from the library.
fn lr(piece: &LrPiece, i: u64) -> f64 {
    let j = (piece.index + i) as f64;
    let u = if piece.of <= 1 { 0.0 } else { j / (piece.of - 1) as f64 };
    match piece.shape() {
        Shape::Constant => piece.start,
        Shape::Linear => piece.start + (piece.end - piece.start) * u,
        Shape::Cosine => {
            piece.start + (piece.end - piece.start) * (1.0 - (std::f64::consts::PI * u).cos()) / 2.0
        }
        Shape::Power => piece.start * ((piece.origin + j) / piece.origin).powf(piece.exponent),
        Shape::Unspecified => f64::NAN,
    }
}

/// The reason in an error's `google.rpc.ErrorInfo`.
pub fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// The fields in an error's `google.rpc.BadRequest`.
pub fn bad_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

/// Checks an error's code and reason.
#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = result.expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
    assert!(status.message().len() > 20, "a sentence that says what to do: {}", status.message());
    status
}

/// A model of one number on a loss surface that depends on it and on the LR: a wrong restore or a wrong LR shows in
/// every loss that follows.
#[derive(Default)]
pub struct Model {
    state: f64,
    slots: BTreeMap<Slot, f64>,
    /// Of the directive under way.
    losses: Vec<f64>,
    /// (seq of the directive, LR) of every step that was run.
    pub line: Vec<(u64, f64)>,
}

impl Model {
    /// Does a directive's slot operations and runs its segment, without regard to rungs; the finishing report. None:
    /// the job has ended.
    pub fn carry_out(&mut self, job: &str, session: u64, directive: &Directive) -> Option<Report> {
        self.begin(directive);
        let steps = lrs(directive).len();
        (steps > 0).then(|| self.run_to(job, session, directive, steps))
    }

    /// As [`Model::carry_out`], from `done` steps to the next rung, for a job of `switch_every` 1.
    pub fn carry_on(
        &mut self,
        job: &str,
        session: u64,
        directive: &Directive,
        done: usize,
    ) -> Option<Report> {
        if done == 0 {
            self.begin(directive);
        }
        let Some(Action::Run(run)) = &directive.action else { return None };
        let steps = lrs(directive).len();
        let rungs = run.rungs.iter().map(|&rung| rung as usize + 1);
        let end = rungs.filter(|&end| end > done && end < steps).min().unwrap_or(steps);
        Some(self.run_to(job, session, directive, end))
    }

    fn begin(&mut self, directive: &Directive) {
        self.losses.clear();
        for op in &directive.slot_ops {
            match op.kind() {
                Kind::Save => drop(self.slots.insert(op.slot(), self.state)),
                Kind::Restore => self.state = self.slots[&op.slot()],
                Kind::Drop => drop(self.slots.remove(&op.slot()).expect("a slot that is dropped was saved")),
                Kind::Unspecified => panic!("an unspecified slot operation"),
            }
        }
    }

    fn run_to(&mut self, job: &str, session: u64, directive: &Directive, end: usize) -> Report {
        let lrs = lrs(directive);
        for lr in &lrs[self.losses.len()..end] {
            let loss = self.step(directive.seq, *lr);
            self.losses.push(loss);
        }
        Report {
            job: job.into(),
            session,
            seq: directive.seq,
            train_losses: self.losses.clone(),
            finished: end == lrs.len(),
            at_rung: end < lrs.len(),
            ..Report::default()
        }
    }

    /// The best constant LR is about 0.3; no LR diverges.
    fn step(&mut self, seq: u64, lr: f64) -> f64 {
        self.line.push((seq, lr));
        let misfit = (lr.max(1e-9) / 0.3).log10();
        self.state += lr / (1.0 + misfit.powi(4));
        0.3 + 2.0 / (1.0 + self.state) + 0.05 * misfit.tanh().max(0.0) + 0.01 * (self.state * 37.0).sin()
    }
}
