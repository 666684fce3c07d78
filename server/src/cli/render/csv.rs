//! CSV: a header, numbers in full, nothing where there is no value. No value holds a comma or a quote.

use autolrs_proto::v1::{Job, Stage, Trial};

/// A line per job.
pub fn list(jobs: &[Job]) -> String {
    let head = "name,uid,state,policy,total_steps,committed,search,lost,repeated,overhead,stage,trial,lr,train_loss,\
                validation_loss,revision";
    table(head, jobs.iter().map(job))
}

/// A line per trial, with what its stage came to; one without trial for a stage that has none.
pub fn stages(stages: &[Stage]) -> String {
    let head = "stage,stage_lr,forecast,forecast_sd,end_loss,trial,lr,steps,outcome,score,sd";
    let rows = |stage: &Stage| {
        let of =
            [Some(stage.stage.to_string()), float(stage.lr), float(stage.forecast), float(stage.forecast_sd)];
        let of = [&of[..], &[float(stage.end_loss)]].concat();
        let trials: Vec<_> = stage.trials.iter().map(|t| [&of[..], &trial(t)[..]].concat()).collect();
        if trials.is_empty() { vec![[&of[..], &vec![None; 6][..]].concat()] } else { trials }
    };
    table(head, stages.iter().flat_map(rows))
}

fn table(head: &str, rows: impl Iterator<Item = Vec<Option<String>>>) -> String {
    let line = |row: Vec<Option<String>>| {
        row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(",") + "\n"
    };
    format!("{head}\n{}", rows.map(line).collect::<String>())
}

fn job(job: &Job) -> Vec<Option<String>> {
    let steps = job.steps.unwrap_or_default();
    let [committed, search, lost, repeated] =
        [steps.committed, steps.search, steps.lost, steps.repeated].map(|n| Some(n.to_string()));
    vec![
        Some(job.name.clone()),
        Some(job.uid.clone()),
        Some(super::state(job)),
        Some(job.policy.clone()),
        job.total_steps.map(|steps| steps.to_string()),
        committed,
        search,
        lost,
        repeated,
        float(super::overhead(job)),
        Some(job.stage.to_string()),
        job.trial.map(|trial| trial.to_string()),
        float(job.lr),
        float(job.train_loss),
        float(job.validation_loss),
        Some(job.revision.to_string()),
    ]
}

fn trial(trial: &Trial) -> [Option<String>; 6] {
    [
        Some(trial.trial.to_string()),
        float(Some(trial.lr)),
        Some(trial.steps.to_string()),
        Some(super::outcome(trial.outcome())),
        float(trial.score),
        float(trial.sd),
    ]
}

/// Read back to the bit.
fn float(x: Option<f64>) -> Option<String> {
    x.map(|x| format!("{x:e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use autolrs_proto::v1::{JobState, Steps, trial::Outcome};

    #[test]
    fn every_line_has_the_fields_of_the_head() {
        let trial =
            Trial { trial: 1, lr: 0.1, steps: 9, outcome: Outcome::Diverged.into(), ..Trial::default() };
        let searched = Stage { trials: vec![trial], lr: Some(0.02), ..Stage::default() };
        let plain = Stage { stage: 1, end_loss: Some(0.5), ..Stage::default() };
        let text = stages(&[searched, plain]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1..], ["0,2e-2,,,,1,1e-1,9,diverged,,", "1,,,,5e-1,,,,,,"]);
        let steps = Some(Steps { committed: 3, search: 1, ..Steps::default() });
        let job = Job { name: "a".into(), state: JobState::Failed.into(), steps, ..Job::default() };
        let text = [text, list(&[job])].concat();
        assert!(text.contains("\na,,failed,,,3,1,0,0,2.5e-1,0,,,,,0\n"), "{text}");
        for table in text.split("\nname").map(|t| t.lines().map(|l| l.split(',').count()).collect::<Vec<_>>())
        {
            assert!(table.iter().all(|&n| n == table[0]), "{table:?}");
        }
    }
}
