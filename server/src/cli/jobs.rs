//! `autolrs jobs`: shows, draws, changes and ends jobs of a running server.

use super::{
    calls,
    client::{ClientError, Target, block_on},
    plot::{self, Format, Run},
    render, watch,
};
use autolrs_proto::v1::{JobState, ListJobsRequest, UpdateJobRequest};
use clap::{Args, Subcommand, ValueEnum};
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// What the forms of output promise.
const FORMS: &str = "\
Output: `table` is for people and may change. `json` is for programs and only grows: the field names are those of \
autolrs.v1 in the proto, enum values are the last part of their names in small letters, times are seconds since 1970, \
absent and non-finite numbers are null; `overhead` (search steps / all steps) is added. list prints {\"jobs\": [...]}, \
stages {\"stages\": [...]}, show a job with `stages`, watch a job per line, delete {\"name\", \"deleted\"}, the others \
a job. `csv` has a header and full precision; an absent value is empty; stages prints a line per trial.

Colour and progress only on a terminal (NO_COLOR turns them off). Results go to stdout, errors to stderr as one line \
with the server's reason in brackets, such as [JOB_NOT_FOUND].";

/// What to ask.
#[derive(Debug, Subcommand)]
#[command(after_long_help = FORMS)]
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
        ask: Ask<Rows>,
    },
    /// A job: where it stands, its steps, a line per stage, its warnings.
    Show {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask<Output>,
    },
    /// The stages of a job: what was chosen and why, with every trial of the search.
    Stages {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask<Rows>,
    },
    /// Follow a job until it ends: a line after every change, on a terminal a progress bar as well.
    Watch {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask<Output>,
    },
    /// Draw a job: LR and loss over the steps, and for each search what explains the choice. A running job is drawn as
    /// far as it is.
    Plot {
        /// The job's name.
        name: String,
        /// The picture, which is replaced: .svg or .png.
        #[arg(short, long, value_name = "FILE", value_parser = parse_picture)]
        output: (PathBuf, Format),
        /// Draw the search of this stage; may be repeated. Without it: the last 8 searches.
        #[arg(long, value_name = "N")]
        stage: Vec<u32>,
        /// The server.
        #[command(flatten)]
        target: Target,
    },
    /// The LR of every step that a job has kept, to run its schedule again without a server.
    Export {
        /// The job's name.
        name: String,
        /// In which form.
        #[arg(long, value_enum, default_value_t = Form::Json)]
        output: Form,
        /// The server.
        #[command(flatten)]
        target: Target,
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
        ask: Ask<Output>,
    },
    /// End a job without training on, at its trainer's next switch point.
    Cancel {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask<Output>,
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
        ask: Ask<Output>,
    },
    /// Forget a job that has ended, or that no trainer has opened, with its history.
    Delete {
        /// The job's name.
        name: String,
        /// Where and how.
        #[command(flatten)]
        ask: Ask<Output>,
    },
}

/// Where to ask, and how to print.
#[derive(Debug, Args)]
pub struct Ask<O: ValueEnum + Clone + Send + Sync + 'static> {
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: O,
    /// The server.
    #[command(flatten)]
    target: Target,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// How to print what consists of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For spreadsheets and data frames.
    Csv,
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

fn parse_picture(text: &str) -> Result<(PathBuf, Format), String> {
    Ok((text.into(), Format::of(Path::new(text))?))
}

/// Asks and prints.
///
/// # Errors
/// If the server can't be reached or refuses, or the answer can't be written.
pub fn run(command: JobsCommand) -> Result<(), ClientError> {
    block_on(answer(command))
}

async fn answer(command: JobsCommand) -> Result<(), ClientError> {
    match command {
        JobsCommand::List { state, label, policy, ask } => {
            let states = state.into_iter().map(Into::into).collect();
            let labels = label.into_iter().collect();
            let request = ListJobsRequest { states, labels, policies: policy, ..ListJobsRequest::default() };
            let jobs = calls::list(&mut ask.target.jobs().await?, request).await?;
            print(&match ask.output {
                Rows::Table => render::text::list(&jobs),
                Rows::Json => render::json::list(&jobs),
                Rows::Csv => render::csv::list(&jobs),
            })
        }
        JobsCommand::Show { name, ask } => {
            let (job, stages) = calls::show(&mut ask.target.jobs().await?, name).await?;
            print(&match ask.output {
                Output::Table => render::text::show(&job, &stages),
                Output::Json => render::json::show(&job, &stages),
            })
        }
        JobsCommand::Stages { name, ask } => {
            let stages = calls::stages(&mut ask.target.jobs().await?, name).await?;
            print(&match ask.output {
                Rows::Table => render::text::stages(&stages),
                Rows::Json => render::json::stages(&stages),
                Rows::Csv => render::csv::stages(&stages),
            })
        }
        JobsCommand::Watch { name, ask } => match ask.output {
            Output::Table => watch::for_people(&ask.target, name).await,
            Output::Json => watch::for_programs(&ask.target, name).await,
        },
        JobsCommand::Plot { name, output, stage, target } => plot(&target, name, output, &stage).await,
        JobsCommand::Export { name, output, target } => {
            let schedule = calls::export(&mut target.jobs().await?, name).await?;
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            match output {
                Form::Json => render::schedule::json(&mut out, &schedule)?,
                Form::Csv => render::schedule::csv(&mut out, &schedule)?,
            }
            Ok(out.flush()?)
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
            print(&match ask.output {
                Output::Table => render::text::updated(&job, waits),
                Output::Json => render::json::job_only(&job),
            })
        }
        JobsCommand::Cancel { name, ask } => {
            let job = calls::cancel(&mut ask.target.jobs().await?, name).await?;
            print(&ask.output.accepted(&job))
        }
        JobsCommand::Finish { name, cooldown_steps, ask } => {
            let job = calls::finish(&mut ask.target.jobs().await?, name, cooldown_steps).await?;
            print(&ask.output.accepted(&job))
        }
        JobsCommand::Delete { name, ask } => {
            calls::delete(&mut ask.target.jobs().await?, name.clone()).await?;
            print(&match ask.output {
                Output::Table => format!("job {name} is deleted\n"),
                Output::Json => render::json::deleted(&name),
            })
        }
    }
}

impl Output {
    /// What is said after an operator's request.
    fn accepted(self, job: &autolrs_proto::v1::Job) -> String {
        match self {
            Self::Table => render::text::accepted(job),
            Self::Json => render::json::job_only(job),
        }
    }
}

/// Prints a text; its colours only where they are seen.
pub(super) fn print(text: &str) -> Result<(), ClientError> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

async fn plot(
    target: &Target,
    name: String,
    (path, format): (PathBuf, Format),
    stages: &[u32],
) -> Result<(), ClientError> {
    let mut client = target.jobs().await?;
    let (job, all) = calls::show(&mut client, name.clone()).await?;
    let (schedule, stretches) = calls::history(&mut client, name.clone()).await?;
    let unknown =
        || std::io::Error::other("the schedule has a curve that this release of autolrs does not know");
    let pieces = schedule.pieces.iter().map(crate::rpc::decode_piece).collect::<Option<_>>();
    let run =
        Run { job, stages: all, pieces: pieces.ok_or_else(unknown)?, commits: schedule.commits, stretches };
    run.check(stages).map_err(ClientError::Nothing)?;
    std::fs::write(&path, plot::draw(&run, stages, format)?).map_err(|error| {
        std::io::Error::new(error.kind(), format!("--output {} can't be written: {error}", path.display()))
    })?;
    print(&format!("{}\n", path.display()))
}
