//! Damage, foreign files, and failures under the store.

use super::*;
use std::fs;

const QUICK: SledOptions = SledOptions {
    cache_bytes: 1 << 20,
    min_free_bytes: 0,
    reopen_every: Duration::from_millis(50),
    create: true,
    accept_cut: false,
};

fn open(path: &Path) -> SledStore {
    SledStore::open(path, QUICK).expect("the store opens")
}

fn refusal(path: &Path) -> StoreError {
    SledStore::open(path, QUICK).err().expect("the store is refused")
}

/// Changes the database under the store.
fn meddle(path: &Path, change: impl FnOnce(&::sled::Db)) {
    let directory = Directory::lock(path).expect("nobody has it");
    let db = ::sled::open(directory.database()).expect("sled opens");
    change(&db);
    db.flush().expect("flushed");
}

async fn save(store: &SledStore, job: &JobKey, expected: Option<u64>, len: usize) -> u64 {
    let rows = vec![RowWrite::Put { key: RowKey::Directive { seq: 1 }, record: vec![1; len].into() }];
    store.save(job, expected, vec![2; len].into(), rows).await.expect("saved")
}

/// Three jobs, `b` among them damaged by `damage`, which gets the database and the key of part 1 of b's snapshot.
async fn with_damage(damage: impl FnOnce(&::sled::Db, Vec<u8>)) -> (tempfile::TempDir, SledStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    for name in ["a", "b", "c"] {
        save(&store, &JobKey::new("t", name), None, 10_000).await;
    }
    store.close().await;
    meddle(directory.path(), |db| damage(db, record::part(&record::snapshot(&JobKey::new("t", "b")), 1)));
    let store = open(directory.path());
    (directory, store)
}

/// `b` is reported by name and can be removed; the others are not affected.
async fn check_damage(store: &SledStore) {
    let b = JobKey::new("t", "b");
    let is_damaged = |e: &StoreError| matches!(e, StoreError::Damaged { job, .. } if *job == b);
    assert!(store.load(&b).await.is_err_and(|e| is_damaged(&e)));
    let page = store.list("t", None, 10).await.expect("a list");
    let (names, damaged): (Vec<_>, Vec<_>) =
        page.iter().map(|job| (job.name.as_str(), job.stored.as_ref().is_err_and(is_damaged))).unzip();
    assert_eq!((names, damaged), (vec!["a", "b", "c"], vec![false, true, false]));
    let c = JobKey::new("t", "c");
    let version = store.load(&c).await.expect("a read").expect("the job is there").version;
    save(store, &c, Some(version), 20_000).await;
    assert_eq!(store.remove(&b).await, Ok(true));
    assert_eq!(store.load(&b).await, Ok(None));
    save(store, &b, None, 100).await;
}

#[tokio::test]
async fn a_changed_part_damages_one_job() {
    let (_directory, store) = with_damage(|db, key| {
        db.insert(key, vec![9; 4096]).expect("written");
    })
    .await;
    check_damage(&store).await;
}

#[tokio::test]
async fn a_missing_part_damages_one_job() {
    let (_directory, store) = with_damage(|db, key| {
        db.remove(key).expect("written");
    })
    .await;
    check_damage(&store).await;
}

#[tokio::test]
async fn a_changed_head_damages_one_job_and_can_not_be_saved_over() {
    let (_directory, store) = with_damage(|db, mut key| {
        *key.last_mut().expect("a key") = 0;
        db.insert(key, vec![9; 100]).expect("written");
    })
    .await;
    let b = JobKey::new("t", "b");
    let saved = store.save(&b, Some(2), "x".into(), vec![]).await;
    assert!(matches!(saved, Err(StoreError::Damaged { .. })), "{saved:?}");
    check_damage(&store).await;
}

