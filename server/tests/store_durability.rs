//! What real processes leave on a real disk: `kill -9`, a second process, a full disk.
//!
//! The writer is this executable, started again with one test's name and a role in its environment.

use autolrs_server::store::{
    Health, JobKey, JobStore, RowKey, RowWrite, SledOptions, SledStore, StoreError, Stored,
};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// Set for the writer: the store's directory.
const WRITER: &str = "STORE_TEST_WRITER";
/// Jobs that the writer writes at once, each a chain of saves.
const JOBS: u64 = 8;

fn job(number: u64) -> JobKey {
    JobKey::new("durability", format!("job{number}"))
}

/// The content of a job's save number `n`; its length goes up and down.
fn content(job: u64, n: u64) -> Bytes {
    let len = 8 + (n * 7919 + job * 104_729) % 24_000;
    (0..len).map(|i| (i ^ (i >> 8) ^ n.wrapping_mul(131) ^ job) as u8).collect()
}

/// Save number `n` keeps the directive rows n - 9 to n.
fn rows(job: u64, n: u64) -> Vec<RowWrite> {
    let mut rows = vec![RowWrite::Put { key: RowKey::Directive { seq: n }, record: content(job, n + 1) }];
    rows.extend(n.checked_sub(10).map(|old| RowWrite::Delete(RowKey::Directive { seq: old })));
    rows
}

fn number_of(job: u64, stored: &Stored) -> u64 {
    let text = stored.snapshot.get(..8).expect("a number comes first");
    let n = u64::from_be_bytes(text.try_into().expect("eight bytes"));
    assert!(stored.snapshot[8..] == content(job, n), "the snapshot of save {n} is whole");
    n
}

async fn save(
    store: &dyn JobStore,
    job_number: u64,
    version: Option<u64>,
    n: u64,
) -> Result<u64, StoreError> {
    let snapshot = [&n.to_be_bytes()[..], &content(job_number, n)].concat();
    store.save(&job(job_number), version, snapshot.into(), rows(job_number, n)).await
}

/// Checks all jobs, and returns the number of each one's newest save and its version.
async fn check(store: &dyn JobStore) -> BTreeMap<u64, (u64, u64)> {
    let mut newest = BTreeMap::new();
    for number in 0..JOBS {
        let Some(stored) = store.load(&job(number)).await.expect("no job is damaged") else { continue };
        let n = number_of(number, &stored);
        let last = RowKey::Directive { seq: u64::MAX };
        let found =
            store.rows(&job(number), last.first_of_kind(), last, 100).await.expect("no row is damaged");
        let expected =
            (n.saturating_sub(9)..=n).map(|k| (RowKey::Directive { seq: k }, content(number, k + 1)));
        assert!(found == expected.collect::<Vec<_>>(), "job {number}: the rows are those of save {n}");
        newest.insert(number, (n, stored.version));
    }
    newest
}

/// Not a test by itself: the writer process. Prints `ready`, then `saved JOB N` when a save was acknowledged and
/// `seen JOB N` when one was read, until it is killed.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(WRITER) else { return };
    let store = match SledStore::open(Path::new(&path), SledOptions::default()) {
        Ok(store) => Arc::new(store),
        Err(e) => return println!("\nrefused {e}"),
    };
    println!("\nready");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let newest = check(&*store).await;
        for number in 0..JOBS {
            let (store, at) = (store.clone(), newest.get(&number).copied());
            tokio::spawn(write_for_ever(store, number, at));
        }
        read_for_ever(&store).await;
    });
}

async fn write_for_ever(store: Arc<SledStore>, number: u64, at: Option<(u64, u64)>) {
    let (mut n, mut version) = (at.map_or(0, |(n, _)| n + 1), at.map(|(_, version)| version));
    loop {
        version = Some(save(&*store, number, version, n).await.expect("saved"));
        println!("saved {number} {n}");
        n += 1;
    }
}

async fn read_for_ever(store: &SledStore) {
    for number in (0..JOBS).cycle() {
        if let Some(stored) = store.load(&job(number)).await.expect("no job is damaged") {
            println!("seen {number} {}", number_of(number, &stored));
        }
    }
}

fn start_writer(path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().expect("this executable"))
        .args(["--exact", "writer", "--nocapture"])
        .env(WRITER, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    (child, output)
}

/// The first line that begins with `word`.
fn line_with(output: &mut impl BufRead, word: &str) -> String {
    let mut lines = output.lines().map_while(Result::ok);
    lines.find(|line| line.starts_with(word)).unwrap_or_else(|| panic!("the writer never said {word}"))
}

/// Lets the writer work for a while, kills it, and raises `promised` to what it had said.
fn run_and_kill(path: &Path, work: Duration, promised: &mut BTreeMap<u64, u64>) -> usize {
    let (mut child, mut output) = start_writer(path);
    line_with(&mut output, "ready");
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        output.read_to_end(&mut text).expect("the pipe is read");
        text
    });
    std::thread::sleep(work);
    child.kill().expect("SIGKILL is sent");
    child.wait().expect("it has ended");
    let text = String::from_utf8(reader.join().expect("the reader ends")).expect("text");
    let mut saves = 0;
    // Without the last line, which may be cut.
    for line in text.rsplit_once('\n').map_or("", |(lines, _)| lines).lines() {
        let [what, number, n] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        let (number, n) = (number.parse().expect("a job"), n.parse().expect("a save"));
        let known: &mut u64 = promised.entry(number).or_default();
        *known = (*known).max(n);
        saves += usize::from(what == "saved");
    }
    saves
}

