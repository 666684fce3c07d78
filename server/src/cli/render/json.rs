//! JSON with the names of the proto, as the help of `autolrs jobs` promises.

use autolrs_proto::v1::{Job, Stage, Trial};
use serde_json::{Value, json};

/// `{"jobs": [...]}`
pub fn list(jobs: &[Job]) -> String {
    print(&json!({ "jobs": jobs.iter().map(job).collect::<Vec<_>>() }))
}

/// The job with `stages`.
pub fn show(job: &Job, stages: &[Stage]) -> String {
    let mut value = self::job(job);
    value["stages"] = stages.iter().map(stage).collect();
    print(&value)
}

/// `{"stages": [...]}`
pub fn stages(stages: &[Stage]) -> String {
    print(&json!({ "stages": stages.iter().map(stage).collect::<Vec<_>>() }))
}

/// The job on one line.
pub fn line(job: &Job) -> String {
    format!("{}\n", self::job(job))
}

/// What is left of a job that was deleted.
pub fn deleted(name: &str) -> String {
    print(&json!({ "name": name, "deleted": true }))
}

/// The job alone.
pub fn job_only(job: &Job) -> String {
    print(&self::job(job))
}

pub(in crate::cli) fn print(value: &Value) -> String {
    format!("{value:#}\n")
}

fn job(job: &Job) -> Value {
    let steps = job.steps.unwrap_or_default();
    let seconds = |time: &prost_types::Timestamp| time.seconds as f64 + f64::from(time.nanos) * 1e-9;
    json!({
        "name": job.name,
        "uid": job.uid,
        "state": super::state(job),
        "failure": super::failure(job),
        "policy": job.policy,
        "policy_revision": job.policy_revision,
        "phase": super::phase(job),
        "stage": job.stage,
        "trial": job.trial,
        "lr": job.lr,
        "total_steps": job.total_steps,
        "steps": {
            "committed": steps.committed,
            "search": steps.search,
            "lost": steps.lost,
            "repeated": steps.repeated,
        },
        "overhead": super::overhead(job),
        "train_loss": job.train_loss,
        "validation_loss": job.validation_loss,
        "commits": job.commits.iter().map(|c| json!({ "stage": c.stage, "lr": c.lr })).collect::<Vec<_>>(),
        "session": job.session,
        "holder": job.holder.as_ref().map(|h| json!({ "host": h.host, "pid": h.pid })),
        "warnings": job.warnings,
        "revision": job.revision,
        "create_time": job.create_time.as_ref().map(seconds),
        "heard_time": job.heard_time.as_ref().map(seconds),
        "labels": job.spec.as_ref().map(|spec| &spec.labels),
    })
}

pub(in crate::cli) fn stage(stage: &Stage) -> Value {
    let curve = stage.curve.iter().map(|p| json!({ "log10_lr": p.log10_lr, "mean": p.mean, "sd": p.sd }));
    json!({
        "stage": stage.stage,
        "lr": stage.lr,
        "why": stage.why,
        "forecast": stage.forecast,
        "forecast_sd": stage.forecast_sd,
        "end_loss": stage.end_loss,
        "trials": stage.trials.iter().map(trial).collect::<Vec<_>>(),
        "curve": curve.collect::<Vec<_>>(),
    })
}

fn trial(trial: &Trial) -> Value {
    let validations = trial.validations.iter().map(|v| json!({ "offset": v.offset, "loss": v.loss }));
    json!({
        "trial": trial.trial,
        "lr": trial.lr,
        "steps": trial.steps,
        "outcome": super::outcome(trial.outcome()),
        "score": trial.score,
        "sd": trial.sd,
        "losses": trial.losses,
        "validations": validations.collect::<Vec<_>>(),
    })
}
