//! The connections of a listener: bounded in number, and given up if they do not say anything.

use crate::{
    listen::Listener,
    live::Live,
    socket::{Plain, Socket},
    telemetry::metrics,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

/// Pause after a connection could not be taken, because the process has no file descriptor left, say.
const PAUSE: Duration = Duration::from_millis(200);
/// File descriptors besides those of the gRPC connections: the probes, the store, the listeners, stderr.
pub(crate) const OTHER_DESCRIPTORS: u64 = 128;

/// How long a connection may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Until it has sent so many bytes; pings watch over it afterwards.
    Greeting(usize, Duration),
    /// Between any two of its bytes.
    Always(Duration),
}

/// A listener that has places for so many connections. Others wait with the system until one has gone.
pub(crate) struct Connections {
    listener: Listener,
    tls: Option<Arc<Live<Arc<rustls::ServerConfig>>>>,
    places: Arc<Semaphore>,
    patience: Patience,
    /// Age at which a connection is closed, whatever is under way on it.
    age: Option<Duration>,
}

impl Connections {
    pub(crate) fn new(listener: Listener, places: usize, patience: Patience) -> Self {
        Self { listener, tls: None, places: Arc::new(Semaphore::new(places)), patience, age: None }
    }

    /// The same with TLS, each connection with the certificate of its time; none: in the clear.
    pub(crate) fn over(self, tls: Option<Arc<Live<Arc<rustls::ServerConfig>>>>) -> Self {
        Self { tls, ..self }
    }

    /// The same with an age at which a connection is closed, whatever is under way on it.
    pub(crate) fn until(self, age: Duration) -> Self {
        Self { age: Some(age), ..self }
    }

    fn connection(&self, plain: Plain, place: OwnedSemaphorePermit) -> Connection {
        let tls = self.tls.as_ref().map(|tls| tls.current().as_ref().clone());
        Connection::new(Socket::new(plain, tls), self.patience, self.age, place)
    }

    /// For tonic.
    pub(crate) fn into_stream(self) -> impl Stream<Item = io::Result<Connection>> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let mut this = self;
            loop {
                let connection = tokio::select! {
                    (connection, ()) = axum::serve::Listener::accept(&mut this) => connection,
                    () = sender.closed() => return,
                };
                if sender.send(Ok(connection)).await.is_err() {
                    return;
                }
            }
        });
        tokio_stream::wrappers::ReceiverStream::new(receiver)
    }
}

impl axum::serve::Listener for Connections {
    type Io = Connection;
    type Addr = ();

