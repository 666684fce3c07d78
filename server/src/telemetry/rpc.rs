//! The outermost layer of the gRPC listener: one span, one count and one duration per RPC.

use super::{
    metrics::{self, Method},
    otlp,
};
use autolrs_proto::FILE_DESCRIPTOR_SET;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use prost::{Message, bytes::Bytes};
use prost_types::FileDescriptorSet;
use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt;
use tower::{Layer, Service};
use tracing::{Instrument, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What callers make up is not counted by name: labels must be few.
const UNKNOWN: Method = Method { service: "unknown", name: "unknown", kind: "unary" };

/// Counts, times and traces RPCs.
#[derive(Debug, Clone)]
pub struct RpcLayer {
    methods: Arc<HashMap<String, Method>>,
    under_way: TaskTracker,
}

impl RpcLayer {
    /// A layer that knows the methods of the services that we serve. `under_way` holds the RPCs that have not ended.
    pub fn new(under_way: TaskTracker) -> Self {
        let sets = [
            FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        Self { methods: Arc::new(sets.into_iter().flat_map(methods).collect()), under_way }
    }
}

/// The methods of a descriptor set by path. The names live as long as the process, which makes one layer.
fn methods(descriptors: &[u8]) -> Vec<(String, Method)> {
    let mut found = Vec::new();
    for file in FileDescriptorSet::decode(descriptors).unwrap_or_default().file {
        for service in &file.service {
            let service_name: &'static str = format!("{}.{}", file.package(), service.name()).leak();
            for method in &service.method {
                let name: &'static str = method.name().to_owned().leak();
                let kind = match (method.client_streaming(), method.server_streaming()) {
                    (false, false) => "unary",
                    (true, false) => "client_stream",
                    (false, true) => "server_stream",
                    (true, true) => "bidi_stream",
                };
                let path = format!("/{service_name}/{name}");
                found.push((path, Method { service: service_name, name, kind }));
            }
        }
    }
    found
}

impl<S> Layer<S> for RpcLayer {
    type Service = RpcService<S>;

    fn layer(&self, inner: S) -> RpcService<S> {
        RpcService { inner, layer: self.clone() }
    }
}

/// See [`RpcLayer`].
#[derive(Debug, Clone)]
pub struct RpcService<S> {
    inner: S,
    layer: RpcLayer,
}

impl<S> Service<Request<Body>> for RpcService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let RpcLayer { methods, under_way } = &self.layer;
        let method = methods.get(request.uri().path()).copied().unwrap_or(UNKNOWN);
        let mut call = Call::begin(method, request.headers(), under_way.token());
        let span = call.span.clone();
        let answer = span.in_scope(|| self.inner.call(request));
        let counted = async move {
            let response = answer.await?;
            call.read(response.headers());
            Ok(response.map(|body| Body::new(Counted { body, call })))
        };
        Box::pin(counted.instrument(span))
    }
}

/// An RPC under way. Its end is told when this is dropped, whichever way it ends.
struct Call {
    method: Method,
    started: Instant,
    span: Span,
    code: Option<Code>,
    _under_way: TaskTrackerToken,
}

impl Call {
    fn begin(method: Method, headers: &HeaderMap, under_way: TaskTrackerToken) -> Self {
        let span = tracing::info_span!(
            "rpc",
            service = method.service,
            method = method.name,
            tenant = field::Empty,
            token = field::Empty,
            job = field::Empty,
            request_id = field::Empty,
            trace_id = field::Empty
        );
        otlp::continue_trace(&span, headers);
        metrics::rpc_begun(method);
        Self { method, started: Instant::now(), span, code: None, _under_way: under_way }
    }

    /// Reads the status from headers or trailers, whichever has it.
    fn read(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.ends(&status);
        }
    }

    fn ends(&mut self, status: &Status) {
        self.code = Some(status.code());
        if let Some(why) = status.get_details_error_info() {
            metrics::rejected(&why.reason);
            if let Some(setting) = why.metadata.get("setting") {
                metrics::limited(setting);
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Without a status the caller has gone before the end.
        let code = self.code.unwrap_or(Code::Cancelled);
        self.span.set_attribute("rpc.grpc.status_code", code as i64);
        if is_ours(code) {
            self.span.set_status(opentelemetry::trace::Status::error(name(code)));
        }
        let code = name(code);
        let taken = self.started.elapsed();
        metrics::rpc(self.method, code, taken);
        self.span.in_scope(|| tracing::debug!(code, seconds = taken.as_secs_f64(), "done"));
    }
}

/// A body that tells the end of its RPC.
struct Counted {
    body: Body,
    call: Call,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => frame.trailers_ref().into_iter().for_each(|trailers| self.call.read(trailers)),
            Some(Err(status)) => self.call.ends(status),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether an RPC with this code has failed through the server's fault, by OpenTelemetry's conventions.
const fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The code as the metrics of other gRPC servers write it.
const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_methods_that_we_serve_are_known() {
        let layer = RpcLayer::new(TaskTracker::new());
        for (path, service, name, kind) in [
            ("/autolrs.v1.TrainerService/Advance", "autolrs.v1.TrainerService", "Advance", "unary"),
            ("/autolrs.v1.TrainerService/Train", "autolrs.v1.TrainerService", "Train", "bidi_stream"),
            ("/autolrs.v1.JobService/WatchJob", "autolrs.v1.JobService", "WatchJob", "server_stream"),
            ("/grpc.health.v1.Health/Check", "grpc.health.v1.Health", "Check", "unary"),
        ] {
            assert_eq!(layer.methods.get(path), Some(&Method { service, name, kind }));
        }
    }
}
