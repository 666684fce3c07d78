//! The only clock: milliseconds since 1970 that never go back while the process lives: the system's time of day is read
//! once, at the start. The core has no clock; what time decides (who is active, who is detached) is told to it.

use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// A trainer that was silent for longer is detached, and its session may be taken over.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Tells the time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_millis: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self::starting_at(time_of_day())
    }

    /// A clock that starts at a moment in milliseconds since 1970.
    pub fn starting_at(started_millis: u64) -> Self {
        Self { started: Instant::now(), started_millis }
    }

    /// Now, in milliseconds since 1970.
    pub fn now(&self) -> u64 {
        self.started_millis + millis(self.started.elapsed())
    }

    /// Time since a moment in milliseconds since 1970; none for the future.
    pub fn since(&self, moment: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(moment))
    }

    /// Whether the time of day has been set back since this clock started: what it says of times long past can't be trusted.
    pub fn is_ahead(&self) -> bool {
        self.now() > time_of_day().saturating_add(millis(SILENCE))
    }

    /// What a stored moment of hearing means for a job that was just loaded: a trainer that was heard shortly before
    /// the server started could not be heard while it was away. A moment in the future is of a server whose clock was
    /// ahead: all that is known is that it was before this one started.
    pub fn excuse(&self, heard: u64) -> u64 {
        let before_start = self.started_millis.saturating_sub(heard);
        let was_away = before_start > 0 && before_start < millis(SILENCE);
        if was_away || heard > self.now() { self.started_millis } else { heard }
    }
}

/// In milliseconds since 1970.
fn time_of_day() -> u64 {
    millis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_servers_absence_is_no_silence() {
        let start = 1_000_000;
        let clock = Clock::starting_at(start);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), start + 5000);
        assert_eq!(clock.excuse(start - 59_999), start);
        assert_eq!(clock.excuse(start - 60_000), start - 60_000);
        assert_eq!(clock.excuse(start + 3), start + 3);
        assert_eq!(clock.excuse(start + 5000), start + 5000);
        assert_eq!(clock.excuse(start + 5001), start, "of a clock that was ahead");
        assert_eq!(clock.since(start + 1000), Duration::from_secs(4));
        assert_eq!(clock.since(start + 9000), Duration::ZERO);
    }
}
