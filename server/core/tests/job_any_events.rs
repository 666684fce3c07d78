//! Any list of events, sensible or not: the job never panics, keeps its budget, and the same list gives the same job.

mod common;

use autolrs_core::{
    directive::{Directive, Slot},
    forecast::Forecaster,
    job::{Cancel, Event, Finish, Open, Report, Resume, StoppedBecause, Update, Validation},
    lr_pieces::{MAX_RUN_STEPS, Piece},
    policy::Change,
    spec::{
        ClrOptions, ConstantOptions, CosineOptions, Objective, OneCycleOptions, PaperOptions, PolicySpec,
        ReplayOptions, ScanOptions, SgdrOptions, StagedOptions, StepOptions,
    },
    stop_rules::Stop,
};
use common::{Desk, Trainer, UID, open, open_scan, spec};
use proptest::prelude::*;

/// An event, with numbers relative to where the job stands.
#[derive(Debug, Clone)]
enum Step {
    /// The trainer carries the current directive out to its end, with losses around this one.
    Train(f64),
    /// The same to its first rung.
    ToRung(f64),
    /// A raw report: seq and session relative to the current ones.
    Raw {
        seq: i64,
        session: i64,
        offset: u64,
        losses: Vec<f64>,
        finished: bool,
        because: Option<(Because, u64)>,
        at_rung: bool,
    },
    Open {
        takeover: bool,
        restart: bool,
        active: bool,
        validate: bool,
    },
    Resume {
        seq: i64,
        offset: u64,
        slots: bool,
        uid: bool,
        validate: bool,
    },
    Finish(Option<u64>),
    Cancel(bool),
    /// LR, and a budget relative to the present one.
    Update(Option<f64>, Option<i64>),
    Restart,
}

#[derive(Debug, Clone, Copy)]
enum Because {
    Rule,
    Interrupt,
    NoAnswer,
}

fn because() -> impl Strategy<Value = Because> {
    prop_oneof![Just(Because::Rule), Just(Because::Interrupt), Just(Because::NoAnswer)]
}

fn step() -> impl Strategy<Value = Step> {
    let loss = prop_oneof![
        8 => 0.1..5.0f64,
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(1e300),
        1 => Just(-1e300),
        1 => Just(5e-324),
    ];
    let raw = (
        -6i64..6,
        -1i64..2,
        0u64..60,
        prop::collection::vec(loss.clone(), 0..40),
        any::<bool>(),
        prop::option::of((because(), 0u64..40)),
        any::<bool>(),
    );
    prop_oneof![
        8 => loss.clone().prop_map(Step::Train),
        4 => loss.prop_map(Step::ToRung),
        3 => raw.prop_map(|(seq, session, offset, losses, finished, because, at_rung)| Step::Raw {
            seq, session, offset, losses, finished, because, at_rung
        }),
        1 => (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(takeover, restart, active, validate)| Step::Open { takeover, restart, active, validate }
        ),
        2 => (-20i64..3, 0u64..30, any::<bool>(), prop::bool::weighted(0.9), any::<bool>())
            .prop_map(|(seq, offset, slots, uid, validate)| Step::Resume { seq, offset, slots, uid, validate }),
        1 => prop::option::of(0u64..2000).prop_map(Step::Finish),
        1 => any::<bool>().prop_map(Step::Cancel),
        2 => (prop::option::of(prop_oneof![1e-6..2.0f64, Just(5e-324), Just(0.0), Just(f64::NAN)]),
              prop::option::of(-400i64..400)).prop_map(|(lr, total)| Step::Update(lr, total)),
        1 => Just(Step::Restart),
    ]
}

fn carry_out(desk: &mut Desk, step: &Step, number: usize) {
    let beat = desk.job.heartbeat();
    let near = |base: u64, delta: i64| base.saturating_add_signed(delta);
    let request_id = format!("r{number}");
    let event = match step {
        Step::Train(loss) => return train(desk, *loss, false),
        Step::ToRung(loss) => return train(desk, *loss, true),
        Step::Restart => return desk.restart(),
        Step::Raw { seq, session, offset, losses, finished, because, at_rung } => Event::Report(Report {
            session: near(beat.session, *session),
            seq: near(beat.seq, *seq),
            first_offset: *offset,
            train_losses: losses.clone(),
            validations: vec![Validation { offset: *offset, loss: losses.first().copied().unwrap_or(1.0) }],
            finished: *finished,
            stopped_because: because.map(|(because, n)| match because {
                Because::Rule => StoppedBecause::Rule(Stop { rule: 0, offset: n }),
                Because::Interrupt => StoppedBecause::Interrupt(n),
                Because::NoAnswer => StoppedBecause::NoAnswer,
            }),
            at_rung: *at_rung,
        }),
        Step::Open { takeover, restart, active, validate } => Event::Open(Open {
            takeover: *takeover,
            restart: *restart,
            active: *active,
            validate: *validate,
            ..open()
        }),
        Step::Resume { seq, offset, slots, uid, validate } => {
            let slots =
                if *slots { vec![Slot::Start, Slot::Safe, Slot::SafePrev, Slot::Stage] } else { Vec::new() };
            let uid = if *uid { UID } else { 1 };
            let resume = Some(Resume { uid, seq: near(beat.seq, *seq), offset: *offset, slots });
            Event::Open(Open { resume, validate: *validate, ..open() })
        }
        Step::Finish(cooldown_steps) => Event::Finish(Finish { request_id, cooldown_steps: *cooldown_steps }),
        Step::Update(lr, total) => {
            let total_steps = total.map(|delta| near(desk.job.spec().budget.limit(), delta));
            Event::Update(Update { request_id, change: Change { lr: *lr, total_steps } })
        }
        Step::Cancel(live) => Event::Cancel(Cancel { request_id, live: *live }),
    };
    let before = desk.job.clone();
    if desk.send(event).is_err() {
        assert_eq!(before, desk.job, "a refused event changes nothing");
    }
}

