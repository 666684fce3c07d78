//! The simulator: its trace is what the job's own books say, and a restart of the job changes nothing.

#![allow(clippy::float_cmp)] // to the bit

use autolrs_core::{
    directive::{Action, Directive, DoneReason, Phase},
    job::{Answer, DirectiveRecord, Event, Job, Open, Row},
    lr_pieces::Cursor,
    simulate::{
        self, Segment, Trace, Trainer,
        surface::{Settings, Surface, SurfaceName, Synthetic},
    },
    spec::{
        CosineOptions, JobSpec, LrRange, OpenBudget, PaperOptions, PolicySpec, ResolvedSpec, ScanOptions,
        StagedOptions, WsdOptions, resolve,
    },
};
use std::collections::BTreeMap;

const STEPS: u64 = 1500;
const RANGE: LrRange = LrRange { lo: 1e-4, hi: 10.0 };

fn spec(policy: PolicySpec) -> ResolvedSpec {
    resolve(&JobSpec {
        total_steps: Some(STEPS),
        lr_min: Some(RANGE.lo),
        lr_max: Some(RANGE.hi),
        fallback_lr: Some(0.1),
        switch_every: Some(4),
        policy: Some(policy),
        ..JobSpec::default()
    })
    .unwrap()
}

fn policies() -> Vec<ResolvedSpec> {
    let paper = PaperOptions { tau: Some(200), candidates: Some(4), ..PaperOptions::default() };
    let hot = WsdOptions { lr: Some(1.3), ..WsdOptions::default() };
    [
        PolicySpec::Scan(ScanOptions::default()),
        PolicySpec::Paper(paper),
        PolicySpec::Staged(StagedOptions::default()),
        PolicySpec::Cosine(CosineOptions::default()),
        PolicySpec::Wsd(hot),
    ]
    .map(spec)
    .to_vec()
}

fn surface(name: SurfaceName) -> Synthetic {
    Synthetic::new(name, Settings { breaks_at: 1.0, steps: STEPS, seed: 3 })
}

fn each(mut test: impl FnMut(&ResolvedSpec, SurfaceName, Trace)) {
    for spec in policies() {
        for &name in SurfaceName::ALL {
            test(&spec, name, simulate::simulate(spec.clone(), surface(name)).unwrap().0);
        }
    }
}

#[test]
fn the_trace_is_what_the_books_say() {
    let (mut lost, mut kept_trials, mut cut) = (0, 0, 0);
    each(|spec, name, trace| {
        let count = |of: fn(Phase, bool) -> bool| -> u64 {
            trace.segments.iter().filter(|s| of(s.phase, s.kept)).map(|s| s.steps as u64).sum()
        };
        let spent = trace.spent;
        assert_eq!(trace.done, Some(DoneReason::Finished), "{} {name:?}", spec.policy_name());
        assert_eq!((spent.total(), trace.steps.len() as u64), (STEPS, STEPS));
        assert_eq!(spent.committed, count(|_, kept| kept));
        assert_eq!(spent.search + spent.lost, count(|_, kept| !kept));
        if spec.policy_name() == "staged" {
            kept_trials += count(|phase, kept| phase == Phase::Trial && kept);
            let ended_early = |(d, s): &(&Directive, &Segment)| {
                s.stop.is_none() && s.steps < d.run().map_or(0, |run| run.steps() as usize)
            };
            cut += trace.directives.iter().zip(&trace.segments).filter(ended_early).count();
        } else {
            assert_eq!(spent.search, count(|phase, _| phase == Phase::Trial));
        }
        assert_eq!(
            (trace.segments.len(), trace.kept_line().len() as u64),
            (trace.directives.len(), spent.committed)
        );
        assert!(trace.final_loss.is_finite() && trace.overhead() <= spec.max_overhead);
        lost += spent.lost;
    });
    assert!(lost > 0, "an LR of 1.3 breaks at the edge of stability");
    assert!(kept_trials > 0 && cut > 0, "staged goes on from trials, and ends some at a rung");
}

