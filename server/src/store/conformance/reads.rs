//! Listing, rows, and what a reader may see.

use super::{Subject, all_rows, content, create, directive, put};
use crate::store::{Health, JobKey, JobStore, RowKey, StoreError};

async fn names(store: &dyn JobStore, tenant: &str) -> Vec<String> {
    let page = store.list(tenant, None, usize::MAX).await.expect("a list");
    page.into_iter().map(|job| job.name).collect()
}

pub(super) async fn names_keep_their_order(subject: &mut Subject) {
    let ordered = [
        "",
        "\0",
        "\0\0",
        "\0a",
        "-",
        "a",
        "a\0",
        "a\0\u{1}",
        "a-",
        "a.b",
        "a0",
        "ab",
        "b",
        "ä",
        "\u{10ffff}",
    ];
    for (i, name) in ordered.iter().enumerate().rev() {
        let job = JobKey::new("order", *name);
        let rows = vec![put(directive(1), *name)];
        subject.store.save(&job, None, content(i as u64, 5000), rows).await.expect("saved");
    }
    subject.reopen().await;
    assert_eq!(names(&*subject.store, "order").await, ordered);
    for name in ordered {
        assert_eq!(
            all_rows(&*subject.store, &JobKey::new("order", name)).await,
            [(directive(1), name.into())]
        );
    }
}

pub(super) async fn pages_cover_a_tenant(subject: &mut Subject) {
    let all: Vec<String> = (0..25).map(|i| format!("job{i:02}")).collect();
    for (i, name) in all.iter().enumerate() {
        create(&*subject.store, &JobKey::new("pages", name), content(i as u64, 9000)).await;
    }
    subject.reopen().await;
    let store = &subject.store;
    for size in [1, 4, 24, 25, 26] {
        let mut seen = Vec::new();
        loop {
            let page = store.list("pages", seen.last().map(String::as_str), size).await.expect("a page");
            assert!(page.len() <= size);
            if page.is_empty() {
                break;
            }
            for job in page {
                let stored = job.stored.expect("nothing is damaged");
                assert!(stored.snapshot == content(seen.len() as u64, 9000));
                seen.push(job.name);
            }
        }
        assert_eq!(seen, all, "pages of {size}");
    }
    assert_eq!(store.list("pages", None, 0).await.expect("a page").len(), 0);
    assert_eq!(store.list("pages", Some("job23"), 9).await.expect("a page").len(), 1);
    assert_eq!(
        store.list("pages", Some("job235"), 9).await.expect("a page").len(),
        1,
        "`after` need not exist"
    );
    assert_eq!(store.list("pages", Some("zzz"), 9).await.expect("a page").len(), 0);
}

pub(super) async fn similar_names_are_different_jobs(subject: &mut Subject) {
    let tenants = ["t", "t.", "t\0", "tt", "", "t\0\u{1}"];
    let jobs = ["a", "a.b", "ab", "a\0", "a\0\u{1}"];
    let keys = || tenants.iter().flat_map(|t| jobs.map(|j| JobKey::new(format!("similar{t}"), j)));
    for key in keys() {
        let rows = vec![put(directive(1), key.to_string()), put(RowKey::StageEnd { stage: u32::MAX }, "end")];
        subject.store.save(&key, None, key.to_string().into(), rows).await.expect("saved");
    }
    for removed in keys() {
        assert_eq!(subject.store.remove(&removed).await, Ok(true));
        assert_eq!(all_rows(&*subject.store, &removed).await, []);
        for other in keys().filter(|key| *key != removed) {
            let stored = subject.store.load(&other).await.expect("a read").expect("other jobs stay");
            assert_eq!(stored.snapshot, other.to_string());
            let rows = all_rows(&*subject.store, &other).await;
            assert_eq!(rows.len(), 2, "{other} keeps its rows when {removed} is removed");
            assert_eq!(rows[0].1, other.to_string());
        }
        assert_eq!(names(&*subject.store, &removed.tenant).await.len(), jobs.len() - 1);
        let rows =
            vec![put(directive(1), removed.to_string()), put(RowKey::StageEnd { stage: u32::MAX }, "end")];
        subject.store.save(&removed, None, removed.to_string().into(), rows).await.expect("saved");
    }
}

/// One row of each kind at each border of its numbers, in order.
fn border_keys() -> Vec<RowKey> {
    let stages = [0, 1, 256, u32::MAX];
    let mut keys: Vec<RowKey> = [0, 1, 255, 256, u64::MAX].map(directive).into();
    keys.extend([0, 256, u64::MAX].map(|seq| RowKey::Checkpoint { seq }));
    keys.extend(stages.iter().flat_map(|&stage| stages.map(|trial| RowKey::Trial { stage, trial })));
    keys.extend(stages.map(|stage| RowKey::Commit { stage }));
    keys.extend(stages.map(|stage| RowKey::StageEnd { stage }));
    keys
}

