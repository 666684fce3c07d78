//! What a server keeps: ended jobs for a set time; jobs that nobody asks for in the store alone; what a full disk would
//! lose, it warns of before.

use autolrs_proto::v1::{CancelJobRequest, ListJobsRequest, Report, ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    command::autolrs,
    manager::Manager,
    server::Server,
    story::Story,
    trainer::{advance, assert_refused, open},
};
use serde_json::Value;
use std::fs;
use tonic::Code;

/// How far the job that goes on was lived before it left memory.
const AT: usize = 3;

async fn names(server: &Server) -> Vec<String> {
    let listed = server.jobs().list_jobs(ListJobsRequest::default()).await.unwrap().into_inner();
    listed.jobs.into_iter().map(|job| job.name).collect()
}

#[tokio::test]
async fn ended_jobs_go_idle_ones_leave_memory_and_what_goes_on_goes_on() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.flags = ["--keep-ended=2s", "--idle=1s", "--history=16"].map(String::from).to_vec();
    server.log = Some(log.clone());
    server.up().await;
    story.begin(&server, "goes-on", AT).await;
    open(&server, "cancelled", story.spec.clone()).await.unwrap();
    story.begin(&server, "finished", story.len()).await;
    let cancel = CancelJobRequest { name: "cancelled".into(), request_id: "c".into() };
    server.jobs().cancel_job(cancel).await.unwrap();
    // Its trainer never hears of it; the end of `finished` has been told.
    server.until_metrics_say("autolrs_jobs_expired_total 1").await;
    assert_eq!(names(&server).await, ["cancelled", "goes-on"]);
    assert!(fs::read_to_string(&log).unwrap().contains("it has ended and was kept for its time"));
    let late = Report { job: "finished".into(), ..story.exchanges[0].0.clone() };
    assert_refused(advance(&server, late).await, Code::NotFound, "JOB_NOT_FOUND");

    // Nobody asks: nothing is in memory. The next report finds the job, and the answers are those of a job that stayed.
    server.until_metrics_say("autolrs_jobs_live 0").await;
    story.go_on(&server, "goes-on", AT, AT + 2).await;
    server.until_metrics_say("autolrs_jobs_live 0").await;
    story.finish(&server, "goes-on", AT + 2).await;
    server.until_metrics_say("autolrs_jobs_expired_total 2").await;

    // Nothing of them is left in the store: only the job whose trainer never heard of its end.
    assert!(server.terminate().success());
    let verify = ["store", "verify", "--output=json", "--data-dir", server.data_dir().to_str().unwrap()];
    let verified = autolrs(verify).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let found: Value = serde_json::from_str(&verified.out).unwrap();
    assert_eq!(found["jobs"], 1, "{found}");
}

#[tokio::test]
async fn a_disk_that_fills_up_is_warned_of_before_the_store_stops() {
    let (manager, folder) = (Manager::default(), tempfile::tempdir().unwrap());
    let log = folder.path().join("log");
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    // More than any machine has free.
    server.flags = vec!["--disk-warning=1PiB".into()];
    server.env = manager.variables();
    server.log = Some(log.clone());
    server.up().await;
    manager.told("STATUS=serving; warning: ");
    let (code, said) = server.probe("/readyz").await;
    assert!(code == 200 && said.starts_with("ok\nwarning: "), "{code} {said}");
    assert!(said.contains("MiB are left") && said.contains("keep_ended"), "{said}");
    assert!(fs::read_to_string(&log).unwrap().contains("the disk is almost full"));
    let (listen, data) = (server.address.to_string(), server.data_dir().to_str().unwrap());
    let doctor =
        ["doctor", "--listen", &listen, "--http-listen=off", "--data-dir", data, "--disk-warning=1PiB"];
    let ran = autolrs([&doctor[..], &["--server", &server.url()]].concat()).await;
    let line = ran.out.lines().find(|line| line.contains("  disk ")).expect("a line");
    assert!(line.starts_with("WARN") && line.contains("MiB are the store's"), "{line}");
    assert_eq!(ran.code, Some(0), "a warning is no failure: {ran:?}");
}
