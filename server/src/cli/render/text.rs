//! Text for people. What callers may choose (host names, sentences) can't steer the terminal.

use autolrs_proto::v1::{Job, JobState, Stage, Trial};

/// A table of jobs.
pub fn list(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".into();
    }
    let head = ["NAME", "STATE", "POLICY", "STEPS", "OF", "OVERHEAD", "LR", "LOSS"];
    let rows = jobs.iter().map(|job| {
        let steps = job.steps.unwrap_or_default();
        vec![
            job.name.clone(),
            super::state(job),
            job.policy.clone(),
            (steps.committed + steps.search + steps.lost).to_string(),
            budget(job),
            percent(super::overhead(job)),
            lr(job.lr),
            loss(job.train_loss),
        ]
    });
    table(std::iter::once(head.map(str::to_owned).to_vec()).chain(rows).collect())
}

/// A job on one line.
pub fn line(job: &Job) -> String {
    let steps = job.steps.unwrap_or_default();
    let total = steps.committed + steps.search + steps.lost;
    let trial = job.trial.map(|trial| format!(", trial {trial}")).unwrap_or_default();
    let place =
        super::phase(job).map(|phase| format!("  {phase}, stage {}{trial}", job.stage)).unwrap_or_default();
    let (lr, loss) = (lr(job.lr), loss(job.train_loss));
    format!("{}{place}  step {total} of {}  lr {lr}  loss {loss}\n", super::state(job), budget(job))
}

/// The steps of its budget, or that it has none.
fn budget(job: &Job) -> String {
    match (job.total_steps, job.state()) {
        (Some(steps), _) => steps.to_string(),
        (None, JobState::Damaged) => "-".into(),
        (None, _) => "open".into(),
    }
}

/// A job after an operator's request.
pub fn accepted(job: &Job) -> String {
    let ended = matches!(job.state(), JobState::Finished | JobState::Cancelled | JobState::Failed);
    let when = if ended { "" } else { "; its trainer takes it up at its next switch point" };
    format!("job {} is {}{when}\n", job.name, super::state(job))
}

/// After an update was accepted; `waits`: it is more than labels.
pub fn updated(job: &Job, waits: bool) -> String {
    let ended = matches!(job.state(), JobState::Finished | JobState::Cancelled | JobState::Failed);
    if waits && !ended { accepted(job) } else { format!("job {} is updated\n", job.name) }
}

/// A job with its stages.
pub fn show(job: &Job, stages: &[Stage]) -> String {
    let mut text = table(summary(job).into_iter().map(|(k, v)| vec![k.to_owned(), v]).collect());
    for warning in &job.warnings {
        push(&mut text, &format!("warning: {}", plain(warning)));
    }
    for stage in stages {
        text.push('\n');
        text.push_str(&show_stage(stage));
    }
    text
}

/// Stages with their searches.
pub fn stages(stages: &[Stage]) -> String {
    if stages.is_empty() {
        return "no stage yet\n".into();
    }
    stages.iter().map(show_stage).collect::<Vec<_>>().join("\n")
}

fn summary(job: &Job) -> Vec<(&'static str, String)> {
    let steps = job.steps.unwrap_or_default();
    let total = steps.committed + steps.search + steps.lost;
    let state = match super::failure(job) {
        Some(failure) => format!("{} ({failure})", super::state(job)),
        None => super::state(job),
    };
    let mut lines = vec![("job", job.name.clone()), ("state", state)];
    if job.policy.is_empty() {
        return lines;
    }
    let kinds = format!("{} committed, {} search, {} lost", steps.committed, steps.search, steps.lost);
    let mut labels: Vec<_> = job.spec.iter().flat_map(|spec| &spec.labels).collect();
    labels.sort();
    if !labels.is_empty() {
        let labels: Vec<_> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(("labels", plain(&labels.join(", "))));
    }
    lines.push(("policy", format!("{} (revision {})", job.policy, job.policy_revision)));
    lines.push(("steps", format!("{total} of {}: {kinds}; {} repeated", budget(job), steps.repeated)));
    lines.push(("overhead", percent(super::overhead(job))));
    if let Some(phase) = super::phase(job) {
        let trial = job.trial.map(|trial| format!(", trial {trial}")).unwrap_or_default();
        lines.push(("phase", format!("{phase}, stage {}{trial}", job.stage)));
    }
    lines.push(("lr", lr(job.lr)));
    lines.push(("train loss", loss(job.train_loss)));
    lines.push(("validation loss", loss(job.validation_loss)));
    let commits: Vec<_> =
        job.commits.iter().map(|c| format!("stage {}: {}", c.stage, lr(Some(c.lr)))).collect();
    lines.push(("commits", if commits.is_empty() { "none yet".into() } else { commits.join(", ") }));
    if let Some(holder) = &job.holder {
        let trainer = format!("session {}, process {} on {}", job.session, holder.pid, plain(&holder.host));
        lines.push(("trainer", trainer));
    }
    lines
}

