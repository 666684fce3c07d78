//! A client's byte stream: TCP or a Unix socket, in the clear or under TLS. The handshake is done by whoever reads or
//! writes first, so that a slow client keeps nobody waiting but itself.

use crate::telemetry::metrics;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tokio_util::either::Either;

/// In the clear.
pub(crate) type Plain = Either<TcpStream, UnixStream>;

/// A byte stream to a client.
pub(crate) enum Socket {
    Plain(Plain),
    /// The handshake is under way.
    Greeted(Box<Accept<Plain>>),
    Tls(Box<TlsStream<Plain>>),
    /// The handshake has failed.
    Failed,
}

impl Socket {
    /// A socket; with TLS if there is a configuration for it.
    pub(crate) fn new(plain: Plain, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        match tls {
            None => Self::Plain(plain),
            Some(config) => Self::Greeted(Box::new(TlsAcceptor::from(config).accept(plain))),
        }
    }

    /// The stream, once the handshake is done.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Self>> {
        if let Self::Greeted(accept) = self {
            match ready!(Pin::new(accept).poll(cx)) {
                Ok(stream) => *self = Self::Tls(Box::new(stream)),
                Err(error) => {
                    *self = Self::Failed;
                    metrics::handshake_failed();
                    tracing::debug!(%error, "a TLS handshake has failed");
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(self))
    }
}

/// After the error of a handshake that was told already.
fn failed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.get_mut().poll_ready(cx))? {
            Self::Plain(plain) => Pin::new(plain).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Greeted(_) | Self::Failed => failed(),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.get_mut().poll_ready(cx))? {
            Self::Plain(plain) => Pin::new(plain).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Greeted(_) | Self::Failed => failed(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.get_mut().poll_ready(cx))? {
            Self::Plain(plain) => Pin::new(plain).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Greeted(_) | Self::Failed => failed(),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(plain) => Pin::new(plain).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            // There is nobody yet to say farewell to.
            Self::Greeted(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.get_mut().poll_ready(cx))? {
            Self::Plain(plain) => Pin::new(plain).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Greeted(_) | Self::Failed => failed(),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(plain) => plain.is_write_vectored(),
            Self::Tls(_) | Self::Greeted(_) => true,
            Self::Failed => false,
        }
    }
}
