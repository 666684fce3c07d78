//! The scripted server's services: every other method is UNIMPLEMENTED.

use super::stage::Stage;
use autolrs_proto::v1::{
    AdvanceRequest, AdvanceResponse, CancelJobRequest, CancelJobResponse, CreateJobRequest,
    CreateJobResponse, DeleteJobRequest, DeleteJobResponse, ExportScheduleRequest, ExportScheduleResponse,
    FinishJobRequest, FinishJobResponse, GetJobRequest, GetJobResponse, GetStageRequest, GetStageResponse,
    Job, ListJobsRequest, ListJobsResponse, ListStagesRequest, ListStagesResponse, OpenSessionRequest,
    OpenSessionResponse, TrainRequest, TrainResponse, UpdateJobRequest, UpdateJobResponse,
    ValidateJobSpecRequest, ValidateJobSpecResponse, WatchJobRequest, WatchJobResponse,
    job_service_server::JobService, trainer_service_server::TrainerService,
};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming, async_trait};

/// One server.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<Stage>>);

impl Wire {
    pub(super) fn new(stage: Stage) -> Self {
        Self(Arc::new(Mutex::new(stage)))
    }

    pub(super) fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TrainerService for Wire {
    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        self.stage().open(request.get_ref()).map(Response::new)
    }

    async fn advance(&self, request: Request<AdvanceRequest>) -> Result<Response<AdvanceResponse>, Status> {
        let report = request.into_inner().report.unwrap_or_default();
        let ack = Some(self.stage().report(&report)?);
        Ok(Response::new(AdvanceResponse { ack }))
    }

    type TrainStream = Pin<Box<dyn Stream<Item = Result<TrainResponse, Status>> + Send>>;

    async fn train(
        &self,
        request: Request<Streaming<TrainRequest>>,
    ) -> Result<Response<Self::TrainStream>, Status> {
        let wire = self.clone();
        let answers = request.into_inner().map(move |request| {
            let report = request?.report.unwrap_or_default();
            Ok(TrainResponse { ack: Some(wire.stage().report(&report)?) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

macro_rules! unimplemented {
    ($($method:ident: $request:ty => $response:ty;)*) => {
        #[async_trait]
        impl JobService for Wire {
            async fn create_job(
                &self,
                request: Request<CreateJobRequest>,
            ) -> Result<Response<CreateJobResponse>, Status> {
                let CreateJobRequest { name, spec, .. } = request.into_inner();
                Ok(Response::new(CreateJobResponse { job: Some(Job { name, spec, ..Job::default() }) }))
            }

            type WatchJobStream = Pin<Box<dyn Stream<Item = Result<WatchJobResponse, Status>> + Send>>;

            async fn watch_job(
                &self,
                _: Request<WatchJobRequest>,
            ) -> Result<Response<Self::WatchJobStream>, Status> {
                Err(Status::unimplemented("the conformance kit plays the trainer's part of a server alone"))
            }

            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("the conformance kit plays the trainer's part of a server alone"))
            })*
        }
    };
}

unimplemented! {
    validate_job_spec: ValidateJobSpecRequest => ValidateJobSpecResponse;
    get_job: GetJobRequest => GetJobResponse;
    list_jobs: ListJobsRequest => ListJobsResponse;
    cancel_job: CancelJobRequest => CancelJobResponse;
    finish_job: FinishJobRequest => FinishJobResponse;
    update_job: UpdateJobRequest => UpdateJobResponse;
    delete_job: DeleteJobRequest => DeleteJobResponse;
    get_stage: GetStageRequest => GetStageResponse;
    list_stages: ListStagesRequest => ListStagesResponse;
    export_schedule: ExportScheduleRequest => ExportScheduleResponse;
}
