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

use autolrs_client::{Error, JobSpec, Phase, Session, SessionConfig, Slot, SlotOp, Status};
use data::{Batches, Digits};
use network::Network;
use std::{collections::BTreeMap, process::ExitCode, time::Duration};

/// The trainer's state that slots keep, with the place in the stream of batches where it was saved.
struct Trainer {
    network: Network,
    batches: Batches,
    slots: BTreeMap<Slot, (Network, u64)>,
}

impl Trainer {
    fn carry_out(&mut self, ops: &[SlotOp], replay: bool) {
        let mut restored = None;
        for op in ops {
            match op {
                SlotOp::Save(slot) => {
                    self.slots.insert(*slot, (self.network.clone(), self.batches.next_unused()));
                }
                SlotOp::Restore(slot) => {
                    if let Some((network, position)) = self.slots.get(slot) {
                        self.network = network.clone();
                        restored = Some(*position);
                    }
                }
                SlotOp::Drop(slot) => drop(self.slots.remove(slot)),
            }
        }
        if let Some(position) = restored {
            self.batches.go_to(if replay { position } else { self.batches.next_unused() });
        }
    }

    fn step(&mut self, lr: f64) -> f64 {
        let batch = self.batches.next_batch();
        self.network.step(&batch, lr)
    }
}

async fn train(job: String, total_steps: u64) -> Result<(), Error> {
    let spec = JobSpec {
        total_steps: Some(total_steps),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.05),
        ..JobSpec::default()
    };
    let config = SessionConfig { replay: true, restart: true, ..SessionConfig::new(job, spec) };
    let session = Session::open(config).await?;
    let digits = Digits::load();
    let mut trainer =
        Trainer { network: Network::new(), batches: Batches::of(&digits.train), slots: BTreeMap::new() };
    loop {
        let now = session.snapshot();
        trainer.carry_out(&session.take_slot_ops(), now.replay);
        let Some(phase) = now.phase else { break };
        let lr = session.lr();
        let mut losses = Vec::new();
        loop {
            losses.push(trainer.step(session.lr()));
            if session.record(losses[losses.len() - 1]) == Status::Ended {
                break;
            }
        }
        tell(phase, session.snapshot().total_step, lr, &losses, || trainer.network.accuracy(&digits.test));
        session.next().await?;
        for notice in session.take_notices() {
            println!("note: {notice}");
        }
    }
    println!("test accuracy {:.1} %", 100.0 * trainer.network.accuracy(&digits.test));
    session.close(Duration::from_secs(10)).await;
    Ok(())
}

fn tell(phase: Phase, step: u64, lr: f64, losses: &[f64], accuracy: impl Fn() -> f64) {
    let tail = &losses[losses.len().saturating_sub(10)..];
    let loss = tail.iter().sum::<f64>() / tail.len() as f64;
    let what = match phase {
        Phase::Trial => "trial",
        Phase::Warmup => "warm-up",
        Phase::Stable => "stable",
        Phase::Cooldown => "cooldown",
    };
    let steps = losses.len();
    print!("step {step:>5}  {what:<8} {steps:>4} steps from LR {lr:<9.3e} to loss {loss:<8.4}");
    // While a search is on, the state is a trial's: its accuracy says nothing.
    if phase == Phase::Trial { println!() } else { println!(" test accuracy {:.1} %", 100.0 * accuracy()) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let job = arguments.next().unwrap_or_else(|| "digits".into());
    let Ok(total_steps) = arguments.next().map_or(Ok(1200), |steps| steps.parse()) else {
        eprintln!("digits: the second argument is the number of steps");
        return ExitCode::from(2);
    };
    match train(job, total_steps).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("digits: {error}");
            ExitCode::FAILURE
        }
    }
}
