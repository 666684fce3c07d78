//! Pictures of jobs that are made up: what seldom happens.

use super::{Format, Run, draw};
use autolrs_core::lr_pieces::Piece;
use autolrs_proto::v1::{CurvePoint, Job, JobState, Phase, Stage, Steps, Stretch, Trial, trial::Outcome};

fn trial(trial: u32, lr: f64, outcome: Outcome, score: Option<f64>) -> Trial {
    let losses = if outcome == Outcome::Diverged { vec![2.0, f64::NAN] } else { vec![2.0, 1.0] };
    let (sd, validations) = (score.map(|_| 0.1), Vec::new());
    Trial { trial, lr, steps: 2, outcome: outcome.into(), score, sd, losses, validations }
}

fn stage(stage: u32) -> Stage {
    let trials = vec![
        trial(0, 1.0, Outcome::Diverged, None),
        trial(1, 0.1, Outcome::Stopped, None),
        trial(2, 0.01, Outcome::Completed, Some(1.0)),
        trial(3, 0.001, Outcome::Completed, Some(1e9)),
    ];
    let curve =
        [-3.0, -2.0, -1.0].map(|log10_lr| CurvePoint { log10_lr, mean: log10_lr * log10_lr, sd: 0.5 });
    Stage { stage, trials, curve: curve.into(), lr: Some(0.004), why: "a < b & c".into(), ..Stage::default() }
}

fn run(searches: u32) -> Run {
    let job = Job {
        name: "made-up".into(),
        policy: "paper".into(),
        state: JobState::Finished.into(),
        total_steps: Some(40),
        steps: Some(Steps { committed: 20, search: 20, ..Steps::default() }),
        ..Job::default()
    };
    let stretch = Stretch {
        stage: 0,
        phase: Phase::Stable.into(),
        steps: 20,
        lr: 0.004,
        losses: vec![f64::NAN; 20],
        ..Stretch::default()
    };
    let pieces = vec![Piece::constant(20, 0.004)];
    Run {
        job,
        stages: (0..searches).map(stage).collect(),
        pieces,
        commits: Vec::new(),
        stretches: vec![stretch],
    }
}

fn svg(run: &Run) -> String {
    String::from_utf8(draw(run, &[], Format::Svg).unwrap()).unwrap()
}

#[test]
fn every_outcome_has_its_mark_and_its_name() {
    let svg = svg(&run(1));
    for name in ["stopped", "diverged", "above", "posterior \u{b1} 1 sd", "LR taken: 0.4 \u{d7} best trial"] {
        assert!(svg.contains(name), "{name}");
    }
    // In both panels a cross of two lines, white below; and one in each legend.
    assert_eq!(svg.matches("stroke=\"#D55E00\"").count(), 2 * 4);
    assert!(svg.contains("a &lt; b &amp; c"));
}

#[test]
fn a_long_job_shows_its_last_searches_and_says_so() {
    let svg = svg(&run(20));
    assert!(svg.contains("12 more searches are not drawn (--stage)"));
    assert!(!svg.contains("Search of stage 11:") && svg.contains("Search of stage 12:"));
}

#[test]
fn nothing_and_not_a_number_have_a_picture() {
    let empty = Run { stages: Vec::new(), pieces: Vec::new(), stretches: Vec::new(), ..run(0) };
    assert_eq!(empty.check(&[]), Err("job made-up has nothing to draw yet: no step was reported".into()));
    let bare = Stage { trials: vec![trial(0, 0.1, Outcome::Diverged, None)], ..Stage::default() };
    for run in [Run { stages: vec![bare], ..empty }, run(0)] {
        assert!(draw(&run, &[], Format::Png).unwrap().starts_with(b"\x89PNG"));
    }
}
