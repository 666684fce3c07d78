//! `JobService`.

use super::{
    Edge, asked,
    convert::{job, requests, schedule, stage},
    respond, watch,
};
use crate::{
    actor::{Message, Shown},
    auth::Identity,
    error::Error,
    limit::Limit,
};
use autolrs_proto::v1::{
    CancelJobRequest, CancelJobResponse, CreateJobRequest, CreateJobResponse, DeleteJobRequest,
    DeleteJobResponse, ExportScheduleRequest, ExportScheduleResponse, FinishJobRequest, FinishJobResponse,
    GetJobRequest, GetJobResponse, GetStageRequest, GetStageResponse, ListJobsRequest, ListJobsResponse,
    ListStagesRequest, ListStagesResponse, UpdateJobRequest, UpdateJobResponse, ValidateJobSpecRequest,
    ValidateJobSpecResponse, WatchJobRequest, WatchJobResponse, job_service_server::JobService,
};
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

type JobStream = ReceiverStream<Result<WatchJobResponse, Status>>;

/// The service for people and their tools.
pub struct Jobs(Edge);

impl Jobs {
    /// The service.
    pub fn new(edge: Edge) -> Self {
        Self(edge)
    }

    async fn create(&self, who: &Identity, request: CreateJobRequest) -> Result<CreateJobResponse, Error> {
        let request_id = request.request_id.clone();
        let (name, specs) = requests::create(request)?;
        let specs = Box::new((specs.asked, specs.resolved));
        let view = self.0.change(who, &request_id, &name, |reply| Message::Create(specs, reply)).await?;
        Ok(CreateJobResponse { job: Some(job::encode(&view)) })
    }

    async fn get(&self, who: &Identity, request: GetJobRequest) -> Result<GetJobResponse, Error> {
        let name = requests::name("name", request.name)?;
        let shown = self.0.call(who, &name, Message::Show).await?;
        Ok(GetJobResponse { job: Some(job::encode_shown(&shown)) })
    }

    async fn list(&self, who: &Identity, request: &ListJobsRequest) -> Result<ListJobsResponse, Error> {
        self.0.enter()?;
        let page = requests::list(request)?;
        let found = self.0.registry.page(who.tenant(), page.after.as_deref(), page.size).await?;
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
            if page.filter.matches(&job) {
                response.jobs.push(job);
            }
        }
        let token = last.filter(|_| more).map(|name| requests::encode_token(&name));
        response.next_page_token = token.unwrap_or_default();
        Ok(response)
    }

    async fn update(&self, who: &Identity, request: UpdateJobRequest) -> Result<UpdateJobResponse, Error> {
        let (name, update) = requests::update(request)?;
        let request_id = update.0.request_id.clone();
        let view =
            self.0.change(who, &request_id, &name, |reply| Message::Update(Box::new(update), reply)).await?;
        Ok(UpdateJobResponse { job: Some(job::encode(&view)) })
    }

    async fn cancel(&self, who: &Identity, request: CancelJobRequest) -> Result<CancelJobResponse, Error> {
        let (name, cancel) = requests::cancel(request)?;
        let request_id = cancel.request_id.clone();
        let view = self.0.change(who, &request_id, &name, |reply| Message::Cancel(cancel, reply)).await?;
        Ok(CancelJobResponse { job: Some(job::encode(&view)) })
    }

    async fn finish(&self, who: &Identity, request: FinishJobRequest) -> Result<FinishJobResponse, Error> {
        let (name, finish) = requests::finish(request)?;
        let request_id = finish.request_id.clone();
        let view = self.0.change(who, &request_id, &name, |reply| Message::Finish(finish, reply)).await?;
        Ok(FinishJobResponse { job: Some(job::encode(&view)) })
    }

    async fn delete(&self, who: &Identity, request: DeleteJobRequest) -> Result<DeleteJobResponse, Error> {
        let request_id = request.request_id.clone();
        let (name, uid) = requests::delete(request)?;
        self.0.change(who, &request_id, &name, |reply| Message::Delete(uid, reply)).await?;
        Ok(DeleteJobResponse {})
    }

    async fn stage(&self, who: &Identity, request: GetStageRequest) -> Result<GetStageResponse, Error> {
        let name = requests::name("job", request.job)?;
        let view = self.0.call(who, &name, |reply| Message::Stage(request.stage, reply)).await?;
        Ok(GetStageResponse { stage: Some(stage::encode(&view)) })
    }
}

