//! `autolrs jobs watch`: a line after every change. On a terminal the losses move a progress bar, and only what matters
//! for longer is a line.

use super::{
    calls,
    client::{ClientError, Target},
    jobs::print,
    render,
};
use autolrs_proto::v1::Job;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

/// JSON, a job per line.
pub(super) async fn for_programs(target: &Target, name: String) -> Result<(), ClientError> {
    lines(target, name, render::json::line).await
}

/// A progress bar where stdout is a terminal, else lines.
pub(super) async fn for_people(target: &Target, name: String) -> Result<(), ClientError> {
    if std::io::stdout().is_terminal() {
        bar(target, name).await
    } else {
        lines(target, name, render::text::line).await
    }
}

async fn lines(target: &Target, name: String, line: fn(&Job) -> String) -> Result<(), ClientError> {
    let mut last = String::new();
    calls::watch(target, name, |job| {
        let new = line(job);
        if new != last {
            print(&new)?;
            last = new;
        }
        Ok(())
    })
    .await
}

async fn bar(target: &Target, name: String) -> Result<(), ClientError> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout()).with_style(style(OPEN));
    let mut last = None;
    let watched = calls::watch(target, name, |job| {
        let place = (job.state, job.phase, job.stage, job.trial, job.commits.len(), job.warnings.len());
        if last.replace(place) != Some(place) {
            bar.suspend(|| print(&render::text::line(job)))?;
        }
        if let Some(budget) = job.total_steps {
            bar.set_style(style(BUDGET));
            bar.set_length(budget);
        }
        bar.set_position(render::steps(job));
        bar.set_message(render::text::now(job));
        Ok(())
    })
    .await;
    bar.finish_and_clear();
    watched
}

/// What the bar shows of a job with a budget.
const BUDGET: &str = "[{bar:20}] {human_pos} of {human_len} steps ({percent} %)  {wide_msg}";
/// And without.
const OPEN: &str = "{human_pos} steps  {wide_msg}";

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    style.map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
}
