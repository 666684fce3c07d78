//! Losses that are no numbers, or numbers that nobody hopes for, in every phase and under every policy: the real client and
//! the real server bring the job to an end, the LRs stay finite and in their range, no LR is committed whose trial diverged,
//! and what `autolrs jobs` prints can be read.

use autolrs_client::{
    CosineOptions, JobSpec, LossBound, PaperOptions, Phase, PolicySpec, ScanOptions, Session, SessionConfig,
    Snapshot, StagedOptions, Status, WsdOptions,
};
use autolrs_core::forecast::Forecaster;
use autolrs_proto::v1::{Failure, GetJobRequest, Job, JobState, ListStagesRequest, Stage, trial::Outcome};
use autolrs_tests::server::{Server, binary};
use std::{process::Command, time::Duration};

const LR_MAX: f64 = 10.0;
const TOTAL: u64 = 900;

fn policies() -> Vec<(&'static str, PolicySpec)> {
    let paper = PaperOptions {
        tau: Some(50),
        tau_max: Some(100),
        candidates: Some(3),
        trial_fraction: Some(0.2),
        ..PaperOptions::default()
    };
    let mixture = PaperOptions { forecaster: Some(Forecaster::Mixture), ..paper.clone() };
    let staged = StagedOptions { tau: Some(60), trial_fraction: Some(0.4), ..StagedOptions::default() };
    vec![
        ("scan", PolicySpec::Scan(ScanOptions::default())),
        ("staged", PolicySpec::Staged(staged)),
        ("paper", PolicySpec::Paper(paper)),
        ("mixture", PolicySpec::Paper(mixture)),
        ("cosine", PolicySpec::Cosine(CosineOptions { warmup_steps: Some(50), ..CosineOptions::default() })),
        ("wsd", PolicySpec::Wsd(WsdOptions::default())),
    ]
}

fn spec(policy: PolicySpec, bound: Option<LossBound>) -> JobSpec {
    JobSpec {
        total_steps: Some(TOTAL),
        lr_min: Some(1e-4),
        lr_max: Some(LR_MAX),
        fallback_lr: Some(0.05),
        max_overhead: matches!(policy, PolicySpec::Staged(_)).then_some(0.6),
        loss_lower_bound: bound,
        policy: Some(policy),
        ..JobSpec::default()
    }
}

/// What a loss depends on: where the step stands, and how many steps were run before it.
type Losses<'a> = &'a dyn Fn(&Snapshot, u64) -> f64;

/// A loss that falls, as there are.
fn usual(at: &Snapshot, n: u64) -> f64 {
    0.3 + 2.0 / (1.0 + 0.05 * at.total_step as f64) + 0.01 * (n as f64).sin()
}

/// A job that has come to its end.
struct Ended {
    name: String,
    job: Job,
    stages: Vec<Stage>,
    lrs: Vec<f64>,
}

/// Trains a job with these losses.
async fn train(server: &Server, name: &str, spec: JobSpec, losses: Losses<'_>) -> Ended {
    let config =
        SessionConfig { server: server.url(), token: None, replay: true, ..SessionConfig::new(name, spec) };
    let session = Session::open(config).await.expect("a session");
    let mut lrs = Vec::new();
    while session.done().is_none() {
        drop(session.take_slot_ops());
        loop {
            let now = session.snapshot();
            let loss = losses(&now, lrs.len() as u64);
            lrs.push(now.lr);
            if session.record(loss) == Status::Ended {
                break;
            }
        }
        session.next().await.expect("what follows");
        assert!(!session.snapshot().detached, "{name}: {:?}", session.take_notices());
    }
    drop(session.take_slot_ops());
    session.close(Duration::from_secs(20)).await;
    let job = server.jobs().get_job(GetJobRequest { name: name.into() }).await.expect("the job");
    let stages = ListStagesRequest { job: name.into(), ..ListStagesRequest::default() };
    let stages = server.jobs().list_stages(stages).await.expect("its stages").into_inner().stages;
    Ended { name: name.into(), job: job.into_inner().job.expect("set"), stages, lrs }
}

