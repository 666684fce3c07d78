//! What must hold when writes fail: each has happened as a whole or not at all, and the store below shows which.

use super::{all_rows, content, directive, put};
use crate::store::{
    JobKey, JobStore, RowKey, RowWrite, StoreError,
    faulty::{Flaky, Freezing, LastWrite},
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc};

/// A job as it should be.
#[derive(Debug, Clone, Default, PartialEq)]
struct Expected {
    version: Option<u64>,
    snapshot: Bytes,
    rows: BTreeMap<RowKey, Bytes>,
}

/// The steps of a job's life, one per call, the same for every run: saves of growing jobs, a clear, a removal.
#[derive(Debug, Clone)]
enum Step {
    Save { snapshot: Bytes, rows: Vec<RowWrite> },
    Remove,
}

fn step(number: u64) -> Step {
    if number % 17 == 16 {
        return Step::Remove;
    }
    let mut rows =
        vec![put(directive(number), content(number, 6000)), put(RowKey::Checkpoint { seq: number }, "c")];
    rows.push(RowWrite::Delete(RowKey::Checkpoint { seq: number.saturating_sub(3) }));
    if number % 7 == 6 {
        rows.insert(0, RowWrite::Clear);
    }
    Step::Save { snapshot: content(number, (number as usize * 997) % 10_000), rows }
}

impl Expected {
    /// The job after a step that happened.
    fn after(&self, step: &Step, version: Option<u64>) -> Self {
        let Step::Save { snapshot, rows } = step else { return Self::default() };
        let mut next = Self { version, snapshot: snapshot.clone(), rows: self.rows.clone() };
        for row in rows {
            match row {
                RowWrite::Put { key, record } => drop(next.rows.insert(*key, record.clone())),
                RowWrite::Delete(key) => drop(next.rows.remove(key)),
                RowWrite::Clear => next.rows.clear(),
            }
        }
        next
    }

    /// What the store really holds.
    async fn found(store: &dyn JobStore, job: &JobKey) -> Self {
        let stored = store.load(job).await.expect("a read below");
        let rows = all_rows(store, job).await.into_iter().collect();
        match stored {
            Some(stored) => Self { version: Some(stored.version), snapshot: stored.snapshot, rows },
            None => Self { version: None, snapshot: Bytes::new(), rows },
        }
    }
}

/// Takes one step through `store`, and returns what must then be found in `below`.
async fn take(
    store: &dyn JobStore,
    below: &dyn JobStore,
    job: &JobKey,
    before: &Expected,
    number: u64,
) -> Expected {
    let step = step(number);
    let heard = match &step {
        Step::Save { snapshot, rows } => {
            store.save(job, before.version, snapshot.clone(), rows.clone()).await.map(Some)
        }
        Step::Remove => store.remove(job).await.map(|_| None),
    };
    let found = Expected::found(below, job).await;
    match heard {
        Ok(version) => assert_eq!(found, before.after(&step, version), "step {number} was acknowledged"),
        Err(StoreError::Unavailable(_)) => {
            let after = before.after(&step, found.version);
            assert!(found == *before || found == after, "step {number} happened in part");
        }
        Err(e) => panic!("step {number}: {e}"),
    }
    found
}

/// Crashes after each of `steps` writes, with and without an answer to the last one; what is below must be what was
/// acknowledged, or that and the whole last write. `fresh` makes an empty store.
///
/// # Panics
/// If something else is found.
pub async fn crash_at_every_write(fresh: impl AsyncFn() -> Arc<dyn JobStore>, steps: u64) {
    for last in [LastWrite::Answered, LastWrite::Unheard] {
        for durable in 0..steps {
            let below = fresh().await;
            let store = Freezing::new(below.clone(), durable, last);
            let jobs = ["a", "a.b"].map(|name| JobKey::new("crash", name));
            let mut expected = [Expected::default(), Expected::default()];
            for number in 0..steps {
                let i = (number % 2) as usize;
                expected[i] = take(&store, &*below, &jobs[i], &expected[i], number / 2).await;
            }
            let answered = if last == LastWrite::Answered { durable } else { durable.saturating_sub(1) };
            assert_eq!(store.failures(), steps - answered);
            below.close().await;
        }
    }
}

/// Takes `steps` steps on each of five jobs while one call in five fails.
///
/// # Panics
/// If a failed write happened in part, or an acknowledged one did not happen.
pub async fn random_failures(below: Arc<dyn JobStore>, seed: u64, steps: u64) {
    let store = Flaky::new(below.clone(), 200, seed);
    let jobs = ["a", "a.b", "ab", "a-b", "b"].map(|name| JobKey::new("flaky", name));
    let mut expected = [const { None }; 5];
    for number in 0..steps {
        for (job, expected) in jobs.iter().zip(&mut expected) {
            let before = expected.take().unwrap_or_default();
            *expected = Some(take(&store, &*below, job, &before, number).await);
        }
    }
    assert!(store.failures() > 0, "something failed");
}
