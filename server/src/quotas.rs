//! What one tenant may take: stored jobs, streams, requests in a second. As much as there is, by default.

use crate::{
    error::Error,
    limit::Limit,
    store::{JobStore, StoreError},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Jobs that are counted at once.
const PAGE: usize = 500;

/// How much; none: as much as there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares {
    /// Stored jobs.
    pub jobs: Option<usize>,
    /// Streams under way.
    pub streams: Option<usize>,
    /// Requests in a second; as many may come at once.
    pub rate: Option<usize>,
}

/// What tenants have taken. Cheap to clone. It knows as many tenants as have come, who all have a token.
#[derive(Debug, Clone, Default)]
pub struct Quotas {
    shares: Shares,
    tenants: Arc<Mutex<HashMap<String, Arc<Tenant>>>>,
}

#[derive(Debug)]
struct Tenant {
    streams: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
    /// None: not counted yet.
    jobs: Arc<AsyncMutex<Option<usize>>>,
}

impl Quotas {
    /// Nobody has taken anything.
    pub fn new(shares: Shares) -> Self {
        Self { shares, tenants: Arc::default() }
    }

    fn tenant(&self, name: &str) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tenant) = tenants.get(name) {
            return tenant.clone();
        }
        let tenant = Arc::new(Tenant {
            streams: Arc::new(Semaphore::new(self.shares.streams.unwrap_or_default())),
            bucket: Mutex::new(Bucket::full(self.shares.rate.unwrap_or_default(), Instant::now())),
            jobs: Arc::default(),
        });
        tenants.insert(name.to_owned(), tenant.clone());
        tenant
    }

    /// One more request.
    ///
    /// # Errors
    /// [`Limit::TenantRate`].
    pub(crate) fn request(&self, tenant: &str) -> Result<(), Error> {
        let Some(rate) = self.shares.rate else { return Ok(()) };
        let tenant = self.tenant(tenant);
        let mut bucket = tenant.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.take(rate, Instant::now()) {
            return Ok(());
        }
        Err(Error::LimitReached { limit: Limit::TenantRate })
    }

    /// A place for a stream, for as long as it is kept; none: there is no limit.
    ///
    /// # Errors
    /// [`Limit::TenantStreams`].
    pub(crate) fn stream(&self, tenant: &str) -> Result<Option<OwnedSemaphorePermit>, Error> {
        if self.shares.streams.is_none() {
            return Ok(None);
        }
        let place = self.tenant(tenant).streams.clone().try_acquire_owned();
        place.map(Some).map_err(|_| Error::LimitReached { limit: Limit::TenantStreams })
    }

    /// The number of a tenant's jobs, which nobody else changes meanwhile; none: there is no limit.
    pub(crate) async fn jobs(&self, tenant: &str) -> Option<Count> {
        let most = self.shares.jobs?;
        let held = self.tenant(tenant).jobs.clone().lock_owned().await;
        Some(Count { tenant: tenant.to_owned(), held, most })
    }
}

/// How many jobs a tenant has.
pub(crate) struct Count {
    tenant: String,
    held: OwnedMutexGuard<Option<usize>>,
    most: usize,
}

impl Count {
    /// Whether there may be one more. They are counted the first time.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn has_room(&mut self, store: &dyn JobStore) -> Result<bool, StoreError> {
        let number = match *self.held {
            Some(number) => number,
            None => self.count(store).await?,
        };
        *self.held = Some(number);
        Ok(number < self.most)
    }

    async fn count(&self, store: &dyn JobStore) -> Result<usize, StoreError> {
        let (mut number, mut after) = (0, None);
        loop {
            let page = store.list(&self.tenant, after.as_deref(), PAGE).await?;
            number += page.len();
            if page.len() < PAGE {
                return Ok(number);
            }
            after = page.into_iter().next_back().map(|last| last.name);
        }
    }

    /// One was made.
    pub(crate) fn made(mut self) {
        *self.held = self.held.map(|number| number + 1);
    }

    /// One was removed.
    pub(crate) fn removed(mut self) {
        *self.held = self.held.map(|number| number.saturating_sub(1));
    }

    /// Nobody knows: they are counted again.
    pub(crate) fn unknown(mut self) {
        *self.held = None;
    }
}

/// Holds at most as many tokens as are added in a second.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(rate: usize, at: Instant) -> Self {
        Self { tokens: rate as f64, at }
    }

    fn take(&mut self, rate: usize, now: Instant) -> bool {
        let rate = rate as f64;
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min(rate);
        self.at = self.at.max(now);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_gives_as_many_as_the_rate_says() {
        let start = Instant::now();
        let mut bucket = Bucket::full(10, start);
        let given = |bucket: &mut Bucket, at| (0..100).filter(|_| bucket.take(10, at)).count();
        assert_eq!(given(&mut bucket, start), 10, "at once");
        assert_eq!(given(&mut bucket, start + Duration::from_millis(550)), 5);
        assert_eq!(given(&mut bucket, start + Duration::from_secs(3600)), 10, "no more are saved up");
        assert_eq!(given(&mut bucket, start), 0, "who has read the clock earlier gets nothing more");
    }

    #[test]
    fn tenants_do_not_take_from_each_other_and_streams_come_back() {
        let quotas = Quotas::new(Shares { streams: Some(1), rate: Some(1), jobs: None });
        let first = quotas.stream("a").unwrap();
        assert_eq!(quotas.stream("a").err(), Some(Error::LimitReached { limit: Limit::TenantStreams }));
        assert!(quotas.stream("b").is_ok());
        drop(first);
        assert!(quotas.stream("a").is_ok());
        assert!(quotas.request("a").is_ok() && quotas.request("b").is_ok());
        assert_eq!(quotas.request("a"), Err(Error::LimitReached { limit: Limit::TenantRate }));
    }

    #[test]
    fn without_limits_there_are_none() {
        let quotas = Quotas::default();
        assert!((0..1000).all(|_| quotas.request("a").is_ok() && quotas.stream("a").unwrap().is_none()));
    }
}
