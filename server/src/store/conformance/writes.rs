//! Saving and removing.

use super::{Subject, all_rows, content, create, directive, put};
use crate::store::{JobKey, MAX_RECORD, RowKey, RowWrite, StoreError};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

pub(super) async fn versions_guard_a_save(subject: &mut Subject) {
    let job = JobKey::new("versions", "job");
    let store = subject.store.clone();
    assert_eq!(store.load(&job).await, Ok(None));
    let conflict = |expected, found| Err(StoreError::Conflict { job: job.clone(), expected, found });
    assert_eq!(store.save(&job, Some(1), "x".into(), vec![]).await, conflict(Some(1), None));

    let first = create(&*store, &job, "one").await;
    assert_eq!(store.save(&job, None, "x".into(), vec![]).await, conflict(None, Some(first)));
    let second = store.save(&job, Some(first), "two".into(), vec![]).await.expect("the version is right");
    assert!(second > first, "versions grow");
    assert_eq!(store.save(&job, Some(first), "x".into(), vec![]).await, conflict(Some(first), Some(second)));

    subject.reopen().await;
    let stored = subject.store.load(&job).await.expect("a read").expect("the job is there");
    assert_eq!((stored.version, &*stored.snapshot), (second, &b"two"[..]));
    let third = subject.store.save(&job, Some(second), "three".into(), vec![]).await;
    assert!(third.expect("the version is right") > second, "versions grow after opening again, too");
}

pub(super) async fn a_removed_job_is_gone(subject: &mut Subject) {
    let (job, other) = (JobKey::new("removal", "job"), JobKey::new("removal", "job2"));
    let store = subject.store.clone();
    assert_eq!(store.remove(&job).await, Ok(false));
    for key in [&job, &other] {
        let rows = vec![put(directive(1), content(1, 9000)), put(RowKey::Commit { stage: 0 }, "row")];
        store.save(key, None, content(2, 9000), rows).await.expect("a new job is saved");
    }
    let version = store.load(&job).await.expect("a read").expect("the job is there").version;
    assert_eq!(store.remove(&job).await, Ok(true));
    assert_eq!(store.remove(&job).await, Ok(false));

    subject.reopen().await;
    let store = subject.store.clone();
    assert_eq!(store.load(&job).await, Ok(None));
    assert_eq!(all_rows(&*store, &job).await, []);
    assert_eq!(all_rows(&*store, &other).await.len(), 2, "the other job keeps its rows");
    let anew = create(&*store, &job, "anew").await;
    assert!(anew > version, "a version is never used again");
    assert_eq!(all_rows(&*store, &job).await, [], "a job created anew has no rows");
}

pub(super) async fn rows_change_in_their_order(subject: &mut Subject) {
    let job = JobKey::new("rows", "job");
    let store = subject.store.clone();
    let rows = vec![put(directive(1), content(1, 20_000)), put(directive(2), "b"), put(directive(3), "c")];
    let first = store.save(&job, None, "one".into(), rows).await.expect("saved");
    let rows = vec![
        put(directive(1), "shorter"),
        RowWrite::Delete(directive(2)),
        put(directive(4), "deleted at once"),
        RowWrite::Delete(directive(4)),
        RowWrite::Delete(directive(5)),
        put(directive(5), "first"),
        put(directive(5), "last wins"),
    ];
    let second = store.save(&job, Some(first), "two".into(), rows).await.expect("saved");
    let expected =
        [(1, "shorter"), (3, "c"), (5, "last wins")].map(|(seq, text)| (directive(seq), text.into()));
    assert_eq!(all_rows(&*store, &job).await, expected);

    subject.reopen().await;
    let store = subject.store.clone();
    assert_eq!(all_rows(&*store, &job).await, expected);
    let rows = vec![put(directive(6), "cleared"), RowWrite::Clear, put(directive(7), "kept")];
    store.save(&job, Some(second), "three".into(), rows).await.expect("saved");
    assert_eq!(all_rows(&*store, &job).await, [(directive(7), "kept".into())]);
}

pub(super) async fn a_refused_save_changes_nothing(subject: &mut Subject) {
    let job = JobKey::new("refused", "job");
    let store = &subject.store;
    let version =
        store.save(&job, None, "kept".into(), vec![put(directive(1), "kept")]).await.expect("saved");
    let rows = || vec![RowWrite::Clear, put(directive(2), "new")];
    store.save(&job, Some(version + 1), "new".into(), rows()).await.expect_err("the version is wrong");
    store.save(&job, None, "new".into(), rows()).await.expect_err("the job exists");
    let large = vec![0; MAX_RECORD + 1];
    let too_large = Err(StoreError::TooLarge { job: job.clone(), len: MAX_RECORD + 1 });
    assert_eq!(store.save(&job, Some(version), large.clone().into(), rows()).await, too_large);
    let large_row = vec![RowWrite::Clear, put(directive(2), large)];
    assert_eq!(store.save(&job, Some(version), "new".into(), large_row).await, too_large);

    let stored = store.load(&job).await.expect("a read").expect("the job is there");
    assert_eq!((stored.version, &*stored.snapshot), (version, &b"kept"[..]));
    assert_eq!(all_rows(&**store, &job).await, [(directive(1), "kept".into())]);
}