#[tokio::test]
async fn nothing_stays_of_what_was_replaced_or_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let job = JobKey::new("t", "a");
    let store = open(directory.path());
    let version = save(&store, &job, None, 50_000).await;
    save(&store, &job, Some(version), 10).await;
    store.close().await;
    // The format, the version counter, a snapshot and a row.
    meddle(directory.path(), |db| assert_eq!(db.len(), 4));
    let store = open(directory.path());
    assert_eq!(store.remove(&job).await, Ok(true));
    store.close().await;
    meddle(directory.path(), |db| assert_eq!(db.len(), 2));
}

#[tokio::test]
async fn a_newer_store_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    open(directory.path()).close().await;
    meddle(directory.path(), |db| {
        for (key, value) in record::split(&record::meta("format"), 0, b"autolrs store format 2") {
            db.insert(key, value).expect("written");
        }
    });
    let path = directory.path().to_owned();
    assert_eq!(refusal(&path), StoreError::NewerStore { path, found: 2, known: 1 });
}

#[tokio::test]
async fn a_database_of_something_else_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    meddle(directory.path(), |db| {
        db.insert("key", "value").expect("written");
    });
    assert!(matches!(refusal(directory.path()), StoreError::NotAStore { .. }));
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("file");
    fs::write(&path, "x").expect("written");
    assert!(matches!(refusal(&path), StoreError::Directory { .. }));
}

#[test]
fn the_database_is_for_its_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let _store = open(directory.path());
    let mode = fs::metadata(directory.path().join("sled")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_second_opening_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let expected = StoreError::Locked {
        path: directory.path().to_owned(),
        holder: format!("process {}", std::process::id()),
    };
    assert_eq!(refusal(directory.path()), expected);
    store.close().await;
    open(directory.path());
}

#[tokio::test]
async fn an_unfinished_index_snapshot_does_not_keep_the_store_shut() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let job = JobKey::new("t", "a");
    save(&store, &job, None, 10).await;
    store.close().await;
    fs::write(directory.path().join("sled/snap.FFFFFFFFFFFFFFFF.generating"), "half").expect("written");
    let store = open(directory.path());
    assert!(store.load(&job).await.expect("a read").is_some());
}

/// Waits for a state of health.
async fn until(store: &SledStore, healthy: bool) {
    let mut health = store.health();
    let waited = health.wait_for(|now| (*now == Health::Healthy) == healthy);
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect("in time").expect("the store lives");
}

#[tokio::test]
async fn a_database_that_does_not_open_is_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let job = JobKey::new("t", "a");
    let store = open(directory.path());
    save(&store, &job, None, 10).await;
    store.close().await;
    let (conf, hidden) = (directory.path().join("sled/conf"), directory.path().join("conf"));
    fs::rename(&conf, &hidden).expect("moved");
    fs::create_dir(&conf).expect("made");

    let store = open(directory.path());
    until(&store, false).await;
    let Err(StoreError::Unavailable(reason)) = store.load(&job).await else { panic!("it can't be read") };
    assert!(reason.contains("can't be opened"), "{reason}");
    let saved = store.save(&job, Some(1), "x".into(), vec![]).await;
    assert!(matches!(saved, Err(StoreError::Unavailable(_))), "{saved:?}");

    fs::remove_dir(&conf).expect("removed");
    fs::rename(&hidden, &conf).expect("moved back");
    until(&store, true).await;
    let version = store.load(&job).await.expect("a read").expect("nothing is lost").version;
    save(&store, &job, Some(version), 20).await;
}

