//! The connection to the server: four unary calls with deadlines, and a channel that is rebuilt when it is stuck.

use super::{holder, status::Failure, trace_context::TraceContext};
use crate::{
    endpoint::EndpointConfig,
    error::Error,
    session::Refused,
    wire::{self, Unreadable},
};
use autolrs_core::{
    job::{Ack, Opened, Report, Resume},
    spec::JobSpec,
};
use autolrs_proto::v1::{
    self, AdvanceRequest, CreateJobRequest, ErrorReason, FinishJobRequest, OpenSessionRequest,
    job_service_client::JobServiceClient, trainer_service_client::TrainerServiceClient,
};
use std::{future::Future, time::Duration};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tower::retry::backoff::{Backoff, ExponentialBackoff};

/// Failures in a row after which the channel is made anew: a channel can stay stuck after the server's GOAWAY.
const FAILURES_BEFORE_RECONNECT: u32 = 2;
/// A server that asks for more is not believed.
const LONGEST_RETRY_DELAY: Duration = Duration::from_secs(60);

/// How a channel is made; it connects with its first call.
pub(super) type Connect = Box<dyn Fn(&Endpoint) -> Channel + Send + Sync>;

/// The connection to the server.
pub(super) struct Link {
    config: EndpointConfig,
    job: String,
    endpoint: Endpoint,
    connect: Connect,
    token: Option<MetadataValue<Ascii>>,
    trace: Option<TraceContext>,
    channel: Option<Channel>,
    failures: u32,
    /// How long the server asked to be left alone, when it last refused.
    retry_delay: Duration,
}

/// Why a report was not answered.
pub(super) enum Missed {
    /// Trying again may help.
    Outage(Error),
    /// It was refused for good.
    Refused(Refused, Error),
}

/// What an attempt to open a session asks for.
pub(super) struct Ask {
    pub(super) resume: Option<Resume>,
    pub(super) takeover: bool,
    pub(super) restart: bool,
    /// With `restart`: the job's new spec.
    pub(super) spec: Option<JobSpec>,
    pub(super) replay: bool,
    pub(super) validate: bool,
    /// The same however often it is asked.
    pub(super) nonce: String,
}

impl Link {
    /// Checks the address and the token; connects with the first call. Must be made inside a runtime.
    pub(super) fn new(config: EndpointConfig, job: &str) -> Result<Self, Error> {
        Ok(Self {
            job: job.to_owned(),
            endpoint: config.endpoint()?,
            connect: Box::new(Endpoint::connect_lazy),
            token: config.authorization()?,
            trace: None,
            channel: None,
            failures: 0,
            retry_delay: Duration::ZERO,
            config,
        })
    }

    /// The same, and its requests are part of a trace.
    pub(super) fn within(self, trace: TraceContext) -> Self {
        Self { trace: Some(trace), ..self }
    }

    /// The same with another way to connect.
    #[cfg(test)]
    pub(super) fn over(self, connect: Connect) -> Self {
        Self { connect, ..self }
    }

    /// Makes the job, or finds the equal one.
    pub(super) async fn create_job(&mut self, spec: &JobSpec, deadline: Duration) -> Result<(), Error> {
        let message = CreateJobRequest {
            name: self.job.clone(),
            spec: Some(wire::job_spec(spec)),
            request_id: String::new(),
        };
        let request = self.request(message, deadline);
        let mut client = JobServiceClient::new(self.channel());
        self.call(client.create_job(request), deadline).await.map(drop).map_err(|failure| failure.error)
    }

    /// Opens a session.
    pub(super) async fn open_session(&mut self, ask: &Ask, deadline: Duration) -> Result<Opened, Error> {
        let holder = holder::this_process();
        let message = OpenSessionRequest {
            job: self.job.clone(),
            resume: ask.resume.as_ref().map(wire::resume),
            takeover: ask.takeover,
            restart: ask.restart,
            capabilities: Some(v1::Capabilities { replay: ask.replay, validate: ask.validate }),
            holder: Some(v1::Holder { host: holder.host, pid: holder.pid }),
            spec: ask.spec.as_ref().map(wire::job_spec),
            nonce: ask.nonce.clone(),
        };
        let request = self.request(message, deadline);
        let mut client = TrainerServiceClient::new(self.channel());
        let response =
            self.call(client.open_session(request), deadline).await.map_err(|failure| failure.error)?;
        wire::opened(response).map_err(unreadable)
    }

    /// Ends the job early and in order.
    pub(super) async fn finish_job(
        &mut self,
        request_id: String,
        cooldown_steps: Option<u64>,
        deadline: Duration,
    ) -> Result<(), Error> {
        let message = FinishJobRequest { name: self.job.clone(), request_id, cooldown_steps };
        let request = self.request(message, deadline);
        let mut client = JobServiceClient::new(self.channel());
        self.call(client.finish_job(request), deadline).await.map(drop).map_err(|failure| failure.error)
    }

    /// Sends a report.
    pub(super) async fn advance(&mut self, report: Report, deadline: Duration) -> Result<Ack, Missed> {
        let message = AdvanceRequest { report: Some(wire::report(&self.job, report)) };
        let request = self.request(message, deadline);
        let mut client = TrainerServiceClient::new(self.channel());
        let response = self.call(client.advance(request), deadline).await.map_err(|failure| match failure
            .refused()
        {
            Some(refused) => Missed::Refused(refused, failure.error),
            None => Missed::Outage(failure.error),
        })?;
        let ack = response.ack.ok_or(Unreadable("ack")).and_then(wire::ack);
        ack.map_err(|error| Missed::Outage(unreadable(error)))
    }

    async fn call<T>(
        &mut self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
        deadline: Duration,
    ) -> Result<T, Failure> {
        let answer = match tokio::time::timeout(deadline, call).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(Status::deadline_exceeded(format!("no answer within {} s", deadline.as_secs_f32())))
            }
        };
        match answer {
            Ok(response) => {
                (self.failures, self.retry_delay) = (0, Duration::ZERO);
                Ok(response.into_inner())
            }
            Err(status) => Err(self.failed(&status)),
        }
    }

    fn failed(&mut self, status: &Status) -> Failure {
        let failure = Failure::new(status, &self.config.server, &self.job);
        self.retry_delay = failure.retry_delay.unwrap_or_default().min(LONGEST_RETRY_DELAY);
        if failure.reason.is_none() && failure.error.is_of_the_connection() {
            self.failures += 1;
        }
        if self.failures >= FAILURES_BEFORE_RECONNECT || failure.reason == Some(ErrorReason::Draining) {
            self.failures = 0;
            self.channel = None;
            // A certificate may have been replaced meanwhile; files that are broken now may be whole the next time.
            if let Ok(endpoint) = self.config.endpoint() {
                self.endpoint = endpoint;
            }
        }
        failure
    }

    /// The pause before the next attempt: what the server asked for, then that of the back-off, which spreads those who
    /// were asked at once.
    pub(super) async fn pause(&self, backoff: &mut ExponentialBackoff) {
        tokio::time::sleep(self.retry_delay).await;
        backoff.next_backoff().await;
    }

    fn channel(&mut self) -> Channel {
        self.channel.get_or_insert_with(|| (self.connect)(&self.endpoint)).clone()
    }

    fn request<T>(&self, message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        if let Some(trace) = &self.trace {
            trace.write(request.metadata_mut());
        }
        request
    }
}

fn unreadable(error: Unreadable) -> Error {
    Error::Unreadable(error.to_string())
}
