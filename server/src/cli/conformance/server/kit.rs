//! The server under test, and the jobs that the checks make on it. They have names and a label of their own and are
//! cancelled and deleted at the end, whatever happened.

use crate::cli::{
    calls,
    client::{ClientError, Line, Target},
    conformance::verdict::{Broken, Verdict, code_name, expect, told},
};
use autolrs_proto::{
    ERROR_DOMAIN, reason_name,
    v1::{
        Ack, AdvanceRequest, CancelJobRequest, ConstantPolicy, CreateJobRequest, DeleteJobRequest,
        ErrorReason, GetJobRequest, Job, JobSpec, JobState, ListJobsRequest, OpenSessionRequest,
        OpenSessionResponse, PaperPolicy, Report, ScanPolicy, StoppedBecause,
        job_service_client::JobServiceClient, job_spec::Policy, stopped_because::Cause,
        trainer_service_client::TrainerServiceClient,
    },
};
use std::sync::atomic::{AtomicU32, Ordering};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// How the name of every job begins.
pub(super) const PREFIX: &str = "conformance-";
/// The label that every job has; its value is the run's own.
pub(super) const LABEL: &str = "autolrs-conformance";

/// The server, and what was made on it.
pub(super) struct Kit {
    channel: Line,
    /// 8 hexadecimal digits, another one for every run.
    pub(super) run: String,
    made: AtomicU32,
}

impl Kit {
    pub(super) async fn connect(target: &Target) -> Result<Self, ClientError> {
        let run = format!("{:08x}", rand::random::<u32>());
        Ok(Self { channel: target.connect().await?, run, made: AtomicU32::new(0) })
    }

    pub(super) fn channel(&self) -> Line {
        self.channel.clone()
    }

    pub(super) fn jobs(&self) -> JobServiceClient<Line> {
        JobServiceClient::new(self.channel())
    }

    pub(super) fn trainers(&self) -> TrainerServiceClient<Line> {
        TrainerServiceClient::new(self.channel())
    }