fn show_stage(stage: &Stage) -> String {
    let mut text = String::new();
    let chosen = stage.lr.map_or("search is open".to_owned(), |_| format!("LR {}", lr(stage.lr)));
    push(&mut text, &format!("stage {}: {chosen}", stage.stage));
    if !stage.why.is_empty() {
        push(&mut text, &format!("  {}", plain(&stage.why)));
    }
    if let Some(forecast) = stage.forecast {
        let came = stage.end_loss.map(|end| format!("; came {}", loss(Some(end)))).unwrap_or_default();
        let sd = loss(stage.forecast_sd);
        push(&mut text, &format!("  forecast {} +- {sd}{came}", loss(Some(forecast))));
    } else if let Some(end) = stage.end_loss {
        push(&mut text, &format!("  ended at loss {}", loss(Some(end))));
    }
    if !stage.trials.is_empty() {
        let head = ["  TRIAL", "LR", "STEPS", "OUTCOME", "SCORE", "SD"].map(str::to_owned).to_vec();
        text.push_str(&table(std::iter::once(head).chain(stage.trials.iter().map(row)).collect()));
    }
    text
}

fn row(trial: &Trial) -> Vec<String> {
    vec![
        format!("  {}", trial.trial),
        lr(Some(trial.lr)),
        trial.steps.to_string(),
        super::outcome(trial.outcome()),
        loss(trial.score),
        loss(trial.sd),
    ]
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn lr(lr: Option<f64>) -> String {
    lr.map_or("-".into(), |lr| format!("{lr:.3e}"))
}

fn loss(loss: Option<f64>) -> String {
    loss.map_or(
        "-".into(),
        |loss| if loss.abs() < 1e5 { format!("{loss:.4}") } else { format!("{loss:.3e}") },
    )
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share))
}

/// Without control characters.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Columns as wide as their widest cell, two spaces apart.
fn table(rows: Vec<Vec<String>>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell_width = |row: &Vec<String>, i: usize| row.get(i).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..columns).map(|i| rows.iter().map(|row| cell_width(row, i)).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        push(&mut text, cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_proto::v1::{Commit, Holder, Steps, trial::Outcome};

    fn job() -> Job {
        Job {
            name: "a".into(),
            policy: "scan".into(),
            state: JobState::Training.into(),
            total_steps: Some(1000),
            steps: Some(Steps { committed: 300, search: 100, lost: 0, repeated: 7 }),
            commits: vec![Commit { stage: 1, lr: 0.01 }],
            holder: Some(Holder { host: "x\u{1b}[2J".into(), pid: 4 }),
            ..Job::default()
        }
    }

    #[test]
    fn a_list_has_columns() {
        let text = list(&[job(), Job { name: "longer".into(), ..job() }]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "NAME    STATE     POLICY  STEPS  OF    OVERHEAD  LR  LOSS");
        assert_eq!(lines[1], "a       training  scan    400    1000  25.0 %    -   -");
        assert_eq!(list(&[]), "no jobs\n");
    }

    #[test]
    fn a_watched_job_takes_one_line() {
        assert_eq!(line(&job()), "training  step 400 of 1000  lr -  loss -\n");
        let trial = Job { phase: 2, trial: Some(3), lr: Some(0.1), train_loss: Some(0.5), ..job() };
        let text = "training  trial, stage 0, trial 3  step 400 of 1000  lr 1.000e-1  loss 0.5000\n";
        assert_eq!(line(&trial), text);
        let open = Job { total_steps: None, ..job() };
        assert_eq!(line(&open), "training  step 400 of open  lr -  loss -\n");
    }

    #[test]
    fn a_request_says_when_it_takes_effect() {
        let later = "job a is training; its trainer takes it up at its next switch point\n";
        assert_eq!(accepted(&job()), later);
        let ended = Job { state: JobState::Cancelled.into(), ..job() };
        assert_eq!(accepted(&ended), "job a is cancelled\n");
    }

    #[test]
    fn a_job_is_shown_with_its_search_and_can_not_steer_the_terminal() {
        let trial =
            Trial { trial: 3, lr: 0.1, steps: 9, outcome: Outcome::Diverged.into(), ..Trial::default() };
        let stage =
            Stage { stage: 0, trials: vec![trial], lr: Some(0.02), why: "w".into(), ..Stage::default() };
        let text = show(&job(), &[stage]);
        for part in
            ["400 of 1000: 300 committed, 100 search, 0 lost; 7 repeated", "stage 1: 1.000e-2", "diverged"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains('\u{1b}'));
        let damaged = Job { name: "d".into(), state: JobState::Damaged.into(), ..Job::default() };
        assert_eq!(show(&damaged, &[]), "job    d\nstate  damaged\n");
    }
}