impl Jobs {
    async fn stages(&self, who: &Identity, request: ListStagesRequest) -> Result<ListStagesResponse, Error> {
        let (name, first, size) = requests::stages(request)?;
        let last = match self.0.call(who, &name, Message::Show).await? {
            Shown::Whole(job) => job.view.last_stage(),
            Shown::Damaged { name, detail } => return Err(Error::JobDamaged { job: name, detail }),
        };
        let mut response = ListStagesResponse::default();
        let mut bytes = 0;
        for number in first..=last {
            let found = match self.0.ask(who, &name, |reply| Message::Stage(number, reply)).await {
                Ok(view) => stage::encode(&view),
                Err(Error::StageNotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            bytes += found.encoded_len();
            let full = response.stages.len() == size || bytes > self.0.page_bytes;
            if full && !response.stages.is_empty() {
                response.next_page_token = requests::encode_token(&number.to_string());
                break;
            }
            response.stages.push(found);
        }
        Ok(response)
    }

    async fn watch(&self, who: &Identity, request: WatchJobRequest) -> Result<JobStream, Error> {
        let name = requests::name("name", request.name)?;
        let place = self.0.watchers.clone().try_acquire_owned();
        let place = place.map_err(|_| Error::LimitReached { limit: Limit::Watchers })?;
        let place = (place, self.0.quotas.stream(who.tenant())?);
        let stream = watch::start(self.0.clone(), who.clone(), name, request.from_revision, place).await?;
        Ok(ReceiverStream::new(stream))
    }

    async fn export(
        &self,
        who: &Identity,
        request: ExportScheduleRequest,
    ) -> Result<ExportScheduleResponse, Error> {
        let name = requests::name("job", request.job)?;
        let view = self.0.call(who, &name, |reply| Message::Export(request.losses, reply)).await?;
        Ok(schedule::encode(&view, request.start_step))
    }
}

#[async_trait]
impl JobService for Jobs {
    type WatchJobStream = JobStream;

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Result<Response<JobStream>, Status> {
        let (who, request) = asked(request)?;
        respond(self.watch(&who, request).await)
    }

    async fn validate_job_spec(
        &self,
        request: Request<ValidateJobSpecRequest>,
    ) -> Result<Response<ValidateJobSpecResponse>, Status> {
        let (_, request) = asked(request)?;
        respond(self.0.enter().map(|()| requests::validate(request)))
    }

    async fn create_job(
        &self,
        request: Request<CreateJobRequest>,
    ) -> Result<Response<CreateJobResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.create(&who, request).await)
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.get(&who, request).await)
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.list(&who, &request).await)
    }

    async fn update_job(
        &self,
        request: Request<UpdateJobRequest>,
    ) -> Result<Response<UpdateJobResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.update(&who, request).await)
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> Result<Response<CancelJobResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.cancel(&who, request).await)
    }

    async fn finish_job(
        &self,
        request: Request<FinishJobRequest>,
    ) -> Result<Response<FinishJobResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.finish(&who, request).await)
    }

    async fn delete_job(
        &self,
        request: Request<DeleteJobRequest>,
    ) -> Result<Response<DeleteJobResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.delete(&who, request).await)
    }

    async fn get_stage(
        &self,
        request: Request<GetStageRequest>,
    ) -> Result<Response<GetStageResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.stage(&who, request).await)
    }

    async fn list_stages(
        &self,
        request: Request<ListStagesRequest>,
    ) -> Result<Response<ListStagesResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.stages(&who, request).await)
    }

    async fn export_schedule(
        &self,
        request: Request<ExportScheduleRequest>,
    ) -> Result<Response<ExportScheduleResponse>, Status> {
        let (who, request) = asked(request)?;
        respond(self.export(&who, request).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        registry::{Bounds, Registry},
        store::memory::MemoryStore,
    };
    use autolrs_proto::v1::{ConstantPolicy, JobSpec, JobState, job_spec::Policy};
    use std::{sync::Arc, time::Duration};
    use tokio::sync::Semaphore;
    use tokio_util::sync::CancellationToken;

    /// A service with the jobs a, b and c.
    async fn service(page_bytes: usize) -> Jobs {
        let bounds = Bounds { jobs: 100, mailbox: 4, idle: Duration::from_secs(1), history: 16 };
        let jobs = Jobs::new(Edge {
            quotas: crate::quotas::Quotas::default(),
            registry: Registry::new(Arc::new(MemoryStore::default()), Clock::start(), bounds),
            draining: CancellationToken::new(),
            trainers: Arc::new(Semaphore::new(1)),
            watchers: Arc::new(Semaphore::new(1)),
            request_timeout: Duration::from_secs(30),
            page_bytes,
        });
        for name in ["c", "a", "b"] {
            let policy = Some(Policy::Constant(ConstantPolicy::default()));
            let (total_steps, fallback_lr) = (Some(100), Some(0.1));
            let spec = Some(JobSpec { total_steps, fallback_lr, policy, ..JobSpec::default() });
            let request = CreateJobRequest { name: name.into(), spec, ..CreateJobRequest::default() };
            jobs.create(&Identity::anyone(), request).await.unwrap();
        }
        jobs
    }

    /// The names on each page.
    async fn pages(jobs: &Jobs, mut request: ListJobsRequest) -> Vec<String> {
        let mut pages = Vec::new();
        loop {
            let page = jobs.list(&Identity::anyone(), &request).await.unwrap();
            pages.push(page.jobs.iter().map(|job| job.name.as_str()).collect());
            if page.next_page_token.is_empty() {
                return pages;
            }
            request.page_token = page.next_page_token;
        }
    }

    #[tokio::test]
    async fn pages_follow_each_other_in_the_order_of_names() {
        let jobs = service(1 << 20).await;
        let of = |page_size| ListJobsRequest { page_size, ..ListJobsRequest::default() };
        assert_eq!(pages(&jobs, of(0)).await, ["abc"]);
        assert_eq!(pages(&jobs, of(2)).await, ["ab", "c"]);
        assert_eq!(pages(&jobs, of(1)).await, ["a", "b", "c", ""]);
        let states = vec![JobState::Finished.into()];
        assert_eq!(pages(&jobs, ListJobsRequest { states, ..of(2) }).await, ["", ""]);
        let policies = vec!["scan".into(), "constant".into()];
        assert_eq!(pages(&jobs, ListJobsRequest { policies, ..of(0) }).await, ["abc"]);
        assert_eq!(pages(&jobs, ListJobsRequest { policies: vec!["scan".into()], ..of(0) }).await, [""]);
    }

    #[tokio::test]
    async fn labels_are_changed_and_asked_for() {
        let jobs = service(1 << 20).await;
        let label = |name: &str, request_id: &str, set: &[(&str, &str)], remove: &[&str]| UpdateJobRequest {
            name: name.into(),
            request_id: request_id.into(),
            labels: set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            remove_labels: remove.iter().map(|key| (*key).to_owned()).collect(),
            ..UpdateJobRequest::default()
        };
        let cancel = CancelJobRequest { name: "c".into(), request_id: "c".into() };
        jobs.cancel(&Identity::anyone(), cancel).await.unwrap();
        for (name, team) in [("a", "x"), ("b", "y"), ("c", "x")] {
            jobs.update(&Identity::anyone(), label(name, "1", &[("team", team), ("run", "1")], &[]))
                .await
                .unwrap();
        }
        let with = |pairs: &[(&str, &str)]| ListJobsRequest {
            labels: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..ListJobsRequest::default()
        };
        assert_eq!(pages(&jobs, with(&[("team", "x")])).await, ["ac"], "an ended job too");
        assert_eq!(pages(&jobs, with(&[("team", "x"), ("run", "2")])).await, [""]);
        jobs.update(&Identity::anyone(), label("a", "2", &[("run", "2")], &["team", "nobody"]))
            .await
            .unwrap();
        jobs.update(&Identity::anyone(), label("a", "1", &[("team", "x"), ("run", "1")], &[])).await.unwrap();
        assert_eq!(pages(&jobs, with(&[("run", "2")])).await, ["a"], "a repeated request changes nothing");
        assert_eq!(pages(&jobs, with(&[("team", "x")])).await, ["c"]);
        let empty = jobs.update(&Identity::anyone(), label("a", "3", &[("", "x")], &[])).await;
        assert!(matches!(empty, Err(Error::Invalid { .. })), "{empty:?}");
        assert_eq!(pages(&jobs, with(&[("run", "2")])).await, ["a"]);
    }

    #[tokio::test]
    async fn a_page_fits_a_message() {
        let jobs = service(1).await;
        assert_eq!(pages(&jobs, ListJobsRequest::default()).await, ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_draining_service_refuses() {
        let jobs = service(1).await;
        jobs.0.draining.cancel();
        assert_eq!(jobs.list(&Identity::anyone(), &ListJobsRequest::default()).await, Err(Error::Draining));
        assert_eq!(
            jobs.get(&Identity::anyone(), GetJobRequest { name: "a".into() }).await,
            Err(Error::Draining)
        );
    }
}
