//! Damaged records in the store of a stopped server: each is named with its job, the other jobs go on.

use autolrs_proto::v1::{JobState, ListJobsRequest, Report, ScanPolicy, job_spec::Policy};
use autolrs_tests::{
    command::{Ran, autolrs},
    server::Server,
    story::{Story, job},
    trainer::{advance, assert_refused},
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};
use tonic::Code;

/// How far the jobs were lived before the damage.
const AT: usize = 5;
/// Bytes before a record's content, in its first part.
const HEAD: usize = 20;

/// A record in the store, as the head of `server/src/store/sled/record.rs` describes it.
struct Record<'d> {
    db: &'d sled::Db,
    name: Vec<u8>,
}

impl<'d> Record<'d> {
    fn snapshot(db: &'d sled::Db, job: &str) -> Self {
        Self { db, name: [&[1], &b"default\0\x01"[..], job.as_bytes(), &[0, 1]].concat() }
    }

    fn first_trial(db: &'d sled::Db, job: &str) -> Self {
        let mut name = Self::snapshot(db, job).name;
        name[0] = 2;
        name.push(3);
        name.extend([0; 8]);
        Self { db, name }
    }

    fn part(&self, number: u32) -> Vec<u8> {
        [&self.name[..], &number.to_be_bytes()].concat()
    }

    fn parts(&self) -> Vec<Vec<u8>> {
        let part = |number| Some(self.db.get(self.part(number)).unwrap()?.to_vec());
        (0..).map_while(part).collect()
    }

    fn change(&self, number: u32, change: impl FnOnce(&mut Vec<u8>)) {
        let mut part = self.db.get(self.part(number)).unwrap().expect("the part is there").to_vec();
        change(&mut part);
        self.db.insert(self.part(number), part).unwrap();
    }

    /// Another content, with checksums that fit.
    fn rewrite(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let parts = self.parts();
        let version = parts[0][..8].to_vec();
        let mut content = parts.concat().split_off(HEAD);
        change(&mut content);
        let mut head = version;
        head.extend((content.len() as u32).to_be_bytes());
        head.extend(crc32fast::hash(&content).to_be_bytes());
        head.extend(crc32fast::hash(&[&self.name[..], &head[..]].concat()).to_be_bytes());
        for (number, part) in (0..).zip(content.chunks(4096)) {
            let before = if number == 0 { &head[..] } else { &[] };
            self.db.insert(self.part(number), [before, part].concat()).unwrap();
        }
    }
}

/// Makes a record one of format 2.
fn of_a_newer_release(record: &mut [u8]) {
    assert_eq!((&record[..4], &record[8..10]), (&b"ALRS"[..], &[0, 1][..]));
    record[9] = 2;
    let crc = crc32fast::hash(&record[8..]);
    record[4..8].copy_from_slice(&crc.to_be_bytes());
}

/// What is done to a job, and what must be said of it.
type Case = (&'static str, fn(&sled::Db, &str), &'static str);

const DAMAGED: [Case; 5] = [
    (
        "flipped",
        |db, job| Record::snapshot(db, job).change(0, |part| part[HEAD + 100] ^= 4),
        "its snapshot: it does not match its checksum",
    ),
    (
        "head",
        |db, job| Record::snapshot(db, job).change(0, |part| part[3] ^= 1),
        "its snapshot: its head does not match its checksum",
    ),
    (
        "cut",
        |db, job| {
            let record = Record::snapshot(db, job);
            let last = record.parts().len() as u32 - 1;
            record.change(last, |part| part.truncate(part.len() / 2));
        },
        "its snapshot: it does not match its checksum",
    ),
    (
        "beheaded",
        |db, job| Record::snapshot(db, job).change(0, |part| part.truncate(7)),
        "its snapshot: it is cut off",
    ),
    (
        "newer",
        |db, job| Record::snapshot(db, job).rewrite(|record| of_a_newer_release(record)),
        "format 2, this",
    ),
];

