//! Crowds: idle connections, half-open ones, more than there are file descriptors, and a flood of jobs. Memory stays bounded,
//! and another job is trained meanwhile as on a quiet server.

use autolrs_proto::v1::{
    ConstantPolicy, CreateJobRequest, GetJobRequest, JobSpec, OpenSessionRequest,
    job_service_client::JobServiceClient, job_spec::Policy, trainer_service_client::TrainerServiceClient,
};
use autolrs_tests::{
    bystander,
    server::Server,
    trainer::{assert_refused, reason, spec},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tonic::Code;

/// What an HTTP/2 client says first, and no settings of its own.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn constant() -> JobSpec {
    spec(1000, Policy::Constant(ConstantPolicy::default()))
}

/// Lets this process, and the server that it starts, open so many files.
fn allow_open_files(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).expect("so many open files");
    }
}

/// Connections that have said this, and of which the server has taken note.
async fn crowd(server: &Server, n: usize, greeting: &'static [u8]) -> Vec<TcpStream> {
    let mut streams = Vec::with_capacity(n);
    for _ in 0..n {
        let mut stream = TcpStream::connect(server.address).await.expect("a connection");
        stream.write_all(greeting).await.expect("said");
        streams.push(stream);
    }
    if greeting.len() > 24 {
        for stream in &mut streams {
            let mut settings = [0; 9];
            stream.read_exact(&mut settings).await.expect("the server's settings");
        }
    }
    streams
}

#[tokio::test]
async fn ten_thousand_idle_connections() {
    const CONNECTIONS: usize = 10_000;
    allow_open_files(CONNECTIONS as u64 + 500);
    let server = Server::start().await;
    let line = bystander::train(&server, "quiet").await;
    let before = server.memory_kib();
    let idle = crowd(&server, CONNECTIONS, GREETING).await;
    assert_eq!(bystander::train(&server, "bystander").await, line);
    let each = server.memory_kib().saturating_sub(before) as f64 / CONNECTIONS as f64;
    println!("{each:.1} KiB for each of {} idle connections", idle.len());
    assert!(each < 40.0, "{each} KiB for an idle connection");
}

#[tokio::test]
async fn half_open_handshakes() {
    let server = Server::start().await;
    let line = bystander::train(&server, "quiet").await;
    let before = server.memory_kib();
    let silent = crowd(&server, 300, b"").await;
    let half = crowd(&server, 300, &GREETING[..20]).await;
    assert_eq!(bystander::train(&server, "bystander").await, line);
    let grown = server.memory_kib().saturating_sub(before);
    assert!(grown < 600 * 40 + 16_384, "{grown} KiB");
    drop((silent, half));
}

#[tokio::test]
async fn more_connections_than_file_descriptors_or_places() {
    for server in
        [Server::start_with_open_files(200).await, Server::start_with(&["--max-connections", "150"]).await]
    {
        // A trainer that is there before the crowd keeps its connection.
        let channel = server.channel();
        let mut jobs = JobServiceClient::new(channel.clone());
        let create =
            CreateJobRequest { name: "a".into(), spec: Some(constant()), ..CreateJobRequest::default() };
        jobs.create_job(create).await.expect("created");
        let mut crowd = Vec::new();
        for _ in 0..300 {
            let mut stream = TcpStream::connect(server.address).await.expect("the system takes it");
            stream.write_all(GREETING).await.expect("said");
            crowd.push(stream);
        }
        for n in 0..50 {
            let get = GetJobRequest { name: "a".into() };
            jobs.get_job(get).await.unwrap_or_else(|error| panic!("request {n}: {error}"));
        }
        let mut trainer = TrainerServiceClient::new(channel);
        let open = OpenSessionRequest { job: "a".into(), ..OpenSessionRequest::default() };
        trainer.open_session(open).await.expect("a session, stored");
        drop(crowd);
        let line = bystander::train(&server, "later").await;
        assert!(line.len() > 900, "those that come later are served");
    }
}

#[tokio::test]
async fn a_flood_of_jobs() {
    const JOBS: usize = 3000;
    const IN_MEMORY: usize = 200;
    let server = Server::start_with(&["--max-jobs", &IN_MEMORY.to_string()]).await;
    let line = bystander::train(&server, "quiet").await;
    flood(&server, "first", IN_MEMORY).await;
    let before = server.memory_kib();
    let (_, met) = tokio::join!(flood(&server, "flood", JOBS), bystander::train(&server, "bystander"));
    assert_eq!(met, line);
    let grown = server.memory_kib().saturating_sub(before);
    println!("{grown} KiB more after {JOBS} jobs");
    assert!(grown < 32 << 10, "{grown} KiB for {JOBS} jobs, {IN_MEMORY} of them in memory");
    assert!(live(&server).await <= IN_MEMORY as u64);
    let get = GetJobRequest { name: "first-0".into() };
    assert!(server.jobs().get_job(get).await.is_ok(), "a job that has left comes back on demand");
}

#[tokio::test]
async fn a_flood_of_trainers() {
    const IN_MEMORY: usize = 50;
    let server = Server::start_with(&["--max-jobs", &IN_MEMORY.to_string()]).await;
    let line = bystander::train(&server, "quiet").await;
    let channel = server.channel();
    let mut refused = 0;
    let trainer = tokio::spawn(async move {
        let line = bystander::train(&server, "bystander").await;
        (server, line)
    });
    let (mut jobs, mut trainers) =
        (JobServiceClient::new(channel.clone()), TrainerServiceClient::new(channel));
    for n in 0..2 * IN_MEMORY {
        let name = format!("x{n}");
        let create =
            CreateJobRequest { name: name.clone(), spec: Some(constant()), ..CreateJobRequest::default() };
        let open = OpenSessionRequest { job: name, ..OpenSessionRequest::default() };
        let opened = async {
            jobs.create_job(create).await?;
            trainers.open_session(open).await
        };
        if let Err(status) = opened.await {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
            assert!(status.message().contains("jobs in memory"), "{status:?}");
            refused += 1;
        }
    }
    assert!(refused >= IN_MEMORY, "a place is not taken from a job with an active trainer: {refused}");
    let (server, met) = trainer.await.expect("it is trained");
    assert_eq!(met, line);
    assert!(live(&server).await <= IN_MEMORY as u64);
    let none = server.jobs().get_job(GetJobRequest { name: "nobody".into() }).await;
    assert_refused(none, Code::ResourceExhausted, "LIMIT_REACHED");
}

/// Makes so many jobs over four connections, 16 requests at a time on each.
async fn flood(server: &Server, prefix: &str, jobs: usize) {
    let mut tasks = JoinSet::new();
    for connection in 0..4 {
        let channel = server.channel();
        for lane in 0..16 {
            let mut client = JobServiceClient::new(channel.clone());
            let names: Vec<_> =
                (0..jobs).skip(connection * 16 + lane).step_by(64).map(|n| format!("{prefix}-{n}")).collect();
            tasks.spawn(async move {
                for name in names {
                    let request =
                        CreateJobRequest { name, spec: Some(constant()), ..CreateJobRequest::default() };
                    client.create_job(request).await.expect("created");
                }
            });
        }
    }
    tasks.join_all().await;
}

/// Jobs in memory, as the metrics say.
async fn live(server: &Server) -> u64 {
    let (_, answer) = server.probe("/metrics").await;
    let value = answer.lines().find_map(|line| line.strip_prefix("autolrs_jobs_live ")).expect("the metric");
    value.parse().expect("a number")
}
