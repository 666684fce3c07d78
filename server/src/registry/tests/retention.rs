//! What is kept: ended jobs for their time, losses in detail for the newest directives.

use super::*;
use crate::{
    actor::ScheduleView,
    retention::Retention,
    store::{JobStore, RowKey, RowWrite, codec, memory::MemoryStore},
};
use autolrs_core::{directive::Directive, job::DirectiveRecord, policy::downsample};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const KEEP: Duration = Duration::from_secs(100);

async fn expires(server: &Server) -> bool {
    server.registry.expire(&server.key, KEEP).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_job_that_has_ended_is_removed_after_its_time_and_not_before() {
    let server = Server::new();
    server.create(STEPS).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    server.report(losses(&opened, 40)).await.unwrap();
    tokio::time::sleep(10 * KEEP).await;
    assert!(!expires(&server).await, "it may go on");
    server.report(losses(&opened, STEPS)).await.unwrap();
    tokio::time::sleep(KEEP).await;
    assert!(!expires(&server).await, "its time is not over");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(expires(&server).await);
    assert_eq!(reason(&server.report(losses(&opened, 1)).await.unwrap_err()), "JOB_NOT_FOUND");
    server.create(STEPS).await.unwrap();
    assert!(!expires(&server).await, "a new job of the name");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_counts_from_its_end_and_one_that_is_watched_stays() {
    let server = Server::new();
    server.create(STEPS).await.unwrap();
    tokio::time::sleep(10 * KEEP).await;
    server.cancel().await.unwrap();
    assert!(!expires(&server).await);
    let watching = server.registry.ask(&server.key, Message::Watch).await.unwrap();
    tokio::time::sleep(2 * KEEP).await;
    assert!(!expires(&server).await);
    drop(watching);
    assert!(expires(&server).await);
}

/// Ends the job of this server, if it is to end.
async fn live(server: &Server, ends: bool) {
    server.create(STEPS).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    server.report(losses(&opened, if ends { STEPS } else { 40 })).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ended_jobs_of_every_tenant_are_found_and_nothing_else_is_removed() {
    let store = Arc::new(MemoryStore::default());
    let mut server = Server::on(store.clone(), START);
    for (tenant, name, ends) in
        [("a", "ended", true), ("a", "open", false), ("b", "ended", true), ("c", "open", false)]
    {
        server.key = JobKey::new(tenant, name);
        live(&server, ends).await;
    }
    for number in 0..100 {
        server.key = JobKey::new("many", format!("job-{number:03}"));
        live(&server, number % 3 > 0).await;
    }
    let damaged = JobKey::new("b", "damaged");
    store.save(&damaged, None, "no snapshot".into(), Vec::<RowWrite>::new()).await.unwrap();
    let (keep, received) = watch::channel(None);
    let retention = Retention {
        store: store.clone(),
        registry: server.registry.clone(),
        clock: server.registry.shared.clock,
        keep: received,
        draining: CancellationToken::new(),
    };
    let task = tokio::spawn(retention.run());
    let left = async || {
        let (mut left, mut after) = (Vec::new(), None);
        while let Some(job) = store.next_whole(after.as_ref()).await.unwrap() {
            left.push(job.key.to_string());
            after = Some(job.key);
        }
        left
    };
    let all = left().await;
    tokio::time::sleep(100 * KEEP).await;
    assert_eq!(left().await, all, "it is off");
    keep.send(Some(KEEP)).unwrap();
    tokio::time::sleep(KEEP / 5).await;
    let open = (0..100).filter(|number| number % 3 == 0).map(|number| format!("many/job-{number:03}"));
    let expected: Vec<_> =
        ["a/open", "b/damaged", "c/open"].map(String::from).into_iter().chain(open).collect();
    assert_eq!(left().await, expected);
    drop(keep);
    task.await.unwrap();
}

/// Runs a job of many directives to its end; its schedule, and what is kept of its directives.
async fn run(history: u64) -> (ScheduleView, Vec<DirectiveRecord>) {
    let store = Arc::new(Trap::default());
    let bounds = Bounds { jobs: 100, mailbox: 4, idle: Duration::from_secs(600), history };
    let registry = Registry::new(store.clone(), Clock::starting_at(START), bounds);
    let server = Server { registry, key: JobKey::new("default", "job") };
    server.create(60_000).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    let mut directive: Directive = opened.directive.clone();
    while let Some(run) = directive.run() {
        let train_losses = (0..run.steps()).map(|i| (directive.seq * 1000 + i) as f64).collect();
        let report = Report { seq: directive.seq, train_losses, finished: true, ..losses(&opened, 1) };
        directive = server.report(report).await.unwrap().directive.unwrap();
    }
    let view = server.registry.ask(&server.key, |reply| Message::Export(false, reply)).await.unwrap();
    let (first, last) = (RowKey::Directive { seq: 0 }, RowKey::Directive { seq: u64::MAX });
    let rows = store.rows(&server.key, first, last, usize::MAX).await.unwrap();
    let records = rows.iter().map(|(key, row)| codec::decode((*key).into(), row).unwrap());
    (view, records.collect())
}

#[tokio::test]
async fn old_losses_become_few_and_no_decision_is_lost() {
    let ((view, thin), (whole_view, whole)) = tokio::join!(run(HISTORY), run(1_000_000));
    assert_eq!(view.pieces, whole_view.pieces);
    assert_eq!(thin.len(), whole.len());
    let newest = whole.last().unwrap().directive.seq;
    let (mut old, mut new) = (0, 0);
    for (thin, whole) in thin.iter().zip(&whole) {
        let seq = whole.directive.seq;
        if seq + HISTORY > newest {
            assert_eq!(thin, whole, "{seq} of {newest}");
            new += 1;
        } else {
            assert!(whole.losses.len() > 60, "{seq} of {newest}");
            let losses = downsample(&whole.losses, 8);
            assert_eq!(*thin, DirectiveRecord { losses, ..whole.clone() }, "{seq} of {newest}");
            old += 1;
        }
    }
    assert!(old > 10 && new > 2, "{old} {new}");
    let bytes = |records: &[DirectiveRecord]| postcard::to_allocvec(records).unwrap().len() / records.len();
    println!("{} directives: {} bytes each, thin {}", whole.len(), bytes(&whole), bytes(&thin));
}