async fn verify(data: &Path, output: &str) -> Ran {
    let args =
        ["store".as_ref(), "verify".as_ref(), "--output".as_ref(), output.as_ref(), "--data-dir".as_ref()];
    autolrs(args.into_iter().chain([data.as_os_str()])).await
}

/// What `verify` says of each damaged job.
fn problems(ran: &Ran) -> BTreeMap<String, String> {
    let found: Value = serde_json::from_str(&ran.out).expect("JSON");
    let damaged = found["damaged"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let joined =
        |list: &Value| list.as_array().expect("a list").iter().map(text).collect::<Vec<_>>().join("; ");
    damaged.iter().map(|job| (text(&job["job"]), joined(&job["problems"]))).collect()
}

/// A stopped server with a job per case, one whose history is damaged, and two that are whole.
async fn damaged_store(story: &Story) -> Server {
    let mut server = Server::start().await;
    let names = DAMAGED.map(|(name, ..)| name).into_iter().chain(["history", "whole-a", "whole-b"]);
    for name in names {
        story.begin(&server, name, AT).await;
    }
    server.kill();
    let db = sled::open(server.data_dir().join("sled")).expect("nobody else has it");
    for (name, damage, _) in DAMAGED {
        damage(&db, name);
    }
    Record::first_trial(&db, "history").change(0, |part| part[HEAD + 20] ^= 1);
    db.flush().expect("flushed");
    server
}

#[tokio::test]
async fn a_damaged_job_is_named_everywhere_and_the_others_go_on() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let mut server = damaged_store(&story).await;
    server.up().await;
    let listed = server.jobs().list_jobs(ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    let listed: BTreeMap<_, _> = listed.into_iter().map(|job| (job.name.clone(), job)).collect();
    assert_eq!(listed.len(), DAMAGED.len() + 3);
    for (name, _, what) in DAMAGED {
        for found in [&listed[name], &job(&server, name).await] {
            assert_eq!(found.state(), JobState::Damaged, "{name}");
            assert!(found.warnings[0].contains(what), "{name}: {:?}", found.warnings);
        }
        let report = Report { job: name.into(), ..story.exchanges[AT].0.clone() };
        let refused = assert_refused(advance(&server, report).await, Code::Internal, "JOB_DAMAGED");
        assert!(refused.message().contains(&format!("{name:?}")), "{refused:?}");
        let shown = autolrs(["jobs", "show", name, "--server", &server.url()]).await;
        assert!(shown.code == Some(0) && shown.out.contains("damaged"), "{shown:?}");
    }
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("backup");
    let ran =
        autolrs(["store", "backup", file.to_str().unwrap(), "--server", &server.url(), "--output", "json"])
            .await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("jobs are damaged; everything else is whole"), "{}", ran.err);
    // To a backup, a record of a newer release is a record like any other.
    let expected = ["beheaded", "cut", "flipped", "head", "history"];
    assert_eq!(problems(&ran).keys().collect::<Vec<_>>(), expected);
    for name in ["history", "whole-a", "whole-b"] {
        story.finish(&server, name, AT).await;
    }
    let stages = autolrs(["jobs", "stages", "history", "--server", &server.url()]).await;
    assert!(
        stages.code == Some(1) && stages.err.contains("trial 0 of stage 0: it does not match"),
        "{stages:?}"
    );
    let data = tempfile::tempdir().unwrap();
    let import =
        autolrs(["store", "import", file.to_str().unwrap(), "--data-dir", data.path().to_str().unwrap()])
            .await;
    assert_eq!((import.code, import.err.as_str()), (Some(0), ""));
    let restored = Server::start_on(data).await;
    for name in ["history", "whole-a", "whole-b"] {
        story.finish(&restored, name, AT).await;
    }
    assert_eq!(job(&restored, "newer").await.state(), JobState::Damaged);
}

