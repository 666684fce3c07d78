//! A network that can be broken on purpose: an HTTP/2 proxy between a real client and a real server. It carries whole
//! unary calls as bytes and knows nothing of the messages in them, but for a [`Forge`], which changes those of one
//! method. What becomes of each call is said by a plan; what becomes of the line as a whole, by a [`Way`].

mod call;
mod fault;
mod forge;
mod torn;
mod upstream;

pub use fault::{Cut, Fault, Nth, Way};
pub use forge::{Forge, Side};

use call::Call;
use fault::Late;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::JoinHandle,
};
use upstream::Reply;

/// A proxy in front of one server.
pub struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
    accepting: JoinHandle<()>,
}

/// What the connections of a proxy share.
struct Line {
    server: SocketAddr,
    way: watch::Sender<Way>,
    forge: Option<Forge>,
    book: Mutex<Book>,
}

/// What is to be done, and what was.
#[derive(Default)]
struct Book {
    plan: VecDeque<Fault>,
    done: Vec<(String, Fault)>,
    /// Requests that arrive late.
    late: Vec<Late>,
    /// Replies that arrive late, by method.
    replies: HashMap<String, Reply>,
}

impl Proxy {
    /// Listens on a free port of loopback. Call number i meets `plan[i]`; those after its end pass.
    pub async fn start(server: SocketAddr, plan: impl IntoIterator<Item = Fault>) -> Self {
        Self::start_as(server, plan, None).await
    }

    /// The same with messages that are not what the other side has sent.
    pub async fn forging(server: SocketAddr, forge: Forge) -> Self {
        Self::start_as(server, [], Some(forge)).await
    }

    async fn start_as(
        server: SocketAddr,
        plan: impl IntoIterator<Item = Fault>,
        forge: Option<Forge>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let book = Mutex::new(Book { plan: plan.into_iter().collect(), ..Book::default() });
        let line = Arc::new(Line { server, way: watch::Sender::new(Way::Open), forge, book });
        let accepting = tokio::spawn(accept(listener, line.clone()));
        Self { address, line, accepting }
    }

    /// What a client is given for the server's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of the line from now on.
    pub fn set(&self, way: Way) {
        self.line.way.send_replace(way);
    }

    /// The method and the fault of every call so far.
    pub fn calls(&self) -> Vec<(String, Fault)> {
        self.line.book().done.clone()
    }

    /// Delivers every request that is still to arrive.
    pub async fn deliver_late_requests(&self) {
        let late = std::mem::take(&mut self.line.book().late);
        for late in late {
            // Nobody waits for the answer.
            drop(upstream::send(self.line.server, &late.call).await);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Line {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no thread has panicked")
    }

    async fn until(&self, wanted: impl Fn(Way) -> bool) {
        // An error would mean that the sender is gone; it lives as long as `self`.
        drop(self.way.subscribe().wait_for(|way| wanted(*way)).await);
    }
}

async fn accept(listener: TcpListener, line: Arc<Line>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve(stream, line.clone()));
    }
}

/// One connection. In a black hole nothing of it is read or written, but it stands.
async fn serve(stream: TcpStream, line: Arc<Line>) {
    // Without it a small reply could wait for the acknowledgement of the one before.
    drop(stream.set_nodelay(true));
    let hang_up = Arc::new(Notify::new());
    let service = service_fn(|request| call::serve(line.clone(), hang_up.clone(), request));
    let connection =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    loop {
        tokio::select! {
            biased;
            () = line.until(|way| way == Way::BlackHole) => line.until(|way| way != Way::BlackHole).await,
            _ = &mut connection => return,
            () = hang_up.notified() => return,
        }
    }
}

impl Book {
    /// The fault of the next call.
    fn next(&mut self, call: &Call) -> Fault {
        let fault = self.plan.pop_front().unwrap_or(Fault::None);
        self.done.push((call.method().to_owned(), fault));
        fault
    }

    /// A call has been made: the late requests that arrive after it.
    fn due(&mut self) -> Vec<Late> {
        for late in &mut self.late {
            late.after = late.after.saturating_sub(1);
        }
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|late| late.after == 0);
        self.late = later;
        due
    }
}
