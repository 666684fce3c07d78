//! Tokens: made, shown, revoked, expired; who brings none; and that nobody sees a secret. Over the real binary.

use autolrs_client::{Error, Session, SessionConfig, Token};
use autolrs_proto::v1::{
    TrainRequest, WatchJobRequest, job_service_client::JobServiceClient,
    trainer_service_client::TrainerServiceClient,
};
use autolrs_tests::{
    command::{autolrs, autolrs_as},
    jobs::Kind,
    rpcs::call,
    security::{Files, bearer, id_of, secret_of, start},
    server::Server,
    sim::{Optimum, SimTrainer},
    trainer::{assert_refused, reason},
    training::train,
};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

const SOON: Duration = Duration::from_secs(20);
/// For conditions that a server reaches by itself, 20 ms apart.
const ATTEMPTS: usize = 1000;

async fn server(files: &Files) -> Server {
    start(&["--tokens", &files.text("tokens.json")]).await
}

fn config(server: &Server, job: &str, token: &str) -> SessionConfig {
    let token = Some(Token::from(token));
    SessionConfig { server: server.url(), token, replay: true, ..SessionConfig::new(job, Kind::Wsd.spec()) }
}

#[tokio::test]
async fn tokens_are_made_shown_and_revoked() {
    let files = Files::new();
    let path = files.text("tokens.json");
    let token = files.token("vision", "write").await;
    let other = files.token("*", "admin").await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let list = autolrs(["token", "list", "--tokens", &path, "--output", "json"]).await;
    let list: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    let tokens = list["tokens"].as_array().unwrap();
    assert_eq!(tokens.len(), 2);
    let found = tokens.iter().find(|found| found["id"] == id_of(&token)).unwrap();
    assert_eq!((&found["tenant"], &found["role"]), (&"vision".into(), &"write".into()));
    assert!(found["expires"].is_null());

    let server = server(&files).await;
    call(bearer(server.channel(), &token), "ListJobs", "").await.unwrap();
    files.revoke(&token).await;
    // The server sees it by itself.
    let mut refused = None;
    for _ in 0..ATTEMPTS {
        refused = call(bearer(server.channel(), &token), "ListJobs", "").await.err();
        if refused.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = refused.expect("revoked");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::Unauthenticated, "TOKEN_UNKNOWN"));
    call(bearer(server.channel(), &other), "Backup", "").await.unwrap();
    let again = autolrs(["token", "revoke", id_of(&token), "--tokens", &path]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
}

#[tokio::test]
async fn what_is_no_valid_token_is_told_apart() {
    let files = Files::new();
    let token = files.token("a", "write").await;
    let old = files.token("a", "write").await;
    expire(&files, &old, "2020-01-01T00:00:00Z");
    let server = server(&files).await;
    let other = Files::new().token("a", "write").await;
    let forged = format!("alrs_{}_{}", id_of(&token), secret_of(&other));
    let unauthenticated = Code::Unauthenticated;
    let listed = server.jobs().list_jobs(autolrs_proto::v1::ListJobsRequest::default()).await;
    assert_refused(listed, unauthenticated, "TOKEN_MISSING");
    for (token, expected) in [
        (&*forged, "TOKEN_UNKNOWN"),
        (&other, "TOKEN_UNKNOWN"),
        ("x", "TOKEN_UNKNOWN"),
        (&old, "TOKEN_EXPIRED"),
    ] {
        let refused = call(bearer(server.channel(), token), "ListJobs", "").await;
        assert_refused(refused, unauthenticated, expected);
    }
    // Probes and reflection are for everybody.
    let health = autolrs(["health", "--server", &server.url()]).await;
    assert_eq!(health.code, Some(0), "{health:?}");
}

/// Sets the moment at which a token expires, as a text editor would.
fn expire(files: &Files, token: &str, moment: &str) {
    let path = files.path("tokens.json");
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let tokens = document["tokens"].as_array_mut().unwrap();
    let found = tokens.iter_mut().find(|found| found["id"] == id_of(token)).unwrap();
    found["expires"] = moment.into();
    fs::write(path, document.to_string()).unwrap();
}

#[tokio::test]
async fn streams_end_when_their_token_is_revoked_or_expires() {
    let files = Files::new();
    let watcher = files.token("a", "read").await;
    let trainer = files.token("a", "write").await;
    let server = server(&files).await;
    let line = bearer(server.channel(), &trainer);
    call(line.clone(), "CreateJob", "job").await.unwrap();
    call(line.clone(), "OpenSession", "job").await.unwrap();
    let watched = WatchJobRequest { name: "job".into(), ..Default::default() };
    let watched = JobServiceClient::new(bearer(server.channel(), &watcher)).watch_job(watched).await.unwrap();
    let mut watched = watched.into_inner();
    assert!(watched.message().await.unwrap().is_some());
    let (reports, stream) = mpsc::channel(1);
    let report = autolrs_proto::v1::Report {
        job: "job".into(),
        session: 1,
        seq: 1,
        train_losses: vec![1.0],
        ..Default::default()
    };
    reports.send(TrainRequest { report: Some(report) }).await.unwrap();
    let trained = TrainerServiceClient::new(line.clone()).train(ReceiverStream::new(stream)).await.unwrap();
    let mut trained = trained.into_inner();
    assert!(trained.message().await.unwrap().is_some());

    files.revoke(&watcher).await;
    let ended = end_of(watched).await;
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Unauthenticated, "TOKEN_UNKNOWN"));
    // The other stream has gone on, until its token is too old.
    call(line, "GetJob", "job").await.unwrap();
    expire(&files, &trainer, "2020-01-01T00:00:00Z");
    let ended = end_of(trained).await;
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Unauthenticated, "TOKEN_EXPIRED"));
    drop(reports);
}

