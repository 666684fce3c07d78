//! Counts what is sent, and says once that the collector is away and once that it is back.

use super::{super::table, queue::Waiting};
use metrics::counter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

/// An exporter whose results are counted.
#[derive(Debug)]
pub(super) struct Counted<E> {
    exporter: E,
    waiting: Waiting,
    away: AtomicBool,
}

impl<E> Counted<E> {
    pub(super) fn new(exporter: E, waiting: Waiting) -> Self {
        Self { exporter, waiting, away: AtomicBool::new(false) }
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        self.waiting.fetch_sub(spans, Relaxed);
        let result = if sent.is_ok() { "exported" } else { "failed" };
        counter!(table::SPANS.name, "result" => result).increment(spans as u64);
        match &sent {
            Err(error) if !self.away.swap(true, Relaxed) => {
                tracing::warn!(%error, "traces do not reach the collector; the next line about it says when they do");
            }
            Ok(()) if self.away.swap(false, Relaxed) => tracing::info!("traces reach the collector"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
