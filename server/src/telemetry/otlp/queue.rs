//! The queue before the exporter. It knows how many spans wait, so that each that finds no place is counted; and it gives
//! spans the names that OpenTelemetry has for such things.

use super::super::table;
use metrics::counter;
use opentelemetry::{Context, KeyValue, trace::SpanKind};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// Spans that wait or are being sent at most: about 2 MB.
const PLACES: usize = 4096;

/// Spans on their way to the collector.
pub(super) type Waiting = Arc<AtomicUsize>;

#[derive(Debug)]
pub(super) struct Queue {
    waiting: Waiting,
    batches: BatchSpanProcessor,
}

impl Queue {
    /// Before an exporter that takes what it sends off the number of spans that wait.
    pub(super) fn new<E: SpanExporter + 'static>(exporter: impl FnOnce(Waiting) -> E) -> Self {
        let waiting = Waiting::default();
        // It must never be full before ours is. The rest is as OpenTelemetry's variables (OTEL_BSP_*) say.
        let config = BatchConfigBuilder::default().with_max_queue_size(2 * PLACES);
        let batches =
            BatchSpanProcessor::builder(exporter(waiting.clone())).with_batch_config(config.build());
        Self { waiting, batches: batches.build() }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        if self.waiting.fetch_add(1, Relaxed) < PLACES {
            name(&mut span);
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Relaxed);
            counter!(table::SPANS.name, "result" => "dropped").increment(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// From the log's words to OpenTelemetry's.
fn name(span: &mut SpanData) {
    // Every span has it anyway.
    span.attributes.retain(|attribute| attribute.key.as_str() != "trace_id");
    let mut method = [None, None];
    for attribute in &mut span.attributes {
        let key = match attribute.key.as_str() {
            "service" => "rpc.service",
            "method" => "rpc.method",
            "job" => "autolrs.job",
            "request_id" => "autolrs.request_id",
            "tenant" => "autolrs.tenant",
            "token" => "autolrs.token",
            "policy" => "autolrs.policy",
            "phase" => "autolrs.phase",
            "seq" => "autolrs.seq",
            _ => continue,
        };
        match key {
            "rpc.service" => method[0] = Some(attribute.value.to_string()),
            "rpc.method" => method[1] = Some(attribute.value.to_string()),
            _ => {}
        }
        attribute.key = key.into();
    }
    if let [Some(service), Some(name)] = method {
        span.name = format!("{service}/{name}").into();
        span.span_kind = SpanKind::Server;
        span.attributes.push(KeyValue::new("rpc.system", "grpc"));
    }
}