pub(super) async fn rows_come_in_order(subject: &mut Subject) {
    let job = JobKey::new("ranges", "job");
    let keys = border_keys();
    let rows = keys.iter().rev().map(|key| put(*key, content(1, 5000))).collect();
    subject.store.save(&job, None, "x".into(), rows).await.expect("saved");
    for other in ["jo", "joba"] {
        let rows = vec![put(directive(0), "x"), put(RowKey::StageEnd { stage: u32::MAX }, "x")];
        subject.store.save(&JobKey::new("ranges", other), None, "x".into(), rows).await.expect("saved");
    }
    subject.reopen().await;
    let store = &subject.store;
    for (i, &first) in keys.iter().enumerate() {
        for (j, &last) in keys.iter().enumerate() {
            let found = store.rows(&job, first, last, usize::MAX).await.expect("rows are read");
            let found: Vec<RowKey> = found.into_iter().map(|(key, _)| key).collect();
            assert_eq!(found, if i <= j { &keys[i..=j] } else { &[] }, "{first} through {last}");
        }
    }
    let some = store.rows(&job, directive(1), directive(u64::MAX), 2).await.expect("rows are read");
    assert_eq!(some.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [directive(1), directive(255)]);
    assert_eq!(store.rows(&job, directive(0), directive(9), 0).await, Ok(vec![]));
    let trials = RowKey::Trial { stage: 1, trial: 0 }..=RowKey::Trial { stage: 1, trial: u32::MAX };
    let of_stage = store.rows(&job, *trials.start(), *trials.end(), 99).await.expect("rows are read");
    assert_eq!(of_stage.len(), 4, "the trials of one stage");
}

pub(super) async fn rows_are_found_at_borders(subject: &mut Subject) {
    let job = JobKey::new("borders", "job");
    let rows = [10, 20, 30].map(|seq| put(RowKey::Checkpoint { seq }, content(seq, 5000)));
    let others = [put(directive(15), "x"), put(RowKey::Trial { stage: 0, trial: 0 }, "x")];
    subject
        .store
        .save(&job, None, "x".into(), rows.into_iter().chain(others).collect())
        .await
        .expect("saved");
    let store = &subject.store;
    let cases = [(0, None), (9, None), (10, Some(10)), (11, Some(10)), (20, Some(20)), (29, Some(20))];
    for (asked, expected) in cases.into_iter().chain([(30, Some(30)), (31, Some(30)), (u64::MAX, Some(30))]) {
        let found = store.row_at_or_before(&job, RowKey::Checkpoint { seq: asked }).await.expect("a read");
        let expected = expected.map(|seq| (RowKey::Checkpoint { seq }, content(seq, 5000)));
        assert!(found == expected, "at or before {asked}");
        assert_eq!(
            store.row(&job, RowKey::Checkpoint { seq: asked }).await.expect("a read").is_some(),
            asked % 10 == 0 && (10..=30).contains(&asked)
        );
    }
    let before_all = store.row_at_or_before(&job, RowKey::Commit { stage: 5 }).await;
    assert_eq!(before_all, Ok(None), "a row of another kind is not an answer");
    let nobody = JobKey::new("borders", "jobb");
    assert_eq!(store.row_at_or_before(&nobody, directive(u64::MAX)).await, Ok(None));
}

/// A reader never sees the parts of a record, or a record and its row, from two different saves.
pub(super) async fn readers_see_whole_saves(subject: &mut Subject) {
    let job = JobKey::new("whole", "job");
    let store = subject.store.clone();
    let mut version = create(&*store, &job, content(0, 50_000)).await;
    let writer = tokio::spawn({
        let (store, job) = (store.clone(), job.clone());
        async move {
            for n in 1..=50 {
                let row = vec![put(directive(0), content(n, 50_000))];
                version = store.save(&job, Some(version), content(n, 50_000), row).await.expect("saved");
            }
        }
    });
    let mut newest = 0;
    while !writer.is_finished() {
        let stored = store.load(&job).await.expect("a read").expect("the job is there");
        assert!(stored.version >= newest, "time does not run back");
        newest = stored.version;
        let seed = (0..=50).find(|n| stored.snapshot == content(*n, 50_000));
        assert!(seed.is_some(), "a snapshot of one save");
        let row = store.row(&job, directive(0)).await.expect("a read");
        assert!(row.is_none_or(|row| (1..=50).any(|n| row == content(n, 50_000))), "a row of one save");
    }
    writer.await.expect("the writer ends well");
}

pub(super) async fn a_closed_store_says_so(subject: &mut Subject) {
    let job = JobKey::new("closed", "job");
    let health = subject.store.health();
    assert_eq!(*health.borrow(), Health::Healthy);
    assert!(subject.store.heartbeat().elapsed().as_secs() < 30);
    create(&*subject.store, &job, "x").await;
    if subject.open.is_none() {
        return;
    }
    let closed = subject.store.clone();
    closed.close().await;
    closed.close().await;
    assert!(matches!(*health.borrow(), Health::Unavailable(_)));
    assert!(matches!(closed.load(&job).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(closed.save(&job, Some(1), "y".into(), vec![]).await, Err(StoreError::Unavailable(_))));
    subject.reopen().await;
    assert!(subject.store.load(&job).await.expect("a read").is_some());
}
