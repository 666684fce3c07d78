//! A job in memory: the core's job, what the store says of it, and what the clock says.

use super::asked::Asked;
use crate::{
    clock::{Clock, SILENCE},
    error::Error,
    registry::census::Standing,
    store::{
        JobKey, StoreError, Stored,
        codec::{self, Kind},
    },
};
use autolrs_core::{
    job::{Job, View},
    spec::JobSpec,
};
use serde::{Deserialize, Serialize};

/// What is stored of a job besides its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// When it was created, in milliseconds since 1970.
    pub(super) created: u64,
    /// When its trainer was last heard, as known at the save.
    pub(super) heard: Option<u64>,
    /// The spec as it was asked for.
    pub(super) asked: Asked,
    /// The state machine.
    pub(super) job: Job,
    /// When it ended, in milliseconds since 1970.
    pub(super) ended: Option<u64>,
}

impl Snapshot {
    /// Notes the moment if the job has just ended, or forgets it if the job has begun again.
    pub(super) fn note_end(&mut self, now: u64) {
        self.ended = self.job.ended().and(self.ended.or(Some(now)));
    }
}

/// A snapshot and the version that it has in the store.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(super) version: u64,
    pub(super) snapshot: Snapshot,
}

/// A job as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its name.
    pub name: String,
    /// Tells it from other jobs of its name.
    pub uid: u64,
    /// The spec as it was asked for.
    pub asked: JobSpec,
    /// Name of its policy.
    pub policy: &'static str,
    /// Revision of the policies' rules that it keeps.
    pub policy_revision: u32,
    /// Budget in steps; none: it is open.
    pub total_steps: Option<u64>,
    /// Its version in the store.
    pub revision: u64,
    /// When it was created, in milliseconds since 1970.
    pub created: u64,
    /// When its trainer was last heard, in milliseconds since 1970.
    pub heard: Option<u64>,
    /// It has a trainer that is silent although it is not done.
    pub detached: bool,
    /// What the core knows.
    pub view: View,
}

/// A job in a list: one may be damaged.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    /// A job.
    Whole(Box<JobView>),
    /// A record that can't be read.
    Damaged {
        /// The job's name.
        name: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl Shown {
    /// What a stored record shows.
    pub(crate) fn stored(key: &JobKey, stored: Result<Stored, StoreError>, clock: &Clock) -> Self {
        match stored.map_err(|e| from_store(key, e)).and_then(|stored| Loaded::decode(key, &stored, clock)) {
            Ok(loaded) => Self::Whole(Box::new(loaded.view(key, clock))),
            Err(error) => Self::Damaged { name: key.name.clone(), detail: error.to_string() },
        }
    }
}

impl Loaded {
    pub(crate) fn decode(key: &JobKey, stored: &Stored, clock: &Clock) -> Result<Self, Error> {
        let decoded = codec::decode::<Snapshot>(Kind::Snapshot, &stored.snapshot);
        let mut snapshot = decoded.map_err(|e| from_store(key, e.of(key)))?;
        snapshot.heard = snapshot.heard.map(|heard| clock.excuse(heard));
        Ok(Self { version: stored.version, snapshot })
    }

    /// Time since its trainer was heard; none if it never was.
    pub(super) fn silence(&self, clock: &Clock) -> Option<std::time::Duration> {
        self.snapshot.heard.map(|heard| clock.since(heard))
    }

    /// Whether its trainer was heard in the last 60 s.
    pub(super) fn active(&self, clock: &Clock) -> bool {
        self.silence(clock).is_some_and(|silence| silence <= SILENCE)
    }

    /// Whether it has ended, and longer than `keep` ago.
    pub(crate) fn is_over(&self, keep: std::time::Duration, clock: &Clock) -> bool {
        self.snapshot.ended.is_some_and(|ended| clock.since(ended) > keep)
    }

    /// Until when its trainer counts as active, in milliseconds since 1970; 0 if it has ended or was never heard.
    pub(super) fn active_until(&self) -> u64 {
        let heard = self.snapshot.heard.filter(|_| self.snapshot.job.ended().is_none());
        heard.map_or(0, |heard| heard.saturating_add(SILENCE.as_millis() as u64))
    }

    pub(super) fn standing(&self) -> Standing {
        Standing { state: self.snapshot.job.state(), active_until: self.active_until() }
    }

    pub(super) fn view(&self, key: &JobKey, clock: &Clock) -> JobView {
        let Snapshot { created, heard, asked, job, .. } = &self.snapshot;
        let spec = job.spec();
        JobView {
            name: key.name.clone(),
            uid: job.uid(),
            asked: asked.spec.clone(),
            policy: spec.policy_name(),
            policy_revision: spec.policy_revision,
            total_steps: spec.budget.known(),
            revision: self.version,
            created: *created,
            heard: *heard,
            detached: job.ended().is_none() && job.session() > 0 && !self.active(clock),
            view: job.view(),
        }
    }
}

/// What a store's error means for the call.
pub(crate) fn from_store(key: &JobKey, error: StoreError) -> Error {
    match error {
        StoreError::Damaged { what, .. } => Error::JobDamaged { job: key.name.clone(), detail: what },
        newer @ StoreError::NewerRecord { .. } => {
            Error::JobDamaged { job: key.name.clone(), detail: newer.to_string() }
        }
        unfit @ (StoreError::TooLarge { .. } | StoreError::Unencodable { .. }) => {
            Error::Defect { detail: unfit.to_string() }
        }
        away @ (StoreError::Conflict { .. }
        | StoreError::Unavailable(_)
        | StoreError::Full { .. }
        | StoreError::Locked { .. }
        | StoreError::NewerStore { .. }
        | StoreError::NotAStore { .. }
        | StoreError::Cut { .. }
        | StoreError::NoStore { .. }
        | StoreError::NotEmpty { .. }
        | StoreError::Directory { .. }) => Error::StoreUnavailable { detail: away.to_string() },
    }
}
