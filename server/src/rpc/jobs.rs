//! `JobService`.

use super::{
    Edge, TENANT,
    convert::{job, requests, stage},
    respond,
};
use crate::{actor::Message, error::Error};
use autolrs_proto::v1::{
    CancelJobRequest, CancelJobResponse, CreateJobRequest, CreateJobResponse, FinishJobRequest,
    FinishJobResponse, GetJobRequest, GetJobResponse, GetStageRequest, GetStageResponse, ListJobsRequest,
    ListJobsResponse, job_service_server::JobService,
};
use prost::Message as _;
use tonic::{Request, Response, Status, async_trait};
use tracing::Span;

/// The service for people and their tools.
pub struct Jobs(Edge);

impl Jobs {
    /// The service.
    pub fn new(edge: Edge) -> Self {
        Self(edge)
    }

    async fn create(&self, request: CreateJobRequest) -> Result<CreateJobResponse, Error> {
        let request_id = request.request_id.clone();
        let (name, specs) = requests::create(request)?;
        trace(&request_id);
        let specs = Box::new((specs.asked, specs.resolved));
        let view = self.0.call(&name, |reply| Message::Create(specs, reply)).await?;
        Ok(CreateJobResponse { job: Some(job::encode(&view)) })
    }

    async fn get(&self, request: GetJobRequest) -> Result<GetJobResponse, Error> {
        let name = requests::name("name", request.name)?;
        let shown = self.0.call(&name, Message::Show).await?;
        Ok(GetJobResponse { job: Some(job::encode_shown(&shown)) })
    }

    async fn list(&self, request: &ListJobsRequest) -> Result<ListJobsResponse, Error> {
        self.0.enter()?;
        let page = requests::list(request)?;
        let found = self.0.registry.page(TENANT, page.after.as_deref(), page.size).await?;
        let mut more = found.len() == page.size;
        let mut response = ListJobsResponse::default();
        let (mut bytes, mut last) = (0, None);
        for job in found.iter().map(job::encode_shown) {
            bytes += job.encoded_len();
            if last.is_some() && bytes > self.0.page_bytes {
                more = true;
                break;
            }
            last = Some(job.name.clone());
            if page.states.is_empty() || page.states.contains(&job.state()) {
                response.jobs.push(job);
            }
        }
        let token = last.filter(|_| more).map(|name| requests::encode_token(&name));
        response.next_page_token = token.unwrap_or_default();
        Ok(response)
    }

    async fn cancel(&self, request: CancelJobRequest) -> Result<CancelJobResponse, Error> {
        let (name, cancel) = requests::cancel(request)?;
        trace(&cancel.request_id);
        let view = self.0.call(&name, |reply| Message::Cancel(cancel, reply)).await?;
        Ok(CancelJobResponse { job: Some(job::encode(&view)) })
    }

    async fn finish(&self, request: FinishJobRequest) -> Result<FinishJobResponse, Error> {
        let (name, finish) = requests::finish(request)?;
        trace(&finish.request_id);
        let view = self.0.call(&name, |reply| Message::Finish(finish, reply)).await?;
        Ok(FinishJobResponse { job: Some(job::encode(&view)) })
    }

    async fn stage(&self, request: GetStageRequest) -> Result<GetStageResponse, Error> {
        let name = requests::name("job", request.job)?;
        let view = self.0.call(&name, |reply| Message::Stage(request.stage, reply)).await?;
        Ok(GetStageResponse { stage: Some(stage::encode(&view)) })
    }
}

/// Puts the caller's identifier into the log lines of this RPC.
fn trace(request_id: &str) {
    if !request_id.is_empty() {
        Span::current().record("request_id", request_id);
    }
}

#[async_trait]
impl JobService for Jobs {
    async fn create_job(
        &self,
        request: Request<CreateJobRequest>,
    ) -> Result<Response<CreateJobResponse>, Status> {
        respond(self.create(request.into_inner()).await)
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        respond(self.get(request.into_inner()).await)
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        respond(self.list(request.get_ref()).await)
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> Result<Response<CancelJobResponse>, Status> {
        respond(self.cancel(request.into_inner()).await)
    }

    async fn finish_job(
        &self,
        request: Request<FinishJobRequest>,
    ) -> Result<Response<FinishJobResponse>, Status> {
        respond(self.finish(request.into_inner()).await)
    }

    async fn get_stage(
        &self,
        request: Request<GetStageRequest>,
    ) -> Result<Response<GetStageResponse>, Status> {
        respond(self.stage(request.into_inner()).await)
    }
}
