//! Text for people. What callers may choose (host names, sentences) can't steer the terminal.

use super::{
    number,
    table::{Table, paint, word_style},
};
use autolrs_proto::v1::{Job, JobState, Stage, Trial};

/// A table of jobs.
pub fn list(jobs: &[Job]) -> String {
    if jobs.is_empty() {
        return "no jobs\n".into();
    }
    let head = ["<NAME", "<STATE", "<POLICY", "STEPS", "OF", "SEARCH", "LR", "LOSS"];
    let rows = jobs.iter().map(|job| {
        vec![
            job.name.clone(),
            super::state(job),
            job.policy.clone(),
            super::steps(job).to_string(),
            budget(job),
            super::overhead(job).map_or("-".into(), number::percent),
            lr(job.lr),
            loss(job.train_loss),
        ]
    });
    Table::new(&head).with(rows).print()
}

/// A job on one line.
pub fn line(job: &Job) -> String {
    let budget = job.total_steps.map(|budget| format!(" of {budget}")).unwrap_or_default();
    let (all, place) = (super::steps(job), place(job, "  "));
    format!("{}{place}  step {all}{budget}  {}\n", super::state(job), now(job))
}

/// The steps of its budget, or that it has none.
fn budget(job: &Job) -> String {
    match (job.total_steps, job.state()) {
        (Some(steps), _) => steps.to_string(),
        (None, JobState::Damaged) => "-".into(),
        (None, _) => "open".into(),
    }
}

