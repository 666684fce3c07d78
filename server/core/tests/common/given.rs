//! Jobs and reports that stories begin with.

use super::{Desk, Trainer, open, spec};
use autolrs_core::{
    directive::Directive,
    job::{Cancel, Event, Finish, Report, StoppedBecause, Update},
    policy::Change,
    spec::{ConstantOptions, PaperOptions, PolicySpec, ResolvedSpec, ScanOptions, StagedOptions},
};

pub fn constant(total_steps: u64) -> ResolvedSpec {
    spec(total_steps, PolicySpec::Constant(ConstantOptions::default()))
}

pub fn scan(total_steps: u64) -> ResolvedSpec {
    spec(total_steps, PolicySpec::Scan(ScanOptions::default()))
}

/// Stages of `tau` steps.
pub fn paper(total_steps: u64, tau: u64) -> ResolvedSpec {
    let options = PaperOptions {
        tau: Some(tau),
        tau_max: Some(2 * tau),
        candidates: Some(3),
        ..PaperOptions::default()
    };
    spec(total_steps, PolicySpec::Paper(options))
}

/// Stages of `tau` steps, trials of a fifth of that.
pub fn staged(total_steps: u64, tau: u64) -> ResolvedSpec {
    let options = StagedOptions { tau: Some(tau), trial_fraction: Some(0.2), ..StagedOptions::default() };
    let mut spec = spec(total_steps, PolicySpec::Staged(options));
    spec.max_overhead = 0.5;
    spec
}

pub fn flat(_: f64, _: f64) -> f64 {
    1.0
}

pub fn started(spec: ResolvedSpec) -> (Desk, Directive) {
    let mut desk = Desk::new(spec);
    let directive = desk.open(open()).unwrap().directive;
    (desk, directive)
}

/// A report of `n` losses of the first session.
pub fn losses(seq: u64, first_offset: u64, n: usize) -> Report {
    Report { session: 1, seq, first_offset, train_losses: vec![1.0; n], ..Report::default() }
}

/// The finishing report of a whole segment in the first session, whose losses are all 1.
pub fn whole(directive: &Directive) -> Report {
    let steps = directive.run().unwrap().steps() as usize;
    Report { finished: true, ..losses(directive.seq, 0, steps) }
}

/// As [`whole`], ended after `n` steps by an interrupt.
pub fn interrupted(directive: &Directive, n: usize, number: u64) -> Report {
    let stopped_because = Some(StoppedBecause::Interrupt(number));
    Report { finished: true, stopped_because, ..losses(directive.seq, 0, n) }
}

/// As [`whole`], ended by a NaN at `offset`.
pub fn broken(directive: &Directive, offset: usize) -> Report {
    let mut seen = 0;
    let mut loss = |_: f64, _: f64| {
        seen += 1;
        if seen > offset { f64::NAN } else { 1.0 }
    };
    let without_ops = Directive { slot_ops: Vec::new(), ..directive.clone() };
    Trainer::default().run(&without_ops, 1, 1, &mut loss).unwrap()
}

pub fn finish(request_id: &str, cooldown_steps: Option<u64>) -> Event {
    Event::Finish(Finish { request_id: request_id.into(), cooldown_steps })
}

pub fn cancel(request_id: &str, live: bool) -> Event {
    Event::Cancel(Cancel { request_id: request_id.into(), live })
}

pub fn update(request_id: &str, lr: Option<f64>, total_steps: Option<u64>) -> Event {
    Event::Update(Update { request_id: request_id.into(), change: Change { lr, total_steps } })
}

/// Carries `directive` out with losses of 1; what follows.
pub fn go_on(desk: &mut Desk, directive: &Directive) -> Directive {
    desk.report(whole(directive)).unwrap().directive.unwrap()
}
