//! Trains a small network on real images of handwritten digits, with learning rates from the server:
//!
//! ```sh
//! autolrs serve &
//! cargo run --release -p autolrs-client --example digits
//! ```
//!
//! Arguments: the job's name (default `digits`), steps (default 1200). A second run of a job that has ended begins it
//! again.

mod data;
mod network;

use autolrs_client::{
    BatchNumbers, Error, Handle, JobSpec, Phase, SessionConfig, Slot, Slots, Status, Trainable, blocking,
};
use data::{Digits, batch};
use network::Network;
use std::{process::ExitCode, time::Duration};

/// The training loop: what a step needs, and the slots with copies of what it changes.
struct Trainer {
    digits: Digits,
    network: Network,
    batches: BatchNumbers,
    slots: Slots<Network>,
    /// LR and loss of the directive's steps.
    steps: Vec<(f64, f64)>,
}

impl Trainer {
    fn new() -> Self {
        Self {
            digits: Digits::load(),
            network: Network::new(),
            batches: BatchNumbers::default(),
            slots: Slots::default(),
            steps: Vec::new(),
        }
    }

    fn accuracy(&self) -> f64 {
        100.0 * self.network.accuracy(&self.digits.test)
    }
}

impl Trainable for Trainer {
    type Error = Error;

    fn step(&mut self, lr: f64) -> Result<f64, Error> {
        let batch = batch(&self.digits.train, self.batches.take());
        let loss = self.network.step(&batch, lr);
        self.steps.push((lr, loss));
        Ok(loss)
    }

    fn save_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.slots.save(slot, self.network.clone());
        self.batches.save_slot(slot);
        Ok(())
    }

    fn restore_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.network.clone_from(self.slots.get(slot)?);
        Ok(())
    }

    fn drop_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.slots.drop(slot)?;
        self.batches.drop_slot(slot)
    }

    fn rewind(&mut self, slot: Slot) -> Result<(), Error> {
        self.batches.rewind(slot)
    }

    fn forward(&mut self) -> Result<(), Error> {
        self.batches.forward();
        Ok(())
    }

    fn after_step(&mut self, session: &Handle) -> Result<(), Error> {
        if session.status() == Status::Ended {
            tell(self, session);
            self.steps.clear();
        }
        for notice in session.take_notices() {
            println!("note: {notice}");
        }
        Ok(())
    }
}

/// One line for a directive that has ended.
fn tell(trainer: &Trainer, session: &Handle) {
    let now = session.snapshot();
    let (steps, lr) = (trainer.steps.len(), trainer.steps[0].0);
    let tail = &trainer.steps[steps.saturating_sub(10)..];
    let loss = tail.iter().map(|(_, loss)| loss).sum::<f64>() / tail.len() as f64;
    let what = match now.phase {
        Some(Phase::Trial) => "trial",
        Some(Phase::Warmup) => "warm-up",
        Some(Phase::Stable) => "stable",
        Some(Phase::Cooldown) => "cooldown",
        None => return,
    };
    let step = now.total_step;
    print!("step {step:>5}  {what:<8} {steps:>4} steps from LR {lr:<9.3e} to loss {loss:<8.4}");
    // While a search is on, the state is a trial's: its accuracy says nothing.
    if now.phase == Some(Phase::Trial) {
        println!();
    } else {
        println!(" test accuracy {:.1} %", trainer.accuracy());
    }
}

fn train(job: String, total_steps: u64) -> Result<(), Error> {
    let spec = JobSpec {
        total_steps: Some(total_steps),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.05),
        ..JobSpec::default()
    };
    let config = SessionConfig { replay: true, restart: true, ..SessionConfig::new(job, spec) };
    let session = blocking::Session::open(config)?;
    let mut trainer = Trainer::new();
    let done = session.train(&mut trainer)?;
    println!("{done:?}: test accuracy {:.1} %", trainer.accuracy());
    session.close(Duration::from_secs(10))
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let job = arguments.next().unwrap_or_else(|| "digits".into());
    let Ok(total_steps) = arguments.next().map_or(Ok(1200), |steps| steps.parse()) else {
        eprintln!("digits: the second argument is the number of steps");
        return ExitCode::from(2);
    };
    match train(job, total_steps) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("digits: {error}");
            ExitCode::FAILURE
        }
    }
}
