//! Traces for a collector, over OTLP. A request never waits for it: finished spans go into a queue that is bounded, and a
//! thread of their own sends them. What can't be sent is counted and forgotten.

mod export;
mod queue;

use crate::{build, config::OtlpConfig};
use export::Counted;
use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{TraceContextExt, TracerProvider as _},
};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use queue::Queue;
use std::{fs, path::Path, time::Duration};
use tonic::{
    metadata::MetadataMap,
    transport::{Certificate, ClientTlsConfig},
};
use tracing::{Level, Span, Subscriber, field::display};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// The name of this service in traces, unless `OTEL_SERVICE_NAME` gives another.
const SERVICE: &str = "autolrs";
/// Time for what is left in the queue when the server ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Sends spans while it lives.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send. Connects when there is something to send. Must be called in a runtime.
    ///
    /// # Errors
    /// Which file or setting can't be used.
    pub fn start(config: &OtlpConfig) -> Result<Self, String> {
        let mut exporter =
            opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(&*config.endpoint);
        if config.endpoint.starts_with("https:") {
            exporter = exporter.with_tls_config(tls(config.ca.as_deref())?);
        }
        if let Some(path) = &config.header_file {
            exporter = exporter.with_metadata(headers(path)?);
        }
        let exporter = exporter.build().map_err(|error| format!("otlp_endpoint: {error}"))?;
        let ratio = Sampler::TraceIdRatioBased(config.sample_ratio());
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_span_processor(Queue::new(|waiting| Counted::new(exporter, waiting)))
            .build();
        Ok(Self { provider })
    }

    /// What makes spans of the server's own, and of no library's.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer: SdkTracer = self.provider.tracer(SERVICE);
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_context_activation(false)
            .with_filter(Targets::new().with_target("autolrs_server", Level::INFO))
    }

    /// Sends what is left, for a moment at most. Blocks.
    pub fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_WORDS) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

fn resource() -> Resource {
    let resource = Resource::builder().build();
    let named = resource
        .iter()
        .any(|(key, value)| key.as_str() == "service.name" && !value.as_str().starts_with("unknown_service"));
    let version = opentelemetry::KeyValue::new("service.version", build::VERSION);
    let builder = Resource::builder().with_attribute(version);
    if named { builder.build() } else { builder.with_service_name(SERVICE).build() }
}

/// The authorities that the collector's certificate is checked against: the file's, or the machine's.
fn tls(ca: Option<&Path>) -> Result<ClientTlsConfig, String> {
    let Some(path) = ca else { return Ok(ClientTlsConfig::new().with_native_roots()) };
    let pem = fs::read(path).map_err(|error| format!("otlp_ca: {}: {error}", path.display()))?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

/// Lines `name: value`. An error does not show a value.
fn headers(path: &Path) -> Result<MetadataMap, String> {
    let problem = |what: String| format!("otlp_header_file: {}: {what}", path.display());
    let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    let mut headers = HeaderMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let header = line.split_once(':').and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
        });
        let (name, value) =
            header.ok_or_else(|| problem(format!("line {} is not `name: value`", number + 1)))?;
        headers.insert(name, value);
    }
    Ok(MetadataMap::from_headers(headers))
}

struct Headers<'h>(&'h HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Makes a span that was not entered yet the child of the caller's (W3C `traceparent`), and names its trace in the log.
pub(super) fn continue_trace(span: &Span, headers: &HeaderMap) {
    let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    let trace = caller.span().span_context().clone();
    if trace.is_valid() {
        // Without a collector nobody asks for the parent.
        let _ = span.set_parent(caller);
        span.record("trace_id", display(trace.trace_id()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_from_lines_and_errors_keep_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        fs::write(&path, "Authorization: Bearer s3cret\n\nx-tenant: a:b\n").unwrap();
        let read = headers(&path).unwrap();
        assert_eq!(read.get("authorization").unwrap().to_str().unwrap(), "Bearer s3cret");
        assert_eq!(read.get("x-tenant").unwrap().to_str().unwrap(), "a:b");
        assert!(!format!("{read:?}").contains("s3cret"));
        fs::write(&path, "x-tenant: a\nBearer s3cret\n").unwrap();
        let error = headers(&path).unwrap_err();
        assert!(error.ends_with("line 2 is not `name: value`"), "{error}");
    }
}