/// Carries the current directive out, maybe to its first rung alone, with losses that fall slowly from `level`.
fn train(desk: &mut Desk, level: f64, to_rung: bool) {
    let beat = desk.job.heartbeat();
    let probe = Report { session: beat.session, seq: beat.durable_seq, ..Report::default() };
    let Ok(Some(directive)) = desk.report(probe).map(|ack| ack.directive) else {
        drop(desk.open(open()));
        return;
    };
    if let Some(report) = part_of_a_long_fallback(&directive, desk, level) {
        drop(desk.report(report));
        return;
    }
    let mut trainer = Trainer::default();
    for slot in [Slot::Start, Slot::Safe, Slot::SafePrev, Slot::Stage, Slot::Best] {
        trainer.slots.insert(slot, 0.0);
    }
    let mut n = 0.0;
    let mut loss = |_: f64, _: f64| {
        n += 1.0;
        level * (1.0 - 0.001 * n)
    };
    let every = desk.job.spec().switch_every;
    if let Ok(mut report) = trainer.run(&directive, beat.session, every, &mut loss) {
        let run = directive.run().filter(|_| to_rung);
        let rung = run.and_then(|run| (1..run.steps()).find(|&done| run.is_rung(done, every)));
        if let Some(done) = rung {
            report.train_losses.truncate(done as usize);
            (report.finished, report.stopped_because, report.at_rung) = (false, None, true);
        }
        drop(desk.report(report));
    }
}

/// An adopted fallback of an open budget has no end that anybody would wait for: the server asks for parts.
fn part_of_a_long_fallback(directive: &Directive, desk: &Desk, level: f64) -> Option<Report> {
    directive.run().filter(|run| run.steps() > MAX_RUN_STEPS)?;
    let beat = desk.job.heartbeat();
    let number = beat.interrupt.expect("a run this long is cut");
    Some(Report {
        session: beat.session,
        seq: directive.seq,
        train_losses: vec![level; if level.is_finite() { 40 } else { 1 }],
        finished: true,
        stopped_because: Some(StoppedBecause::Interrupt(number)),
        ..Report::default()
    })
}

fn policy() -> impl Strategy<Value = PolicySpec> {
    let paper =
        PaperOptions { tau: Some(50), tau_max: Some(200), candidates: Some(4), ..PaperOptions::default() };
    prop_oneof![
        Just(PolicySpec::Scan(ScanOptions::default())),
        Just(PolicySpec::Paper(PaperOptions { forecaster: Some(Forecaster::Mixture), ..paper.clone() })),
        Just(PolicySpec::Paper(PaperOptions { objective: Some(Objective::Validation), ..paper.clone() })),
        Just(PolicySpec::Paper(paper)),
        Just(PolicySpec::Staged(StagedOptions { tau: Some(60), ..StagedOptions::default() })),
        Just(PolicySpec::Constant(ConstantOptions::default())),
        Just(PolicySpec::Cosine(CosineOptions { warmup_steps: Some(1), ..CosineOptions::default() })),
        Just(PolicySpec::Step(StepOptions { milestones: vec![3, 40, 41, 700], ..StepOptions::default() })),
        Just(PolicySpec::OneCycle(OneCycleOptions::default())),
        Just(PolicySpec::Clr(ClrOptions { step_size: Some(7), ..ClrOptions::default() })),
        Just(PolicySpec::Sgdr(SgdrOptions { t0: Some(5), ..SgdrOptions::default() })),
        Just(PolicySpec::Replay(ReplayOptions {
            pieces: vec![Piece::warmup(30, 0.3), Piece::cooldown(500, 0.3)]
        })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn never_panics_and_replays_to_the_same_job(
        policy in policy(),
        total in prop_oneof![Just(900u64), Just(3000), 1u64..400],
        open in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let open = open && matches!(policy, PolicySpec::Scan(_));
        let spec = if open { open_scan() } else { spec(total, policy) };
        let mut desks = [Desk::new(spec.clone()), Desk::new(spec)];
        for (number, step) in steps.iter().enumerate() {
            for desk in &mut desks {
                carry_out(desk, step, number);
            }
            let stored = desks.each_ref().map(|desk| postcard::to_stdvec(&desk.job).unwrap());
            prop_assert_eq!(&stored[0], &stored[1]);
        }
    }
}
