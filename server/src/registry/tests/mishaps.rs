//! What happens when something fails the actors.

use super::{trap::Mishap, *};
use crate::{actor::Letter, auth::By};

async fn running() -> (Arc<Trap>, Server, Opened) {
    let store = Arc::new(Trap::default());
    let server = Server::on(store.clone(), START);
    server.create(STEPS).await.unwrap();
    let opened = server.open(Open::default()).await.unwrap();
    server.report(losses(&opened, 40)).await.unwrap();
    (store, server, opened)
}

#[tokio::test]
async fn a_save_that_was_lost_leaves_the_job_as_it_was() {
    let (store, server, opened) = running().await;
    store.set(Mishap::Lost);
    let error = server.report(losses(&opened, STEPS)).await.unwrap_err();
    assert_eq!(reason(&error), "STORE_UNAVAILABLE");
    assert_eq!(server.show().await.view.spent.committed, 40, "what was reported is still held");
    assert!(server.report(losses(&opened, STEPS)).await.unwrap().directive.is_some());
}

#[tokio::test]
async fn a_save_that_happened_unanswered_is_found_again() {
    let (store, server, opened) = running().await;
    store.set(Mishap::Unanswered);
    server.report(losses(&opened, STEPS)).await.unwrap_err();
    assert_eq!(server.show().await.view.spent.committed, STEPS);
    let ack = server.report(losses(&opened, STEPS)).await.unwrap();
    assert!(ack.directive.is_some() && ack.durable_seq >= opened.directive.seq);
}

#[tokio::test]
async fn a_job_that_was_not_stored_does_not_exist() {
    let store = Arc::new(Trap::default());
    let server = Server::on(store.clone(), START);
    store.set(Mishap::Lost);
    assert_eq!(reason(&server.create(STEPS).await.unwrap_err()), "STORE_UNAVAILABLE");
    assert_eq!(reason(&server.open(Open::default()).await.unwrap_err()), "JOB_NOT_FOUND");
    server.create(STEPS).await.unwrap();
}

#[tokio::test]
async fn a_panic_ends_neither_the_server_nor_the_job() {
    let (store, server, opened) = running().await;
    store.set(Mishap::Panics);
    let error = server.report(losses(&opened, STEPS)).await.unwrap_err();
    assert!(matches!(error, Error::Defect { .. }), "{error:?}");
    assert!(server.report(losses(&opened, STEPS)).await.unwrap().directive.is_some());
}

#[tokio::test]
async fn a_lost_race_is_judged_again_on_what_the_store_holds() {
    let (store, server, opened) = running().await;
    let other = Server::on(store, START);
    let ack = other.report(losses(&opened, STEPS)).await.unwrap();
    assert_eq!(server.show().await.view.spent.committed, 40, "not asked yet");
    assert_eq!(server.report(losses(&opened, STEPS)).await.unwrap(), ack);
}

#[tokio::test]
async fn a_damaged_record_harms_no_other_job() {
    let (store, server, _) = running().await;
    let broken = JobKey::new("default", "broken");
    store.save(&broken, None, bytes::Bytes::from_static(b"rubbish"), Vec::new()).await.unwrap();
    let shown = server.registry.ask(&broken, Message::Show).await.unwrap();
    assert!(matches!(&shown, Shown::Damaged { name, .. } if name == "broken"), "{shown:?}");
    let open = |reply| Message::Open(Box::default(), reply);
    assert_eq!(reason(&server.registry.ask(&broken, open).await.unwrap_err()), "JOB_DAMAGED");
    let page = server.registry.page("default", None, 10).await.unwrap();
    assert!(matches!(&page[..], [Shown::Damaged { .. }, Shown::Whole(_)]), "{page:?}");
    let delete = |uid| server.registry.ask(&broken, move |reply| Message::Delete(uid, reply));
    assert_eq!(reason(&delete(Some(1)).await.unwrap_err()), "JOB_DAMAGED");
    assert_eq!(delete(None).await, Ok(()));
    assert_eq!(server.registry.page("default", None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_mailbox_refuses() {
    let (store, server, opened) = running().await;
    store.set(Mishap::Hangs);
    let finishing = losses(&opened, STEPS);
    let mut waiting = Vec::new();
    let refused = loop {
        let (reply, answer) = oneshot::channel();
        match server.registry.send(&server.key, letter(Message::Report(finishing.clone(), reply))) {
            Ok(()) => waiting.push(answer),
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((reason(&refused).as_str(), waiting.len()), ("LIMIT_REACHED", 5));
}

#[tokio::test]
async fn a_closed_registry_answers_what_it_has_taken_and_takes_no_more() {
    let (_, server, opened) = running().await;
    let (reply, answer) = oneshot::channel();
    server.registry.send(&server.key, letter(Message::Report(losses(&opened, STEPS), reply))).unwrap();
    server.registry.close().await;
    assert!(answer.await.unwrap().unwrap().directive.is_some());
    assert_eq!(server.report(losses(&opened, STEPS)).await, Err(Error::Draining));
}

fn letter(message: Message) -> Letter {
    Letter { by: By::default(), span: tracing::Span::none(), message }
}
