//! `autolrs simulate` on the real binary, and the simulator against the real server.

use autolrs_core::{
    directive::{Action, Directive},
    lr_pieces::{Piece, Shape},
    simulate::{
        Segment, Trace, simulate,
        surface::{Settings, SurfaceName, Synthetic},
    },
    spec::{self, PaperOptions, PolicySpec, ScanOptions, StagedOptions, WsdOptions},
};
use autolrs_proto::v1::{
    self as pb, Capabilities, CreateJobRequest, OpenSessionRequest, PaperPolicy, Report, ScanPolicy,
    StagedPolicy, StoppedBecause, WsdPolicy, job_spec::Policy, stopped_because::Cause,
};
use autolrs_tests::{
    server::{Server, binary},
    trainer::{advance, spec},
};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/job.example.toml");

/// A folder with the example as `job.toml`, its budget replaced.
fn folder(total_steps: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let example = fs::read_to_string(EXAMPLE).unwrap();
    let spec = example.replace("total_steps = 20000", &format!("total_steps = {total_steps}"));
    assert_ne!(spec, example);
    fs::write(folder.path().join("job.toml"), spec).unwrap();
    folder
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.current_dir(folder).args(["simulate", "--spec", "job.toml"]).args(args);
    command.output().expect("the binary runs")
}

