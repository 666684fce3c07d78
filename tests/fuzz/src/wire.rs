//! Requests as they come from the network: each is a byte that names the RPC, two bytes of length, and a protobuf
//! message. They go through the real services to jobs that have trainers, one after the other.

use crate::input::Input;
use autolrs_proto::v1::{
    AdvanceRequest, CreateJobRequest, GetJobRequest, JobSpec, OpenSessionRequest, ScanPolicy,
    job_service_server::JobService, job_spec::Policy, trainer_service_server::TrainerService,
};
use autolrs_server::{
    auth::Identity,
    clock::Clock,
    registry::{Bounds, Registry},
    rpc::{Edge, Jobs, Trainers},
    store::memory::MemoryStore,
};
use autolrs_tests::trainer::Model;
use prost::Message;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

/// Largest answer of the daemon as it is configured by default.
const MAX_MESSAGE: usize = 4 << 20;
/// What gRPC's other implementations take in a status, in bytes: sentence and details, as they stand in the headers.
const MAX_STATUS: usize = 8 << 10;
/// Requests of one input.
const MAX_REQUESTS: usize = 40;
/// The job that is there from the start.
pub const JOB: &str = "a";
/// The number of RPCs.
pub const RPCS: u8 = 13;

/// Every request is answered, with an answer or a status that fits into a message; then the server still answers.
///
/// # Panics
/// If that does not hold.
pub fn target(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::start().await;
        let mut input = Input(bytes);
        for _ in 0..MAX_REQUESTS {
            if input.is_empty() {
                break;
            }
            let rpc = input.byte();
            let length = usize::from(input.byte()) << 8 | usize::from(input.byte());
            server.ask(rpc, input.bytes(length)).await;
        }
        let get = server.jobs.get_job(asked(GetJobRequest { name: "nobody".into() })).await;
        let found = answered(get);
        assert!(found.is_none_or(|code| code == Code::NotFound), "the server still answers");
        server.registry.close().await;
    });
}

/// One request in the form of an input.
pub fn request(rpc: u8, message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let length = u16::try_from(body.len()).expect("a small message");
    [&[rpc][..], &length.to_be_bytes(), &body].concat()
}

/// The requests of a whole training of a second job, as far as they fit an input.
pub fn training(policy: Policy, model: &mut Model) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let server = Server::start().await;
        let spec = JobSpec { policy: Some(policy), total_steps: Some(600), ..spec() };
        let create = CreateJobRequest { name: "b".into(), spec: Some(spec), ..CreateJobRequest::default() };
        let open = OpenSessionRequest { job: "b".into(), ..OpenSessionRequest::default() };
        let mut input = [request(2, &create), request(1, &open)].concat();
        server.jobs.create_job(asked(create)).await.expect("a job");
        let opened = server.trainers.open_session(asked(open)).await.expect("a session").into_inner();
        let mut directive = opened.directive.expect("a directive");
        for _ in 2..MAX_REQUESTS {
            let Some(report) = model.carry_out("b", opened.session, &directive) else { break };
            let report = AdvanceRequest { report: Some(report) };
            input.extend(request(0, &report));
            let answer = server.trainers.advance(asked(report)).await.expect("an answer").into_inner();
            directive = answer.ack.and_then(|ack| ack.directive).expect("what follows");
        }
        server.registry.close().await;
        input
    })
}

/// The spec of the job that is there.
pub fn spec() -> JobSpec {
    JobSpec {
        total_steps: Some(900),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.05),
        policy: Some(Policy::Scan(ScanPolicy::default())),
        ..JobSpec::default()
    }
}

struct Server {
    registry: Registry,
    jobs: Jobs,
    trainers: Trainers,
}

impl Server {
    async fn start() -> Self {
        let bounds = Bounds { jobs: 100, mailbox: 64, idle: Duration::from_secs(600), history: 16 };
        let registry = Registry::new(Arc::new(MemoryStore::default()), Clock::start(), bounds);
        let edge = Edge {
            registry: registry.clone(),
            draining: CancellationToken::new(),
            trainers: Arc::new(Semaphore::new(4)),
            watchers: Arc::new(Semaphore::new(4)),
            quotas: autolrs_server::quotas::Quotas::default(),
            request_timeout: Duration::from_secs(30),
            page_bytes: MAX_MESSAGE / 2,
        };
        let server = Self { registry, jobs: Jobs::new(edge.clone()), trainers: Trainers::new(edge) };
        let create = CreateJobRequest { name: JOB.into(), spec: Some(spec()), ..CreateJobRequest::default() };
        server.jobs.create_job(asked(create)).await.expect("a job");
        let open = OpenSessionRequest { job: JOB.into(), ..OpenSessionRequest::default() };
        server.trainers.open_session(asked(open)).await.expect("a session");
        server
    }

    async fn ask(&self, rpc: u8, body: &[u8]) {
        macro_rules! ask {
            ($service:ident.$method:ident) => {
                match Message::decode(body) {
                    Ok(message) => drop(answered(self.$service.$method(asked(message)).await)),
                    Err(_) => {}
                }
            };
        }
        match rpc % RPCS {
            0 => ask!(trainers.advance),
            1 => ask!(trainers.open_session),
            2 => ask!(jobs.create_job),
            3 => ask!(jobs.validate_job_spec),
            4 => ask!(jobs.get_job),
            5 => ask!(jobs.list_jobs),
            6 => ask!(jobs.update_job),
            7 => ask!(jobs.cancel_job),
            8 => ask!(jobs.finish_job),
            9 => ask!(jobs.delete_job),
            10 => ask!(jobs.get_stage),
            11 => ask!(jobs.list_stages),
            _ => ask!(jobs.export_schedule),
        }
    }
}

/// A request as it comes through the guard of a server that asks for no token.
fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Identity::anyone());
    request
}

/// Whether an answer can be sent; the code of a refusal.
fn answered<T: Message>(answer: Result<Response<T>, Status>) -> Option<Code> {
    match answer {
        Ok(response) => {
            assert!(response.get_ref().encoded_len() <= MAX_MESSAGE, "an answer is too large");
            None
        }
        Err(status) => {
            assert!(!matches!(status.code(), Code::Internal | Code::Unknown), "{status:?}");
            let headers = status.clone().into_http::<()>();
            let bytes: usize =
                headers.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
            assert!(bytes <= MAX_STATUS, "a status of {bytes} bytes: {status:?}");
            Some(status.code())
        }
    }
}
