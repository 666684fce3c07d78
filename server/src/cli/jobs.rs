//! `autolrs jobs`: shows, changes and ends jobs of a running server.

use super::{
    calls,
    client::{ClientError, Target, block_on},
    render,
};
use autolrs_proto::v1::{JobState, ListJobsRequest, UpdateJobRequest};
use clap::{Args, Subcommand, ValueEnum};
use std::io::{BufWriter, Write};

/// What to ask.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// One line per job, in the order of their names.
    List {
        /// Only jobs in this state (searching, training, ...); may be repeated.
        #[arg(long, value_name = "STATE", value_parser = parse_state)]
        state: Vec<JobState>,
        /// Only jobs with this label; may be repeated, all must match.
        #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
        label: Vec<(String, String)>,
        /// Only jobs of this policy (scan, paper, ...); may be repeated.
        #[arg(long, value_name = "POLICY")]
        policy: Vec<String>,
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
    /// The stages of a job with their searches.
    Stages {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask,
    },
    /// Follow a job until it ends: a line after every change.
    Watch {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask,
    },
    /// The LR of every step that a job has kept, to run its schedule again without a server.
    Export {
        /// The job's name.
        name: String,
        /// The server.
        #[command(flatten)]
        target: Target,
        /// In which form.
        #[arg(long, value_enum, default_value_t = Form::Json)]
        output: Form,
    },
    /// Change a job's LR or budget at its trainer's next switch point, or its labels at once.
    #[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
    Update {
        /// The job's name.
        name: String,
        /// The highest LR of what is left of the job's line; its other LRs keep their ratio to it.
        #[arg(long, value_name = "LR", group = "change")]
        lr: Option<f64>,
        /// The new budget in steps; what is left of the plan is laid anew.
        #[arg(long, value_name = "N", group = "change")]
        total_steps: Option<u64>,
        /// Set a label; may be repeated.
        #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label, group = "change")]
        label: Vec<(String, String)>,
        /// Remove a label; may be repeated.
        #[arg(long, value_name = "KEY", group = "change")]
        remove_label: Vec<String>,
        /// Where and how.
        #[command(flatten)]
        ask: Ask,
    },
    /// End a job without training on, at its trainer's next switch point.
    Cancel {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask,
    },
    /// End a job early and in order: cool down from where its trainer is.
    Finish {
        /// The job's name.
        name: String,
        /// Steps of the cooldown; without it 0 in a search, else two thirds of the committed steps.
        #[arg(long, value_name = "N")]
        cooldown_steps: Option<u64>,
        /// Where and how.
        #[command(flatten)]
        ask: Ask,
    },
    /// Forget a job that has ended, or that no trainer has opened, with its history.
    Delete {
        /// The job's name.
        name: String,
        /// The server.
        #[command(flatten)]
        target: Target,
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

/// In which form a schedule is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A few pieces of curves; described at `Schedule` in the proto.
    Json,
    /// One line per step.
    Csv,
}

fn parse_state(text: &str) -> Result<JobState, String> {
    let name = format!("JOB_STATE_{}", text.to_ascii_uppercase());
    let state = JobState::from_str_name(&name).filter(|&state| state != JobState::Unspecified);
    state.ok_or_else(|| {
        "must be created, searching, training, cooling, detached, finished, cancelled, failed or damaged"
            .into()
    })
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.into(), value.into())).ok_or_else(|| "must be KEY=VALUE".into())
}

/// Asks and prints.
///
/// # Errors
/// If the server can't be reached or refuses.
pub fn run(command: JobsCommand) -> Result<(), ClientError> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    block_on(answer(command, &mut out))?;
    Ok(out.flush()?)
}

async fn answer(command: JobsCommand, out: &mut impl Write) -> Result<(), ClientError> {
    let text = match command {
        JobsCommand::List { state, label, policy, ask } => {
            let states = state.into_iter().map(Into::into).collect();
            let labels = label.into_iter().collect();
            let request = ListJobsRequest { states, labels, policies: policy, ..ListJobsRequest::default() };
            let jobs = calls::list(&mut ask.target.jobs().await?, request).await?;
            ask.choose(|| render::text::list(&jobs), || render::json::list(&jobs))
        }
        JobsCommand::Show { name, ask } => {
            let (job, stages) = calls::show(&mut ask.target.jobs().await?, name).await?;
            ask.choose(|| render::text::show(&job, &stages), || render::json::show(&job, &stages))
        }
        JobsCommand::Stages { name, ask } => {
            let stages = calls::stages(&mut ask.target.jobs().await?, name).await?;
            ask.choose(|| render::text::stages(&stages), || render::json::stages(&stages))
        }
        JobsCommand::Watch { name, ask } => {
            let mut last = String::new();
            return calls::watch(&ask.target, name, |job| {
                let line = ask.choose(|| render::text::line(job), || render::json::line(job));
                if line != last {
                    out.write_all(line.as_bytes())?;
                    out.flush()?;
                    last = line;
                }
                Ok(())
            })
            .await;
        }
        JobsCommand::Export { name, target, output } => {
            let schedule = calls::export(&mut target.jobs().await?, name).await?;
            match output {
                Form::Json => render::schedule::json(out, &schedule)?,
                Form::Csv => render::schedule::csv(out, &schedule)?,
            }
            return Ok(());
        }
        JobsCommand::Update { name, lr, total_steps, label, remove_label, ask } => {
            let request = UpdateJobRequest {
                name,
                lr_override: lr,
                total_steps,
                labels: label.into_iter().collect(),
                remove_labels: remove_label,
                ..UpdateJobRequest::default()
            };
            let waits = lr.is_some() || total_steps.is_some();
            let job = calls::update(&mut ask.target.jobs().await?, request).await?;
            ask.choose(|| render::text::updated(&job, waits), || render::json::job_only(&job))
        }
        JobsCommand::Cancel { name, ask } => {
            let job = calls::cancel(&mut ask.target.jobs().await?, name).await?;
            ask.choose(|| render::text::accepted(&job), || render::json::job_only(&job))
        }
        JobsCommand::Finish { name, cooldown_steps, ask } => {
            let job = calls::finish(&mut ask.target.jobs().await?, name, cooldown_steps).await?;
            ask.choose(|| render::text::accepted(&job), || render::json::job_only(&job))
        }
        JobsCommand::Delete { name, target } => {
            calls::delete(&mut target.jobs().await?, name.clone()).await?;
            format!("job {name} is deleted\n")
        }
    };
    Ok(out.write_all(text.as_bytes())?)
}

impl Ask {
    fn choose(&self, text: impl FnOnce() -> String, json: impl FnOnce() -> String) -> String {
        match self.output {
            Output::Text => text(),
            Output::Json => json(),
        }
    }
}
