//! `TrainerService`.

use super::{
    Edge, asked,
    convert::{open, report},
    respond,
    stream::Stream,
};
use crate::{actor::Message, auth::Identity, error::Error, limit::Limit};
use autolrs_proto::v1::{
    AdvanceRequest, AdvanceResponse, OpenSessionRequest, OpenSessionResponse, TrainRequest, TrainResponse,
    trainer_service_server::TrainerService,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// The service for trainers.
pub struct Trainers(Edge);

impl Trainers {
    /// The service.
    pub fn new(edge: Edge) -> Self {
        Self(edge)
    }

    async fn open(&self, who: &Identity, request: OpenSessionRequest) -> Result<OpenSessionResponse, Error> {
        let opening = open::decode(request)?;
        let body = Box::new((opening.open, opening.asked));
        let opened = self.0.call(who, &opening.job, |reply| Message::Open(body, reply)).await?;
        Ok(open::encode(&opened))
    }

    async fn report(&self, who: &Identity, request: AdvanceRequest) -> Result<AdvanceResponse, Error> {
        let (name, losses) = report::decode(request.report)?;
        let ack = self.0.call(who, &name, |reply| Message::Report(losses, reply)).await?;
        Ok(AdvanceResponse { ack: Some(report::encode(&ack)) })
    }

    fn stream(&self, who: Identity, requests: Streaming<TrainRequest>) -> Result<TrainStream, Error> {
        self.0.enter()?;
        let place = self.0.trainers.clone().try_acquire_owned();
        let place = place.map_err(|_| Error::LimitReached { limit: Limit::Trainers })?;
        let place = (place, self.0.quotas.stream(who.tenant())?);
        Ok(ReceiverStream::new(Stream::start(self.0.clone(), who, requests, place)))
    }
}

type TrainStream = ReceiverStream<Result<TrainResponse, Status>>;

#[async_trait]
impl TrainerService for Trainers {
    type TrainStream = TrainStream;

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.open(&who, request).await)
    }

    async fn advance(&self, request: Request<AdvanceRequest>) -> Result<Response<AdvanceResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.report(&who, request).await)
    }

    async fn train(
        &self,
        request: Request<Streaming<TrainRequest>>,
    ) -> Result<Response<TrainStream>, Status> {
        let (who, requests) = asked(request)?;
        respond(self.stream(who, requests))
    }
}