    /// The name of a job that does not exist yet.
    pub(super) fn name(&self) -> String {
        format!("{PREFIX}{}-{}", self.run, self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// The spec with the label.
    pub(super) fn labelled(&self, mut spec: JobSpec) -> JobSpec {
        spec.labels.insert(LABEL.into(), self.run.clone());
        spec
    }

    /// Asks for a job of this name.
    pub(super) async fn ask(&self, name: &str, spec: JobSpec, request_id: &str) -> Result<Job, Status> {
        let (name, spec) = (name.into(), Some(self.labelled(spec)));
        let request = CreateJobRequest { name, spec, request_id: request_id.into() };
        Ok(self.jobs().create_job(request).await?.into_inner().job.unwrap_or_default())
    }

    /// Makes a job.
    pub(super) async fn create(&self, spec: JobSpec) -> Verdict<Job> {
        Ok(self.ask(&self.name(), spec, "").await?)
    }

    pub(super) async fn get(&self, name: &str) -> Result<Job, Status> {
        let request = GetJobRequest { name: name.into() };
        Ok(self.jobs().get_job(request).await?.into_inner().job.unwrap_or_default())
    }

    pub(super) async fn open(&self, request: OpenSessionRequest) -> Result<OpenSessionResponse, Status> {
        Ok(self.trainers().open_session(request).await?.into_inner())
    }

    pub(super) async fn advance(&self, report: Report) -> Result<Ack, Status> {
        let request = AdvanceRequest { report: Some(report) };
        let ack = self.trainers().advance(request).await?.into_inner().ack;
        ack.ok_or_else(|| Status::data_loss("an answer without its ack"))
    }

    pub(super) async fn cancel(&self, name: &str) -> Result<Job, Status> {
        let request = CancelJobRequest { name: name.into(), request_id: self.name() };
        Ok(self.jobs().cancel_job(request).await?.into_inner().job.unwrap_or_default())
    }

    pub(super) async fn delete(&self, name: &str, uid: &str) -> Result<(), Status> {
        let request = DeleteJobRequest { name: name.into(), request_id: self.name(), uid: uid.into() };
        self.jobs().delete_job(request).await.map(drop)
    }

    /// Ends and deletes every job of this run; what is left, by name and reason.
    pub(super) async fn clear(&self) -> Vec<String> {
        let labels = [(LABEL.to_owned(), self.run.clone())].into();
        let mut left = Vec::new();
        // A server that loses labels or filters must not make us touch a job of somebody else.
        let asked =
            calls::list(&mut self.jobs(), ListJobsRequest { labels, ..ListJobsRequest::default() }).await;
        let listed = asked.unwrap_or_default().into_iter().map(|job| job.name);
        let own = format!("{PREFIX}{}-", self.run);
        let made = (0..self.made.load(Ordering::Relaxed)).map(|number| format!("{own}{number}"));
        let mut names: Vec<String> = listed.filter(|name| name.starts_with(&own)).chain(made).collect();
        names.sort();
        names.dedup();
        for name in names {
            if let Err(status) = self.remove(&name).await {
                left.push(format!("{name}: {}", told(&status)));
            }
        }
        left
    }

    async fn remove(&self, name: &str) -> Result<(), Status> {
        match self.delete(name, "").await {
            Err(status) if status.code() == Code::FailedPrecondition => {}
            Err(status) if status.code() == Code::NotFound => return Ok(()),
            other => return other,
        }
        if !ended(&self.cancel(name).await?) {
            self.obey(name).await?;
        }
        self.delete(name, "").await
    }

    /// Ends a job that was cancelled as its trainer: with no step of a new beginning.
    async fn obey(&self, name: &str) -> Result<(), Status> {
        let job = name.to_owned();
        let open = OpenSessionRequest { job, takeover: true, restart: true, ..OpenSessionRequest::default() };
        let opened = self.open(open).await?;
        self.cancel(name).await?;
        let seq = opened.directive.map_or(0, |directive| directive.seq);
        let report = Report { job: name.into(), session: opened.session, seq, ..Report::default() };
        let Some(number) = self.advance(report.clone()).await?.interrupt else { return Ok(()) };
        let stopped_because = Some(StoppedBecause { cause: Some(Cause::Interrupt(number)) });
        self.advance(Report { finished: true, stopped_because, ..report }).await.map(drop)
    }
}

pub(super) fn ended(job: &Job) -> bool {
    matches!(job.state(), JobState::Finished | JobState::Cancelled | JobState::Failed)
}

/// Whether a call was refused as it must be; what it said.
pub(super) fn refused<T>(
    what: &str,
    answer: Result<T, Status>,
    code: Code,
    reason: ErrorReason,
) -> Verdict<Status> {
    let reason = reason_name(reason);
    let expected = format!("{what}: {} with the reason {reason}", code_name(code));
    let Err(status) = answer else { return Err(Broken::new(expected, "it was not refused")) };
    let info = status.get_details_error_info();
    let named = info.as_ref().is_some_and(|info| info.reason == reason);
    expect(status.code() == code && named, &expected, told(&status))?;
    let domain = info.map(|info| info.domain).unwrap_or_default();
    expect(domain == ERROR_DOMAIN, format!("{what}: the domain {ERROR_DOMAIN} in its ErrorInfo"), domain)?;
    expect(status.message().len() > 10, format!("{what}: a sentence that says why"), status.message())?;
    Ok(status)
}

/// What an error's ErrorInfo says under `key`.
pub(super) fn metadata(status: &Status, key: &str) -> String {
    let info = status.get_details_error_info();
    info.and_then(|info| info.metadata.get(key).cloned()).unwrap_or_default()
}

/// The fields of an error's BadRequest.
pub(super) fn bad_fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

/// A small job that searches: with fewer steps there would be no room for it.
pub(super) fn scan() -> JobSpec {
    search(1500, Policy::Scan(ScanPolicy::default()))
}

/// A small job with a search per stage.
pub(super) fn paper() -> JobSpec {
    let options =
        PaperPolicy { tau: Some(40), tau_max: Some(80), candidates: Some(3), ..PaperPolicy::default() };
    search(400, Policy::Paper(options))
}

/// A small job that searches five decades.
pub(super) fn search(total_steps: u64, policy: Policy) -> JobSpec {
    JobSpec { lr_min: Some(1e-4), lr_max: Some(10.0), ..plain(total_steps, policy) }
}

/// A small job that does not search.
pub(super) fn constant(total_steps: u64) -> JobSpec {
    plain(total_steps, Policy::Constant(ConstantPolicy::default()))
}

pub(super) fn plain(total_steps: u64, policy: Policy) -> JobSpec {
    JobSpec {
        total_steps: Some(total_steps),
        fallback_lr: Some(0.05),
        policy: Some(policy),
        ..JobSpec::default()
    }
}
