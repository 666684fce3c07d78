//! What a service manager and an operator do with a running server: notifications, a reload, a drain under trainers that
//! move on. (`wedged.rs` has a watchdog that is not fed; `tests/python/test_systemd.py` has the unit read by systemd.)

use autolrs_proto::v1::{ScanPolicy, TrainRequest, job_spec::Policy};
use autolrs_tests::{
    manager::Manager,
    server::Server,
    trainer::{Model, advance, assert_refused, open, spec},
};
use std::{collections::VecDeque, fs, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

fn signal(server: &Server, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(server.pid() as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[tokio::test]
async fn the_service_manager_hears_of_every_turn() {
    let manager = Manager::default();
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.env = manager.variables();
    server.begin();
    manager.told("STATUS=serving");
    manager.told("READY=1");
    manager.told("WATCHDOG=1");
    signal(&server, rustix::process::Signal::HUP);
    let reloading = manager.told("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.told("READY=1");
    assert_eq!(server.terminate().code(), Some(0));
    manager.told("STOPPING=1");
}

/// Waits until the log has a line with all of these words, from `after` on; returns the log.
async fn logged(path: &std::path::Path, after: usize, words: &[&str]) -> String {
    for _ in 0..1500 {
        let log = fs::read_to_string(path).unwrap_or_default();
        let new = log.get(after..).unwrap_or_default();
        if new.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return log;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no line with {words:?} in {}", fs::read_to_string(path).unwrap_or_default());
}

#[tokio::test]
async fn a_hang_up_changes_what_can_change_and_names_what_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("autolrs.toml"), folder.path().join("log"));
    let write = |text: &str| fs::write(&file, text).unwrap();
    write("log_level = \"info\"\nmax_trainers = 1\nkeepalive = \"30s\"\n");
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.flags = vec!["--config".into(), file.to_str().unwrap().into(), "--log-format=json".into()];
    server.log = Some(log.clone());
    server.up().await;

    // One place for a Train stream.
    let mut streams = VecDeque::from([stream(&server).await.unwrap()]);
    assert_refused(stream(&server).await, Code::ResourceExhausted, "LIMIT_REACHED");
    write("log_level = \"debug\"\nmax_trainers = 2\nkeepalive = \"40s\"\ndrain = \"1s\"\n");
    signal(&server, rustix::process::Signal::HUP);
    let said = logged(&log, 0, &["\"reloaded\"", "log_level max_trainers drain"]).await;
    let warned: Vec<_> = said.lines().filter(|line| line.contains("changes only with a restart")).collect();
    assert!(warned.len() == 1 && warned[0].contains("\"keepalive\""), "{said}");
    streams.push_back(stream(&server).await.expect("there are two places now"));
    assert_refused(stream(&server).await, Code::ResourceExhausted, "LIMIT_REACHED");
    logged(&log, said.len(), &["\"DEBUG\""]).await;

    // A mistake changes nothing, and every one is told.
    let before = fs::metadata(&log).unwrap().len() as usize;
    write("log_level = \"info\"\nmax_trainers = 0\nlisen = 1\n");
    signal(&server, rustix::process::Signal::HUP);
    logged(&log, before, &["not reloaded", "max_trainers must be", "did you mean listen?"]).await;
    assert_refused(stream(&server).await, Code::ResourceExhausted, "LIMIT_REACHED");

    // Fewer places: those that are taken stay, and are not given away again.
    let before = fs::metadata(&log).unwrap().len() as usize;
    write("log_level = \"info\"\nmax_trainers = 1\n");
    signal(&server, rustix::process::Signal::HUP);
    logged(&log, before, &["\"reloaded\"", "max_trainers"]).await;
    drop(streams.pop_front());
    server.until_metrics_say("autolrs_train_streams 1").await;
    assert_refused(stream(&server).await, Code::ResourceExhausted, "LIMIT_REACHED");
    drop(streams.pop_front());
    server.until_metrics_say("autolrs_train_streams 0").await;
    let _the_one = stream(&server).await.expect("there is one place");
    assert_refused(stream(&server).await, Code::ResourceExhausted, "LIMIT_REACHED");
}

/// A file system that hangs, as one over a network may: here, a configuration that is a pipe into which nobody writes.
#[tokio::test]
async fn a_reload_that_hangs_keeps_nobody_waiting() {
    let (folder, manager) = (tempfile::tempdir().unwrap(), Manager::default());
    let file = folder.path().join("autolrs.toml");
    fs::write(&file, "drain = \"1s\"\n").unwrap();
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.flags = vec!["--config".into(), file.to_str().unwrap().into()];
    server.env = manager.variables();
    server.up().await;
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
    signal(&server, rustix::process::Signal::HUP);
    manager.told("RELOADING=1");
    open(&server, "job", spec(1500, Policy::Scan(ScanPolicy::default()))).await.unwrap();
    assert_eq!(server.terminate().code(), Some(0));
}

type Reports = mpsc::Sender<TrainRequest>;
type Answers = tonic::Streaming<autolrs_proto::v1::TrainResponse>;

async fn stream(server: &Server) -> Result<(Reports, Answers), tonic::Status> {
    let (send, receive) = mpsc::channel(4);
    Ok((send, server.trainer().train(ReceiverStream::new(receive)).await?.into_inner()))
}

/// The LR of every step of a scan whose trainer reports over streams; the server is drained and started again at every
/// `every`th directive.
async fn trained(every: Option<usize>) -> Vec<f64> {
    let mut server = Server::start().await;
    let opened = open(&server, "job", spec(1500, Policy::Scan(ScanPolicy::default()))).await.unwrap();
    let (mut model, mut directive) = (Model::default(), opened.directive.unwrap());
    let mut connection = stream(&server).await.unwrap();
    for number in 1.. {
        let Some(report) = model.carry_out("job", opened.session, &directive) else { break };
        if every.is_some_and(|every| number % every == 0) {
            // The answer to this one is lost with the server: the trainer asks again.
            connection.0.send(TrainRequest { report: Some(report.clone()) }).await.unwrap();
            let told = tokio::join!(last_word(&mut connection.1), async {
                tokio::task::block_in_place(|| assert_eq!(server.terminate().code(), Some(0)));
            });
            assert_refused::<()>(Err(told.0), Code::Unavailable, "DRAINING");
            server.up().await;
            connection = stream(&server).await.unwrap();
        }
        connection.0.send(TrainRequest { report: Some(report.clone()) }).await.unwrap();
        let ack = connection.1.message().await.unwrap().unwrap().ack.unwrap();
        assert_eq!(ack, advance(&server, report).await.unwrap());
        directive = ack.directive.expect("the next directive");
    }
    model.line.into_iter().map(|(_, lr)| lr).collect()
}

/// What ends a stream; acknowledgements before it are dropped.
async fn last_word(answers: &mut Answers) -> tonic::Status {
    loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the trainer is not told why"),
            Err(status) => return status,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trainers_on_a_stream_are_told_of_a_drain_and_go_on_with_the_next_server() {
    assert_eq!(trained(Some(4)).await, trained(None).await);
}