/// Why a stream ends.
async fn end_of<T>(mut stream: Streaming<T>) -> Status {
    let read = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without a reason"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(SOON, read).await.expect("it ends by itself")
}

#[tokio::test]
async fn a_broken_token_file_leaves_the_old_tokens_in_force() {
    let files = Files::new();
    let token = files.token("a", "read").await;
    let server = server(&files).await;
    let whole = fs::read_to_string(files.path("tokens.json")).unwrap();
    files.write("tokens.json", "{");
    server.until_metrics_say("autolrs_last_reload_successful{what=\"tokens\"} 0").await;
    call(bearer(server.channel(), &token), "ListJobs", "").await.unwrap();
    files.write("tokens.json", &whole);
    server.until_metrics_say("autolrs_last_reload_successful{what=\"tokens\"} 1").await;
    call(bearer(server.channel(), &token), "ListJobs", "").await.unwrap();
    // SIGHUP has it read although it has not changed.
    let start = "autolrs_reloads_total{what=\"tokens\",result=\"ok\"} ";
    let metrics = server.probe("/metrics").await.1;
    let read: u32 = metrics.lines().find_map(|line| line.strip_prefix(start)).unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(server.pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    server.until_metrics_say(&format!("{start}{}", read + 1)).await;
}

#[tokio::test]
async fn the_client_says_what_to_do_and_trains_with_the_right_token() {
    let files = Files::new();
    let (read, write) = (files.token("a", "read").await, files.token("a", "write").await);
    let server = server(&files).await;
    let none = SessionConfig { token: None, ..config(&server, "job", "") };
    let error = Session::open(none).await.err().unwrap();
    assert!(
        matches!(error, Error::Unauthenticated(_)) && error.to_string().contains("AUTOLRS_TOKEN"),
        "{error}"
    );
    let error = Session::open(config(&server, "job", &read)).await.err().unwrap();
    assert!(
        matches!(error, Error::PermissionDenied(_)) && error.to_string().contains("the role write"),
        "{error}"
    );
    let session = Session::open(config(&server, "job", &write)).await.unwrap();
    train(&session, &mut SimTrainer::new(Optimum::default())).await;
    session.close(SOON).await;
    let show = ["jobs", "show", "job", "--server", &server.url()];
    let shown = autolrs_as(show, &[("AUTOLRS_TOKEN", &read)]).await;
    assert!(shown.code == Some(0) && shown.out.contains("finished"), "{shown:?}");
    let refused = autolrs(show).await;
    assert!(refused.code == Some(1) && refused.err.contains("[TOKEN_MISSING]"), "{refused:?}");
}

/// Everything that a run prints, exposes or leaves behind, with the most talkative log there is.
#[tokio::test]
async fn nobody_sees_a_secret() {
    let files = Files::new();
    let [token, low, gone] =
        [files.token("a", "write").await, files.token("a", "read").await, files.token("a", "read").await];
    files.revoke(&gone).await;
    let log = files.path("log");
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    (server.secured, server.log) = (true, Some(log.clone()));
    server.flags =
        ["--tokens", &files.text("tokens.json"), "--log-level", "trace"].map(str::to_owned).to_vec();
    server.up().await;
    let mut seen = String::new();
    let config = config(&server, "job", &token);
    seen += &format!("{config:?}");
    let session = Session::open(config.clone()).await.unwrap();
    train(&session, &mut SimTrainer::new(Optimum::default())).await;
    session.close(SOON).await;
    for token in [&low, &gone] {
        let refused =
            Session::open(SessionConfig { token: Some(token.as_str().into()), ..config.clone() }).await;
        seen += &format!("{:?}", refused.err().unwrap());
        let file = files.write("token", &format!("{token}\n"));
        let file = file.to_str().unwrap();
        let url = server.url();
        let args = ["--server", &url, "--token-file", file];
        for command in
            [&["jobs", "cancel", "job"][..], &["jobs", "list"], &["store", "backup", "/nonexistent/x"]]
        {
            seen += &format!("{:?}", autolrs(command.iter().chain(&args)).await);
        }
        let refused = autolrs(["jobs", "list", "--token", token]).await;
        assert!(refused.code == Some(64) && refused.err.contains("AUTOLRS_TOKEN"), "{refused:?}");
        seen += &format!("{refused:?}");
    }
    seen += &format!("{:?}", autolrs(["token", "list", "--tokens", &files.text("tokens.json")]).await);
    seen += &server.probe("/metrics").await.1;
    seen += &fs::read_to_string(format!("/proc/{}/cmdline", server.pid())).unwrap();
    seen += &fs::read_to_string(files.path("tokens.json")).unwrap();
    server.terminate();
    let logged = fs::read_to_string(&log).unwrap();
    assert!(logged.contains(id_of(&token)) && logged.contains("TRACE"), "the log says who asked");
    seen += &logged;
    for entry in fs::read_dir(server.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            seen += &String::from_utf8_lossy(&fs::read(path).unwrap());
        }
    }
    for token in [&token, &low, &gone] {
        assert!(!seen.contains(secret_of(token)), "the secret of {} is seen", id_of(token));
    }
}