impl Ended {
    /// What holds for every job, however bad its losses were.
    fn check(&self) {
        let Self { name, job, stages, lrs } = self;
        let steps = job.steps.expect("set");
        assert!(steps.committed + steps.search + steps.lost <= TOTAL, "{name}: {steps:?}");
        assert!(lrs.len() as u64 <= TOTAL, "{name}: {} steps", lrs.len());
        assert!(lrs.iter().all(|lr| lr.is_finite() && (0.0..=LR_MAX).contains(lr)), "{name}: {lrs:?}");
        match job.state() {
            JobState::Finished => assert_eq!(job.failure(), Failure::Unspecified),
            JobState::Failed => {
                assert_ne!(job.failure(), Failure::Unspecified, "{name}");
            }
            state => panic!("{name}: {state:?}"),
        }
        for stage in stages {
            let diverged = stage.trials.iter().filter(|trial| trial.outcome() == Outcome::Diverged);
            let diverged: Vec<f64> = diverged.map(|trial| trial.lr).collect();
            assert!(
                stage.lr.is_none_or(|lr| !diverged.contains(&lr)),
                "{name}: {:?} of {diverged:?}",
                stage.lr
            );
            assert!(
                stage.lr.is_none_or(|lr| lr.is_finite() && lr > 0.0 && lr <= LR_MAX),
                "{name}: {:?}",
                stage.lr
            );
        }
    }

    /// What the commands print of it.
    fn prints(&self, server: &Server) {
        let jobs = |args: &[&str]| {
            let ran =
                Command::new(binary()).arg("jobs").args(args).args(["--server", &server.url()]).output();
            let ran = ran.expect("the binary runs");
            assert!(
                ran.status.success(),
                "{}: {args:?}: {}",
                self.name,
                String::from_utf8_lossy(&ran.stderr)
            );
            String::from_utf8(ran.stdout).expect("text")
        };
        let name = self.name.as_str();
        for command in ["show", "stages"] {
            let json = jobs(&[command, name, "--output", "json"]);
            let value: serde_json::Value =
                serde_json::from_str(&json).unwrap_or_else(|e| panic!("{name}: {e}: {json}"));
            assert_eq!(value["stages"].as_array().map(Vec::len), Some(self.stages.len()), "{json}");
            assert!(!jobs(&[command, name]).is_empty());
        }
        let shown = jobs(&["show", name]);
        assert_eq!(shown.contains("\nto do "), self.job.state() == JobState::Failed, "what to do: {shown}");
        let table = jobs(&["stages", name, "--output", "csv"]);
        let columns: Vec<usize> = table.lines().map(|line| line.split(',').count()).collect();
        assert!(columns.iter().all(|n| *n == columns[0]), "{table}");
        let folder = tempfile::tempdir().expect("a folder");
        let svg = folder.path().join("x.svg");
        let kept = self.job.steps.is_some_and(|steps| steps.committed + steps.search > 0);
        if !kept || self.job.train_loss.is_none() {
            // Nothing was kept, or no loss was a number: there is nothing to draw.
            return;
        }
        jobs(&["plot", name, "-o", svg.to_str().expect("a path")]);
        let text = std::fs::read_to_string(&svg).expect("written");
        let picture = roxmltree::Document::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        // A coordinate that is no number makes a picture that viewers refuse.
        let words = picture
            .descendants()
            .flat_map(|node| node.attributes())
            .flat_map(|attribute| attribute.value().split([' ', ',']));
        let bad: Vec<&str> = words.filter(|word| ["NaN", "inf", "-inf"].contains(word)).collect();
        assert_eq!(bad, [""; 0], "{name}");
    }
}

/// Losses that are the same whatever happens.
#[tokio::test]
async fn constant_losses_of_every_kind() {
    let server = Server::start().await;
    for (number, loss) in [
        ("zero", 0.0),
        ("one", 1.0),
        ("negative", -7.5),
        ("huge", 1e300),
        ("very-negative", -1e300),
        ("largest", f64::MAX),
        ("denormal", 5e-324),
        ("smallest", f64::MIN_POSITIVE),
    ] {
        for (policy, options) in policies() {
            let bound = (loss < 0.0).then_some(LossBound::None);
            let ended =
                train(&server, &format!("{policy}-{number}"), spec(options, bound), &|_, _| loss).await;
            ended.check();
            assert_eq!(ended.job.state(), JobState::Finished, "{}: {:?}", ended.name, ended.job.warnings);
            if matches!(
                (number, policy),
                ("huge", "scan") | ("denormal", "paper") | ("negative", "staged") | ("zero", "wsd")
            ) {
                ended.prints(&server);
            }
        }
    }
}

/// Losses of every size and sign in turn.
#[tokio::test]
async fn losses_that_leap_over_all_that_a_double_holds() {
    const LEAPS: [f64; 8] = [1e300, 5e-324, -1e300, 0.0, 1.0, f64::MAX, -0.0, f64::MIN];
    let server = Server::start().await;
    for (policy, options) in policies() {
        let leap = |_: &Snapshot, n: u64| LEAPS[(n % 8) as usize];
        let ended = train(&server, policy, spec(options, Some(LossBound::None)), &leap).await;
        ended.check();
        ended.prints(&server);
    }
}