/// What the newest step was.
pub(in crate::cli) fn now(job: &Job) -> String {
    format!("lr {}  loss {}", lr(job.lr), loss(job.train_loss))
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

/// A job with a line per stage.
pub fn show(job: &Job, stages: &[Stage]) -> String {
    let mut text = String::new();
    for (key, value) in summary(job) {
        push(&mut text, &format!("{key:<10}  {value}"));
    }
    for warning in &job.warnings {
        let word = paint("warning", word_style("detached"));
        push(&mut text, &format!("{word}     {}", wrapped(&plain(warning), 12, 80).trim_start()));
    }
    if !stages.is_empty() {
        text.push('\n');
        text += &overview(stages);
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
    let state = super::state(job);
    let painted = paint(&state, word_style(&state));
    let state = super::failure(job).map_or(painted.clone(), |failure| format!("{painted} ({failure})"));
    let mut lines = vec![("job", job.name.clone()), ("state", state + &place(job, ", "))];
    if job.policy.is_empty() {
        return lines;
    }
    if let Some(remedy) = super::remedy(job) {
        lines.push(("to do", remedy.into()));
    }
    let mut labels: Vec<_> = job.spec.iter().flat_map(|spec| &spec.labels).collect();
    labels.sort();
    if !labels.is_empty() {
        let labels: Vec<_> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        lines.push(("labels", plain(&labels.join(", "))));
    }
    lines.push(("policy", format!("{} (revision {})", job.policy, job.policy_revision)));
    lines.push(("steps", super::steps_line(job)));
    let repeated = job.steps.unwrap_or_default().repeated;
    if repeated > 0 {
        lines.push(("repeated", format!("{} steps after a crash or a rewind", number::steps(repeated))));
    }
    if job.lr.is_some() {
        lines.push(("LR", lr(job.lr)));
    }
    let validation =
        job.validation_loss.map(|v| format!(", validation {}", loss(Some(v)))).unwrap_or_default();
    lines.push(("loss", format!("{}{validation}", loss(job.train_loss))));
    if let Some(holder) = &job.holder {
        let trainer = format!("session {}, process {} on {}", job.session, holder.pid, plain(&holder.host));
        lines.push(("trainer", trainer));
    }
    lines
}

/// Where a job stands in its policy.
fn place(job: &Job, before: &str) -> String {
    let trial = job.trial.map(|trial| format!(", trial {trial}")).unwrap_or_default();
    super::phase(job).map(|phase| format!("{before}{phase}, stage {}{trial}", job.stage)).unwrap_or_default()
}

/// One line per stage.
fn overview(stages: &[Stage]) -> String {
    let head = ["STAGE", "LR", "TRIALS", "BROKEN", "FORECAST", "SD", "CAME"];
    let count = |n: usize, of: usize| if of == 0 { "-".into() } else { n.to_string() };
    let rows = stages.iter().map(|stage| {
        let all = stage.trials.len();
        let broken = stage.trials.iter().filter(|t| super::outcome(t.outcome()) != "completed").count();
        vec![
            stage.stage.to_string(),
            lr(stage.lr),
            count(all, all),
            count(broken, all),
            loss(stage.forecast),
            loss(stage.forecast_sd),
            loss(stage.end_loss),
        ]
    });
    Table::new(&head).with(rows).print()
}

fn show_stage(stage: &Stage) -> String {
    let mut text = String::new();
    let chosen = stage.lr.map_or("search is open".to_owned(), |_| format!("LR {}", lr(stage.lr)));
    push(&mut text, &format!("stage {}: {chosen}", stage.stage));
    if !stage.why.is_empty() {
        push(&mut text, &wrapped(&plain(&stage.why), 2, 80));
    }
    if let Some(forecast) = stage.forecast {
        let came = stage.end_loss.map(|end| format!("; came {}", loss(Some(end)))).unwrap_or_default();
        let sd = loss(stage.forecast_sd);
        push(&mut text, &format!("  forecast {} +- {sd}{came}", loss(Some(forecast))));
    } else if let Some(end) = stage.end_loss {
        push(&mut text, &format!("  ended at loss {}", loss(Some(end))));
    }
    if !stage.trials.is_empty() {
        let head = ["TRIAL", "LR", "STEPS", "<OUTCOME", "SCORE", "SD"];
        text += &Table::new(&head).indented(2).with(stage.trials.iter().map(row)).print();
    }
    text
}

fn row(trial: &Trial) -> Vec<String> {
    vec![
        trial.trial.to_string(),
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
    lr.map_or("-".into(), |lr| number::digits(lr, 4))
}

fn loss(loss: Option<f64>) -> String {
    let usual = |loss: f64| loss == 0.0 || (1e-3..1e5).contains(&loss.abs());
    loss.map_or("-".into(), |loss| if usual(loss) { format!("{loss:.4}") } else { format!("{loss:.3e}") })
}

/// Without control characters, and without those that turn the direction of what follows.
pub(super) fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}

/// In lines of at most `width` characters, broken between words.
pub(super) fn wrapped(text: &str, indent: usize, width: usize) -> String {
    let (mut lines, indent) = (vec![String::new()], " ".repeat(indent));
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is always a line");
        if !last.is_empty() && indent.len() + last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            let space = if last.is_empty() { "" } else { " " };
            *last += &format!("{space}{word}");
        }
    }
    lines.iter().map(|line| format!("{indent}{line}")).collect::<Vec<_>>().join("\n")
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
        let seen: Vec<_> = lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
        assert_eq!(seen[0], "NAME    STATE     POLICY  STEPS    OF  SEARCH");
        assert_eq!(seen[1], "a       training  scan      400  1000  25.0 %");
        assert_eq!(list(&[]), "no jobs\n");
    }

    #[test]
    fn a_watched_job_takes_one_line() {
        assert_eq!(line(&job()), "training  step 400 of 1000  lr -  loss -\n");
        let trial = Job { phase: 2, trial: Some(3), lr: Some(0.1), train_loss: Some(0.5), ..job() };
        let text = "training  trial, stage 0, trial 3  step 400 of 1000  lr 0.1  loss 0.5000\n";
        assert_eq!(line(&trial), text);
        let open = Job { total_steps: None, ..job() };
        assert_eq!(line(&open), "training  step 400  lr -  loss -\n");
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
        let seen = |text: &str| anstream::adapter::strip_str(text).to_string();
        let text = show(&job(), std::slice::from_ref(&stage));
        let shown = seen(&text) + &seen(&stages(&[stage]));
        let steps = "400 of 1,000 steps: 300 committed, 100 search (25.0 %), 0 lost";
        for part in [steps, "7 steps after a crash", "stage 0: LR 0.02", "    3  0.1      9  diverged"] {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(!text.contains("\u{1b}[2J"));
        let damaged = Job { name: "d".into(), state: JobState::Damaged.into(), ..Job::default() };
        assert_eq!(seen(&show(&damaged, &[])), "job         d\nstate       damaged\n");
    }
}
