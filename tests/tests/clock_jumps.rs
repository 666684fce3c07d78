//! The time of day jumps by years under a live server, in both directions: no decision changes and no timer breaks. The
//! jumps are real to the server: `libfaketime` stands between it and the system's clock.

use autolrs_proto::v1::{JobState, ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    server::Server,
    story::{Story, job},
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the time of day is set.
struct TimeOfDay(PathBuf);

impl TimeOfDay {
    /// None, with the reason printed, where the library is not installed.
    fn of(server: &mut Server, folder: &Path) -> Option<Self> {
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        let library = PathBuf::from(format!("/usr/lib/{triplet}/faketime/libfaketimeMT.so.1"));
        if !library.exists() {
            println!("skipped: {} is missing (Debian: faketime)", library.display());
            return None;
        }
        let file = folder.join("time");
        server.env = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        let time = Self(file);
        time.jump(0);
        Some(time)
    }

    /// As a whole, so that the server never reads half of it.
    fn jump(&self, days: i32) {
        let new = self.0.with_extension("new");
        fs::write(&new, format!("{days:+}d\n")).expect("written");
        fs::rename(new, &self.0).expect("renamed");
    }
}

#[tokio::test]
async fn a_time_of_day_that_jumps_changes_no_decision() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    let Some(time) = TimeOfDay::of(&mut server, folder.path()) else { return };
    server.flags = ["--log-level", "debug"].map(String::from).to_vec();
    server.log = Some(folder.path().join("log"));
    server.up().await;
    story.begin(&server, "job", 0).await;
    for (number, days) in (0..story.len()).zip([3000, -3000, 1, -1, 0].into_iter().cycle()) {
        time.jump(days);
        if number % 7 == 6 {
            server.kill();
            server.up().await;
        }
        story.go_on(&server, "job", number, number + 1).await;
        time.jump(days + 1000);
        let state = job(&server, "job").await.state();
        assert_ne!(state, JobState::Detached, "its trainer was heard just now");
    }
    assert_eq!(job(&server, "job").await.state(), JobState::Finished);
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    let is_year = |text: &&str| text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let years: BTreeSet<_> = log.lines().filter_map(|line| line.split('-').next().filter(is_year)).collect();
    assert!(years.len() >= 3, "the server saw the jumps: {years:?}");
}

#[tokio::test]
async fn a_time_of_day_that_goes_back_stops_no_timer() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::prepare(tempfile::tempdir().unwrap());
    let Some(time) = TimeOfDay::of(&mut server, folder.path()) else { return };
    server.flags = ["--idle", "1s", "--writer-silence", "3s"].map(String::from).to_vec();
    server.up().await;
    story.begin(&server, "job", 3).await;
    time.jump(-3000);
    story.go_on(&server, "job", 3, 4).await;
    time.jump(-6000);
    // A job that leaves memory has waited for its timer, which was set before the last jump.
    let mut left = false;
    for _ in 0..1500 {
        left = server.probe("/metrics").await.1.contains("autolrs_jobs_live 0");
        if left {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(left, "the idle job stays in memory");
    assert_eq!((server.probe("/livez").await.0, server.probe("/readyz").await.0), (200, 200));
    story.finish(&server, "job", 4).await;
}
