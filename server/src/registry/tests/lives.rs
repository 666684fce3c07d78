//! What jobs live through while the store is well.

use super::*;
use autolrs_core::job::JobState;

#[tokio::test]
async fn an_equal_spec_finds_the_job_and_another_does_not() {
    let server = Server::new();
    let made = server.create(STEPS).await.unwrap();
    assert_eq!(server.create(STEPS).await.unwrap(), made);
    let error = server.create(STEPS + 1).await.unwrap_err();
    assert_eq!(error, Error::JobDiffers { job: "job".into(), fields: vec!["total_steps"] });
}

#[tokio::test]
async fn a_job_that_does_not_exist_takes_no_memory() {
    let server = Server::new();
    let error = server.report(Report::default()).await.unwrap_err();
    assert_eq!(error, Error::JobNotFound { job: "job".into() });
    tokio::task::yield_now().await;
    assert_eq!(server.live(), 0);
}

#[tokio::test]
async fn a_job_runs_to_its_end() {
    let server = Server::new();
    server.create(STEPS).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    assert_eq!(server.report(losses(&opened, 40)).await.unwrap().received_through, 40);
    assert_eq!(server.show().await.view.spent.committed, 40);
    let ack = server.report(losses(&opened, STEPS)).await.unwrap();
    assert!(matches!(ack.directive.map(|d| d.action), Some(Action::Done(_))));
    let view = server.show().await;
    assert_eq!((view.view.state, view.view.spent.committed), (JobState::Finished, STEPS));
    assert!(!view.detached);
}