pub(super) async fn large_records_are_kept(subject: &mut Subject) {
    // Around the size of a part (4 KiB) and of sled's own limits (128 KiB), up to 2 MB, then down again.
    let sizes = [0, 1, 4095, 4096, 4097, 8192, 131_000, 132_000, 2_000_000, 5000, 0];
    let mut versions = Vec::new();
    for (i, &size) in sizes.iter().enumerate() {
        let job = JobKey::new("large", format!("job{i}"));
        let rows = vec![put(directive(1), content(i as u64 + 100, size))];
        versions.push(subject.store.save(&job, None, content(i as u64, size), rows).await.expect("saved"));
    }
    subject.reopen().await;
    for (i, &size) in sizes.iter().enumerate() {
        let job = JobKey::new("large", format!("job{i}"));
        let stored = subject.store.load(&job).await.expect("a read").expect("the job is there");
        assert!(stored.snapshot == content(i as u64, size), "{size} bytes come back");
        let row = subject.store.row(&job, directive(1)).await.expect("a read");
        assert!(row == Some(content(i as u64 + 100, size)), "a row of {size} bytes comes back");
    }
    let job = JobKey::new("large", "job0");
    let mut version = versions[0];
    for (i, &size) in sizes.iter().enumerate() {
        let rows = vec![put(directive(1), content(i as u64, size))];
        version = subject.store.save(&job, Some(version), content(7, size), rows).await.expect("saved");
        let stored = subject.store.load(&job).await.expect("a read").expect("the job is there");
        assert!(stored.snapshot == content(7, size), "{size} bytes replace others");
        assert_eq!(all_rows(&*subject.store, &job).await.len(), 1);
    }
}

/// 64 tasks raise one counter; each retries until it has raised it once.
pub(super) async fn one_of_many_writers_wins(subject: &mut Subject) {
    let job = JobKey::new("contended", "job");
    create(&*subject.store, &job, "0").await;
    let mut tasks = JoinSet::new();
    for _ in 0..64 {
        let (store, job) = (subject.store.clone(), job.clone());
        tasks.spawn(async move {
            loop {
                let seen = store.load(&job).await.expect("a read").expect("the job is there");
                let count: u64 =
                    std::str::from_utf8(&seen.snapshot).expect("text").parse().expect("a number");
                let next = count + 1;
                let row = vec![put(directive(next), next.to_string())];
                match store.save(&job, Some(seen.version), next.to_string().into(), row).await {
                    Ok(version) => return version,
                    Err(StoreError::Conflict { found, .. }) => assert_ne!(found, Some(seen.version)),
                    Err(e) => panic!("{e}"),
                }
            }
        });
    }
    let versions: BTreeSet<u64> = tasks.join_all().await.into_iter().collect();
    assert_eq!(versions.len(), 64, "no version is given twice");
    subject.reopen().await;
    let stored = subject.store.load(&job).await.expect("a read").expect("the job is there");
    assert_eq!((&*stored.snapshot, Some(stored.version)), (&b"64"[..], versions.last().copied()));
    assert_eq!(all_rows(&*subject.store, &job).await.len(), 64);
}

pub(super) async fn writers_of_many_jobs_do_not_meet(subject: &mut Subject) {
    let mut tasks = JoinSet::new();
    for i in 0..64 {
        let store = subject.store.clone();
        tasks.spawn(async move {
            let job = JobKey::new("parallel", format!("job{i}"));
            let mut version = None;
            for n in 0..10 {
                let row = vec![put(directive(n), content(n, 100))];
                version =
                    Some(store.save(&job, version, content(i * 100 + n, 5000), row).await.expect("saved"));
            }
        });
    }
    tasks.join_all().await;
    subject.reopen().await;
    for i in 0..64 {
        let job = JobKey::new("parallel", format!("job{i}"));
        let stored = subject.store.load(&job).await.expect("a read").expect("the job is there");
        assert!(stored.snapshot == content(i * 100 + 9, 5000));
        assert_eq!(all_rows(&*subject.store, &job).await.len(), 10);
    }
}
