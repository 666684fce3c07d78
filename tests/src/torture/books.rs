//! What the server holds of a job, in a form in which two jobs can be compared to the bit.

use autolrs_proto::v1::{
    ExportScheduleRequest, GetJobRequest, JobState, ListStagesRequest, Steps,
    job_service_client::JobServiceClient,
};
use std::{net::SocketAddr, time::Duration};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// Attempts to reach the server, 20 ms apart.
const ATTEMPTS: usize = 1500;

/// A job's books.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Books {
    pub(super) state: JobState,
    /// Steps in all, those run again left out.
    pub(super) steps: u64,
    /// Steps that a guard took back.
    pub(super) lost_steps: u64,
    /// The losses of committed stretches, then of trials, as bits. Those of more than 128 steps are means.
    pub(super) losses: Vec<u64>,
    /// Whatever was decided, in words: stretches, trials, choices, and the line of LRs.
    pub(super) decisions: Vec<String>,
}

/// Reads the books of the job `name`.
pub(super) fn read(address: SocketAddr, name: &str) -> Result<Books, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let mut jobs = JobServiceClient::new(reach(&endpoint).await?);
        Ok(ask(&mut jobs, name).await?)
    })
}

async fn reach(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    for _ in 1..ATTEMPTS {
        if let Ok(channel) = endpoint.connect().await {
            return Ok(channel);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    endpoint.connect().await
}

async fn ask(jobs: &mut JobServiceClient<Channel>, name: &str) -> Result<Books, Status> {
    let job = jobs.get_job(GetJobRequest { name: name.into() }).await?.into_inner().job.unwrap_or_default();
    let Steps { committed, search, lost, .. } = job.steps.unwrap_or_default();
    let mut books = Books {
        state: job.state(),
        steps: committed + search + lost,
        lost_steps: lost,
        losses: Vec::new(),
        decisions: vec![format!("{:?}", job.commits)],
    };
    let mut next_step = Some(0);
    while let Some(start_step) = next_step {
        let request = ExportScheduleRequest { job: name.into(), start_step, losses: true };
        let part = jobs.export_schedule(request).await?.into_inner();
        books.decisions.push(format!("{:?}", part.schedule.unwrap_or_default().pieces));
        for mut stretch in part.stretches {
            books.losses.extend(stretch.losses.drain(..).map(bits));
            books.decisions.push(format!("{stretch:?}"));
        }
        next_step = part.next_step;
    }
    let mut page_token = String::new();
    loop {
        let request = ListStagesRequest { job: name.into(), page_size: 0, page_token };
        let page = jobs.list_stages(request).await?.into_inner();
        for mut stage in page.stages {
            for mut trial in std::mem::take(&mut stage.trials) {
                books.losses.extend(trial.losses.drain(..).map(bits));
                books.decisions.push(format!("{trial:?}"));
            }
            books.decisions.push(format!("{stage:?}"));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(books);
        }
    }
}

fn bits(loss: f64) -> u64 {
    if loss.is_nan() { u64::MAX } else { loss.to_bits() }
}

/// How many of the expected values are missing or are others.
pub(super) fn differing<T: PartialEq>(expected: &[T], found: &[T]) -> usize {
    let others = expected.iter().zip(found).filter(|(a, b)| a != b).count();
    others + expected.len().abs_diff(found.len())
}
