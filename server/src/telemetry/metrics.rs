//! Prometheus metrics. No label holds the name of a job.

use crate::build;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;

const HANDLED: &str = "grpc_server_handled_total";
const HANDLING: &str = "grpc_server_handling_seconds";
const DECISION: &str = "autolrs_decision_seconds";
const COMMIT: &str = "autolrs_store_commit_seconds";
const JOBS_LIVE: &str = "autolrs_jobs_live";
const TRAINERS: &str = "autolrs_train_streams";
const BUILD: &str = "autolrs_build_info";
const HEALTHY: &str = "autolrs_store_healthy";

/// Buckets in seconds: a decision takes about a fdatasync, which is 0.1 ms on one disk and 50 ms on another.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];

/// Starts recording; the handle renders what was recorded.
///
/// # Errors
/// If the process records already.
pub fn start() -> Result<PrometheusHandle, BuildError> {
    let handle = [HANDLING, DECISION, COMMIT]
        .into_iter()
        .try_fold(PrometheusBuilder::new(), |builder, name| {
            builder.set_buckets_for_metric(Matcher::Full(name.into()), SECONDS)
        })?
        .install_recorder()?;
    describe_counter!(HANDLED, "RPCs that have ended, by code");
    describe_histogram!(HANDLING, Unit::Seconds, "Time from the head of a request to the end of its answer");
    describe_histogram!(DECISION, Unit::Seconds, "Time to judge an event and to store what was decided");
    describe_histogram!(COMMIT, Unit::Seconds, "Time of one save in the store, waiting included");
    describe_gauge!(JOBS_LIVE, "Jobs in memory");
    describe_gauge!(TRAINERS, "Train streams under way");
    describe_gauge!(BUILD, "1; what runs, by version, commit and compiler");
    let labels = [("version", build::VERSION), ("commit", build::COMMIT), ("rustc", build::RUSTC)];
    gauge!(BUILD, &labels).set(1.0);
    describe_gauge!(HEALTHY, "1 while the store can be written, else 0");
    jobs_live(0);
    gauge!(TRAINERS).set(0.0);
    Ok(handle)
}

/// An RPC has ended.
pub fn rpc(service: &'static str, method: &'static str, code: &'static str, taken: Duration) {
    let rpc = [("grpc_service", service), ("grpc_method", method)];
    histogram!(HANDLING, &rpc).record(taken.as_secs_f64());
    counter!(HANDLED, &[rpc[0], rpc[1], ("grpc_code", code)]).increment(1);
}

/// An event was judged and what it decided was stored.
pub fn decision(taken: Duration) {
    histogram!(DECISION).record(taken.as_secs_f64());
}

/// The store has finished a save, well or not.
pub fn commit(taken: Duration) {
    histogram!(COMMIT).record(taken.as_secs_f64());
}

/// So many jobs are in memory.
pub fn jobs_live(number: usize) {
    gauge!(JOBS_LIVE).set(number as f64);
}

/// Whether the store can be written.
pub fn store_healthy(healthy: bool) {
    gauge!(HEALTHY).set(if healthy { 1.0 } else { 0.0 });
}

/// Counts a `Train` stream while it lives.
#[derive(Debug)]
pub struct Trainer(());

impl Trainer {
    /// One more.
    pub fn begin() -> Self {
        gauge!(TRAINERS).increment(1.0);
        Self(())
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        gauge!(TRAINERS).decrement(1.0);
    }
}
