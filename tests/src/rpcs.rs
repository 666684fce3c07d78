//! Every RPC of the proto, called with as little as it needs.

use crate::security::Line;
use autolrs_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        AdvanceRequest, BackupRequest, CancelJobRequest, ConstantPolicy, CreateJobRequest, DeleteJobRequest,
        ExportScheduleRequest, FinishJobRequest, GetJobRequest, GetStageRequest, JobSpec, ListJobsRequest,
        ListStagesRequest, OpenSessionRequest, Report, TrainRequest, UpdateJobRequest,
        ValidateJobSpecRequest, WatchJobRequest, job_service_client::JobServiceClient, job_spec::Policy,
        store_service_client::StoreServiceClient, trainer_service_client::TrainerServiceClient,
    },
};
use prost::Message;
use std::collections::BTreeSet;
use tonic::{Response, Status, Streaming};

/// The names of all RPCs of the proto.
pub fn all() -> BTreeSet<String> {
    /// As much of a `google.protobuf.FileDescriptorSet` as it takes to find them.
    #[derive(Clone, PartialEq, Message)]
    struct Files {
        #[prost(message, repeated, tag = "1")]
        files: Vec<File>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct File {
        #[prost(message, repeated, tag = "6")]
        services: Vec<Service>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Service {
        #[prost(message, repeated, tag = "2")]
        methods: Vec<Method>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Method {
        #[prost(string, tag = "1")]
        name: String,
    }
    let set = Files::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let services = set.files.into_iter().flat_map(|file| file.services);
    services.flat_map(|service| service.methods).map(|method| method.name).collect()
}

/// A job with one LR.
pub fn spec() -> JobSpec {
    JobSpec {
        total_steps: Some(100),
        fallback_lr: Some(0.1),
        policy: Some(Policy::Constant(ConstantPolicy::default())),
        ..JobSpec::default()
    }
}

/// Calls an RPC for a job; a stream is read to its first message or its end.
///
/// # Panics
/// If this function does not know the RPC.
pub async fn call(line: Line, rpc: &str, job: &str) -> Result<(), Status> {
    let mut jobs = JobServiceClient::new(line.clone());
    let mut trainer = TrainerServiceClient::new(line.clone());
    let mut store = StoreServiceClient::new(line);
    let name = || job.to_owned();
    match rpc {
        "CreateJob" => {
            let request = CreateJobRequest { name: name(), spec: Some(spec()), ..Default::default() };
            jobs.create_job(request).await.map(drop)
        }
        "ValidateJobSpec" => {
            let request = ValidateJobSpecRequest { spec: Some(spec()) };
            jobs.validate_job_spec(request).await.map(drop)
        }
        "GetJob" => jobs.get_job(GetJobRequest { name: name() }).await.map(drop),
        "ListJobs" => jobs.list_jobs(ListJobsRequest::default()).await.map(drop),
        "WatchJob" => {
            let request = WatchJobRequest { name: name(), ..Default::default() };
            first(jobs.watch_job(request).await?).await
        }
        "GetStage" => jobs.get_stage(GetStageRequest { job: name(), stage: 0 }).await.map(drop),
        "ListStages" => {
            jobs.list_stages(ListStagesRequest { job: name(), ..Default::default() }).await.map(drop)
        }
        "ExportSchedule" => {
            jobs.export_schedule(ExportScheduleRequest { job: name(), ..Default::default() }).await.map(drop)
        }
        "UpdateJob" => {
            let labels = [("team".to_owned(), "a".to_owned())].into();
            let request = UpdateJobRequest { name: name(), request_id: name(), labels, ..Default::default() };
            jobs.update_job(request).await.map(drop)
        }
        "FinishJob" => jobs
            .finish_job(FinishJobRequest { name: name(), request_id: name(), ..Default::default() })
            .await
            .map(drop),
        "CancelJob" => jobs.cancel_job(CancelJobRequest { name: name(), request_id: name() }).await.map(drop),
        "DeleteJob" => jobs
            .delete_job(DeleteJobRequest { name: name(), request_id: name(), ..Default::default() })
            .await
            .map(drop),
        "OpenSession" => {
            let request = OpenSessionRequest { job: name(), takeover: true, ..Default::default() };
            trainer.open_session(request).await.map(drop)
        }
        "Advance" => trainer.advance(AdvanceRequest { report: Some(report(job)) }).await.map(drop),
        "Train" => {
            let reports = tokio_stream::iter([TrainRequest { report: Some(report(job)) }]);
            first(trainer.train(reports).await?).await
        }
        "Backup" => first(store.backup(BackupRequest {}).await?).await,
        other => panic!("an RPC that this test does not know: {other}"),
    }
}

/// Of the first session's first directive.
fn report(job: &str) -> Report {
    Report { job: job.into(), session: 1, seq: 1, train_losses: vec![1.0], ..Report::default() }
}

async fn first<T>(response: Response<Streaming<T>>) -> Result<(), Status> {
    response.into_inner().message().await.map(drop)
}
