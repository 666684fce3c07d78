//! Whole jobs: walking over all of them, and putting them into another store.

use super::{Subject, all_rows, content, create, directive, put};
use crate::store::{JobKey, JobStore, MAX_RECORD, RowKey, StoreError, Stored, WholeJob};
use bytes::Bytes;

/// The jobs of the tenants that begin with `walk`.
async fn walk(store: &dyn JobStore) -> Vec<WholeJob> {
    let mut jobs: Vec<WholeJob> = Vec::new();
    let mut after = JobKey::new("wal", "");
    while let Some(job) = store.next_whole(Some(&after)).await.expect("a job") {
        after = job.key.clone();
        if !after.tenant.starts_with("walk") {
            break;
        }
        jobs.push(job);
    }
    jobs
}

pub(super) async fn a_walk_meets_every_job_of_every_tenant(subject: &mut Subject) {
    let store = subject.store.clone();
    let mut expected = Vec::new();
    for tenant in ["walk", "walk\0", "walk-", "walker"] {
        for name in ["", "\0", "a", "a\0", "a.b", "b"] {
            let key = JobKey::new(tenant, name);
            let snapshot = content(expected.len() as u64, 9000);
            let rows =
                [(directive(1), content(7, 10_000)), (RowKey::Trial { stage: 0, trial: 2 }, "t".into())];
            let rows = if name == "b" { Vec::new() } else { rows.to_vec() };
            let writes = rows.iter().map(|(key, record)| put(*key, record.clone())).collect();
            let version = store.save(&key, None, snapshot.clone(), writes).await.expect("saved");
            let stored = Some(Stored { version, snapshot });
            expected.push(WholeJob { key, stored, rows, damage: Vec::new() });
        }
    }
    expected.sort_by(|a, b| a.key.cmp(&b.key));
    let gone = expected.remove(3);
    store.remove(&gone.key).await.expect("removed");
    assert!(walk(&*store).await == expected);
    drop(store);
    subject.reopen().await;
    assert!(walk(&*subject.store).await == expected);
    let first = subject.store.next_whole(None).await.expect("a job").expect("there is one");
    assert!(first.key <= expected[0].key);
    let last = JobKey::new("\u{10ffff}", "\u{10ffff}");
    assert_eq!(subject.store.next_whole(Some(&last)).await, Ok(None));
}

pub(super) async fn tenants_come_in_order(subject: &mut Subject) {
    let store = subject.store.clone();
    let tenants = ["owner", "owner\0", "owner\0\u{1}", "owner-", "owner1"];
    for tenant in tenants.iter().rev() {
        for name in ["", "a", "\u{10ffff}"] {
            create(&*store, &JobKey::new(*tenant, name), "s").await;
        }
    }
    let (gone, mut found) = (JobKey::new("ownerless", "a"), Vec::new());
    create(&*store, &gone, "s").await;
    store.remove(&gone).await.expect("removed");
    let mut after = "owne".to_owned();
    while let Some(tenant) = store.next_tenant(Some(&after)).await.expect("a tenant") {
        if !tenant.starts_with("owner") {
            break;
        }
        found.push(tenant.clone());
        after = tenant;
    }
    assert_eq!(found, tenants);
    let first = store.next_tenant(None).await.expect("a tenant").expect("there is one");
    assert!(first.as_str() <= tenants[0]);
    assert_eq!(store.next_tenant(Some("\u{10ffff}")).await, Ok(None));
}

/// The snapshot and the rows of a walk are of one save, however fast the saves follow each other.
pub(super) async fn a_walk_sees_whole_saves(subject: &mut Subject) {
    let (before, job) = (JobKey::new("moment", ""), JobKey::new("moment", "job"));
    let store = subject.store.clone();
    let mut version = create(&*store, &job, content(0, 30_000)).await;
    let writer = tokio::spawn({
        let (store, job) = (store.clone(), job.clone());
        async move {
            for n in 1..=50 {
                let rows = (0..n).map(|seq| put(directive(seq), content(n, 9000))).collect();
                version = store.save(&job, Some(version), content(n, 30_000), rows).await.expect("saved");
            }
        }
    });
    while !writer.is_finished() {
        let found = store.next_whole(Some(&before)).await.expect("a read").expect("the job is there");
        assert_eq!((&found.key, &found.damage[..]), (&job, &[][..]));
        let snapshot = found.stored.expect("it is whole").snapshot;
        let n = found.rows.len() as u64;
        assert!(snapshot == content(n, 30_000), "the snapshot that was saved with {n} rows");
        assert!(found.rows.iter().all(|(_, row)| *row == content(n, 9000)), "the rows of save {n}");
    }
    writer.await.expect("the writer ends well");
}

pub(super) async fn a_restored_job_is_as_it_was(subject: &mut Subject) {
    let store = subject.store.clone();
    let neighbour = create(&*store, &JobKey::new("restore", "neighbour"), "x").await;
    let job = JobKey::new("restore", "job");
    let stored = Stored { version: neighbour + 1000, snapshot: content(1, 20_000) };
    let rows: Vec<(RowKey, Bytes)> = (0..5).map(|seq| (directive(seq), content(seq, 9000))).collect();
    store.restore(&job, stored.clone(), rows.clone()).await.expect("restored");
    drop(store);
    subject.reopen().await;
    let store = subject.store.clone();
    assert_eq!(store.load(&job).await, Ok(Some(stored.clone())));
    assert!(all_rows(&*store, &job).await == rows);
    let again = store.restore(&job, stored.clone(), Vec::new()).await;
    let expected = StoreError::Conflict { job: job.clone(), expected: None, found: Some(stored.version) };
    assert_eq!(again, Err(expected));
    assert!(all_rows(&*store, &job).await == rows, "a refused restore changes nothing");
    let older = JobKey::new("restore", "older");
    let low = Stored { version: 1, snapshot: "old".into() };
    store.restore(&older, low.clone(), Vec::new()).await.expect("restored");
    let next = store.save(&older, Some(1), "new".into(), vec![]).await.expect("saved");
    assert!(next > stored.version, "versions go on above all that were restored");
    let large = vec![(directive(0), Bytes::from(vec![0; MAX_RECORD + 1]))];
    let refused = store.restore(&JobKey::new("restore", "large"), low, large).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}
