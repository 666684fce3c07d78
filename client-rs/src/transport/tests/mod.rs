//! How long training stands still, on a paused clock: waiting takes no time here, and is measured to the millisecond.

mod network;
mod opening;
mod waiting;

use network::{Answer, Network};
use std::time::Duration;
use tokio::time::Instant;

/// The clock of timers ticks in milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// Checks what was waited since `began`.
#[track_caller]
fn assert_waited(began: Instant, expected: Duration, what: &str) {
    let waited = began.elapsed();
    assert!((expected..=expected + TICK).contains(&waited), "{what}: waited {waited:?}, not {expected:?}");
}
