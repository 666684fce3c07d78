//! How many jobs in memory stand where, and how many requests wait for them. Each owner publishes where its job stands,
//! so that counting asks none of them.

use crate::telemetry::table;
use autolrs_core::job::JobState;
use metrics::gauge;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// The states by their names in the metrics.
const STATES: [&str; 8] =
    ["created", "searching", "training", "cooling", "detached", "finished", "cancelled", "failed"];
const DETACHED: usize = 4;

/// Where a job stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// As the core has it.
    pub(crate) state: JobState,
    /// Until then its trainer counts as active, in milliseconds since 1970; 0: it has none.
    pub(crate) active_until: u64,
}

/// What an owner publishes.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Place in [`STATES`], from 1; 0: no job.
    state: AtomicU8,
    active_until: AtomicU64,
}

impl Published {
    pub(super) fn set(&self, standing: Option<Standing>) {
        let state = standing.map_or(0, |standing| 1 + place(standing.state) as u8);
        self.active_until.store(standing.map_or(0, |standing| standing.active_until), Relaxed);
        self.state.store(state, Relaxed);
    }
}

fn place(state: JobState) -> usize {
    match state {
        JobState::Created => 0,
        JobState::Searching => 1,
        JobState::Training => 2,
        JobState::Cooling => 3,
        JobState::Finished => 5,
        JobState::Cancelled => 6,
        JobState::Failed(_) => 7,
    }
}

/// The count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    states: [u64; STATES.len()],
    active: u64,
    waiting: u64,
    fullest: u64,
}

impl Census {
    /// Counts one more job at a moment in milliseconds since 1970.
    pub(super) fn add(&mut self, job: &Published, waiting: u64, now: u64) {
        self.waiting += waiting;
        self.fullest = self.fullest.max(waiting);
        let Some(mut state) = usize::from(job.state.load(Relaxed)).checked_sub(1) else { return };
        let active = job.active_until.load(Relaxed) >= now;
        if (1..DETACHED).contains(&state) && !active {
            state = DETACHED;
        }
        self.active += u64::from(active);
        if let Some(count) = self.states.get_mut(state) {
            *count += 1;
        }
    }

    /// Tells it.
    pub(super) fn publish(&self) {
        for (state, count) in STATES.into_iter().zip(self.states) {
            gauge!(table::JOBS.name, "state" => state).set(count as f64);
        }
        gauge!(table::ACTIVE.name).set(self.active as f64);
        gauge!(table::MAILBOXES.name).set(self.waiting as f64);
        gauge!(table::FULLEST.name).set(self.fullest as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_trainer_is_detached_unless_its_job_has_ended() {
        let mut census = Census::default();
        let jobs = [
            (JobState::Created, 0, 0),
            (JobState::Searching, 1000, 2),
            (JobState::Training, 999, 0),
            (JobState::Cooling, 2000, 5),
            (JobState::Finished, 0, 0),
        ];
        for (state, active_until, waiting) in jobs {
            let published = Published::default();
            published.set(Some(Standing { state, active_until }));
            census.add(&published, waiting, 1000);
        }
        census.add(&Published::default(), 1, 1000);
        let states = [1, 1, 0, 1, 1, 1, 0, 0];
        assert_eq!(census, Census { states, active: 2, waiting: 8, fullest: 5 });
    }
}
