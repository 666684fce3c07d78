//! Jobs that have ended are kept for a set time and then removed with all that the store has of them. Nothing else is
//! ever removed: neither a job that may go on, nor one that is damaged.

use crate::{
    actor::Loaded,
    clock::Clock,
    error::Error,
    registry::Registry,
    store::{JobKey, JobStore, StoreError},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

/// The pause between two looks is a tenth of the time that jobs are kept, within these bounds.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3600)];
/// Jobs that are read at once.
const PAGE: usize = 64;

/// Looks at all jobs from time to time.
pub(crate) struct Retention {
    pub(crate) store: Arc<dyn JobStore>,
    pub(crate) registry: Registry,
    pub(crate) clock: Clock,
    /// How long a job that has ended is kept; none: for ever.
    pub(crate) keep: watch::Receiver<Option<Duration>>,
    pub(crate) draining: CancellationToken,
}

impl Retention {
    /// Until the server drains. The first look comes after a pause, so that a mistake in the time can be mended.
    pub(crate) async fn run(mut self) {
        loop {
            let keep = *self.keep.borrow_and_update();
            let pause = keep.map_or(Duration::MAX, |keep| (keep / 10).clamp(PAUSES[0], PAUSES[1]));
            tokio::select! {
                () = self.draining.cancelled() => return,
                changed = self.keep.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = sleep(pause) => {}
            }
            let Some(keep) = keep else { continue };
            if self.clock.is_ahead() {
                tracing::warn!(
                    "no ended job is removed: the time of day was set back, start the server anew"
                );
                continue;
            }
            tokio::select! {
                () = self.draining.cancelled() => return,
                looked = self.look(keep) => if let Err(error) = looked {
                    tracing::warn!(%error, "ended jobs can't be looked for now");
                },
            }
        }
    }

    /// Removes every job that ended longer ago than that.
    async fn look(&self, keep: Duration) -> Result<(), StoreError> {
        let mut tenant = None;
        while let Some(next) = self.store.next_tenant(tenant.as_deref()).await? {
            self.look_at(&next, keep).await?;
            tenant = Some(next);
        }
        Ok(())
    }

    async fn look_at(&self, tenant: &str, keep: Duration) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(tenant, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for listed in page {
                let key = JobKey::new(tenant, listed.name);
                let stored = listed.stored.ok().and_then(|s| Loaded::decode(&key, &s, &self.clock).ok());
                if stored.is_some_and(|job| job.is_over(keep, &self.clock)) {
                    self.expire(&key, keep).await;
                }
            }
        }
    }

    /// The job's owner has the last word: it may have begun again.
    async fn expire(&self, key: &JobKey, keep: Duration) {
        match self.registry.expire(key, keep).await {
            Ok(_) | Err(Error::JobNotFound { .. } | Error::Draining) => {}
            Err(error) => tracing::warn!(job = %key, %error, "an ended job can't be removed now"),
        }
    }
}
