//! The toy problem of `autolrs conformance --client`, described in `proto/README.md`: every loss tells which learning
//! rates, slots and batches were used.
//!
//! ```sh
//! cargo build -p autolrs-client --examples
//! autolrs conformance --client -- target/debug/examples/conformance
//! ```

use autolrs_client::{InMemory, JobSpec, SessionConfig, blocking::Session};
use std::{env, thread::sleep, time::Duration};

/// How long the server is given to hear of the end.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

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
    let pause = seconds("AUTOLRS_STEP_SECONDS", 0.0);
    let toy = InMemory::new(1.0, |weight: &mut f64, batch, lr| {
        sleep(pause);
        let loss = if *weight > 1e6 { f64::NAN } else { *weight + batch as f64 / 1000.0 };
        *weight += lr;
        loss
    });
    let mut toy = toy.validated_by(|weight| *weight);
    session.train(&mut toy)?;
    session.close(CLOSE_WITHIN)?;
    Ok(())
}
