//! `StoreService`.

use super::{Edge, asked, respond, status::status};
use crate::{
    audit::{Action, Audit},
    auth::Identity,
    error::Error,
    limit::Limit,
    store::{
        JobKey, JobStore,
        export::{Damage, Exporter, Part},
    },
};
use autolrs_proto::v1::{BackupRequest, BackupResponse, DamagedRecord, store_service_server::StoreService};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, OwnedPermit},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};
use tracing::Instrument;

/// Bytes of the file in one message.
const CHUNK: usize = 32 << 10;
/// Messages that may wait for a slow reader; the store is read no further meanwhile.
const WAITING: usize = 4;

type BackupStream = ReceiverStream<Result<BackupResponse, Status>>;

/// The service for operators.
pub struct Stores {
    edge: Edge,
    store: Arc<dyn JobStore>,
    audit: Audit,
    places: Arc<Semaphore>,
}

impl Stores {
    /// The service, for so many backups at once.
    pub fn new(edge: Edge, store: Arc<dyn JobStore>, audit: Audit, most: usize) -> Self {
        Self { edge, store, audit, places: Arc::new(Semaphore::new(most)) }
    }

    fn start(&self, who: Identity) -> Result<BackupStream, Error> {
        self.edge.enter()?;
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Error::LimitReached { limit: Limit::Backups })?;
        // One place more, so that a reader that takes nothing still finds the reason at the end.
        let (answers, receiver) = mpsc::channel(WAITING + 1);
        let last = answers.clone().try_reserve_owned();
        let last = last.map_err(|_| Error::Defect { detail: "a new channel is full".to_owned() })?;
        let backup =
            Backup { edge: self.edge.clone(), audit: self.audit.clone(), who, answers, _place: place };
        let exporter = Exporter::new(self.store.clone());
        tokio::spawn(backup.serve(exporter, last).in_current_span());
        Ok(ReceiverStream::new(receiver))
    }
}

/// The server's end of a stream.
struct Backup {
    edge: Edge,
    audit: Audit,
    who: Identity,
    answers: mpsc::Sender<Result<BackupResponse, Status>>,
    _place: OwnedSemaphorePermit,
}

/// Why a stream ended early.
enum End {
    /// The reader has gone.
    Gone,
    Failed(Error),
}

impl Backup {
    async fn serve(self, mut exporter: Exporter, last: OwnedPermit<Result<BackupResponse, Status>>) {
        let everything = JobKey::new(self.who.tenant(), "");
        self.audit.record(&self.who.by(""), &everything, Action::Backup, json!({})).await;
        let mut who = self.who.clone();
        let ended = tokio::select! {
            ended = self.send_all(&mut exporter) => ended,
            error = who.lapsed() => Err(End::Failed(error)),
        };
        match ended {
            Ok(()) => tracing::info!(jobs = exporter.count().jobs, "backup done"),
            Err(End::Gone) => tracing::info!("the reader of a backup has gone"),
            Err(End::Failed(error)) => {
                tracing::warn!(%error, "backup ended");
                last.send(Err(status(&error)));
            }
        }
    }

    async fn send_all(&self, exporter: &mut Exporter) -> Result<(), End> {
        while let Some(part) = exporter.next().await.map_err(away)? {
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&self, part: Part) -> Result<(), End> {
        let mut damaged: Vec<_> = part.damaged.into_iter().map(encode).collect();
        for chunk in part.data.chunks(CHUNK) {
            self.answer(BackupResponse { data: chunk.to_vec(), damaged: std::mem::take(&mut damaged) })
                .await?;
        }
        if !damaged.is_empty() {
            self.answer(BackupResponse { data: Vec::new(), damaged }).await?;
        }
        Ok(())
    }

    async fn answer(&self, response: BackupResponse) -> Result<(), End> {
        let sent = tokio::time::timeout(self.edge.request_timeout, self.answers.send(Ok(response)));
        tokio::select! {
            () = self.edge.draining.cancelled() => Err(End::Failed(Error::Draining)),
            sent = sent => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(End::Gone),
                Err(_) => Err(End::Failed(Error::TimedOut)),
            },
        }
    }
}

fn away(error: crate::store::StoreError) -> End {
    End::Failed(crate::actor::from_store(&JobKey::new("", ""), error))
}

fn encode(damage: Damage) -> DamagedRecord {
    DamagedRecord { tenant: damage.job.tenant, job: damage.job.name, detail: damage.what }
}

#[async_trait]
impl StoreService for Stores {
    type BackupStream = BackupStream;

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<BackupStream>, Status> {
        let (who, _) = asked(request)?;
        respond(self.start(who))
    }
}