/// Any damage to the log is an error, of the store or of a job, also where it costs data: never a panic of the process,
/// never a job that is silently gone, or older, or has another's content.
#[tokio::test]
async fn a_damaged_log_is_an_error_or_a_loss_but_never_a_lie() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let job = |name: u64| JobKey::new("t", format!("{name}"));
    for round in 0..2 {
        for name in 0..20 {
            let version = (round > 0).then_some(name + 1);
            save(&store, &job(name), version, 5000 + round as usize).await;
        }
    }
    store.close().await;
    let (path, mark) = (directory.path().join("sled/db"), directory.path().join("sled/mark"));
    let (whole, marked) = (fs::read(&path).expect("the log"), fs::read(&mark).expect("the mark"));
    let (mut refused, mut unread) = (0, 0);
    for at in (0..whole.len().min(500_000)).step_by(4973) {
        let mut broken = whole.clone();
        let hit = &mut broken[at..at + 64];
        if hit.iter().all(|byte| *byte == 0) {
            continue;
        }
        hit.fill(0xa5);
        fs::write(&path, &broken).expect("written");
        fs::write(&mark, &marked).expect("written");
        match SledStore::open(directory.path(), QUICK) {
            Err(StoreError::Cut { found, marked, .. }) => {
                assert!(found < marked);
                refused += 1;
                let accepted = SledOptions { accept_cut: true, ..QUICK };
                let store = SledStore::open(directory.path(), accepted).expect("what is left is opened");
                assert!(store.cut().is_some());
                store.close().await;
            }
            Err(_) => refused += 1,
            Ok(store) => {
                for name in 0..20 {
                    match store.load(&job(name)).await {
                        Ok(stored) => assert_eq!(stored.expect("it is there").snapshot, vec![2; 5001]),
                        Err(_) => unread += 1,
                    }
                }
                store.close().await;
            }
        }
    }
    assert!(refused > 0, "{refused} stores were refused, {unread} jobs not read");
}

#[tokio::test]
async fn a_store_without_a_mark_or_with_a_torn_one_opens() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mark, job) = (directory.path().join("sled/mark"), JobKey::new("t", "a"));
    let store = open(directory.path());
    save(&store, &job, None, 10).await;
    store.close().await;
    for torn in [&[][..], &[0xff; 5], &[0xff; 12]] {
        fs::write(&mark, torn).expect("written");
        open(directory.path()).close().await;
    }
    fs::remove_file(&mark).expect("removed");
    let store = open(directory.path());
    save(&store, &job, Some(1), 10).await;
    store.close().await;
    for entry in fs::read_dir(directory.path().join("sled")).expect("sled's directory") {
        match entry.expect("an entry").path() {
            path if path == mark => {}
            path if path.is_dir() => fs::remove_dir_all(path).expect("removed"),
            path => fs::remove_file(path).expect("removed"),
        }
    }
    assert!(matches!(refusal(directory.path()), StoreError::Cut { found: 0, marked: 2, .. }));
}

fn database_bytes(path: &Path) -> u64 {
    fs::metadata(path.join("sled/db")).expect("the database").len()
}

/// Some jobs with a history each, live for a while and removed.
async fn generation(store: &SledStore, number: u64) {
    let jobs: Vec<_> = (0..16).map(|job| JobKey::new("t", format!("{number}-{job}"))).collect();
    for job in &jobs {
        let mut version = None;
        for seq in 0..4 {
            let record: Bytes = (0..30_000u64).map(|i| (i * 31 + seq + number) as u8).collect();
            let rows = vec![RowWrite::Put { key: RowKey::Directive { seq }, record: record.clone() }];
            version = Some(store.save(job, version, record, rows).await.expect("saved"));
        }
    }
    for job in &jobs {
        assert_eq!(store.remove(job).await, Ok(true));
    }
}

#[tokio::test]
async fn the_space_of_removed_jobs_is_used_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let mut sizes = Vec::new();
    for number in 0..10 {
        generation(&store, number).await;
        sizes.push(database_bytes(directory.path()));
    }
    let most = |sizes: &[u64]| sizes.iter().copied().max().unwrap_or_default();
    assert!(most(&sizes[5..]) <= most(&sizes[..5]) + (2 << 20), "{sizes:?}");
    assert!(most(&sizes) < 10 * (16 * 4 * 60_000) / 2, "{sizes:?}");
    store.close().await;
}

#[tokio::test]
async fn the_space_that_is_left_is_known() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let disk = store.disk().expect("it has a disk");
    assert!(disk.free > 0 && disk.least == QUICK.min_free_bytes, "{disk:?}");
    store.close().await;
}
