//! Traces: a real receiver of OTLP gets one trace of a training, its requests and their decisions. When it hangs or is gone,
//! nobody waits for it.

use autolrs_client::{InMemory, JobSpec, PolicySpec, SessionConfig, WsdOptions, blocking::Session};
use autolrs_tests::{
    security::{Authority, Files, Signed},
    server::{Server, lasting_address},
};
use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::oneshot,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Identity, ServerTlsConfig},
};
use tracing_subscriber::layer::SubscriberExt as _;

/// What came in.
#[derive(Clone, Default)]
struct Received {
    spans: Arc<Mutex<Vec<Span>>>,
    /// Of each request: the resource's service.name, and the header x-key.
    senders: Arc<Mutex<Vec<(String, String)>>>,
}

#[async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let key = request.metadata().get("x-key").map(|key| key.to_str().unwrap().to_owned());
        for of in request.into_inner().resource_spans {
            let name = text(&of.resource.unwrap().attributes, "service.name");
            self.senders.lock().unwrap().push((name, key.clone().unwrap_or_default()));
            self.spans.lock().unwrap().extend(of.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Received {
    /// The spans of a trace, when the end of a job is among them, and for each decision the request that it answers.
    async fn trace(&self, id: &str) -> Vec<Span> {
        for _ in 0..1500 {
            let spans: Vec<_> =
                self.spans.lock().unwrap().iter().filter(|span| hex(&span.trace_id) == id).cloned().collect();
            let done = |span: &Span| text(&span.attributes, "autolrs.phase") == "done";
            let answered = |of: &Span| spans.iter().any(|span| span.span_id == of.parent_span_id);
            let decisions = spans.iter().filter(|span| span.name == "decision");
            if spans.iter().any(done) && decisions.into_iter().all(answered) {
                return spans;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no trace {id}");
    }
}

/// A collector that can be killed, with all its connections: it has a runtime of its own.
struct Collector(Option<Runtime>);

impl Collector {
    /// With a certificate it speaks TLS.
    async fn start(address: SocketAddr, received: Received, certificate: Option<Signed>) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (ready, listening) = oneshot::channel();
        runtime.spawn(async move {
            let listener = bound(address).await;
            ready.send(()).unwrap();
            let mut server = tonic::transport::Server::builder();
            if let Some(Signed { cert, key }) = certificate {
                let tls = ServerTlsConfig::new().identity(Identity::from_pem(cert, key));
                server = server.tls_config(tls).unwrap();
            }
            let server = server.add_service(TraceServiceServer::new(received));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        listening.await.unwrap();
        Self(Some(runtime))
    }

    fn kill(self) {}
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|found| found.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const PARENT: &str = "00f067aa0ba902b7";

fn trace_id(number: u8) -> String {
    format!("4bf92f3577b34da6a3ce929d0e0e{number:04x}")
}

/// A training of a few directives, part of a trace that is sampled or not.
async fn train(server: &Server, number: u8, sampled: bool) {
    let config = config(server, number, sampled);
    tokio::task::spawn_blocking(move || run(config)).await.unwrap();
}

fn run(config: SessionConfig) {
    let session = Session::open(config).unwrap();
    session.train(&mut InMemory::new(1.0, |weight: &mut f64, _, _| *weight)).unwrap();
    assert!(!session.snapshot().detached);
    session.close(Duration::from_secs(20)).unwrap();
}

fn config(server: &Server, number: u8, sampled: bool) -> SessionConfig {
    let spec = JobSpec {
        total_steps: Some(400),
        fallback_lr: Some(0.05),
        policy: Some(PolicySpec::Wsd(WsdOptions::default())),
        ..JobSpec::default()
    };
    SessionConfig {
        server: server.url(),
        token: None,
        traceparent: Some(format!("00-{}-{PARENT}-0{}", trace_id(number), u8::from(sampled))),
        ..SessionConfig::new(format!("traced-{number}"), spec)
    }
}

/// Spans of the trainer's own, as they end.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Kept {
    /// The ids of the span of this name, when it has ended: of its trace, itself, and its parent.
    async fn span(&self, name: &str) -> (TraceId, SpanId, SpanId) {
        for _ in 0..1500 {
            if let Some(span) = self.0.lock().unwrap().iter().find(|span| span.name == name) {
                return (span.span_context.trace_id(), span.span_context.span_id(), span.parent_span_id);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no span {name}");
    }
}

/// A training in a span of a trainer that OpenTelemetry follows.
async fn train_followed(server: &Server, number: u8) -> Kept {
    let (kept, config) = (Kept::default(), config(server, number, true));
    let provider = SdkTracerProvider::builder().with_simple_exporter(kept.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("trainer"));
    let training = move || {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("my training").in_scope(|| run(config));
        });
    };
    tokio::task::spawn_blocking(training).await.unwrap();
    kept
}

/// The value of a metric.
async fn counted(server: &Server, series: &str) -> f64 {
    let (_, answer) = server.probe("/metrics").await;
    let value =
        answer.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).expect("the metric");
    value.parse().unwrap()
}

/// Waits until the log has so many lines with a text, and returns how many it has.
async fn lines(log: &Path, part: &str, least: usize) -> usize {
    for _ in 0..1500 {
        let found = std::fs::read_to_string(log).unwrap().lines().filter(|line| line.contains(part)).count();
        if found >= least {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no line with {part:?}: {}", std::fs::read_to_string(log).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_of_trainer_and_server_and_nobody_waits_for_the_collector() {
    let folder = tempfile::tempdir().unwrap();
    let (log, key) = (folder.path().join("log"), folder.path().join("key"));
    std::fs::write(&key, "x-key: s3cret\n").unwrap();
    let address = lasting_address();
    let received = Received::default();
    let collector = Collector::start(address, received.clone(), None).await;
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.flags = ["--log-format", "json", "--log-level", "warn,autolrs_server=info", "--otlp-header-file"]
        .map(str::to_owned)
        .into();
    server.flags.push(key.display().to_string());
    // OpenTelemetry's own variables; a batch at once, and no patience.
    server.env = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT".into(), format!("http://{address}")),
        ("OTEL_EXPORTER_OTLP_TIMEOUT".into(), "300".into()),
        ("OTEL_BSP_SCHEDULE_DELAY".into(), "50".into()),
    ];
    server.log = Some(log.clone());
    server.up().await;

    train(&server, 0, false).await;
    train(&server, 1, true).await;
    let spans = received.trace(&trace_id(1)).await;
    let (rpcs, decisions): (Vec<_>, Vec<_>) = spans.into_iter().partition(|span| span.name != "decision");
    for name in ["TrainerService/OpenSession", "TrainerService/Advance", "JobService/CreateJob"] {
        assert!(rpcs.iter().any(|rpc| rpc.name == format!("autolrs.v1.{name}")), "{name} in {rpcs:?}");
    }
    for rpc in &rpcs {
        assert_eq!((hex(&rpc.parent_span_id).as_str(), rpc.kind), (PARENT, SpanKind::Server as i32));
        assert_eq!(text(&rpc.attributes, "rpc.system"), "grpc");
        assert_eq!(text(&rpc.attributes, "rpc.grpc.status_code"), "0");
        assert_eq!(text(&rpc.attributes, "autolrs.job"), "traced-1");
        assert!(!format!("{rpc:?}").contains("s3cret"));
    }
    for decision in &decisions {
        let within = rpcs.iter().find(|rpc| rpc.span_id == decision.parent_span_id);
        let within = within.unwrap_or_else(|| panic!("{decision:?} is in none of the requests"));
        assert!(within.start_time_unix_nano <= decision.start_time_unix_nano);
        assert_eq!(text(&decision.attributes, "autolrs.policy"), "wsd");
    }
    let phases: Vec<_> = decisions.iter().map(|span| text(&span.attributes, "autolrs.phase")).collect();
    for phase in ["stable", "cooldown", "done"] {
        assert!(phases.iter().any(|told| told == phase), "{phase} in {phases:?}");
    }
    assert_eq!(received.senders.lock().unwrap()[0], ("autolrs".to_owned(), "s3cret".to_owned()));
    let unsampled = |span: &Span| hex(&span.trace_id) == trace_id(0);
    assert!(!received.spans.lock().unwrap().iter().any(unsampled), "its caller's is not sent either");
    assert!(lines(&log, &trace_id(1), 1).await > 0, "the log names the trace");

    let kept = train_followed(&server, 5).await;
    let (trace, mine, _) = kept.span("my training").await;
    let (within, session, parent) = kept.span("session").await;
    assert_eq!((within, parent), (trace, mine));
    let spans = received.trace(&trace.to_string()).await;
    let rpcs = spans.iter().filter(|span| span.name != "decision");
    assert!(rpcs.clone().count() > 3);
    rpcs.for_each(|rpc| assert_eq!(hex(&rpc.parent_span_id), session.to_string(), "{rpc:?}"));

    // Who connects to this one waits for ever.
    collector.kill();
    let silent = bound(address).await;
    train(&server, 2, true).await;
    assert_eq!(lines(&log, "traces do not reach the collector", 1).await, 1);
    drop(silent);
    train(&server, 3, true).await;
    assert_eq!(lines(&log, "traces do not reach the collector", 1).await, 1, "told once");
    assert!(counted(&server, "autolrs_otlp_spans_total{result=\"failed\"}").await > 0.0);

    let collector = Collector::start(address, received.clone(), None).await;
    train(&server, 4, true).await;
    received.trace(&trace_id(4)).await;
    lines(&log, "traces reach the collector", 1).await;
    assert!(counted(&server, "autolrs_otlp_spans_total{result=\"exported\"}").await > 0.0);
    assert!(!std::fs::read_to_string(&log).unwrap().contains("s3cret"));
    collector.kill();
}

/// Over TLS only a collector gets spans whose certificate is signed by the authority that `otlp_ca` names.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_has_to_prove_itself() {
    let (files, authority) = (Files::new(), Authority::new("collectors"));
    let (address, received) = (lasting_address(), Received::default());
    let certificate = Some(authority.sign(&["localhost"]));
    let _collector = Collector::start(address, received.clone(), certificate).await;
    for (number, pem) in [(1, Authority::new("strangers").pem), (2, authority.pem)] {
        let ca = files.write("ca.crt", &pem);
        let mut server = Server::prepare(tempfile::tempdir().unwrap());
        let endpoint = format!("https://localhost:{}", address.port());
        server.flags = vec!["--otlp-endpoint".into(), endpoint, "--otlp-ca".into(), ca.display().to_string()];
        server.env = vec![("OTEL_BSP_SCHEDULE_DELAY".into(), "50".into())];
        server.up().await;
        train(&server, number, true).await;
        if number == 1 {
            while counted(&server, "autolrs_otlp_spans_total{result=\"failed\"}").await == 0.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(received.spans.lock().unwrap().is_empty(), "it was not believed");
        } else {
            received.trace(&trace_id(2)).await;
        }
    }
}

/// A listener that takes the address as soon as it is free.
async fn bound(address: SocketAddr) -> TcpListener {
    for _ in 0..1500 {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("{address} stays taken");
}
