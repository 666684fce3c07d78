//! The proxy's side towards the server: a connection per call, so that one that breaks takes no other with it.

use super::{Cut, call::Call, fault::part, torn::Torn};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpStream, sync::Notify, task::JoinHandle};
use tonic::body::Body;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A whole reply.
#[derive(Clone)]
pub(super) struct Reply {
    head: HeaderMap,
    pub(super) body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Reply {
    /// All of it.
    pub(super) fn whole(self) -> Response<Body> {
        let body = self.body.clone();
        self.with(body)
    }

    /// Some bytes of the message, and what else comes.
    pub(super) fn cut(self, share: u8, cut: Cut, hang_up: Arc<Notify>) -> Response<Body> {
        let bytes = part(&self.body, share);
        if cut == Cut::Short {
            return self.with(bytes);
        }
        respond(self.head, Body::new(Torn::new(bytes, cut, hang_up)))
    }

    fn with(self, body: Bytes) -> Response<Body> {
        let trailers = self.trailers.map(Frame::trailers).into_iter();
        let data = Some(body).filter(|body| !body.is_empty()).map(Frame::data).into_iter();
        let frames = tokio_stream::iter(data.chain(trailers).map(Ok::<_, BoxError>));
        respond(self.head, Body::new(http_body_util::StreamBody::new(frames)))
    }
}

fn respond(head: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.headers_mut() = head;
    response
}

/// Sends a call and waits for its whole reply.
pub(super) async fn send(server: SocketAddr, call: &Call) -> Result<Reply, BoxError> {
    let mut wire = Wire::connect(server).await?;
    wire.exchange(call.request(server, Body::new(Full::new(call.body.clone())))?).await
}

/// Sends some bytes of a call. Whether the server answers is of no interest.
pub(super) async fn send_part(server: SocketAddr, call: &Call, share: u8, cut: Cut) -> Result<(), BoxError> {
    let hang_up = Arc::new(Notify::new());
    let body = Body::new(Torn::new(part(&call.body, share), cut, hang_up.clone()));
    let mut wire = Wire::connect(server).await?;
    tokio::select! {
        reply = wire.exchange(call.request(server, body)?) => drop(reply),
        () = hang_up.notified() => {}
    }
    Ok(())
}

/// A connection, which is closed at once when it is dropped.
struct Wire {
    sender: http2::SendRequest<Body>,
    task: JoinHandle<hyper::Result<()>>,
}

impl Wire {
    async fn connect(server: SocketAddr) -> Result<Self, BoxError> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        Ok(Self { sender, task: tokio::spawn(connection) })
    }

    async fn exchange(&mut self, request: Request<Body>) -> Result<Reply, BoxError> {
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned();
        Ok(Reply { head: head.headers, body: collected.to_bytes(), trailers })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}
