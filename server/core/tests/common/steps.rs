//! Events, sensible or not, with numbers relative to where a job stands.

use super::{Desk, Trainer, UID, open};
use autolrs_core::{
    directive::{Directive, Slot},
    job::{Cancel, Event, Finish, Open, Report, Resume, StoppedBecause, Update, Validation},
    lr_pieces::MAX_RUN_STEPS,
    policy::Change,
    stop_rules::Stop,
};

/// An event, with numbers relative to where the job stands.
#[derive(Debug, Clone)]
pub enum Step {
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
pub enum Because {
    Rule,
    Interrupt,
    NoAnswer,
}

/// Does a step; a refused event changes nothing.
pub fn carry_out(desk: &mut Desk, step: &Step, number: usize) {
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
    let before = desk.stored();
    if desk.send(event).is_err() {
        // Bytes: a loss that is no number is not equal to itself.
        assert!(before == desk.stored(), "a refused event changes nothing");
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
