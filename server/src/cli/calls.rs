//! What `autolrs jobs` asks of a server.

use super::client::{ClientError, Line, Target};
use autolrs_proto::v1::{
    CancelJobRequest, DeleteJobRequest, ExportScheduleRequest, FinishJobRequest, GetJobRequest, Job,
    JobState, ListJobsRequest, ListStagesRequest, Schedule, Stage, Stretch, UpdateJobRequest,
    WatchJobRequest, job_service_client::JobServiceClient,
};
use std::time::Duration;
use tonic::Status;

/// Jobs or stages that are asked for at once.
const PAGE: u32 = 500;

/// Attempts to take up a stream that broke, one after the other.
const ATTEMPTS: u32 = 60;
/// Time between two of them.
const PAUSE: Duration = Duration::from_secs(1);

type Client = JobServiceClient<Line>;

/// All jobs that match the request, page by page.
pub(super) async fn list(client: &mut Client, mut request: ListJobsRequest) -> Result<Vec<Job>, ClientError> {
    request.page_size = PAGE;
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
    let damaged = job.state() == JobState::Damaged;
    let stages = if damaged { Vec::new() } else { stages(client, name).await? };
    Ok((job, stages))
}

pub(super) async fn stages(client: &mut Client, job: String) -> Result<Vec<Stage>, ClientError> {
    let mut request = ListStagesRequest { job, page_size: PAGE, page_token: String::new() };
    let mut stages = Vec::new();
    loop {
        let page = client.list_stages(request.clone()).await?.into_inner();
        stages.extend(page.stages);
        if page.next_page_token.is_empty() {
            return Ok(stages);
        }
        request.page_token = page.next_page_token;
    }
}

pub(super) async fn export(client: &mut Client, job: String) -> Result<Schedule, ClientError> {
    let request = ExportScheduleRequest { job, ..ExportScheduleRequest::default() };
    Ok(parts(client, request).await?.0)
}

/// The schedule so far, and the losses on the way.
pub(super) async fn history(
    client: &mut Client,
    job: String,
) -> Result<(Schedule, Vec<Stretch>), ClientError> {
    parts(client, ExportScheduleRequest { job, losses: true, ..ExportScheduleRequest::default() }).await
}

async fn parts(
    client: &mut Client,
    mut request: ExportScheduleRequest,
) -> Result<(Schedule, Vec<Stretch>), ClientError> {
    let (mut whole, mut stretches) = (Schedule::default(), Vec::new());
    loop {
        let part = client.export_schedule(request.clone()).await?.into_inner();
        let schedule = part.schedule.unwrap_or_default();
        stretches.extend(part.stretches);
        let pieces = [std::mem::take(&mut whole.pieces), schedule.pieces].concat();
        whole = Schedule { pieces, ..schedule };
        match part.next_step {
            Some(step) => request.start_step = step,
            None => return Ok((whole, stretches)),
        }
    }
}

/// Shows a job after every change until it ends; a stream that breaks is resumed.
pub(super) async fn watch(
    target: &Target,
    name: String,
    mut show: impl FnMut(&Job) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let mut request = WatchJobRequest { name, from_revision: 0 };
    let mut failed = 0;
    loop {
        match follow(target, &mut request, &mut failed, &mut show).await {
            Err(error) if error.is_passing() && failed < ATTEMPTS => {
                failed += 1;
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

async fn follow(
    target: &Target,
    request: &mut WatchJobRequest,
    failed: &mut u32,
    show: &mut impl FnMut(&Job) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let mut stream = target.jobs().await?.watch_job(request.clone()).await?.into_inner();
    while let Some(response) = stream.message().await? {
        let job = response.job.unwrap_or_default();
        (*failed, request.from_revision) = (0, job.revision);
        show(&job)?;
        if matches!(job.state(), JobState::Finished | JobState::Cancelled | JobState::Failed) {
            return Ok(());
        }
    }
    Err(Status::unavailable("the server ended the stream").into())
}

pub(super) async fn update(client: &mut Client, request: UpdateJobRequest) -> Result<Job, ClientError> {
    let request = UpdateJobRequest { request_id: request_id(), ..request };
    Ok(client.update_job(request).await?.into_inner().job.unwrap_or_default())
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