#[test]
fn an_open_budget_is_finished_near_the_guess() {
    let open = JobSpec {
        open_budget: Some(OpenBudget { expected_steps: Some(STEPS) }),
        lr_min: Some(RANGE.lo),
        lr_max: Some(RANGE.hi),
        fallback_lr: Some(0.1),
        ..JobSpec::default()
    };
    let (trace, _) = simulate::simulate(resolve(&open).unwrap(), surface(SurfaceName::Quadratic)).unwrap();
    assert_eq!(trace.done, Some(DoneReason::Finished));
    let total = trace.spent.total();
    assert!((STEPS - STEPS / 5..STEPS + STEPS / 5).contains(&total), "{total}");
    assert_eq!(trace.segments.last().unwrap().phase, Phase::Cooldown);
}

/// Plays a job that is written and read again before every event, and puts its kept line together from its records.
fn restarted(spec: ResolvedSpec, surface: impl Surface) -> (Vec<u64>, Vec<f64>, f64) {
    let (mut stored, mut records) =
        (postcard::to_stdvec(&Job::create(spec.clone(), 0)).unwrap(), BTreeMap::new());
    let mut send = |event| {
        let mut job: Job = postcard::from_bytes(&stored).unwrap();
        let effects = job.apply(job.admit(event).unwrap());
        stored = postcard::to_stdvec(&job).unwrap();
        for row in effects.rows {
            if let Row::Directive(record) = row {
                records.insert(record.directive.seq, *record);
            }
        }
        match effects.answer {
            Answer::Opened(opened) => Some(opened.directive),
            Answer::Ack(ack) => ack.directive,
            Answer::Accepted => unreachable!(),
        }
    };
    let mut trainer = Trainer::new(surface, spec.switch_every, true);
    let mut directive = send(Event::Open(Open { replay: true, ..Open::default() })).unwrap();
    trainer.begin(&directive);
    while let Some(report) = trainer.advance(1) {
        if let Some(next) = send(Event::Report(report)) {
            directive = next;
            trainer.begin(&directive);
        }
    }
    assert!(matches!(directive.action, Action::Done(_)));
    let job: Job = postcard::from_bytes(&stored).unwrap();
    let (surface, steps, _) = trainer.finish();
    (steps.iter().map(|step| step.lr.to_bits()).collect(), kept_line(&job, &records), surface.true_loss())
}

fn kept_line(job: &Job, records: &BTreeMap<u64, DirectiveRecord>) -> Vec<f64> {
    let mut line = job.kept_line();
    while let Some(seq) = line.wants() {
        line.add(&records[&seq]);
    }
    let pieces = line.finish();
    let mut cursor = Cursor::at(&pieces, 0);
    std::iter::from_fn(|| {
        let lr = cursor.lr(&pieces)?;
        cursor.advance(&pieces);
        Some(lr)
    })
    .collect()
}

#[test]
fn a_restart_of_the_job_changes_nothing() {
    each(|spec, name, trace| {
        let (lrs, line, loss) = restarted(spec.clone(), surface(name));
        assert_eq!(lrs, trace.steps.iter().map(|step| step.lr.to_bits()).collect::<Vec<_>>());
        assert_eq!((line, loss), (trace.kept_line(), trace.final_loss), "{} {name:?}", spec.policy_name());
    });
}

#[test]
fn the_reference_is_the_best_of_its_grid() {
    let constant_at = |name, lr: f64| {
        let mut surface = surface(name);
        let finite = (0..STEPS).all(|batch| surface.step(lr, batch).is_finite());
        if finite { surface.true_loss() } else { f64::INFINITY }
    };
    for &name in SurfaceName::ALL {
        let best = simulate::reference(&surface(name), STEPS, RANGE);
        let grid = simulate::grid(RANGE);
        assert_eq!((grid.len(), best.runs), (41, 123));
        assert!((grid[0] / RANGE.lo - 1.0).abs() < 1e-12 && (grid[40] / RANGE.hi - 1.0).abs() < 1e-12);
        assert!(grid.iter().all(|lr| constant_at(name, *lr) >= best.loss), "{name:?}");
        assert!(best.lr < 2.0 && best.loss < 1.5, "{best:?}");
    }
    let narrow = LrRange { lo: 20.0, hi: 100.0 };
    assert_eq!(simulate::reference(&surface(SurfaceName::Edge), STEPS, narrow).loss, f64::INFINITY);
}
