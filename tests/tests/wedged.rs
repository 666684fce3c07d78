//! A disk that never answers a sync, under a live server: the probes say so, no trainer waits longer than it may, and
//! all goes on when the disk answers. The wedge is real: `strace` holds the server's `fdatasync` back.

use autolrs_proto::v1::{Report, ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    command::autolrs,
    manager::Manager,
    server::Server,
    story::{Story, job},
    trainer::advance,
};
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tonic::Code;

/// How far the jobs were lived before the wedge.
const AT: usize = 3;

/// Time for two beats of a server that lives.
const BEATS: Duration = Duration::from_secs(2);

/// Holds back every fdatasync of a process.
struct Wedge(Child);

impl Wedge {
    /// None, with the reason printed, where it can't be done.
    async fn drive_in(pid: u32) -> Option<Self> {
        let mut command = Command::new("strace");
        command
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"])
            .args(["-e", "inject=fdatasync:delay_enter=600000000", "-p", &pid.to_string()])
            .stdin(Stdio::null());
        let mut strace = match command.spawn() {
            Ok(strace) => strace,
            Err(error) => {
                println!("skipped: strace can't be run ({error})");
                return None;
            }
        };
        while !is_traced(pid, strace.id()) {
            if let Some(status) = strace.try_wait().expect("a status") {
                println!("skipped: strace can't trace the server ({status})");
                return None;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some(Self(strace))
    }

    fn pull_out(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        self.0.wait().expect("reaped");
    }
}

impl Drop for Wedge {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Whether every thread of a process has this tracer.
fn is_traced(pid: u32, tracer: u32) -> bool {
    let line = format!("TracerPid:\t{tracer}\n");
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the server runs");
    threads.map(|thread| thread.expect("a thread").path().join("status")).all(|status| {
        // A thread may end meanwhile.
        fs::read_to_string(status).is_ok_and(|text| text.contains(&line))
    })
}

async fn until_health(server: &Server, code: i32) {
    for _ in 0..300 {
        if autolrs(["health", "--server", &server.url()]).await.code == Some(code) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("`autolrs health` never ends with {code}");
}

#[tokio::test]
async fn a_wedged_committer_fails_the_probes_and_nobody_waits_for_ever() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let manager = Manager::default();
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    server.env = manager.variables();
    server.flags = ["--writer-silence", "3s", "--request-timeout", "1s"].map(String::from).to_vec();
    server.up().await;
    for name in ["a", "b"] {
        story.begin(&server, name, AT).await;
    }
    let before = [job(&server, "a").await, job(&server, "b").await];
    assert_eq!((server.probe("/livez").await.0, server.probe("/readyz").await.0), (200, 200));

    let Some(wedge) = Wedge::drive_in(server.pid()).await else { return };
    for name in ["a", "b", "a"] {
        let report = Report { job: name.into(), ..story.exchanges[AT].0.clone() };
        let late = advance(&server, report).await.expect_err("it can't be stored");
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    }
    for path in ["/livez", "/readyz"] {
        let said = server.until_answers(path, 503).await;
        assert!(said.contains("the store's writer is stuck since"), "{path}: {said}");
    }
    until_health(&server, 1).await;
    assert!(manager.hears_no("WATCHDOG=1", BEATS), "the service manager restarts it");
    assert!(server.probe("/metrics").await.1.contains("autolrs_store_healthy 0"));
    wedge.pull_out();

    for path in ["/livez", "/readyz"] {
        server.until_answers(path, 200).await;
    }
    until_health(&server, 0).await;
    manager.told("WATCHDOG=1");
    for (name, before) in ["a", "b"].into_iter().zip(before) {
        assert_eq!(job(&server, name).await.uid, before.uid);
        story.finish(&server, name, AT).await;
    }
}
