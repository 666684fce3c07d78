//! A `WatchJob` stream: the job as it stands after every change, pushed by its owner, and every 20 s in between.

use super::{Edge, convert::job, status::status};
use crate::{
    actor::{JobView, Mark, Message},
    auth::Identity,
    error::Error,
};
use autolrs_proto::v1::WatchJobResponse;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tracing::Instrument;

/// Silence after which the job is sent although nothing has changed: below the 60 s after which proxies drop a stream,
/// and how a watcher learns that a trainer has fallen silent.
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Changes that follow each other faster than this come as one.
const LEAST: Duration = Duration::from_millis(200);

type Answers = mpsc::Sender<Result<WatchJobResponse, Status>>;

/// The server's end of a stream.
struct Watch {
    edge: Edge,
    who: Identity,
    name: String,
    answers: Answers,
}

/// Follows a job that exists in a task of its own.
///
/// # Errors
/// What the job's owner says to the first question.
pub(super) async fn start(
    edge: Edge,
    who: Identity,
    name: String,
    from_revision: u64,
    place: impl Send + 'static,
) -> Result<mpsc::Receiver<Result<WatchJobResponse, Status>>, Error> {
    let (job, mark) = edge.call(&who, &name, Message::Watch).await?;
    // A watcher that does not read makes the stream wait and misses only what newer states make old.
    let (answers, receiver) = mpsc::channel(1);
    let first = (job.revision > from_revision).then_some(job);
    let watch = Watch { edge, who, name, answers };
    let followed = async move {
        let _place = place;
        watch.serve(first, mark).await;
    };
    tokio::spawn(followed.in_current_span());
    Ok(receiver)
}

impl Watch {
    async fn serve(self, first: Option<JobView>, mark: watch::Receiver<Mark>) {
        let mut who = self.who.clone();
        let ended = tokio::select! {
            ended = self.follow(first, mark) => ended,
            error = who.lapsed() => Err(error),
        };
        if let Err(error) = ended {
            tracing::info!(%error, "watching ended");
            // If the watcher has gone, nobody needs the reason.
            drop(self.answers.send(Err(status(&error))).await);
        }
    }

    /// Until the watcher has gone, the job is deleted or the server drains.
    async fn follow(&self, first: Option<JobView>, mut mark: watch::Receiver<Mark>) -> Result<(), Error> {
        let mut news = first;
        loop {
            if let Some(view) = news.take() {
                let response = WatchJobResponse { job: Some(job::encode(&view)) };
                if self.answers.send(Ok(response)).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                () = self.edge.draining.cancelled() => return Err(Error::Draining),
                () = self.answers.closed() => return Ok(()),
                // An error: the owner has gone, and the next one knows why.
                _ = mark.changed() => tokio::time::sleep(LEAST).await,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
            let (view, next) = self.edge.ask(&self.who, &self.name, Message::Watch).await?;
            (news, mark) = (Some(view), next);
        }
    }
}
