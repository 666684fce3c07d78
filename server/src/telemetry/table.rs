//! Every metric once: its name, kind, labels and meaning. `/metrics` takes its HELP lines from here, and
//! `deploy/metrics.md` is made of it. No label holds the name of a job, a tenant or anything else that callers make up.

use std::fmt::Write as _;

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, and starts at 0 with the process.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by upper bound, with sum and count.
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// As Prometheus names it: the unit, and `_total` for counters.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its labels; a histogram also has `le`.
    pub labels: &'static [&'static str],
    /// What it means, with the values of its labels.
    pub help: &'static str,
}

/// Defines each metric as a constant, and the table of all.
macro_rules! metrics {
    ($($metric:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            pub(crate) const $metric: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*

        /// All metrics, in the order of the documentation.
        pub const TABLE: &[&Metric] = &[$(&$metric),*];
    };
}

metrics! {
    STARTED: Counter "grpc_server_started_total" ["grpc_service", "grpc_method", "grpc_type"]
        "RPCs that have begun. `grpc_type` is unary, client_stream, server_stream or bidi_stream";
    HANDLED: Counter "grpc_server_handled_total" ["grpc_service", "grpc_method", "grpc_code", "grpc_type"]
        "RPCs that have ended, by code. Less than begun by those under way";
    HANDLING: Histogram "grpc_server_handling_seconds" ["grpc_service", "grpc_method", "grpc_type"]
        "Time from the head of a request to the end of its answer. A stream lasts as long as its caller wants";
    REJECTIONS: Counter "autolrs_rejections_total" ["reason"]
        "RPCs refused for a reason of the protocol's vocabulary (`ErrorReason`, such as FENCED or LIMIT_REACHED)";
    LIMITS: Counter "autolrs_limits_reached_total" ["limit"]
        "RPCs refused because a limit was reached, by the limit's setting, such as max_requests or tenant_rate";
    CONNECTIONS: Gauge "autolrs_connections" []
        "Connections to both ports; past `max_connections` others wait with the system";
    AGED: Counter "autolrs_connections_aged_total" []
        "Connections that were closed because something was still under way `connection_grace` after `connection_age`";
    TRAINERS: Gauge "autolrs_train_streams" []
        "Train streams under way. Trainers that report by Advance have none";
    DECISIONS: Counter "autolrs_decisions_total" ["policy", "phase"]
        "Directives decided and stored, by policy and by what they are for: warmup, trial, stable, cooldown, done";
    DECISION: Histogram "autolrs_decision_seconds" []
        "Time to judge an event and to store what was decided: what a trainer waits for at a directive's end, the network excluded";
    SLOW_DECISIONS: Counter "autolrs_slow_decisions_total" []
        "Decisions that took longer than `slow_decision`; each has a line in the log";
    DIRECTIVES_ENDED: Counter "autolrs_directives_ended_total" ["end"]
        "Directives that have ended, by how: completed, stopped (a stop rule), rung, interrupted (an operator), abandoned (the trainer lost its slots), no_answer (at a rung), void (never seen by the trainer), disputed";
    FALLBACKS: Counter "autolrs_fallbacks_total" ["cause"]
        "Fallbacks that trainers went on with and the server took over: late (no answer in time at a directive's end), rung (none at a rung), disputed (the end was judged differently)";
    COMMITS: Counter "autolrs_commits_total" ["policy"]
        "Learning rates committed for a stage";
    LOSSES: Counter "autolrs_losses_received_total" []
        "Training losses in reports, repeated ones included: about the steps of all trainers";
    SESSIONS: Counter "autolrs_sessions_opened_total" []
        "Sessions opened: trainers that started, came back or took over";
    CREATED: Counter "autolrs_jobs_created_total" ["policy"]
        "Jobs created";
    ENDED: Counter "autolrs_jobs_ended_total" ["state"]
        "Jobs that have ended: finished, cancelled, failed";
    EXPIRED: Counter "autolrs_jobs_expired_total" []
        "Jobs removed because they have ended and were kept for `keep_ended`";
    JOBS: Gauge "autolrs_jobs" ["state"]
        "Jobs in memory by state: created, searching, training, cooling, detached (its trainer is silent for 60 s), finished, cancelled, failed. An idle job leaves memory after `idle`";
    JOBS_LIVE: Gauge "autolrs_jobs_live" []
        "Jobs in memory";
    ACTIVE: Gauge "autolrs_sessions_active" []
        "Jobs that have not ended and whose trainer was heard in the last 60 s";
    MAILBOXES: Gauge "autolrs_mailbox_requests" []
        "Requests that wait for a job's owner or are being answered by it, over all jobs";
    FULLEST: Gauge "autolrs_mailbox_requests_max" []
        "The same of the job with the most; `mailbox` is its limit";
    COMMIT: Histogram "autolrs_store_commit_seconds" []
        "Time of one save in the store, waiting included";
    SAVES: Gauge "autolrs_store_pending_saves" []
        "Saves that wait for the store's writer or are being written";
    HEALTHY: Gauge "autolrs_store_healthy" []
        "1 while the store can be written, else 0";
    STORE_BYTES: Gauge "autolrs_store_size_bytes" []
        "What the store's directory takes on the disk; measured every 15 s";
    FREE_BYTES: Gauge "autolrs_store_free_bytes" []
        "What the disk of the store has left for this user; below 64 MiB nothing is decided; measured every 15 s";
    DISK_BYTES: Gauge "autolrs_store_disk_bytes" []
        "Size of the disk that the store is on";
    HANDSHAKES: Counter "autolrs_tls_handshakes_failed_total" []
        "TLS handshakes that have failed: no or another certificate, no TLS, no common version";
    EXPIRES: Gauge "autolrs_tls_certificate_expires_timestamp_seconds" []
        "When the certificate in use ends to be valid, in seconds since 1970; +Inf without TLS";
    RELOADS: Counter "autolrs_reloads_total" ["what", "result"]
        "Times that files were read, the start included, by what they are (certificate, tokens) and by result (ok, failed)";
    RELOADED: Gauge "autolrs_last_reload_successful" ["what"]
        "1 if the files as they are now could be used, or there are none, else 0: what was read before is in use";
    AUDIT: Counter "autolrs_audit_failures_total" []
        "Times that entries of the audit log could not be written; they are in the log";
    SPANS: Counter "autolrs_otlp_spans_total" ["result"]
        "Spans for the collector: exported, failed (it was away or refused them), dropped (the queue was full)";
    BUILD: Gauge "autolrs_build_info" ["version", "commit", "rustc"]
        "1; what runs";
    CPU: Counter "process_cpu_seconds_total" []
        "CPU time of the process, user and system";
    OPEN_FDS: Gauge "process_open_fds" []
        "Open file descriptors; each connection has one";
    MAX_FDS: Gauge "process_max_fds" []
        "How many there may be";
    VIRTUAL: Gauge "process_virtual_memory_bytes" []
        "Address space of the process";
    VIRTUAL_MAX: Gauge "process_virtual_memory_max_bytes" []
        "How much there may be";
    RESIDENT: Gauge "process_resident_memory_bytes" []
        "Memory of the process";
    START: Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970";
    THREADS: Gauge "process_threads" []
        "Threads of the process";
}

/// The table as the page `deploy/metrics.md`.
pub fn page() -> String {
    let mut page = PREFACE.to_owned();
    for Metric { name, kind, labels, help } in TABLE {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{name}` | {kind} | {} | {help}. |", labels.join(", "));
    }
    page
}

const PREFACE: &str = "\
# Metrics

What `/metrics` of the plain HTTP port (7462) tells Prometheus. No label holds the name of a job or of a tenant, so the
number of series does not grow with their number. Counters start at 0 with the process, and those whose labels are known
beforehand are there from the start, so that `increase()` sees the first event.

A histogram `x` is the series `x_bucket{le}`, `x_sum` and `x_count`.

This page is made from `server/src/telemetry/table.rs`; a test holds them together.

| metric | type | labels | meaning |
|---|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    /// `AUTOLRS_BLESS=1` writes the page.
    #[test]
    fn the_page_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/metrics.md");
        if std::env::var_os("AUTOLRS_BLESS").is_some() {
            fs::write(&path, page()).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page(), "deploy/metrics.md is old: run this test with AUTOLRS_BLESS=1");
    }

    #[test]
    fn names_are_prometheus_names() {
        let names: BTreeSet<_> = TABLE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), TABLE.len(), "each name once");
        for Metric { name, kind, labels, help } in TABLE {
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(*kind != Kind::Histogram || name.ends_with("_seconds"), "{name}: a unit");
            assert!(!name.ends_with("_ms") && !name.contains("mill"), "{name}: base units");
            let unbounded = ["job", "name", "tenant", "host", "request_id", "session"];
            assert!(labels.iter().all(|label| !unbounded.contains(label)), "{name}: {labels:?}");
            assert!(!help.is_empty() && !help.ends_with('.') && !help.contains('|'), "{name}: {help}");
        }
    }
}
