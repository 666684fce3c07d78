//! What `autolrs simulate` is given: the first byte chooses between a job in TOML and recorded losses in CSV or JSON.

use crate::input::Input;
use autolrs_core::{
    job::{Answer, Event, Job, Open},
    spec::ResolvedSpec,
};
use autolrs_server::cli::simulate::{curves, spec};

/// What is refused says why; a job that is accepted has a first directive within its budget.
///
/// # Panics
/// If that does not hold.
pub fn target(bytes: &[u8]) {
    let mut input = Input(bytes);
    let kind = input.byte();
    let text = String::from_utf8_lossy(input.0);
    match kind % 4 {
        1 => assert!(curves::csv(&text).map_or_else(|said| !said.is_empty(), |_| true)),
        2 => assert!(curves::json(&text).map_or_else(|said| !said.is_empty(), |_| true)),
        _ => match spec::read(&text) {
            Ok((_, resolved)) => begins(resolved),
            Err(said) => {
                assert!(!said.is_empty() && said.iter().all(|sentence| !sentence.is_empty()));
            }
        },
    }
}

fn begins(spec: ResolvedSpec) {
    let limit = spec.budget.limit();
    let mut job = Job::create(spec, 1);
    let admitted = job.admit(Event::Open(Open::default())).expect("a new job can be opened");
    let Answer::Opened(opened) = job.apply(admitted).answer else { panic!("an open is answered") };
    let Some(run) = opened.directive.run() else { return };
    assert!((1..=limit).contains(&run.steps()), "{} steps of {limit}", run.steps());
    assert!(run.lr.iter().all(|piece| piece.is_valid()), "{:?}", run.lr);
}