#[tokio::test]
async fn verify_names_what_is_damaged_and_a_deletion_mends_the_store() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let mut server = damaged_store(&story).await;
    let ran = verify(server.data_dir(), "json").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("6 jobs are damaged"), "{}", ran.err);
    let found = problems(&ran);
    assert_eq!(found.len(), 6);
    for (name, what) in
        DAMAGED.map(|(name, _, what)| (name, what)).into_iter().chain([("history", "trial 0 of stage 0: ")])
    {
        assert!(found[name].contains(what), "{name}: {}", found[name]);
    }
    let table = verify(server.data_dir(), "table").await;
    assert_eq!(table.code, Some(1));
    for (name, ..) in DAMAGED {
        assert!(table.out.contains(&format!("damaged   default/{name}\n")), "{}", table.out);
    }
    assert!(table.out.starts_with("jobs      8\n") && !table.out.contains('\u{1b}'), "{}", table.out);
    assert!(table.out.lines().all(|line| line.chars().count() <= 80), "{}", table.out);

    server.up().await;
    story.finish(&server, "history", AT).await;
    for name in DAMAGED.map(|(name, ..)| name).into_iter().chain(["history"]) {
        let deleted = autolrs(["jobs", "delete", name, "--server", &server.url()]).await;
        assert_eq!((deleted.code, deleted.err.as_str()), (Some(0), ""), "{name}");
    }
    story.begin(&server, "flipped", story.len()).await;
    server.kill();
    let ran = verify(server.data_dir(), "json").await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(found["jobs"], 3);
}

/// Starts a server that does not begin to serve: its exit code, and what it said.
async fn refuses(server: &Server) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::from(server.command());
    let ended = command.stderr(Stdio::piped()).kill_on_drop(true).output();
    let ended = tokio::select! {
        ended = ended => ended.expect("the binary runs"),
        () = serves(server) => panic!("it serves"),
    };
    (ended.status.code(), String::from_utf8(ended.stderr).expect("text"))
}

async fn serves(server: &Server) {
    while server.jobs().list_jobs(ListJobsRequest::default()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sled takes a damaged log to end where the damage is. What it lost with that must not go unnoticed: jobs would be
/// gone, or older than their trainers know.
#[tokio::test]
async fn a_flipped_bit_in_the_database_file_is_never_a_silent_loss() {
    let story = Story::of(Policy::Scan(ScanPolicy::default())).await;
    let mut server = Server::start().await;
    for number in 0..6 {
        story.begin(&server, &format!("job-{number}"), AT).await;
    }
    server.terminate();
    let (data, file) = (server.data_dir().to_owned(), server.data_dir().join("sled/db"));
    let mut log = std::fs::read(&file).unwrap();
    // In the middle of what the last job wrote before its newest snapshot.
    let at = log.windows(5).rposition(|bytes| bytes == b"job-5").expect("the last job is there");
    log[at] ^= 1;
    std::fs::write(&file, &log).unwrap();

    let (code, said) = refuses(&server).await;
    assert_eq!(code, Some(65), "starting again does not help: {said}");
    assert!(said.contains("has lost its newest records") && said.contains("store export"), "{said}");

    let ran = verify(&data, "json").await;
    let found: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, found["lost"].is_string()), (Some(1), true), "{ran:?}");
    let (files, anew) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let left = files.path().join("left");
    let (left, old, new) = (left.to_str().unwrap(), data.to_str().unwrap(), anew.path().to_str().unwrap());
    let export = autolrs(["store", "export", left, "--data-dir", old]).await;
    assert!(export.code == Some(1) && export.err.contains("has lost its newest records"), "{export:?}");
    let import = autolrs(["store", "import", left, "--data-dir", new]).await;
    assert_eq!((import.code, import.err.as_str()), (Some(0), ""));
    let restored = Server::start_on(anew).await;
    for number in 0..5 {
        story.finish(&restored, &format!("job-{number}"), AT).await;
    }
}
