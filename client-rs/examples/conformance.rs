//! The toy problem of `autolrs conformance --client`, described in `proto/README.md`: every loss tells which learning
//! rates, slots and batches were used.
//!
//! ```sh
//! cargo build -p autolrs-client --examples
//! autolrs conformance --client -- target/debug/examples/conformance
//! ```

use autolrs_client::{
    BatchNumbers, Error, JobSpec, SessionConfig, Slot, Slots, Trainable, blocking::Session,
};
use std::{env, time::Duration};

/// How long the server is given to hear of the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// The weight, and everything that a restore puts back.
struct Toy {
    weight: f64,
    slots: Slots<f64>,
    batches: BatchNumbers,
    pause: Duration,
}

impl Trainable for Toy {
    type Error = Error;

    fn step(&mut self, lr: f64) -> Result<f64, Error> {
        std::thread::sleep(self.pause);
        let batch = self.batches.take() as f64;
        let loss = if self.weight > 1e6 { f64::NAN } else { self.weight + batch / 1000.0 };
        self.weight += lr;
        Ok(loss)
    }

    fn validate(&mut self) -> Result<f64, Error> {
        Ok(self.weight)
    }

    fn save_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.slots.save(slot, self.weight);
        self.batches.save_slot(slot);
        Ok(())
    }

    fn restore_slot(&mut self, slot: Slot) -> Result<(), Error> {
        self.weight = *self.slots.get(slot)?;
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
}

fn seconds(name: &str, default: f64) -> Duration {
    let given = env::var(name).ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(given.unwrap_or(default))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let spec = JobSpec {
        total_steps: Some(1000),
        lr_min: Some(1e-3),
        lr_max: Some(1.0),
        fallback_lr: Some(0.1),
        ..JobSpec::default()
    };
    // The server is the one that AUTOLRS_SERVER names.
    let config = SessionConfig {
        replay: true,
        validate: true,
        decision_timeout: seconds("AUTOLRS_DECISION_TIMEOUT", 120.0),
        ..SessionConfig::new(env::var("AUTOLRS_JOB")?, spec)
    };
    let session = Session::open(config)?;
    let mut toy = Toy {
        weight: 1.0,
        slots: Slots::default(),
        batches: BatchNumbers::default(),
        pause: seconds("AUTOLRS_STEP_SECONDS", 0.0),
    };
    session.train(&mut toy)?;
    session.close(CLOSE_WITHIN)?;
    Ok(())
}
