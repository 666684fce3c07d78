//! What machines ask to operate the server: gRPC health, and over plain HTTP `/metrics`, `/livez` and `/readyz`.

use crate::{
    config::Limits,
    store::{Disk, Health, JobStore},
    supervisor,
    telemetry::{exposition::Exposition, metrics},
};
use autolrs_proto::v1::{
    job_service_server::SERVICE_NAME as JOB_SERVICE, store_service_server::SERVICE_NAME as STORE_SERVICE,
    trainer_service_server::SERVICE_NAME as TRAINER_SERVICE,
};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// The whole server and its services, by their names in gRPC health.
const SERVICES: [&str; 4] = ["", JOB_SERVICE, TRAINER_SERVICE, STORE_SERVICE];
/// How often the event loop shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// Silence of the event loop after which it counts as stuck.
const LOOP_SILENCE: Duration = Duration::from_secs(10);

/// What the probes look at.
#[derive(Clone)]
pub struct Probes {
    store: Arc<dyn JobStore>,
    health: watch::Receiver<Health>,
    /// Silence of the store's writer after which it counts as stuck: a disk may need long, but not that long.
    writer_silence: Duration,
    /// Free bytes on the store's disk below which there is a warning.
    disk_warning: u64,
    draining: CancellationToken,
    metrics: Exposition,
    beat: Arc<Mutex<Instant>>,
}

impl Probes {
    /// Probes of a store, and of this process until it drains.
    pub fn new(
        store: Arc<dyn JobStore>,
        limits: &Limits,
        draining: CancellationToken,
        metrics: Exposition,
    ) -> Self {
        let (health, beat) = (store.health(), Arc::new(Mutex::new(Instant::now())));
        let Limits { writer_silence, disk_warning, .. } = *limits;
        Self { store, health, writer_silence, disk_warning, draining, metrics, beat }
    }

    /// The plain HTTP service. It says nothing of any job.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/metrics", get(|State(probes): State<Self>| async move { probes.metrics.render() }))
            .route("/livez", get(|State(probes): State<Self>| async move { probes.live() }))
            .route("/readyz", get(|State(probes): State<Self>| async move { probes.ready() }))
            .with_state(self)
    }

    /// Beats, so that `/livez` sees whether the event loop turns, lets the histograms forget, and looks at the disk. Never
    /// ends.
    pub async fn beat(self) {
        let mut interval = tokio::time::interval(BEAT);
        let mut low = false;
        loop {
            interval.tick().await;
            *self.beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            self.metrics.run_upkeep();
            self.look_at_disk(&mut low);
            // As /livez says: the service manager restarts what is stuck.
            if self.live().0 == StatusCode::OK {
                supervisor::alive();
            }
        }
    }

    fn look_at_disk(&self, low: &mut bool) {
        let warning = self.disk_warning();
        if warning.is_some() == std::mem::replace(low, warning.is_some()) {
            return;
        }
        match &warning {
            Some(warning) => tracing::warn!(warning, "the disk is almost full"),
            None => tracing::info!("the disk has room again"),
        }
        if self.away().is_none() {
            supervisor::status(
                &warning.map_or("serving".to_owned(), |warning| format!("serving; {warning}")),
            );
        }
    }

    /// What is to be said of a disk that is almost full.
    fn disk_warning(&self) -> Option<String> {
        let Disk { free, least } = self.store.disk().filter(|disk| disk.free < self.disk_warning)?;
        let (free, least) = (free >> 20, least >> 20);
        Some(format!(
            "warning: {free} MiB are left on the store's disk, below {least} MiB it writes nothing: make room, or keep \
             ended jobs for a shorter time (keep_ended)"
        ))
    }

    /// Tells gRPC health whether the store can be used now, and returns it.
    pub async fn report(&mut self, reporter: &HealthReporter) -> bool {
        self.health.mark_unchanged();
        let away = self.away();
        match &away {
            None => tracing::info!("serving"),
            Some(reason) => tracing::error!(reason, "not serving"),
        }
        supervisor::status(away.as_deref().unwrap_or("serving"));
        let serving = away.is_none();
        metrics::store_healthy(serving);
        set(reporter, if serving { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        serving
    }

    /// Goes on telling it until the server drains; from then on it is not serving.
    pub async fn keep_reporting(mut self, mut reporter: HealthReporter) {
        let mut serving = self.away().is_none();
        let mut look = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                changed = self.health.changed() => if changed.is_err() { break },
                () = self.draining.cancelled() => break,
                // A writer that is stuck says nothing.
                _ = look.tick() => if self.away().is_none() == serving { continue },
            }
            serving = self.report(&reporter).await;
        }
        set(&reporter, ServingStatus::NotServing).await;
        // Ends the streams of those who watch: they would keep the server from ending.
        for service in SERVICES {
            reporter.clear_service_status(service).await;
        }
    }

    fn live(&self) -> (StatusCode, String) {
        let beat = *self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        let event_loop = beat.elapsed();
        if event_loop > LOOP_SILENCE {
            return unavailable(format!("the event loop is stuck since {} s", event_loop.as_secs()));
        }
        self.stuck().map_or_else(|| (StatusCode::OK, "ok\n".into()), unavailable)
    }

    /// What is to be said of a writer that is stuck.
    fn stuck(&self) -> Option<String> {
        let silence = self.store.heartbeat().elapsed();
        (silence > self.writer_silence)
            .then(|| format!("the store's writer is stuck since {} s", silence.as_secs()))
    }

    /// Why the store can't be used now; none: it can.
    fn away(&self) -> Option<String> {
        match &*self.health.borrow() {
            Health::Healthy => self.stuck(),
            Health::Unavailable(reason) => Some(format!("the store is away: {reason}")),
        }
    }

    fn ready(&self) -> (StatusCode, String) {
        if self.draining.is_cancelled() {
            return unavailable("draining".into());
        }
        let well = || {
            let warning = self.disk_warning().map(|warning| warning + "\n");
            (StatusCode::OK, "ok\n".to_owned() + &warning.unwrap_or_default())
        };
        self.away().map_or_else(well, unavailable)
    }
}

/// Sets the whole server and each of its services.
async fn set(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

fn unavailable(why: String) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, why + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Settings, store::memory::MemoryStore};
    use metrics_exporter_prometheus::PrometheusBuilder;
    use std::collections::{BTreeMap, HashMap};

    fn probes(draining: &CancellationToken) -> (Arc<MemoryStore>, Probes) {
        let store = Arc::new(MemoryStore::default());
        let metrics = Exposition::new(PrometheusBuilder::new().build_recorder().handle(), || ());
        let limits = Settings::collect(&BTreeMap::new(), &HashMap::new(), None).best().0.limits;
        (store.clone(), Probes::new(store, &limits, draining.clone(), metrics))
    }

    #[tokio::test]
    async fn readiness_follows_the_store_and_liveness_does_not() {
        let (store, probes) = probes(&CancellationToken::new());
        assert_eq!(probes.ready().0, StatusCode::OK);
        store.close().await;
        assert_eq!(probes.ready().0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(probes.live().0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_draining_server_is_not_ready_but_alive() {
        let draining = CancellationToken::new();
        let (_store, probes) = probes(&draining);
        draining.cancel();
        assert_eq!((probes.ready().0, probes.live().0), (StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK));
    }

    #[tokio::test]
    async fn a_silent_event_loop_is_not_alive() {
        let (_store, probes) = probes(&CancellationToken::new());
        *probes.beat.lock().unwrap() = Instant::now() - LOOP_SILENCE - BEAT;
        let (code, why) = probes.live();
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert!(why.contains("event loop"), "{why}");
    }
}
