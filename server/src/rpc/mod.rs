//! The services. A handler does four things: decode, send to the owner of the job, await, encode.

mod backup;
pub(crate) mod convert;
mod jobs;
pub mod status;
mod stream;
mod trainer;
mod watch;

pub(crate) use convert::directive::decode_piece;

pub use backup::Stores;
pub use jobs::Jobs;
pub use trainer::Trainers;

use crate::{
    actor::{Message, Reply},
    auth::{By, Identity},
    error::Error,
    quotas::Quotas,
    registry::Registry,
    store::JobKey,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Span;

/// What the services share.
#[derive(Clone)]
pub struct Edge {
    /// The owners of the jobs.
    pub registry: Registry,
    /// Cancelled when the server begins to drain.
    pub draining: CancellationToken,
    /// Places for `Train` streams.
    pub trainers: Arc<Semaphore>,
    /// Places for `WatchJob` streams.
    pub watchers: Arc<Semaphore>,
    /// What each tenant may take.
    pub quotas: Quotas,
    /// Longest time for one answer.
    pub request_timeout: Duration,
    /// Most bytes of a page of jobs, one job excepted.
    pub page_bytes: usize,
}

impl Edge {
    /// Refuses what comes while the server drains.
    fn enter(&self) -> Result<(), Error> {
        if self.draining.is_cancelled() { Err(Error::Draining) } else { Ok(()) }
    }

    /// Asks the owner of a job, and names the job in the log lines of this RPC. Once per RPC: a field of a span that
    /// is recorded again is kept twice.
    async fn call<T>(
        &self,
        who: &Identity,
        name: &str,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Error> {
        self.change(who, "", name, message).await
    }

    /// The same for an RPC that has an identifier of its caller's.
    async fn change<T>(
        &self,
        who: &Identity,
        request_id: &str,
        name: &str,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Error> {
        Span::current().record("job", name);
        if !request_id.is_empty() {
            Span::current().record("request_id", request_id);
        }
        self.send(who.by(request_id), who, name, message).await
    }

    /// Asks the owner of a job: nobody reaches another tenant's.
    async fn ask<T>(
        &self,
        who: &Identity,
        name: &str,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Error> {
        self.send(who.by(""), who, name, message).await
    }

    async fn send<T>(
        &self,
        by: By,
        who: &Identity,
        name: &str,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, Error> {
        self.enter()?;
        let key = JobKey::new(who.tenant(), name);
        let answer = self.registry.ask_as(by, &key, message);
        tokio::time::timeout(self.request_timeout, answer).await.unwrap_or(Err(Error::TimedOut))
    }
}

/// Who asks, and what.
fn asked<T>(request: tonic::Request<T>) -> Result<(Identity, T), tonic::Status> {
    let (_, extensions, message) = request.into_parts();
    let who = Identity::of(&extensions).map_err(|error| status::status(&error))?;
    Ok((who, message))
}

/// The answer of an RPC.
fn respond<T>(result: Result<T, Error>) -> Result<tonic::Response<T>, tonic::Status> {
    result.map(tonic::Response::new).map_err(|error| {
        if matches!(error, Error::Defect { .. } | Error::JobDamaged { .. }) {
            tracing::error!(%error, "failed");
        } else {
            tracing::info!(%error, "refused");
        }
        status::status(&error)
    })
}
