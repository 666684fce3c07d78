//! The binary as a process on a store of its own.
#![allow(dead_code, reason = "each test file uses a part of it")]

use autolrs_proto::v1::{
    ConstantPolicy, CreateJobRequest, Directive, JobSpec, ListJobsRequest, OpenSessionRequest,
    OpenSessionResponse, Report, job_service_client::JobServiceClient, job_spec::Policy,
    trainer_service_client::TrainerServiceClient,
};
use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Steps of the jobs that are made.
pub(crate) const STEPS: u64 = 100;

pub(crate) struct Server {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    _data: TempDir,
    child: Child,
}

impl Server {
    /// Starts it and waits until it answers.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        Self::start_logging(flags, Stdio::null()).await
    }

    /// The same with its log lines going somewhere.
    pub(crate) async fn start_logging(flags: &[&str], log: impl Into<Stdio>) -> Self {
        let (grpc, http) = (free(), free());
        let data = tempfile::tempdir().unwrap();
        let child = binary()
            .arg("serve")
            .args(["--listen", &grpc.to_string(), "--http-listen", &http.to_string()])
            .arg("--data-dir")
            .arg(data.path())
            .args(flags)
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Self { grpc, http, _data: data, child };
        server.reach().await;
        server
    }

    async fn reach(&mut self) {
        for _ in 0..1000 {
            assert_eq!(self.child.try_wait().unwrap(), None, "the server has ended");
            if self.jobs().list_jobs(ListJobsRequest::default()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server does not answer");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url()).unwrap().timeout(Duration::from_secs(30)).connect_lazy()
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel())
    }

    pub(crate) fn trainer(&self) -> TrainerServiceClient<Channel> {
        TrainerServiceClient::new(self.channel())
    }

    /// Makes a job with one LR.
    pub(crate) async fn create(&self, name: &str) {
        let spec = JobSpec {
            total_steps: Some(STEPS),
            fallback_lr: Some(0.1),
            policy: Some(Policy::Constant(ConstantPolicy::default())),
            ..JobSpec::default()
        };
        let request = CreateJobRequest { name: name.into(), spec: Some(spec), ..Default::default() };
        self.jobs().create_job(request).await.unwrap();
    }

    /// Opens its first session, or takes it over.
    pub(crate) async fn open(&self, name: &str) -> OpenSessionResponse {
        let request = OpenSessionRequest { job: name.into(), takeover: true, ..Default::default() };
        self.trainer().open_session(request).await.unwrap().into_inner()
    }

    /// Runs a command of the binary against it.
    pub(crate) async fn command(&self, args: &[&str]) -> Output {
        let mut command = binary();
        command.args(args).args(["--server", &self.url()]);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub(crate) async fn wait(mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The binary, without our variables in its environment.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autolrs"));
    let ours = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("AUTOLRS_"));
    ours.for_each(|name| {
        command.env_remove(name);
    });
    command
}

/// Losses of the first `steps` steps.
pub(crate) fn losses(job: &str, opened: &OpenSessionResponse, steps: u64) -> Report {
    let Directive { seq, .. } = opened.directive.clone().unwrap();
    Report {
        job: job.into(),
        session: opened.session,
        seq,
        train_losses: vec![1.0; steps as usize],
        finished: steps == STEPS,
        ..Report::default()
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
