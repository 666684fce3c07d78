//! SIGHUP: the configuration is read again, and what can change in a running server changes. What can't is named.

use crate::{
    config::{Config, Limits, LogConfig, Settings},
    live::Reloads,
    registry::{Bounds, Registry},
    supervisor,
    telemetry::{decisions, logs::Filter},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    signal::unix::Signal,
    sync::{Semaphore, watch},
};

/// A running server's configuration.
pub(crate) struct Reload<R> {
    reread: R,
    /// As they were read at the start and changed since.
    settings: Settings,
    config: Config,
    parts: Parts,
}

/// What the live settings are settings of.
pub(crate) struct Parts {
    /// Certificates and tokens.
    pub(crate) files: Reloads,
    pub(crate) filter: Filter,
    pub(crate) registry: Registry,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) trainers: Arc<Semaphore>,
    pub(crate) keep_ended: watch::Sender<Option<Duration>>,
    pub(crate) drain: watch::Sender<Duration>,
}

impl<R: Fn() -> Settings + Send + 'static> Reload<R> {
    pub(crate) fn new(reread: R, settings: Settings, config: Config, parts: Parts) -> Self {
        Self { reread, settings, config, parts }
    }

    /// Runs at every hang-up, one run after the other. A file system may be slow: nobody else waits for it.
    pub(crate) async fn at_every(mut self, mut hang_up: Signal) {
        while hang_up.recv().await.is_some() {
            let run = tokio::task::spawn_blocking(move || {
                supervisor::reloading();
                self.run();
                supervisor::ready();
                self
            });
            self = match run.await {
                Ok(reload) => reload,
                Err(error) => {
                    return tracing::error!(%error, "SIGHUP does nothing any more: start the server again");
                }
            };
        }
    }

    /// Reads the sources again. If anything is wrong with them, nothing changes.
    fn run(&mut self) {
        // Whether or not the settings can be used.
        self.parts.files.reload();
        let settings = (self.reread)();
        let new = match settings.config() {
            Ok(new) => new,
            Err(error) => return tracing::error!(%error, "not reloaded; what was in force still is"),
        };
        let pairs = self.settings.iter().zip(settings.iter()).filter(|(old, new)| old.text != new.text);
        let (live, fixed): (Vec<_>, Vec<_>) = pairs.map(|(_, new)| new.knob).partition(|knob| knob.is_live());
        for knob in &fixed {
            tracing::warn!(key = knob.key, "changes only with a restart; the old value stays in force");
        }
        let changed: Vec<_> = live.iter().map(|knob| knob.key).collect();
        self.apply(new);
        self.settings = self.settings.with(&settings, |knob| knob.is_live());
        tracing::info!(changed = changed.join(" "), "reloaded");
    }

    fn apply(&mut self, new: Config) {
        let Parts { filter, registry, requests, trainers, keep_ended, drain, .. } = &self.parts;
        if new.log.filter != self.config.log.filter {
            filter.set(&new.log.filter);
        }
        decisions::slow_after(new.log.slow_decision);
        let (old, limits) = (&mut self.config.limits, new.limits);
        registry.rebind(bounds(&limits));
        keep_ended.send_if_modified(|keep| std::mem::replace(keep, limits.keep_ended) != limits.keep_ended);
        resize(requests, old.max_requests, limits.max_requests);
        resize(trainers, old.max_trainers, limits.max_trainers);
        (old.max_requests, old.max_trainers) = (limits.max_requests, limits.max_trainers);
        (old.max_jobs, old.mailbox, old.idle) = (limits.max_jobs, limits.mailbox, limits.idle);
        (old.keep_ended, old.history) = (limits.keep_ended, limits.history);
        drain.send_replace(new.drain);
        self.config.log = LogConfig { format: self.config.log.format, ..new.log };
    }
}

/// What bounds the jobs in memory.
pub(crate) fn bounds(limits: &Limits) -> Bounds {
    let Limits { max_jobs: jobs, mailbox, idle, history, .. } = *limits;
    Bounds { jobs, mailbox, idle, history }
}

/// More places at once; fewer as they become free.
fn resize(places: &Arc<Semaphore>, old: usize, new: usize) {
    places.add_permits(new.saturating_sub(old));
    let gone = u32::try_from(old.saturating_sub(new)).unwrap_or(u32::MAX);
    if gone > 0 {
        let places = places.clone();
        tokio::spawn(async move {
            if let Ok(places) = places.acquire_many_owned(gone).await {
                places.forget();
            }
        });
    }
}