/// No number from the first step on: nothing can be trained.
#[tokio::test]
async fn no_number_from_the_start() {
    let server = Server::start().await;
    for (number, loss) in [("nan", f64::NAN), ("inf", f64::INFINITY), ("minus-inf", f64::NEG_INFINITY)] {
        for (policy, options) in policies() {
            let ended =
                train(&server, &format!("{policy}-{number}"), spec(options, None), &|_, _| loss).await;
            ended.check();
            assert_eq!(ended.job.state(), JobState::Failed, "{}", ended.name);
            ended.prints(&server);
        }
    }
}

/// Every trial but the first steps of the job ends in a loss that is no number.
#[tokio::test]
async fn every_trial_diverges() {
    let server = Server::start().await;
    for (number, bad) in [("nan", f64::NAN), ("inf", f64::INFINITY)] {
        for (policy, options) in policies() {
            let losses = |at: &Snapshot, n: u64| {
                if at.phase == Some(Phase::Trial) && at.offset >= 3 { bad } else { usual(at, n) }
            };
            let ended = train(&server, &format!("{policy}-{number}"), spec(options, None), &losses).await;
            ended.check();
            let searches = !matches!(policy, "cosine" | "wsd");
            let trials = ended.stages.iter().flat_map(|stage| &stage.trials);
            assert!(trials.clone().all(|trial| trial.outcome() == Outcome::Diverged), "{}", ended.name);
            assert_eq!(trials.count() > 0, searches, "{}", ended.name);
            ended.prints(&server);
        }
    }
}

/// Trials above an LR diverge: what is committed is below it.
#[tokio::test]
async fn high_candidates_diverge() {
    const CLIFF: f64 = 0.02;
    let server = Server::start().await;
    for (policy, options) in policies() {
        let losses = |at: &Snapshot, n: u64| {
            if at.phase == Some(Phase::Trial) && at.lr > CLIFF && at.offset >= 3 {
                f64::NAN
            } else {
                usual(at, n)
            }
        };
        let ended = train(&server, policy, spec(options, None), &losses).await;
        ended.check();
        if !matches!(policy, "cosine" | "wsd") {
            let diverged = ended.stages.iter().flat_map(|stage| &stage.trials);
            assert!(diverged.clone().any(|trial| trial.outcome() == Outcome::Diverged), "{policy}");
            let committed: Vec<f64> = ended.job.commits.iter().map(|commit| commit.lr).collect();
            assert!(committed.iter().all(|lr| *lr <= CLIFF), "{policy}: {committed:?}");
        }
        ended.prints(&server);
    }
}

/// The loss breaks once, somewhere in each committed phase: the guard rolls it back and the job ends in order.
#[tokio::test]
async fn a_committed_phase_breaks_once() {
    let server = Server::start().await;
    for (which, phase) in
        [("warmup", Phase::Warmup), ("stable", Phase::Stable), ("cooldown", Phase::Cooldown)]
    {
        let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().cycle();
        for ((policy, options), bad) in policies().into_iter().zip(bad) {
            let broken = std::cell::Cell::new(false);
            let losses = |at: &Snapshot, n: u64| {
                let breaks = at.phase == Some(phase) && at.offset >= 2 && !broken.get();
                broken.set(broken.get() || breaks);
                if breaks { bad } else { usual(at, n) }
            };
            let name = format!("{policy}-{which}");
            let ended = train(&server, &name, spec(options, None), &losses).await;
            ended.check();
            if broken.get() {
                assert_eq!(ended.job.state(), JobState::Finished, "{name}: {:?}", ended.job.warnings);
                assert!(!ended.job.warnings.is_empty(), "{name} says what happened");
            }
        }
    }
}

/// A phase breaks whenever it is entered: the job ends as failed, or finishes where the guard may give the phase up.
#[tokio::test]
async fn a_committed_phase_breaks_every_time() {
    let server = Server::start().await;
    for (which, phase) in
        [("warmup", Phase::Warmup), ("stable", Phase::Stable), ("cooldown", Phase::Cooldown)]
    {
        for (policy, options) in policies() {
            let losses = |at: &Snapshot, n: u64| {
                if at.phase == Some(phase) && at.offset >= 2 { f64::NAN } else { usual(at, n) }
            };
            let ended = train(&server, &format!("{policy}-{which}"), spec(options, None), &losses).await;
            ended.check();
            ended.prints(&server);
        }
    }
}
