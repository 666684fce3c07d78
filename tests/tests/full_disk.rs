//! The disk fills up under a live server and a job in the middle of its search: nothing is lost, the trainer is told
//! to try again, and the job goes on by itself when there is room.

use autolrs_client::{Session, SessionConfig};
use autolrs_proto::v1::{Ack, GetJobRequest, JobState, Report, ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    disk::Disk,
    jobs::Kind,
    server::Server,
    sim::{Optimum, SimTrainer},
    trainer::{Model, advance, assert_refused, open, spec},
    training::{carry_out, train},
};
use std::time::Duration;
use tonic::Code;

/// Sends a report until it is answered.
async fn answered(server: &Server, report: &Report) -> Ack {
    for _ in 0..1500 {
        if let Ok(ack) = advance(server, report.clone()).await {
            return ack;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no answer although there is room again");
}

#[tokio::test]
async fn a_full_disk_stops_decisions_and_room_lets_them_go_on() {
    let data = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(data.path()) else { return };
    let mut server = Server::start_on(data).await;
    let opened = open(&server, "job", spec(1500, Policy::Scan(ScanPolicy::default()))).await.unwrap();
    let mut model = Model::default();
    let report = model.carry_out("job", opened.session, &opened.directive.unwrap()).unwrap();
    disk.fill();
    let refused = advance(&server, report.clone()).await;
    assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    let job =
        server.jobs().get_job(GetJobRequest { name: "job".into() }).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.steps.unwrap().search, 0, "a decision that was not stored has not happened");
    disk.make_room();
    let next = answered(&server, &report).await.directive.expect("the next branch");
    server.kill();
    server.up().await;
    assert_eq!(answered(&server, &report).await.directive, Some(next), "it was stored");
}

#[tokio::test]
async fn a_trainer_goes_on_with_its_fallback_and_is_taken_over_when_there_is_room() {
    let data = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(data.path()) else { return };
    let server = Server::start_on(data).await;
    let spec = Kind::Scan.spec();
    let budget = spec.total_steps.unwrap();
    let config = SessionConfig {
        server: server.url(),
        token: None,
        replay: true,
        decision_timeout: Duration::from_millis(300),
        ..SessionConfig::new("job", spec)
    };
    let session = Session::open(config).await.unwrap();
    let mut trainer = SimTrainer::new(Optimum::default());
    carry_out(&session, &mut trainer);
    session.next().await.unwrap();
    disk.fill();
    carry_out(&session, &mut trainer);
    session.next().await.unwrap();
    assert!(session.snapshot().detached, "nothing was decided");
    disk.make_room();
    train(&session, &mut trainer).await;
    assert!(session.flush(Duration::from_secs(60)).await, "the server has heard of every step");
    let job =
        server.jobs().get_job(GetJobRequest { name: "job".into() }).await.unwrap().into_inner().job.unwrap();
    let steps = job.steps.unwrap();
    assert_eq!((job.state(), steps.committed + steps.search + steps.lost), (JobState::Finished, budget));
    assert_eq!(trainer.line.len() as u64, budget);
}
