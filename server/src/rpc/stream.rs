//! A `Train` stream: reports are answered in order; an operator's interrupt, and a heartbeat every 20 s, are pushed in
//! between. The first refusal ends the stream.

use super::{
    Edge,
    convert::report,
    status::{explained, status},
};
use crate::{
    actor::{Message, Signal},
    auth::Identity,
    error::Error,
    telemetry::metrics,
};
use autolrs_core::job::{Ack, Refusal};
use autolrs_proto::v1::{TrainRequest, TrainResponse};
use std::time::Duration;
use tokio::{
    sync::{mpsc, watch},
    time::Interval,
};
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};

/// Silence of the server after which it says something: below the 60 s after which proxies drop a stream.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Answers that may wait for a slow trainer; it is read no further meanwhile.
const WAITING_ANSWERS: usize = 16;

/// The server's end of a stream.
pub(super) struct Stream {
    edge: Edge,
    who: Identity,
    answers: mpsc::Sender<Result<TrainResponse, Status>>,
    /// Known from the first report on.
    trainer: Option<Trainer>,
    heartbeat: Interval,
}

/// The trainer at the other end.
struct Trainer {
    job: String,
    session: u64,
    signal: watch::Receiver<Signal>,
}

/// Why a stream ends.
enum End {
    /// The trainer has gone.
    Gone,
    /// It is told why.
    Refused(Error),
    /// A message could not be read: it was too large, say, or the connection broke.
    Broken(Status),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Stream {
    /// Serves a stream in a task of its own.
    pub(super) fn start(
        edge: Edge,
        who: Identity,
        requests: Streaming<TrainRequest>,
        place: impl Send + 'static,
    ) -> mpsc::Receiver<Result<TrainResponse, Status>> {
        let (answers, receiver) = mpsc::channel(WAITING_ANSWERS);
        let stream = Self { edge, who, answers, trainer: None, heartbeat: tokio::time::interval(HEARTBEAT) };
        let served = async move {
            // The place is given back before the stream is no longer counted.
            let (_counted, _place) = (metrics::Trainer::begin(), place);
            stream.serve(requests).await;
        };
        tokio::spawn(served.in_current_span());
        receiver
    }

    async fn serve(mut self, mut requests: Streaming<TrainRequest>) {
        let mut who = self.who.clone();
        let ended = tokio::select! {
            ended = self.exchange(&mut requests) => ended,
            error = who.lapsed() => Err(End::Refused(error)),
        };
        let status = match ended {
            Ok(()) | Err(End::Gone) => return,
            Err(End::Refused(error)) => status(&error),
            Err(End::Broken(told)) => explained(told),
        };
        tracing::info!(code = ?status.code(), reason = status.message(), "stream ended");
        // If the trainer has gone, nobody needs the reason.
        drop(self.answers.send(Err(status)).await);
    }

    async fn exchange(&mut self, requests: &mut Streaming<TrainRequest>) -> Result<(), End> {
        let draining = self.edge.draining.clone();
        loop {
            tokio::select! {
                () = draining.cancelled() => return Err(Error::Draining.into()),
                request = requests.message() => match request {
                    Ok(Some(request)) => self.report(request).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => return Err(End::Broken(status)),
                },
                () = changed(&mut self.trainer) => self.repeat().await?,
                _ = self.heartbeat.tick() => self.repeat().await?,
            }
        }
    }

    async fn report(&mut self, request: TrainRequest) -> Result<(), End> {
        let (job, losses) = report::decode(request.report)?;
        let session = losses.session;
        let ack = self.edge.ask(&self.who, &job, |reply| Message::Report(losses, reply)).await?;
        let known = self.trainer.as_ref().is_some_and(|t| t.job == job && t.session == session);
        if !known {
            if self.trainer.is_none() {
                Span::current().record("job", &job);
            }
            let (_, signal) = self.edge.ask(&self.who, &job, Message::Listen).await?;
            self.trainer = Some(Trainer { job, session, signal });
        }
        self.answer(&ack).await
    }

    /// Says what is known once more; that is where an interrupt is.
    async fn repeat(&mut self) -> Result<(), End> {
        let Some(trainer) = &mut self.trainer else { return Ok(()) };
        let (ack, signal) = self.edge.ask(&self.who, &trainer.job, Message::Listen).await?;
        trainer.signal = signal;
        if ack.session != trainer.session {
            let refusal = Refusal::Fenced { session: trainer.session, newest: ack.session };
            return Err(Error::Refused { job: trainer.job.clone(), refusal, silent_seconds: 0 }.into());
        }
        self.answer(&ack).await
    }

    async fn answer(&mut self, ack: &Ack) -> Result<(), End> {
        self.heartbeat.reset();
        let response = TrainResponse { ack: Some(report::encode(ack)) };
        self.answers.send(Ok(response)).await.map_err(|_| End::Gone)
    }
}

/// Until the job has news for the trainer, or its actor has left memory.
async fn changed(trainer: &mut Option<Trainer>) {
    match trainer {
        None => std::future::pending().await,
        Some(trainer) => {
            if trainer.signal.changed().await.is_err() {
                // An actor that has left has no news: the heartbeat finds the next one.
                std::future::pending::<()>().await;
            }
        }
    }
}
