//! `autolrs jobs`: lists and shows jobs of a running server.

use super::{
    client::{ClientError, Target, block_on},
    render,
};
use autolrs_proto::v1::{
    GetJobRequest, GetStageRequest, Job, JobState, ListJobsRequest, Stage,
    job_service_client::JobServiceClient,
};
use clap::{Args, Subcommand, ValueEnum};
use std::io::Write;
use tonic::{Code, transport::Channel};

/// Jobs that are asked for at once.
const PAGE: u32 = 500;

/// What to ask.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// One line per job, in the order of their names.
    List {
        /// Only jobs in this state (searching, training, ...); may be repeated.
        #[arg(long, value_name = "STATE", value_parser = parse_state)]
        state: Vec<JobState>,
        /// Where and how.
        #[command(flatten)]
        ask: Ask,
    },
    /// A job with its steps, its commits and its searches.
    Show {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask,
    },
}

/// Where to ask, and how to print.
#[derive(Debug, Args)]
pub struct Ask {
    /// The server.
    #[command(flatten)]
    target: Target,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For machines: the names of the proto.
    Json,
}

fn parse_state(text: &str) -> Result<JobState, String> {
    let name = format!("JOB_STATE_{}", text.to_ascii_uppercase());
    let state = JobState::from_str_name(&name).filter(|&state| state != JobState::Unspecified);
    state.ok_or_else(|| {
        "must be created, searching, training, cooling, detached, finished, cancelled, failed or damaged"
            .into()
    })
}

/// Asks and prints.
///
/// # Errors
/// If the server can't be reached or refuses.
pub fn run(command: JobsCommand) -> Result<(), ClientError> {
    let text = block_on(async {
        match command {
            JobsCommand::List { state, ask } => {
                let jobs = list(&mut ask.target.jobs().await?, &state).await?;
                Ok(match ask.output {
                    Output::Text => render::text::list(&jobs),
                    Output::Json => render::json::list(&jobs),
                })
            }
            JobsCommand::Show { name, ask } => {
                let (job, stages) = show(&mut ask.target.jobs().await?, name).await?;
                Ok(match ask.output {
                    Output::Text => render::text::show(&job, &stages),
                    Output::Json => render::json::show(&job, &stages),
                })
            }
        }
    })?;
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

async fn list(client: &mut JobServiceClient<Channel>, states: &[JobState]) -> Result<Vec<Job>, ClientError> {
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

async fn show(
    client: &mut JobServiceClient<Channel>,
    name: String,
) -> Result<(Job, Vec<Stage>), ClientError> {
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