fn says(folder: &Path, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(folder, args);
    assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// What it says of what it can't use.
fn refuses(folder: &Path, args: &[&str]) -> String {
    let Output { status, stderr, .. } = run(folder, args);
    assert_eq!(status.code(), Some(64), "{args:?}");
    String::from_utf8(stderr).unwrap()
}

#[test]
fn the_example_job_is_played() {
    let folder = folder(1500);
    let text = says(folder.path(), &["--steps", "steps.csv"]);
    for part in [
        "policy      scan",
        "quadratic, diverges above LR",
        "result      finished",
        "regret",
        "TRIAL",
        "stage 0: LR",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let said: Value = serde_json::from_str(&says(folder.path(), &["--output", "json"])).unwrap();
    let steps = fs::read_to_string(folder.path().join("steps.csv")).unwrap();
    let lines: Vec<Vec<&str>> = steps.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!((lines.len(), lines[0].len()), (1501, 8));
    let kept = lines.iter().filter(|line| line[7] == "true").count();
    let trials = lines.iter().filter(|line| line[2] == "trial").count();
    assert_eq!(said["steps"]["committed"], kept);
    assert_eq!((&said["steps"]["search"], &said["total_steps"]), (&trials.into(), &1500.into()));
    let number = |key: &str| said[key].as_f64().unwrap();
    assert!((number("overhead") - trials as f64 / 1500.0).abs() < 1e-12);
    assert!(
        (number("final_loss") - said["reference"]["loss"].as_f64().unwrap() - number("regret")).abs() < 1e-12
    );
    let stage = &said["stages"][0];
    assert!(stage["trials"].as_array().unwrap().len() >= 3 && stage["lr"].as_f64().unwrap() > 0.0);
}

#[test]
fn the_same_seed_gives_the_same_run_and_every_surface_is_played() {
    let folder = folder(800);
    for surface in ["quadratic", "drift", "power_law", "edge"] {
        let with = |seed| says(folder.path(), &["--surface", surface, "--output", "json", "--seed", seed]);
        assert_eq!(with("1"), with("1"));
        assert_ne!(with("1"), with("2"));
    }
    let moved = says(folder.path(), &["--breaks-at", "0.01"]);
    assert!(moved.contains("diverges above LR 1.000e-2"), "{moved}");
    let small = self::folder(500);
    assert!(says(small.path(), &[]).contains("advice: total_steps "));
}

#[test]
fn recorded_curves_are_played() {
    let folder = folder(800);
    let mut csv = "lr,step,loss\n".to_owned();
    for lr in [0.001, 0.1, 10.0f64] {
        for step in (0..500).step_by(5) {
            let loss =
                if lr > 1.0 && step > 50 { f64::NAN } else { (-lr * f64::from(step) / 10.0).exp() + 0.1 };
            csv.push_str(&format!("{lr},{step},{loss}\n"));
        }
    }
    fs::write(folder.path().join("curves.csv"), &csv).unwrap();
    let text = says(folder.path(), &["--curves", "curves.csv"]);
    assert!(text.contains("recorded in curves.csv") && text.contains("warning: the run"), "{text}");
    fs::write(folder.path().join("curves.csv"), csv.replace("0.1,5,", "0.1,x,")).unwrap();
    assert!(refuses(folder.path(), &["--curves", "curves.csv"]).contains("step must"));
    fs::write(folder.path().join("few.json"), r#"{"curves": [{"lr": 0.1, "losses": [1, 2]}]}"#).unwrap();
    assert!(refuses(folder.path(), &["--curves", "few.json"]).contains("fewer than 8"));
}

#[test]
fn mistakes_name_the_field_and_exit_with_64() {
    let folder = folder(800);
    let with = |text: &str| {
        fs::write(folder.path().join("job.toml"), text).unwrap();
        refuses(folder.path(), &[])
    };
    let said = with("total_steps = 0\nlr_min = 1\nlr_max = 0.1\n[scan]\nlr_factor = 7");
    for field in ["total_steps must", "fallback_lr must", "lr_max must", "scan.lr_factor must"] {
        assert!(said.contains(field), "{field}: {said}");
    }
    assert!(with("total_step = 1").contains("total_steps"));
    assert!(with("[scann]").contains("unknown policy `scann`, expected one of `scan`, "));
    let said = with("[scan]\nlr_facto = 1");
    assert!(
        said.contains("unknown field `lr_facto`, expected one of `lr_factor`, ")
            && said.ends_with("in `scan`\n")
    );
    assert!(
        with("total_steps = 2000000\nfallback_lr = 0.1\n[constant]").contains("total_steps must be at most")
    );
    fs::write(folder.path().join("job.toml"), "total_steps = 500\nfallback_lr = 0.1\n[constant]").unwrap();
    assert!(refuses(folder.path(), &["--breaks-at=-1"]).contains("--breaks-at must"));
    fs::remove_file(folder.path().join("job.toml")).unwrap();
    assert!(refuses(folder.path(), &[]).contains("job.toml"));
}

/// A directive of the core as text; Rust prints numbers so that they are read back to the bit.
fn of_core(directive: &Directive) -> String {
    let Directive { seq, slot_ops, committed_step_at_start, .. } = directive;
    let action = match &directive.action {
        Action::Run(run) => {
            let lr: Vec<String> = run.lr.iter().map(core_piece).collect();
            let rules: Vec<String> = run.stop_if.iter().map(|rule| format!("{rule:?}")).collect();
            let head =
                format!("{:?} {:?} {} {:?} {:?}", run.phase, run.batches, run.stage, run.trial, run.rungs);
            format!("{head} {lr:?} {rules:?}")
        }
        Action::Done(reason) => format!("{reason:?}"),
    };
    let ops: Vec<String> = slot_ops.iter().map(|op| format!("{op:?}")).collect();
    let below = [&directive.fallback, &directive.fallback_on_stop].map(|d| d.as_deref().map(of_core));
    format!("{seq} {ops:?} {committed_step_at_start} {action} {below:?}")
}

fn core_piece(piece: &Piece) -> String {
    let Piece { steps, start, end, shape, index, of } = piece;
    let (exponent, origin) = match shape {
        Shape::Power { exponent, origin } => (*exponent, *origin),
        _ => (0.0, 0.0),
    };
    let shape = format!("{shape:?}");
    let shape = shape.split(' ').next().unwrap_or_default();
    format!("{steps} {start:?} {end:?} {shape} {index} {of} {exponent:?} {origin:?}")
}

/// The same of a directive of the server.
fn of_wire(directive: &pb::Directive) -> String {
    let pb::Directive { seq, slot_ops, committed_step_at_start, .. } = directive;
    let action = match directive.action.as_ref().unwrap() {
        pb::directive::Action::Run(run) => {
            let lr: Vec<String> = run.lr.iter().map(wire_piece).collect();
            let rules: Vec<String> = run.stop_if.iter().map(wire_rule).collect();
            let head = format!(
                "{:?} {:?} {} {:?} {:?}",
                run.phase(),
                run.batches(),
                run.stage,
                run.trial,
                run.rungs
            );
            format!("{head} {lr:?} {rules:?}")
        }
        pb::directive::Action::Done(done) if done.reason() == pb::done::Reason::Failed => {
            format!("Failed({:?})", done.failure())
        }
        pb::directive::Action::Done(done) => format!("{:?}", done.reason()),
    };
    let ops: Vec<String> = slot_ops.iter().map(|op| format!("{:?}({:?})", op.kind(), op.slot())).collect();
    let below = [&directive.fallback, &directive.fallback_on_stop].map(|d| d.as_deref().map(of_wire));
    format!("{seq} {ops:?} {committed_step_at_start} {action} {below:?}")
}

fn wire_piece(piece: &pb::LrPiece) -> String {
    let pb::LrPiece { steps, start, end, index, of, exponent, origin, .. } = piece;
    format!("{steps} {start:?} {end:?} {:?} {index} {of} {exponent:?} {origin:?}", piece.shape())
}

/// `Above(Above { limit: 1.0 })` without the outer name.
fn wire_rule(rule: &pb::StopIf) -> String {
    let text = format!("{:?}", rule.rule.as_ref().unwrap());
    text.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')')).unwrap().to_owned()
}

/// The report of a segment as the simulated trainer ran it; one that ended early without a stop ended at a rung.
fn report(trace: &Trace, directive: &Directive, segment: &Segment, session: u64) -> Report {
    let whole = directive.run().is_some_and(|run| run.steps() == segment.steps as u64);
    let at_rung = !whole && segment.stop.is_none();
    let cause = segment
        .stop
        .map(|stop| Cause::StopRule(pb::stopped_because::StopRule { rule: stop.rule, offset: stop.offset }));
    Report {
        job: "job".into(),
        session,
        seq: segment.seq,
        train_losses: trace.steps_of(segment).iter().map(|step| step.loss).collect(),
        finished: !at_rung,
        at_rung,
        stopped_because: cause.map(|cause| StoppedBecause { cause: Some(cause) }),
        ..Report::default()
    }
}

/// Tells the real server the losses of a simulated run; its directives must be those of the simulation.
async fn decides_the_same(policy: Policy, same: PolicySpec) -> Trace {
    let asked = spec(1500, policy);
    let resolved = spec::resolve(&spec::JobSpec {
        total_steps: asked.total_steps,
        lr_min: asked.lr_min,
        lr_max: asked.lr_max,
        fallback_lr: asked.fallback_lr,
        policy: Some(same),
        ..spec::JobSpec::default()
    });
    let surface = Synthetic::new(SurfaceName::Edge, Settings { breaks_at: 1.0, steps: 1500, seed: 1 });
    let (trace, _) = simulate(resolved.unwrap(), surface).unwrap();
    let server = Server::start().await;
    let create = CreateJobRequest { name: "job".into(), spec: Some(asked), ..CreateJobRequest::default() };
    server.jobs().create_job(create).await.unwrap();
    let capabilities = Some(Capabilities { replay: true, ..Capabilities::default() });
    let open = OpenSessionRequest { job: "job".into(), capabilities, ..OpenSessionRequest::default() };
    let opened = server.trainer().open_session(open).await.unwrap().into_inner();
    let mut directive = opened.directive.unwrap();
    for (expected, segment) in trace.directives.iter().zip(&trace.segments) {
        assert_eq!(of_wire(&directive), of_core(expected));
        let ack = advance(&server, report(&trace, expected, segment, opened.session)).await.unwrap();
        directive = ack.directive.expect("the next directive");
    }
    assert!(matches!(directive.action, Some(pb::directive::Action::Done(_))));
    trace
}

#[tokio::test]
async fn the_real_server_decides_the_same_for_the_same_losses() {
    let scan = (Policy::Scan(ScanPolicy::default()), PolicySpec::Scan(ScanOptions::default()));
    decides_the_same(scan.0, scan.1).await;
    let paper = PaperPolicy { tau: Some(200), candidates: Some(4), ..PaperPolicy::default() };
    let same = PaperOptions { tau: Some(200), candidates: Some(4), ..PaperOptions::default() };
    decides_the_same(Policy::Paper(paper), PolicySpec::Paper(same)).await;
    decides_the_same(Policy::Staged(StagedPolicy::default()), PolicySpec::Staged(StagedOptions::default()))
        .await;
    let hot = WsdPolicy { lr: Some(1.5), ..WsdPolicy::default() };
    let same = WsdOptions { lr: Some(1.5), ..WsdOptions::default() };
    let trace = decides_the_same(Policy::Wsd(hot), PolicySpec::Wsd(same)).await;
    assert!(trace.spent.lost > 0, "a guard fired on the way");
}
