//! Long jobs stay small, and every snapshot has the same future as the job it was taken of.

mod common;

use autolrs_core::{
    directive::Slot,
    job::{Job, KEPT_CHECKPOINTS, Report, StoppedBecause},
    spec::{PaperOptions, PolicySpec, ResolvedSpec, ScanOptions, WsdOptions},
    stop_rules::{Stop, switch_point},
};
use common::{
    Desk, Trainer,
    given::{broken, constant, losses, paper, scan, staged, started, whole},
    open, resume, run_job, spec,
};

/// Stages of ten steps for ever.
fn endless() -> ResolvedSpec {
    let options = PaperOptions {
        tau: Some(10),
        tau_max: Some(10),
        candidates: Some(1),
        trial_fraction: Some(0.1),
        ..PaperOptions::default()
    };
    spec(1_000_000_000_000, PolicySpec::Paper(options))
}

fn size(job: &Job) -> usize {
    postcard::to_stdvec(job).unwrap().len()
}

#[test]
fn ten_thousand_directives_leave_a_small_job() {
    let (mut desk, mut directive) = started(endless());
    let mut largest = 0;
    for n in 0..10_000 {
        directive = desk.report(whole(&directive)).unwrap().directive.unwrap();
        desk.rows.clear();
        if n % 1000 == 0 {
            largest = largest.max(size(&desk.job));
        }
    }
    let view = desk.job.view();
    assert!(view.commits.len() <= 128 && view.commits.last().unwrap().0 > 1000);
    assert!(largest < 20_000, "{largest} bytes");
    assert!(desk.checkpoints.len() <= KEPT_CHECKPOINTS + 1024, "{}", desk.checkpoints.len());
    let checkpoint = postcard::to_stdvec(desk.checkpoints.values().last().unwrap()).unwrap();
    assert!(checkpoint.len() < 8_000, "{} bytes", checkpoint.len());
    let oldest = *desk.checkpoints.keys().next().unwrap();
    assert!(desk.open(resume(oldest, 0, &[Slot::Stage, Slot::Safe, Slot::SafePrev])).is_ok());
}

#[test]
fn guards_rewinds_and_sessions_without_end_leave_a_small_job() {
    let (mut desk, first) = started(constant(1_000_000_000_000));
    let mut sizes = Vec::new();
    for n in 0..1200 {
        let beat = desk.job.heartbeat();
        let opened = desk.open(resume(first.seq, 0, &[Slot::Safe])).unwrap();
        let mut report = broken(&opened.directive, 3);
        report.session = opened.session;
        desk.report(report).unwrap();
        desk.rows.clear();
        if n % 300 == 299 {
            sizes.push((size(&desk.job), beat.durable_seq));
        }
    }
    assert!(sizes.iter().all(|(bytes, _)| *bytes < 8_000), "{sizes:?}");
    assert!(desk.checkpoints.len() <= KEPT_CHECKPOINTS + 1024);
}

#[test]
fn a_snapshot_at_every_report_has_the_same_future() {
    let mut loss = |state: f64, lr: f64| if lr > 2.0 { f64::NAN } else { 1.0 / (1.0 + state) };
    for spec in [constant(900), scan(1500), paper(300, 50), staged(600, 60)] {
        let (mut whole, mut trainer) = (Desk::new(spec.clone()), Trainer::default());
        run_job(&mut whole, &mut trainer, &mut loss);
        let (mut desk, mut trainer) = (Desk::new(spec), Trainer::default());
        desk.restart();
        let mut directive = desk.open(open()).unwrap().directive;
        while let Ok(report) = trainer.run(&directive, 1, 1, &mut loss) {
            desk.report(losses_of(&report, 7)).unwrap();
            desk.restart();
            directive = desk.report(report).unwrap().directive.unwrap();
            desk.restart();
        }
        assert_eq!(desk.job, whole.job);
        assert_eq!(desk.stored(), whole.stored());
        assert_eq!(desk.checkpoints, whole.checkpoints);
    }
}

/// The first `n` losses of a report alone.
fn losses_of(report: &Report, n: usize) -> Report {
    let train_losses = report.train_losses.iter().take(n).copied().collect();
    Report { train_losses, finished: false, stopped_because: None, ..report.clone() }
}

#[test]
fn the_longest_job_and_the_widest_switch_points() {
    for policy in [PolicySpec::Scan(ScanOptions::default()), PolicySpec::Wsd(WsdOptions::default())] {
        let mut spec = spec(1_000_000_000_000, policy);
        spec.switch_every = 1024;
        let (mut desk, first) = started(spec);
        let end = switch_point(0, 1024, first.run().unwrap().steps());
        let mut report = Report { finished: true, ..losses(first.seq, 0, end as usize) };
        report.train_losses[0] = f64::NAN;
        report.stopped_because = Some(StoppedBecause::Rule(Stop { rule: 0, offset: 0 }));
        assert!(desk.report(report).unwrap().directive.is_some());
        assert_eq!(desk.job.view().spent.total(), end);
    }
}
