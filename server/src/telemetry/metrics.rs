//! What the server tells the recorder of metrics. What each means stands in [`super::table`].

use super::table::{self, Kind, Metric, TABLE};
use crate::{build, limit::Limit};
use autolrs_proto::{reason_name, reason_of, v1::ErrorReason};
use metrics::{Label, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::{Duration, Instant};

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
    let histograms = TABLE.iter().filter(|metric| metric.kind == Kind::Histogram);
    let handle = histograms
        .into_iter()
        .try_fold(PrometheusBuilder::new(), |builder, metric| {
            builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), SECONDS)
        })?
        .install_recorder()?;
    TABLE.iter().for_each(|metric| describe(metric));
    begin();
    Ok(handle)
}

fn describe(metric: &Metric) {
    match metric.kind {
        Kind::Counter => describe_counter!(metric.name, metric.help),
        Kind::Gauge => describe_gauge!(metric.name, metric.help),
        Kind::Histogram => describe_histogram!(metric.name, metric.help),
    }
}

/// Series that are there before anything has happened: `increase()` takes the first value of a series as given.
fn begin() {
    let build = [("version", build::VERSION), ("commit", build::COMMIT), ("rustc", build::RUSTC)];
    gauge!(table::BUILD.name, &build).set(1.0);
    jobs_live(0);
    gauge!(table::TRAINERS.name).set(0.0);
    gauge!(table::SAVES.name).set(0.0);
    gauge!(table::EXPIRES.name).set(f64::INFINITY);
    let unlabelled = [
        table::SLOW_DECISIONS,
        table::LOSSES,
        table::SESSIONS,
        table::EXPIRED,
        table::AUDIT,
        table::HANDSHAKES,
        table::AGED,
    ];
    for metric in unlabelled {
        counter!(metric.name).absolute(0);
    }
    for metric in [table::DECISION, table::COMMIT] {
        // A histogram is there when it was asked for.
        let _ = histogram!(metric.name);
    }
    for result in ["exported", "failed", "dropped"] {
        counter!(table::SPANS.name, "result" => result).absolute(0);
    }
    for end in ["completed", "stopped", "rung", "interrupted", "abandoned", "no_answer", "void", "disputed"] {
        counter!(table::DIRECTIVES_ENDED.name, "end" => end).absolute(0);
    }
    for cause in ["late", "rung", "disputed"] {
        counter!(table::FALLBACKS.name, "cause" => cause).absolute(0);
    }
    gauge!(table::CONNECTIONS.name).set(0.0);
    for limit in Limit::ALL {
        counter!(table::LIMITS.name, "limit" => limit.setting()).absolute(0);
    }
    for what in ["certificate", "tokens"] {
        for result in ["ok", "failed"] {
            counter!(table::RELOADS.name, "what" => what, "result" => result).absolute(0);
        }
        gauge!(table::RELOADED.name, "what" => what).set(1.0);
    }
    for state in ["finished", "cancelled", "failed"] {
        counter!(table::ENDED.name, "state" => state).absolute(0);
    }
    for reason in (1..).map_while(|number| ErrorReason::try_from(number).ok()) {
        counter!(table::REJECTIONS.name, "reason" => reason_name(reason)).absolute(0);
    }
}

/// A method, as the metrics of other gRPC servers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// With its package.
    pub service: &'static str,
    /// Its name in the service.
    pub name: &'static str,
    /// unary, client_stream, server_stream or bidi_stream.
    pub kind: &'static str,
}

impl Method {
    fn labels(self) -> Vec<Label> {
        vec![
            Label::from_static_parts("grpc_service", self.service),
            Label::from_static_parts("grpc_method", self.name),
            Label::from_static_parts("grpc_type", self.kind),
        ]
    }
}

/// An RPC has begun.
pub fn rpc_begun(method: Method) {
    counter!(table::STARTED.name, method.labels()).increment(1);
}

/// An RPC has ended.
pub fn rpc(method: Method, code: &'static str, taken: Duration) {
    let mut labels = method.labels();
    histogram!(table::HANDLING.name, labels.clone()).record(taken.as_secs_f64());
    labels.insert(2, Label::from_static_parts("grpc_code", code));
    counter!(table::HANDLED.name, labels).increment(1);
}

/// An RPC was refused with this reason, as it stands in the answer.
pub fn rejected(reason: &str) {
    if let Some(reason) = reason_of(reason) {
        counter!(table::REJECTIONS.name, "reason" => reason_name(reason)).increment(1);
    }
}

/// An RPC was refused because of the limit with this setting.
pub fn limited(setting: &str) {
    if let Some(limit) = Limit::find(setting) {
        counter!(table::LIMITS.name, "limit" => limit.setting()).increment(1);
    }
}

/// Counts a connection while it lives.
#[derive(Debug)]
pub struct Connection(());

impl Connection {
    /// One more.
    pub fn begin() -> Self {
        gauge!(table::CONNECTIONS.name).increment(1.0);
        Self(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        gauge!(table::CONNECTIONS.name).decrement(1.0);
    }
}

/// A connection was closed for its age.
pub fn connection_aged() {
    counter!(table::AGED.name).increment(1);
}

/// So many losses were reported.
pub fn losses(number: usize) {
    counter!(table::LOSSES.name).increment(number as u64);
}

/// A trainer was let in.
pub fn session_opened() {
    counter!(table::SESSIONS.name).increment(1);
}

/// A job was created.
pub fn job_created(policy: &'static str) {
    counter!(table::CREATED.name, "policy" => policy).increment(1);
}

/// So many jobs are in memory.
pub fn jobs_live(number: usize) {
    gauge!(table::JOBS_LIVE.name).set(number as f64);
}

/// A job that has ended was removed.
pub fn job_expired() {
    counter!(table::EXPIRED.name).increment(1);
}

/// Whether the store can be written.
pub fn store_healthy(healthy: bool) {
    gauge!(table::HEALTHY.name).set(if healthy { 1.0 } else { 0.0 });
}

/// Entries of the audit log were not written.
pub fn audit_failed() {
    counter!(table::AUDIT.name).increment(1);
}

/// A client could not be greeted.
pub fn handshake_failed() {
    counter!(table::HANDSHAKES.name).increment(1);
}

/// The certificate in use ends to be valid then, in seconds since 1970.
pub fn certificate_expires(seconds: Option<i64>) {
    gauge!(table::EXPIRES.name).set(seconds.map_or(f64::NAN, |seconds| seconds as f64));
}

/// Files were read; whether they can be used.
pub fn reloaded(what: &'static str, usable: bool) {
    let result = if usable { "ok" } else { "failed" };
    counter!(table::RELOADS.name, &[("what", what), ("result", result)]).increment(1);
    gauge!(table::RELOADED.name, &[("what", what)]).set(if usable { 1.0 } else { 0.0 });
}

/// Counts a `Train` stream while it lives.
#[derive(Debug)]
pub struct Trainer(());

impl Trainer {
    /// One more.
    pub fn begin() -> Self {
        gauge!(table::TRAINERS.name).increment(1.0);
        Self(())
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        gauge!(table::TRAINERS.name).decrement(1.0);
    }
}

/// Counts and times a save while it lives, whichever way it ends.
#[derive(Debug)]
pub struct Saving(Instant);

impl Saving {
    /// One more.
    pub fn begin() -> Self {
        gauge!(table::SAVES.name).increment(1.0);
        Self(Instant::now())
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        gauge!(table::SAVES.name).decrement(1.0);
        histogram!(table::COMMIT.name).record(self.0.elapsed().as_secs_f64());
    }
}