#[tokio::test(start_paused = true)]
async fn an_idle_job_leaves_memory_and_comes_back() {
    let server = Server::new();
    let made = server.create(STEPS).await.unwrap();
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert_eq!(server.live(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.live(), 0);
    assert_eq!((server.show().await, server.live()), (made, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_trainer_is_detached_after_a_minute_and_can_be_replaced() {
    let server = Server::new();
    server.create(STEPS).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    server.report(losses(&opened, 0)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(57)).await;
    let refused = server.open(Open::default()).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { silent_seconds: 57, .. }), "{refused:?}");
    assert_eq!(reason(&refused), "SESSION_ACTIVE");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(server.show().await.detached);
    assert_eq!(server.open(Open::default()).await.unwrap().session, 2);
    assert!(!server.show().await.detached);
    assert_eq!(reason(&server.report(losses(&opened, 1)).await.unwrap_err()), "FENCED");
}

#[tokio::test(start_paused = true)]
async fn the_absence_of_the_server_is_no_silence_of_the_trainer() {
    let store: Arc<dyn JobStore> = Arc::new(Trap::default());
    let server = Server::on(store.clone(), START);
    server.create(STEPS).await.unwrap();
    server.open(Open::default()).await.unwrap();
    let soon = Server::on(store.clone(), START + 59_000);
    assert_eq!(reason(&soon.open(Open::default()).await.unwrap_err()), "SESSION_ACTIVE");
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert!(!soon.show().await.detached);
    let late = Server::on(store, START + 600_000);
    assert!(late.show().await.detached);
}

/// The first server's clock was a day ahead, or the second one's is a day behind: a trainer that has gone is replaced
/// after a minute all the same.
#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_back_over_a_restart_keeps_nobody_active() {
    let store: Arc<dyn JobStore> = Arc::new(Trap::default());
    let ahead = Server::on(store.clone(), START);
    ahead.create(STEPS).await.unwrap();
    let opened = ahead.open(Open::default()).await.unwrap();
    let server = Server::on(store, START - 86_400_000);
    assert!(!server.show().await.detached);
    assert_eq!(reason(&server.open(Open::default()).await.unwrap_err()), "SESSION_ACTIVE");
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(server.show().await.detached);
    assert_eq!(server.open(Open::default()).await.unwrap().session, opened.session + 1);
}

#[tokio::test]
async fn a_restarted_server_goes_on_where_the_job_was() {
    let store: Arc<dyn JobStore> = Arc::new(Trap::default());
    let server = Server::on(store.clone(), START);
    server.create(STEPS).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    server.report(losses(&opened, 40)).await.unwrap();
    let restarted = Server::on(store, START);
    let later = Report { first_offset: 40, ..losses(&opened, 5) };
    assert_eq!(restarted.report(later).await.unwrap().received_through, 0, "send again from here");
    let ack = restarted.report(losses(&opened, STEPS)).await.unwrap();
    assert!(ack.directive.is_some());
    let resume = Resume { uid: opened.uid, seq: opened.directive.seq, offset: 10, slots: Vec::new() };
    let open = Open { resume: Some(resume), takeover: true, ..Open::default() };
    let rewound = restarted.open(open).await.unwrap();
    assert_eq!((rewound.directive.seq, rewound.session), (opened.directive.seq, 2));
}

#[tokio::test]
async fn listeners_hear_of_an_interrupt() {
    let server = Server::new();
    server.create(STEPS).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    let (ack, mut signal) = server.registry.ask(&server.key, Message::Listen).await.unwrap();
    assert_eq!((ack.seq, ack.interrupt), (opened.directive.seq, None));
    server.cancel().await.unwrap();
    signal.changed().await.unwrap();
    assert!(signal.borrow().interrupt.is_some());
}

#[tokio::test]
async fn a_deleted_job_is_gone_and_its_name_is_free() {
    let server = Server::new();
    let delete = async |uid| server.registry.ask(&server.key, |reply| Message::Delete(uid, reply)).await;
    let uid = server.create(STEPS).await.unwrap().uid;
    assert_eq!(reason(&delete(Some(uid ^ 1)).await.unwrap_err()), "JOB_NOT_FOUND");
    let opened = server.open(Open::default()).await.unwrap();
    assert_eq!(delete(None).await, Err(Error::JobNotEnded { job: "job".into() }));
    server.report(losses(&opened, STEPS)).await.unwrap();
    delete(Some(uid)).await.unwrap();
    assert_eq!(reason(&delete(None).await.unwrap_err()), "JOB_NOT_FOUND");
    assert_eq!(reason(&server.report(losses(&opened, 1)).await.unwrap_err()), "JOB_NOT_FOUND");
    assert_ne!(server.create(STEPS).await.unwrap().uid, uid);
    assert_eq!(
        reason(&server.registry.ask(&server.key, |r| Message::Stage(0, r)).await.unwrap_err()),
        "STAGE_NOT_FOUND"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watched_job_stays_in_memory_and_tells_of_every_change() {
    let server = Server::new();
    let made = server.create(STEPS).await.unwrap();
    let (view, mut mark) = server.registry.ask(&server.key, Message::Watch).await.unwrap();
    assert_eq!((&view, mark.borrow().version), (&made, made.revision));
    tokio::time::sleep(Duration::from_secs(2000)).await;
    assert!(!mark.has_changed().unwrap());
    let opened = server.open(Open::default()).await.unwrap();
    assert!(mark.has_changed().unwrap() && mark.borrow_and_update().version > made.revision);
    server.report(losses(&opened, 40)).await.unwrap();
    assert_eq!(mark.borrow_and_update().received_through, 40);
    server.show().await;
    assert!(!mark.has_changed().unwrap());
    drop(mark);
    tokio::time::sleep(Duration::from_secs(1201)).await;
    assert_eq!(server.live(), 0);
}

#[tokio::test]
async fn pages_show_jobs_in_memory_as_they_are_there() {
    let server = Server::new();
    server.create(STEPS).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    server.report(losses(&opened, 40)).await.unwrap();
    let page = server.registry.page("default", None, 10).await.unwrap();
    let [Shown::Whole(view)] = &page[..] else { panic!("{page:?}") };
    assert_eq!(view.view.spent.committed, 40);
    assert_eq!(server.registry.page("default", Some("job"), 10).await, Ok(Vec::new()));
    assert_eq!(server.registry.page("other", None, 10).await, Ok(Vec::new()));
}
