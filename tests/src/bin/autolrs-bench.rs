//! `make bench`: prints one JSON line per measurement, times in seconds. Ratios are taken side by side in one run:
//! `bench/run.py` adds the rows of scikit-optimize and prints the table.
//!
//! - `compute`: one Gaussian-process fit and the maximum of its acquisition at 10 observations; one forecast of 100
//!   losses.
//! - `wire`: last report of a trial -> next directive through the real server on sled; one `fdatasync` of the same
//!   disk; the same messages through a server that answers at once (the bare echo). Taken in turn, call by call.
//! - `steps`: one step of a trainer, off a directive's end; the mean of 100 calls.

use autolrs_client::{ConstantOptions, JobSpec, PolicySpec, Session, SessionConfig, Status as Step};
use autolrs_core::{
    forecast::{Forecaster, LossKind, LossWindow},
    search::{Acquisition, Bounds, Measured, Outcome, fit_map, maximize, standardise},
};
use autolrs_proto::v1::{
    Ack, AdvanceRequest, AdvanceResponse, OpenSessionRequest, OpenSessionResponse, PaperPolicy, TrainRequest,
    TrainResponse,
    job_spec::Policy,
    trainer_service_client::TrainerServiceClient,
    trainer_service_server::{TrainerService, TrainerServiceServer},
};
use autolrs_tests::{
    server::{Server, free_address},
    trainer::{Model, open, spec},
};
use std::{fs, hint::black_box, io::Write, time::Instant};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

const ROUNDS: usize = 400;

#[tokio::main]
async fn main() {
    compute();
    wire().await;
    steps().await;
}

fn compute() {
    let outcomes: Vec<Outcome> = (0..10u32)
        .map(|i| {
            let z = -4.0 + 5.0 * f64::from((i * 7) % 10) / 9.0;
            let mean = 0.5 + 0.1 * (z + 1.0) * (z + 1.0) + 0.02 * f64::from((i * 37) % 11) / 11.0;
            Outcome { z, trial: i, measured: Measured::Loss { mean, sd: 0.01 } }
        })
        .collect();
    let tried: Vec<f64> = outcomes.iter().map(|o| o.z).collect();
    let bounds = Bounds { lo: -4.0, hi: 1.0 };
    row(
        "gp_fit_and_acquisition",
        &timed(|| {
            let gp = fit_map(&standardise(black_box(&outcomes))).expect("a fit");
            black_box(maximize(&gp, Acquisition::Lcb { kappa: 1000.0 }, bounds, &tried));
        }),
    );
    let losses: Vec<f64> = (0..100)
        .map(|i| 1.5 * (-0.01 * f64::from(i)).exp() + 0.3 + 0.02 * f64::from((i * 37) % 11) / 11.0)
        .collect();
    let window = LossWindow {
        losses: &losses,
        times: None,
        horizon: 1000.0,
        lower_bound: Some(0.0),
        kind: LossKind::Training,
    };
    row(
        "forecast_100_losses",
        &timed(|| {
            black_box(Forecaster::Exponential.forecast(black_box(&window)).expect("a forecast"));
        }),
    );
}

async fn wire() {
    let server = Server::start().await;
    let options = PaperPolicy { tau: Some(1000), candidates: Some(10), ..PaperPolicy::default() };
    let opened = open(&server, "bench", spec(1_000_000, Policy::Paper(options))).await.expect("a session");
    let mut real = TrainerServiceClient::new(server.channel());
    let mut echo = TrainerServiceClient::new(echo_server().await);
    let mut disk = fs::File::create(server.data_dir().join("fdatasync")).expect("a file");
    let (mut model, mut directive) = (Model::default(), opened.directive.expect("a directive"));
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    while times[0].len() < ROUNDS {
        let report = model.carry_out("bench", opened.session, &directive).expect("not the end");
        let request = AdvanceRequest { report: Some(report) };
        let start = Instant::now();
        let ack =
            real.advance(request.clone()).await.expect("an answer").into_inner().ack.unwrap_or_default();
        times[0].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        disk.write_all(&[7; 4096]).and_then(|()| disk.sync_data()).expect("written");
        times[1].push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        black_box(echo.advance(request).await.expect("an answer"));
        times[2].push(start.elapsed().as_secs_f64());
        directive = ack.directive.expect("the next directive");
    }
    for (name, times) in ["decision", "fdatasync", "bare_echo"].into_iter().zip(&times) {
        row(name, times);
    }
}

async fn steps() {
    let server = Server::start().await;
    let at_hand = constant(&server).await;
    row("step_rust", &step_times(&at_hand, |session| session.record(black_box(1.0))).await);
}

/// The mean time of a step, round by round. The steps around a directive's end, where the server is asked, are run but
/// not timed.
async fn step_times(session: &Session, step: impl Fn(&Session) -> Step) -> Vec<f64> {
    const CALLS: u64 = 100;
    let mut times = Vec::new();
    while times.len() < ROUNDS {
        let before = session.snapshot();
        if before.steps - before.offset > CALLS {
            let start = Instant::now();
            for _ in 0..CALLS {
                black_box(step(session));
            }
            times.push(start.elapsed().as_secs_f64() / CALLS as f64);
            assert_eq!(session.snapshot().offset, before.offset + CALLS, "every step counts");
        } else {
            while step(session) != Step::Ended {}
            session.next().await.expect("the next directive");
            session.take_slot_ops();
        }
    }
    times
}

/// A session of a job that outlasts the measurement.
async fn constant(server: &Server) -> Session {
    let spec = JobSpec {
        total_steps: Some(65_536),
        fallback_lr: Some(0.1),
        guard: Some(false),
        policy: Some(PolicySpec::Constant(ConstantOptions::default())),
        ..JobSpec::default()
    };
    let config = SessionConfig { server: server.url(), token: None, ..SessionConfig::new("steps", spec) };
    let session = Session::open(config).await.expect("a session");
    session.take_slot_ops();
    session
}

fn timed(mut work: impl FnMut()) -> Vec<f64> {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect()
}

fn row(name: &str, times: &[f64]) {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    println!(
        "{{\"name\": \"{name}\", \"n\": {}, \"p10\": {:e}, \"p50\": {:e}, \"p90\": {:e}, \"p99\": {:e}}}",
        sorted.len(),
        at(0.1),
        at(0.5),
        at(0.9),
        at(0.99)
    );
}

/// Answers every report at once: what the transport alone costs.
struct Echo;

#[tonic::async_trait]
impl TrainerService for Echo {
    type TrainStream = tokio_stream::Empty<Result<TrainResponse, Status>>;

    async fn open_session(
        &self,
        _: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        Err(Status::unimplemented("the echo knows Advance only"))
    }

    async fn advance(&self, request: Request<AdvanceRequest>) -> Result<Response<AdvanceResponse>, Status> {
        let seq = request.into_inner().report.map_or(0, |report| report.seq);
        Ok(Response::new(AdvanceResponse { ack: Some(Ack { seq, ..Ack::default() }) }))
    }

    async fn train(
        &self,
        _: Request<Streaming<TrainRequest>>,
    ) -> Result<Response<Self::TrainStream>, Status> {
        Err(Status::unimplemented("the echo knows Advance only"))
    }
}

async fn echo_server() -> Channel {
    let address = free_address();
    let serve =
        tonic::transport::Server::builder().add_service(TrainerServiceServer::new(Echo)).serve(address);
    tokio::spawn(serve);
    loop {
        if let Ok(channel) = Channel::from_shared(format!("http://{address}")).expect("a URL").connect().await
        {
            return channel;
        }
        tokio::task::yield_now().await;
    }
}
