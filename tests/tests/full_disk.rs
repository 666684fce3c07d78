//! The disk fills up under a live server and a job in the middle of its search: nothing is lost, the trainer is told
//! to try again, and the job goes on by itself when there is room.

use autolrs_proto::v1::{Ack, GetJobRequest, Report, ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    server::Server,
    trainer::{Model, advance, assert_refused, open, spec},
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