    async fn accept(&mut self) -> (Connection, ()) {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                tracing::warn!("every place for a connection is taken: others wait");
                match self.places.clone().acquire_owned().await {
                    Ok(place) => place,
                    // Nobody closes the semaphore.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        loop {
            match self.listener.accept().await {
                Ok(plain) => return (self.connection(plain, place), ()),
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A connection that is closed if it stays silent.
pub(crate) struct Connection {
    stream: Socket,
    patience: Patience,
    /// None: it may be silent as long as it answers pings.
    deadline: Option<Pin<Box<Sleep>>>,
    read: usize,
    /// None: it may grow old.
    end: Option<Pin<Box<Sleep>>>,
    _counted: metrics::Connection,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: Socket, patience: Patience, age: Option<Duration>, place: OwnedSemaphorePermit) -> Self {
        let (Patience::Greeting(_, time) | Patience::Always(time)) = patience;
        let after = |time| Box::pin(tokio::time::sleep(time));
        Self {
            stream,
            patience,
            deadline: Some(after(time)),
            read: 0,
            end: age.map(after),
            _counted: metrics::Connection::begin(),
            _place: place,
        }
    }

    fn heard(&mut self, bytes: usize) {
        self.read = self.read.saturating_add(bytes);
        match (self.patience, &mut self.deadline) {
            (Patience::Greeting(greeting, _), deadline) if self.read >= greeting => *deadline = None,
            (Patience::Always(time), Some(deadline)) => deadline.as_mut().reset(Instant::now() + time),
            _ => {}
        }
    }

    /// What is told to whoever has to wait. A TLS handshake waits for the client also when something is to be written.
    fn wait<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if let Some(deadline) = &mut self.deadline {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(end) = &mut self.end
            && end.as_mut().poll(cx).is_ready()
        {
            self.end = None;
            metrics::connection_aged();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                self.heard(buffer.filled().len() - before);
                Poll::Ready(result)
            }
            Poll::Pending => self.wait(cx),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Pending => self.wait(cx),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => self.wait(cx),
            flushed => flushed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(cx) {
            Poll::Pending => self.wait(cx),
            done => done,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, parts) {
            Poll::Pending => self.wait(cx),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Raises the limit of open files for so many connections, as far as the system allows it; how many of them there may be.
/// The store needs descriptors too, and must not go without because of a crowd.
pub(crate) fn places(connections: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + OTHER_DESCRIPTORS;
    let mut allowed = current.unwrap_or(u64::MAX);
    if allowed < wanted {
        let raised = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
            Ok(()) => allowed = raised,
            Err(error) => tracing::warn!(%error, "the limit of open files can't be raised"),
        }
    }
    if allowed >= wanted {
        return connections;
    }
    let places = (allowed.saturating_sub(OTHER_DESCRIPTORS)).max(allowed / 2);
    tracing::warn!(
        allowed,
        wanted,
        places,
        "too few open files are allowed for max_connections: raise the limit"
    );
    usize::try_from(places).unwrap_or(connections).min(connections)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::serve::Listener as _;
    use std::net::SocketAddr;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    async fn connections(places: usize, patience: Patience) -> (Connections, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Connections::new(Listener::Tcp(listener), places, patience), address)
    }

    /// Bytes that a connection reads before it is given up for its silence.
    async fn read(mut connection: Connection) -> usize {
        let mut bytes = vec![0; 100];
        let mut read = 0;
        loop {
            match connection.read(&mut bytes).await {
                Ok(n) => read += n,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    return read;
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_greet_is_given_up() {
        let (mut listener, address) = connections(4, Patience::Greeting(24, Duration::from_secs(10))).await;
        for said in [&b""[..], b"PRI * HTTP/2.0"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(said).await.unwrap();
            let (connection, _) = listener.accept().await;
            assert_eq!(read(connection).await, said.len());
        }
    }

    /// The server greets first, in HTTP/2: it writes before it reads.
    #[tokio::test(start_paused = true)]
    async fn whoever_begins_no_tls_handshake_is_given_up_while_the_server_writes() {
        let (listener, address) = connections(4, Patience::Greeting(24, Duration::from_secs(10))).await;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider);
        let nobody = Arc::new(rustls::server::ResolvesServerCertUsingSni::new());
        let config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(nobody);
        let config = Arc::new(config);
        let live = Live::start("certificate", Vec::new(), move || Ok(config.clone())).unwrap();
        let mut listener = listener.over(Some(Arc::new(live)));
        let _client = TcpStream::connect(address).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        let written = tokio::time::timeout(Duration::from_secs(11), connection.write_all(b"SETTINGS")).await;
        assert_eq!(written.expect("given up").unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_greeted_may_be_silent() {
        let (mut listener, address) = connections(4, Patience::Greeting(24, Duration::from_secs(10))).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&[1; 24]).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        connection.read_exact(&mut [0; 24]).await.unwrap();
        let mut byte = [0];
        let silence = tokio::time::timeout(Duration::from_secs(3600), connection.read_exact(&mut byte)).await;
        assert!(silence.is_err(), "nothing to read, and no end: {silence:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_bytes_is_counted_from_the_last() {
        let (mut listener, address) = connections(4, Patience::Always(Duration::from_secs(30))).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        let (connection, _) = listener.accept().await;
        let reading = tokio::spawn(read(connection));
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            client.write_all(b"x").await.unwrap();
        }
        assert_eq!(reading.await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_place_is_given_free_with_its_connection() {
        let (mut listener, address) = connections(1, Patience::Always(Duration::from_secs(30))).await;
        let _clients =
            [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (first, _) = listener.accept().await;
        let next = tokio::spawn(async move { drop(listener.accept().await) });
        tokio::task::yield_now().await;
        assert!(!next.is_finished());
        drop(first);
        next.await.unwrap();
    }
}
