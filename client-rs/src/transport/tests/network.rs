//! Networks without a server that would do its work. They are in memory, since a paused clock outruns real sockets.

use super::super::link::Link;
use crate::{config::SessionConfig, endpoint::EndpointConfig, error::Error};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{convert::Infallible, future::pending, io, sync::Arc, time::Duration};
use tokio::io::{DuplexStream, duplex};
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt};

const BUFFER: usize = 1 << 16;

/// What lies between a client and the server that it looks for.
#[derive(Clone)]
pub(super) enum Network {
    /// Nobody listens: connections are refused.
    Refuses,
    /// Connections are neither made nor refused: packets are dropped, or the look-up of the server's name hangs.
    NoRoute,
    /// Connections stand and nothing comes back: a frozen server.
    Mute,
    /// Connections are closed at once.
    HangsUp,
    /// Something answers each call, which it is told the method of.
    Answers(Arc<dyn Fn(&str) -> Answer + Send + Sync>),
}

/// What becomes of a call.
pub(super) enum Answer {
    /// It is never answered.
    Never,
    /// UNAVAILABLE.
    Unavailable,
    /// UNAVAILABLE, with the wish to be left alone for a time.
    Later(Duration),
    /// A message, after a time.
    After(Duration, Vec<u8>),
}

impl Answer {
    pub(super) fn after(time: Duration, message: &impl Message) -> Self {
        Self::After(time, message.encode_to_vec())
    }
}

impl Network {
    pub(super) fn answers(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::Answers(Arc::new(answer))
    }

    /// Those over which nobody is heard.
    pub(super) fn all_silent() -> [(&'static str, Self); 6] {
        [
            ("refuses", Self::Refuses),
            ("no route", Self::NoRoute),
            ("mute", Self::Mute),
            ("hangs up", Self::HangsUp),
            ("answers UNAVAILABLE", Self::answers(|_| Answer::Unavailable)),
            ("takes calls and answers none", Self::answers(|_| Answer::Never)),
        ]
    }

    /// A link over it.
    pub(super) fn link(self, config: &SessionConfig) -> Result<Link, Error> {
        let connector = tower::service_fn(move |_: Uri| {
            let network = self.clone();
            async move { network.connect().await.map(TokioIo::new) }
        });
        let server = "http://server.invalid:7461".into();
        let endpoint = EndpointConfig { server, token: None, ca: None, cert: None, key: None };
        let link = Link::new(endpoint, &config.job)?;
        Ok(link.over(Box::new(move |endpoint| endpoint.connect_with_connector_lazy(connector.clone()))))
    }

    async fn connect(self) -> io::Result<DuplexStream> {
        let (near, far) = duplex(BUFFER);
        match self {
            Self::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
            Self::NoRoute => pending().await,
            Self::HangsUp => drop(far),
            Self::Mute => drop(tokio::spawn(async move {
                let _held = far;
                pending::<()>().await;
            })),
            Self::Answers(answer) => drop(tokio::spawn(async move {
                let service = service_fn(move |request| respond(answer.clone(), request));
                let server = http2::Builder::new(TokioExecutor::new());
                drop(server.serve_connection(TokioIo::new(far), service).await);
            })),
        }
        Ok(near)
    }
}

async fn respond(
    answer: Arc<dyn Fn(&str) -> Answer + Send + Sync>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default();
    match answer(method) {
        Answer::Never => pending().await,
        Answer::Unavailable => Ok(Status::unavailable("the store is away").into_http()),
        Answer::Later(time) => {
            let wish = ErrorDetails::with_retry_info(Some(time));
            Ok(Status::with_error_details(Code::Unavailable, "the store is away", wish).into_http())
        }
        Answer::After(time, message) => {
            tokio::time::sleep(time).await;
            Ok(framed(&message))
        }
    }
}

/// A reply in gRPC's frame.
fn framed(message: &[u8]) -> Response<Body> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let frame: Bytes = [&[0][..], &length.to_be_bytes(), message].concat().into();
    let ok = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
    let body = Full::new(frame).with_trailers(async { Some(Ok(ok)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
