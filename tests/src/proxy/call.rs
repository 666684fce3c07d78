//! One call: taken whole from the caller, and carried as its fault says.

use super::{
    Fault, Line, Nth, Side, Way,
    fault::Late,
    upstream::{BoxError, Reply, send, send_part},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{net::SocketAddr, sync::Arc};
use tokio::sync::Notify;
use tonic::{Status, body::Body};

/// A whole request.
#[derive(Clone)]
pub(super) struct Call {
    path: String,
    head: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    async fn read(request: Request<Incoming>) -> Result<Self, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Self { path: head.uri.path().to_owned(), head: head.headers, body })
    }

    /// The last part of its path.
    pub(super) fn method(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The same for `server`, with another body.
    pub(super) fn request(&self, server: SocketAddr, body: Body) -> Result<Request<Body>, BoxError> {
        let mut request =
            Request::builder().method("POST").uri(format!("http://{server}{}", self.path)).body(body)?;
        *request.headers_mut() = self.head.clone();
        Ok(request)
    }
}

/// Carries a call. An error resets the caller's stream.
pub(super) async fn serve(
    line: Arc<Line>,
    hang_up: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Response<Body>, BoxError> {
    let mut call = Call::read(request).await?;
    if let Some(forge) = &line.forge {
        call.body = forge.of(call.method(), Side::Request, &call.body);
    }
    if *line.way.borrow() == Way::Unavailable {
        return Ok(Status::unavailable("no server behind the proxy").into_http());
    }
    let fault = line.book().next(&call);
    let reply = line.carry(&call, fault, hang_up).await;
    let due = line.book().due();
    for late in due {
        // Nobody waits for the answer.
        drop(send(line.server, &late.call).await);
    }
    if let Fault::LateRequest(after) | Fault::LateCopy(after) = fault {
        line.book().late.push(Late { call, after: after.max(1) });
    }
    reply
}

impl Line {
    async fn carry(
        &self,
        call: &Call,
        fault: Fault,
        hang_up: Arc<Notify>,
    ) -> Result<Response<Body>, BoxError> {
        let lost = || Err("lost on purpose".into());
        match fault {
            Fault::None | Fault::LateCopy(_) => Ok(self.answer(call).await?.whole()),
            Fault::LoseRequest | Fault::LateRequest(_) => lost(),
            Fault::LoseReply => {
                send(self.server, call).await?;
                lost()
            }
            Fault::Repeat(nth) => {
                let (first, second) = (send(self.server, call).await?, send(self.server, call).await?);
                Ok(if nth == Nth::First { first } else { second }.whole())
            }
            Fault::LateReply => {
                let reply = send(self.server, call).await?;
                self.book().replies.insert(call.path.clone(), reply);
                lost()
            }
            Fault::CutRequest(share, cut) => {
                send_part(self.server, call, share, cut).await?;
                lost()
            }
            Fault::CutReply(share, cut) => Ok(send(self.server, call).await?.cut(share, cut, hang_up)),
        }
    }

    /// The server's reply, or the late one to an earlier call of the method.
    async fn answer(&self, call: &Call) -> Result<Reply, BoxError> {
        let mut reply = send(self.server, call).await?;
        if let Some(forge) = &self.forge {
            reply.body = forge.of(call.method(), Side::Reply, &reply.body);
        }
        Ok(self.book().replies.remove(&call.path).unwrap_or(reply))
    }
}
