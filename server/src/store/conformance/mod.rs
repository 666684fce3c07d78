//! What every [`JobStore`] must do, as one suite. A store that passes it can be put in the place of any other.
//!
//! Each case works in tenants of its own, so one store can go through all of them.

mod failures;
mod reads;
mod whole;
mod writes;

pub use self::failures::{crash_at_every_write, random_failures};
use super::{JobKey, JobStore, RowKey, RowWrite};
use bytes::Bytes;
use std::sync::Arc;

/// Opens the store that was closed before.
type Open = Box<dyn Fn() -> Arc<dyn JobStore> + Send + Sync>;

/// The store under test.
pub struct Subject {
    store: Arc<dyn JobStore>,
    open: Option<Open>,
}

impl Subject {
    /// A store that lives as long as its process.
    pub fn fleeting(store: Arc<dyn JobStore>) -> Self {
        Self { store, open: None }
    }

    /// A store that is found again after it was closed.
    pub fn lasting(open: impl Fn() -> Arc<dyn JobStore> + Send + Sync + 'static) -> Self {
        Self { store: open(), open: Some(Box::new(open)) }
    }

    /// Closes and opens the store, if it is one that lasts.
    async fn reopen(&mut self) {
        if let Some(open) = &self.open {
            self.store.close().await;
            self.store = open();
        }
    }
}

/// Runs all cases.
///
/// # Panics
/// If the store does something else than a store must do.
pub async fn run(subject: &mut Subject) {
    writes::versions_guard_a_save(subject).await;
    writes::a_removed_job_is_gone(subject).await;
    writes::rows_change_in_their_order(subject).await;
    writes::a_refused_save_changes_nothing(subject).await;
    writes::large_records_are_kept(subject).await;
    writes::one_of_many_writers_wins(subject).await;
    writes::writers_of_many_jobs_do_not_meet(subject).await;
    reads::names_keep_their_order(subject).await;
    reads::pages_cover_a_tenant(subject).await;
    reads::similar_names_are_different_jobs(subject).await;
    reads::rows_come_in_order(subject).await;
    reads::rows_are_found_at_borders(subject).await;
    reads::readers_see_whole_saves(subject).await;
    whole::a_walk_meets_every_job_of_every_tenant(subject).await;
    whole::tenants_come_in_order(subject).await;
    whole::a_walk_sees_whole_saves(subject).await;
    whole::a_restored_job_is_as_it_was(subject).await;
    reads::a_closed_store_says_so(subject).await;
}

fn put(key: RowKey, record: impl Into<Bytes>) -> RowWrite {
    RowWrite::Put { key, record: record.into() }
}

fn directive(seq: u64) -> RowKey {
    RowKey::Directive { seq }
}

/// Text that differs from byte to byte and from seed to seed.
fn content(seed: u64, len: usize) -> Bytes {
    (0..len as u64).map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ seed.wrapping_mul(97)) as u8).collect()
}

/// Saves a job that must not exist.
async fn create(store: &dyn JobStore, job: &JobKey, snapshot: impl Into<Bytes>) -> u64 {
    store.save(job, None, snapshot.into(), Vec::new()).await.expect("a new job is saved")
}

/// All rows of a job.
async fn all_rows(store: &dyn JobStore, job: &JobKey) -> Vec<(RowKey, Bytes)> {
    let last = RowKey::StageEnd { stage: u32::MAX };
    store.rows(job, directive(0), last, usize::MAX).await.expect("rows are read")
}
