//! The real server as a process of its own, which can be killed.

use crate::command::bare;
use autolrs_proto::v1::{
    ListJobsRequest, job_service_client::JobServiceClient, trainer_service_client::TrainerServiceClient,
};
use std::{
    fs::OpenOptions,
    hash::{BuildHasher, RandomState},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Channel, Endpoint};

/// Attempts to reach a server before a test gives up, 20 ms apart.
const ATTEMPTS: usize = 1500;

/// A server process on a store of its own.
pub struct Server {
    /// Where it listens for gRPC.
    pub address: SocketAddr,
    /// Where it listens instead, `unix:/path` say.
    pub listen: Option<String>,
    /// Where it serves metrics and probes.
    pub http: SocketAddr,
    data: TempDir,
    /// Where its store is instead of its own folder.
    pub store: Option<PathBuf>,
    child: Option<Child>,
    /// Arguments beyond those that say where.
    pub flags: Vec<String>,
    /// Environment variables to set.
    pub env: Vec<(String, String)>,
    /// Where its log goes; none: nowhere.
    pub log: Option<PathBuf>,
    /// Whether it wants TLS or a token: then its probe tells when it is ready.
    pub secured: bool,
    /// How many files it may open; none: as many as the tests may.
    pub open_files: Option<u64>,
}

impl Server {
    /// Starts a server on an empty store and waits until it answers.
    pub async fn start() -> Self {
        Self::start_on(tempfile::tempdir().expect("a temporary folder")).await
    }

    /// Starts a server with its store in `data`.
    pub async fn start_on(data: TempDir) -> Self {
        let mut server = Self::prepare(data);
        server.up().await;
        server
    }

    /// A server with its store in `data` that is not started yet.
    pub fn prepare(data: TempDir) -> Self {
        let (address, http) = (lasting_address(), free_address());
        let (flags, env) = (Vec::new(), Vec::new());
        Self {
            address,
            listen: None,
            http,
            data,
            store: None,
            child: None,
            flags,
            env,
            log: None,
            secured: false,
            open_files: None,
        }
    }

    /// Starts a server with these arguments beyond those that say where.
    pub async fn start_with(flags: &[&str]) -> Self {
        let mut server = Self::prepare(tempfile::tempdir().expect("a temporary folder"));
        server.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        server.up().await;
        server
    }

    /// Starts a server that may open only so many files.
    pub async fn start_with_open_files(open_files: u64) -> Self {
        let mut server = Self::prepare(tempfile::tempdir().expect("a temporary folder"));
        server.open_files = Some(open_files);
        server.up().await;
        server
    }

    /// Starts the process again on the same store and port.
    pub async fn up(&mut self) {
        assert!(self.child.is_none(), "the server is running");
        self.begin();
        self.reach().await;
    }

    /// Starts it and waits for nothing.
    pub fn begin(&mut self) {
        self.child = Some(self.command().spawn().expect("the server starts"));
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let listen = self.listen.clone().unwrap_or_else(|| self.address.to_string());
        let store = self.store.as_deref().unwrap_or(self.data.path());
        let mut command = serve_at(&listen, &self.http.to_string(), store);
        command.args(&self.flags);
        if let Some(files) = self.open_files {
            command = limited(&command, files);
        }
        command.envs(self.env.iter().cloned());
        if let Some(path) = &self.log {
            let file = OpenOptions::new().create(true).append(true).open(path).expect("a log");
            command.stderr(file);
        }
        command
    }

    /// Where its store is.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server is running").id()
    }

    /// Its resident memory in KiB.
    ///
    /// # Panics
    /// Where there is no `/proc`.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the server is running");
        child.kill().expect("killed");
        child.wait().expect("reaped");
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        let child = self.child.take().expect("the server is running");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        reaped(child)
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        reaped(self.child.take().expect("the server is running"))
    }

    /// Waits until `/metrics` has this line.
    pub async fn until_metrics_say(&self, line: &str) {
        for _ in 0..ATTEMPTS {
            if self.probe("/metrics").await.1.lines().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the metrics never say {line}:\n{}", self.probe("/metrics").await.1);
    }

    /// Waits until a probe, such as `/readyz`, answers with this code; what it says then.
    pub async fn until_answers(&self, path: &str, code: u16) -> String {
        for _ in 0..ATTEMPTS {
            if let Ok((found, said)) = self.try_probe(path).await
                && found == code
            {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} never answers with {code}");
    }

    /// Asks a probe, such as `/livez`: the code and what it says.
    pub async fn probe(&self, path: &str) -> (u16, String) {
        self.try_probe(path).await.expect("it listens")
    }

    async fn try_probe(&self, path: &str) -> std::io::Result<(u16, String)> {
        let mut stream = tokio::net::TcpStream::connect(self.http).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((code.expect("a status"), body.to_owned()))
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A connection of its own.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url()).expect("a URL").timeout(Duration::from_secs(30)).connect_lazy()
    }

    /// For people's tools.
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel())
    }

    /// For trainers.
    pub fn trainer(&self) -> TrainerServiceClient<Channel> {
        TrainerServiceClient::new(self.channel())
    }

    async fn is_ready(&self) -> bool {
        tokio::net::TcpStream::connect(self.http).await.is_ok() && self.probe("/readyz").await.0 == 200
    }

    async fn reach(&mut self) {
        for _ in 0..ATTEMPTS {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("a status"));
            assert!(ended.is_none(), "the server ended: {ended:?}");
            if self.secured {
                if self.is_ready().await {
                    return;
                }
            } else if self.jobs().list_jobs(ListJobsRequest::default()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server does not answer on {}", self.address);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// How a server ended that was told to.
fn reaped(mut child: Child) -> ExitStatus {
    for _ in 0..4 * ATTEMPTS {
        if let Some(status) = child.try_wait().expect("a status") {
            return status;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    drop((child.kill(), child.wait()));
    panic!("the server does not end");
}

/// The command that starts a server. `http`: where it serves metrics and probes, or `off`.
pub fn serve(address: SocketAddr, http: &str, data: &Path) -> Command {
    serve_at(&address.to_string(), http, data)
}

fn serve_at(listen: &str, http: &str, data: &Path) -> Command {
    let mut command = bare();
    command
        .arg("serve")
        .args(["--listen", listen])
        .args(["--http-listen", http])
        .arg("--data-dir")
        .arg(data)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The same command, which may open only so many files.
fn limited(command: &Command, open_files: u64) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit -n {open_files}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell
}

/// The `autolrs` binary: `AUTOLRS_BIN`, or the one that was built beside the tests.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("AUTOLRS_BIN") {
        return path.into();
    }
    built("autolrs")
}

/// A program that was built beside the tests.
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the program's own path");
    let built = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    built.expect("build it first: cargo build -p autolrs-server; cargo build -p autolrs-client --examples")
}

/// An address on loopback that was free a moment ago.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// An address on loopback for a server that is away at times: a trainer that knocks meanwhile is given a port of its own
/// from 32768 on, so never this one.
pub fn lasting_address() -> SocketAddr {
    let draw = || 12_000 + RandomState::new().hash_one(()) as u16 % 20_000;
    let free = |port| TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr()).ok();
    (0..ATTEMPTS).find_map(|_| free(draw())).expect("a free port")
}