#[tokio::test]
async fn nothing_acknowledged_or_shown_is_lost_when_the_process_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let (mut promised, mut saves) = (BTreeMap::new(), 0);
    for kill in 0..10 {
        saves += run_and_kill(path, Duration::from_millis(50 + 53 * kill), &mut promised);
        let store = SledStore::open(path, SledOptions::default()).expect("it opens again");
        let found = check(&store).await;
        for (number, n) in &promised {
            let (stored, _) = found.get(number).expect("the job is there");
            assert!(stored >= n, "kill {kill}: job {number} had save {n}, {stored} is found");
        }
        store.close().await;
    }
    println!("{saves} acknowledged saves, 10 kills");
    assert!(saves > 100, "the writer did work: {saves} saves");
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut holder, mut output) = start_writer(directory.path());
    line_with(&mut output, "ready");
    let pid = format!("in use by process {}", holder.id());

    let (mut second, mut second_output) = start_writer(directory.path());
    let refusal = line_with(&mut second_output, "refused");
    assert!(refusal.contains(&pid), "{refusal}");
    second.wait().expect("it has ended");
    let refusal = SledStore::open(directory.path(), SledOptions::default()).err().expect("refused here too");
    assert!(refusal.to_string().contains(&pid), "{refusal}");

    // The lock goes with its holder.
    holder.kill().expect("SIGKILL is sent");
    holder.wait().expect("it has ended");
    SledStore::open(directory.path(), SledOptions::default()).expect("the store is free");
}

/// A small file system in memory.
struct Tmpfs(PathBuf);

impl Tmpfs {
    /// `None`, with the reason printed, where it can't be mounted.
    fn mount(path: &Path, mib: u64) -> Option<Self> {
        let option = format!("size={mib}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(path).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(path.to_owned())),
            Ok(output) => {
                println!("skipped: no tmpfs here ({})", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(e) => {
                println!("skipped: mount can't be run ({e})");
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn until(store: &SledStore, healthy: bool) {
    let mut health = store.health();
    let changed = health.wait_for(|now| (*now == Health::Healthy) == healthy);
    tokio::time::timeout(Duration::from_secs(60), changed).await.expect("in time").expect("the store lives");
}

/// Saves until a save fails, and returns how: what was acknowledged is in `newest`.
async fn fill(store: &SledStore, newest: &mut BTreeMap<u64, (u64, u64)>) -> StoreError {
    for number in (0..JOBS).cycle() {
        let at = newest.get(&number).copied();
        let n = at.map_or(0, |(n, _)| n + 1);
        match save(store, number, at.map(|(_, version)| version), n).await {
            Ok(version) => newest.insert(number, (n, version)),
            Err(e) => return e,
        };
        // What stays: the sum is another one each time.
        let name = JobKey::new("weight", newest.values().map(|(n, _)| n + 1).sum::<u64>().to_string());
        let weight = RowWrite::Put { key: RowKey::Commit { stage: 0 }, record: vec![7; 100_000].into() };
        if let Err(e) = store.save(&name, None, "weight".into(), vec![weight]).await {
            return e;
        }
    }
    unreachable!("the loop only ends with an error")
}

/// What is found must be what was acknowledged; a save that failed may be there or not.
async fn check_against(store: &SledStore, newest: &mut BTreeMap<u64, (u64, u64)>) {
    let found = check(store).await;
    for (number, (n, _)) in newest.iter() {
        let (stored, _) = found.get(number).expect("the job is there");
        assert!((*n..=n + 1).contains(stored), "job {number} had save {n}, {stored} is found");
    }
    *newest = found;
}

fn quick(min_free_bytes: u64) -> SledOptions {
    SledOptions { min_free_bytes, reopen_every: Duration::from_millis(200), ..SledOptions::default() }
}

#[tokio::test]
async fn a_nearly_full_disk_refuses_and_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(disk) = Tmpfs::mount(directory.path(), 48) else { return };
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0; 8 << 20]).expect("there is room");
    let store = SledStore::open(&disk.0.join("store"), quick(16 << 20)).expect("the store opens");
    let mut newest = BTreeMap::new();
    let refused = fill(&store, &mut newest).await;
    assert!(matches!(refused, StoreError::Full { free, .. } if free < 16 << 20), "{refused}");
    until(&store, false).await;
    check_against(&store, &mut newest).await;
    assert!(matches!(store.remove(&job(0)).await, Err(StoreError::Full { .. })));

    std::fs::remove_file(&ballast).expect("removed");
    until(&store, true).await;
    let (n, version) = newest[&0];
    save(&store, 0, Some(version), n + 1).await.expect("there is room");
    store.close().await;
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_the_store_comes_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(disk) = Tmpfs::mount(directory.path(), 40) else { return };
    let ballast = disk.0.join("ballast");
    let path = disk.0.join("store");
    // Without the check of free space, the disk fills up under sled.
    let store = SledStore::open(&path, quick(0)).expect("the store opens");
    let mut newest = BTreeMap::new();
    for (round, mib) in [24, 12, 4].into_iter().enumerate() {
        std::fs::write(&ballast, vec![0; mib << 20]).expect("there is room");
        let failed = fill(&store, &mut newest).await;
        assert!(matches!(failed, StoreError::Unavailable(_)), "round {round}: {failed}");
        until(&store, false).await;
        std::fs::remove_file(&ballast).expect("removed");
        until(&store, true).await;
        check_against(&store, &mut newest).await;
    }
    store.close().await;
    let store = SledStore::open(&path, quick(0)).expect("the store opens again");
    check_against(&store, &mut newest).await;
}
