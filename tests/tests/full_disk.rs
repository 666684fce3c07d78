//! The disk fills up under a live server and a job in the middle of its search: nothing is lost, the trainer is told
//! to try again, and the job goes on by itself when there is room.

use autolrs_client::{Session, SessionConfig};
use autolrs_proto::v1::{Ack, GetJobRequest, JobState, Report, ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    jobs::Kind,
    server::Server,
    sim::{Optimum, SimTrainer},
    trainer::{Model, advance, assert_refused, open, spec},
    training::{carry_out, train},
};
use std::{path::PathBuf, process::Command, time::Duration};
use tonic::Code;

/// A file system of its own, unmounted at the end.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// None, with the reason printed, where it can't be mounted.
    fn mount(path: PathBuf) -> Option<Self> {
        let output =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=160m", "tmpfs"]).arg(&path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self(path)),
            other => {
                println!("skipped: a tmpfs needs root ({other:?})");
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

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
    let Some(disk) = Tmpfs::mount(data.path().to_owned()) else { return };
    let mut server = Server::start_on(data).await;
    let opened = open(&server, "job", spec(1500, Policy::Scan(ScanPolicy::default()))).await.unwrap();
    let mut model = Model::default();
    let report = model.carry_out("job", opened.session, &opened.directive.unwrap()).unwrap();
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 120 << 20]).unwrap();
    let refused = advance(&server, report.clone()).await;
    assert_refused(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    let job =
        server.jobs().get_job(GetJobRequest { name: "job".into() }).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.steps.unwrap().search, 0, "a decision that was not stored has not happened");
    std::fs::remove_file(&ballast).unwrap();
    let next = answered(&server, &report).await.directive.expect("the next branch");
    server.kill();
    server.up().await;
    assert_eq!(answered(&server, &report).await.directive, Some(next), "it was stored");
}

#[tokio::test]
async fn a_trainer_goes_on_with_its_fallback_and_is_taken_over_when_there_is_room() {
    let data = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(data.path().to_owned()) else { return };
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
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 120 << 20]).unwrap();
    carry_out(&session, &mut trainer);
    session.next().await.unwrap();
    assert!(session.snapshot().detached, "nothing was decided");
    std::fs::remove_file(&ballast).unwrap();
    train(&session, &mut trainer).await;
    assert!(session.flush(Duration::from_secs(60)).await, "the server has heard of every step");
    let job =
        server.jobs().get_job(GetJobRequest { name: "job".into() }).await.unwrap().into_inner().job.unwrap();
    let steps = job.steps.unwrap();
    assert_eq!((job.state(), steps.committed + steps.search + steps.lost), (JobState::Finished, budget));
    assert_eq!(trainer.line.len() as u64, budget);
}
