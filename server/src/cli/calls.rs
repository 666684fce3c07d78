//! What `autolrs jobs` asks of a server.

use super::client::ClientError;
use autolrs_proto::v1::{
    CancelJobRequest, DeleteJobRequest, FinishJobRequest, GetJobRequest, GetStageRequest, Job, JobState,
    ListJobsRequest, Stage, job_service_client::JobServiceClient,
};
use tonic::{Code, transport::Channel};

/// Jobs that are asked for at once.
const PAGE: u32 = 500;

type Client = JobServiceClient<Channel>;

pub(super) async fn list(client: &mut Client, states: &[JobState]) -> Result<Vec<Job>, ClientError> {
    let states = states.iter().map(|&state| state.into()).collect();
    let mut request = ListJobsRequest { page_size: PAGE, page_token: String::new(), states };
    let mut jobs = Vec::new();
    loop {
        let page = client.list_jobs(request.clone()).await?.into_inner();
        jobs.extend(page.jobs);
        if page.next_page_token.is_empty() {
            return Ok(jobs);
        }
        request.page_token = page.next_page_token;
    }
}

pub(super) async fn show(client: &mut Client, name: String) -> Result<(Job, Vec<Stage>), ClientError> {
    let answer = client.get_job(GetJobRequest { name: name.clone() }).await?.into_inner();
    let job = answer.job.unwrap_or_default();
    let mut stages = Vec::new();
    if job.state() == JobState::Damaged {
        return Ok((job, stages));
    }
    for stage in 0..=job.stage {
        match client.get_stage(GetStageRequest { job: name.clone(), stage }).await {
            Ok(answer) => stages.extend(answer.into_inner().stage),
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => return Err(status.into()),
        }
    }
    Ok((job, stages))
}

pub(super) async fn cancel(client: &mut Client, name: String) -> Result<Job, ClientError> {
    let request = CancelJobRequest { name, request_id: request_id() };
    Ok(client.cancel_job(request).await?.into_inner().job.unwrap_or_default())
}

pub(super) async fn finish(
    client: &mut Client,
    name: String,
    cooldown_steps: Option<u64>,
) -> Result<Job, ClientError> {
    let request = FinishJobRequest { name, request_id: request_id(), cooldown_steps };
    Ok(client.finish_job(request).await?.into_inner().job.unwrap_or_default())
}

pub(super) async fn delete(client: &mut Client, name: String) -> Result<(), ClientError> {
    let request = DeleteJobRequest { name, request_id: request_id(), uid: String::new() };
    client.delete_job(request).await?;
    Ok(())
}

/// Another one for every command.
fn request_id() -> String {
    format!("cli-{:016x}", rand::random::<u64>())
}
