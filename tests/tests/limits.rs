//! What one tenant, one connection and one request may take, over the real binary. Limits of the whole server stand in
//! `crowds.rs` and `hostile.rs`.

use autolrs_client::{Session, SessionConfig};
use autolrs_proto::v1::{
    ListJobsRequest, WatchJobRequest, WatchJobResponse, job_service_client::JobServiceClient,
};
use autolrs_tests::{
    jobs::Kind,
    rpcs::call,
    security::{Files, Line, bearer, start},
    server::Server,
    sim::{Optimum, SimTrainer},
    trainer::assert_refused,
    training::train,
};
use std::time::{Duration, Instant};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

const SOON: Duration = Duration::from_secs(20);
/// For conditions that a server reaches by itself, 20 ms apart.
const ATTEMPTS: usize = 1000;

async fn watch(line: Line, job: &str) -> Result<Streaming<WatchJobResponse>, Status> {
    let request = WatchJobRequest { name: job.into(), ..Default::default() };
    let mut stream = JobServiceClient::new(line).watch_job(request).await?.into_inner();
    assert!(stream.message().await?.is_some());
    Ok(stream)
}

/// Which setting the refusal names, and whether it says when to come back.
fn limit(status: &Status) -> (String, bool) {
    let setting = status.get_details_error_info().unwrap().metadata["setting"].clone();
    (setting, status.get_details_retry_info().is_some())
}

/// How often a limit was reached.
async fn reached(server: &Server, limit: &str) -> u32 {
    count(server, &format!("autolrs_limits_reached_total{{limit=\"{limit}\"}} ")).await
}

async fn count(server: &Server, series: &str) -> u32 {
    let metrics = server.probe("/metrics").await.1;
    metrics.lines().find_map(|line| line.strip_prefix(series)).expect("a series").parse().unwrap()
}

#[tokio::test]
async fn a_tenant_has_its_share_of_jobs_and_streams_and_no_other_notices() {
    let files = Files::new();
    let (a, b) = (files.token("a", "admin").await, files.token("b", "write").await);
    let tokens = files.text("tokens.json");
    let mut server = start(&["--tokens", &tokens, "--tenant-jobs", "2", "--tenant-streams", "2"]).await;
    let exhausted = Code::ResourceExhausted;
    let line = bearer(server.channel(), &a);
    for job in ["one", "two", "one"] {
        call(line.clone(), "CreateJob", job).await.unwrap();
    }
    let refused = assert_refused(call(line.clone(), "CreateJob", "three").await, exhausted, "QUOTA_EXCEEDED");
    assert_eq!(limit(&refused), ("tenant_jobs".into(), false), "waiting does not help");
    assert_eq!(reached(&server, "tenant_jobs").await, 1);
    call(bearer(server.channel(), &b), "CreateJob", "three").await.unwrap();
    for rpc in ["CancelJob", "DeleteJob"] {
        call(line.clone(), rpc, "one").await.unwrap();
    }
    call(line, "CreateJob", "three").await.unwrap();
    // A server that has just started counts what is stored.
    server.kill();
    server.up().await;
    let line = bearer(server.channel(), &a);
    assert_refused(call(line.clone(), "CreateJob", "four").await, exhausted, "QUOTA_EXCEEDED");

    let streams = [watch(line.clone(), "two").await.unwrap(), watch(line.clone(), "two").await.unwrap()];
    let refused = assert_refused(watch(line.clone(), "two").await, exhausted, "LIMIT_REACHED");
    assert_eq!(limit(&refused), ("tenant_streams".into(), true));
    assert_refused(call(line.clone(), "Train", "two").await, exhausted, "LIMIT_REACHED");
    assert_eq!(reached(&server, "tenant_streams").await, 2);
    watch(bearer(server.channel(), &b), "three").await.unwrap();
    drop(streams);
    for _ in 0..ATTEMPTS {
        if watch(line.clone(), "two").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the places of streams that have gone are never free");
}

#[tokio::test]
async fn a_tenant_that_asks_too_often_is_told_when_to_come_back() {
    let files = Files::new();
    let (a, b) = (files.token("a", "read").await, files.token("b", "read").await);
    let server = start(&["--tokens", &files.text("tokens.json"), "--tenant-rate", "1"]).await;
    let begun = Instant::now();
    let lines = std::iter::repeat_n(bearer(server.channel(), &a), 30);
    let mut asked: tokio::task::JoinSet<_> = lines.map(|line| call(line, "ListJobs", "")).collect();
    let mut refused = Vec::new();
    while let Some(answer) = asked.join_next().await {
        refused.extend(answer.unwrap().err());
    }
    // One at once, and one for each second that has passed.
    let most = 2 + begun.elapsed().as_secs() as usize;
    assert!((1..=most).contains(&(30 - refused.len())), "{refused:?}");
    let number = refused.len() as u32;
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(limit(&status), ("tenant_rate".into(), true));
    }
    assert_eq!(reached(&server, "tenant_rate").await, number);
    call(bearer(server.channel(), &b), "ListJobs", "").await.unwrap();
    for _ in 0..ATTEMPTS {
        if call(bearer(server.channel(), &a), "ListJobs", "").await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it may never ask again");
}

#[tokio::test]
async fn headers_are_small_and_connections_do_not_grow_old() {
    let flags = ["--max-metadata", "8KiB", "--connection-age", "1s", "--connection-grace", "1s"];
    let server = start(&flags).await;
    let with = |bytes: usize| {
        let mut request = Request::new(ListJobsRequest::default());
        request.metadata_mut().insert("x", "y".repeat(bytes).parse().unwrap());
        request
    };
    assert!(server.jobs().list_jobs(with(10_000)).await.is_err());
    server.jobs().list_jobs(with(1000)).await.unwrap();

    let config =
        SessionConfig { server: server.url(), replay: true, ..SessionConfig::new("job", Kind::Wsd.spec()) };
    let session = Session::open(config).await.unwrap();
    // With nothing under way a connection ends when it is asked to; what goes on is ended after the grace.
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let (_client, idle) = h2::client::handshake(stream).await.unwrap();
    tokio::time::timeout(SOON, idle).await.expect("it is told to go").unwrap();
    let request = WatchJobRequest { name: "job".into(), ..Default::default() };
    let mut watched = server.jobs().watch_job(request).await.unwrap().into_inner();
    let to_its_end = async { while let Ok(Some(_)) = watched.message().await {} };
    tokio::time::timeout(SOON, to_its_end).await.expect("it is closed");
    assert!(count(&server, "autolrs_connections_aged_total ").await >= 1);
    // A trainer has lost connections and notices nothing.
    let mut trainer = SimTrainer::new(Optimum::default());
    train(&session, &mut trainer).await;
    session.close(SOON).await;
    let job = autolrs_tests::command::autolrs(["jobs", "show", "job", "--server", &server.url()]).await;
    assert!(job.out.contains("finished"), "{job:?}");
}
