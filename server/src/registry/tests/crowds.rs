//! More jobs than there are places in memory.

use super::*;
use crate::limit::Limit;

/// A registry with three places.
fn narrow() -> Registry {
    let bounds = Bounds { jobs: 3, mailbox: 4, idle: Duration::from_secs(600), history: HISTORY };
    Registry::new(Arc::new(Trap::default()), Clock::starting_at(START), bounds)
}

fn named(registry: &Registry, name: &str) -> Server {
    Server { registry: registry.clone(), key: JobKey::new("default", name) }
}

#[tokio::test]
async fn the_job_asked_longest_ago_leaves() {
    let registry = narrow();
    for name in ["a", "b", "c"] {
        named(&registry, name).create(STEPS).await.unwrap();
    }
    named(&registry, "a").show().await;
    named(&registry, "d").create(STEPS).await.unwrap();
    let taken = |name: &str| registry.is_live(&JobKey::new("default", name));
    assert_eq!(["a", "b", "c", "d"].map(taken), [true, false, true, true]);
    assert_eq!(named(&registry, "b").show().await.name, "b");
    assert_eq!(["a", "b", "c", "d"].map(taken), [true, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_job_with_an_active_trainer_keeps_its_place() {
    let registry = narrow();
    let mut opened = Vec::new();
    for name in ["a", "b", "c"] {
        let server = named(&registry, name);
        server.create(STEPS).await.unwrap();
        opened.push(server.open(Open::default()).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(50)).await;
    named(&registry, "a").report(losses(&opened[0], 40)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let refused = named(&registry, "d").create(STEPS).await.unwrap_err();
    assert_eq!(refused, Error::LimitReached { limit: Limit::Jobs });
    tokio::time::sleep(Duration::from_secs(6)).await;
    named(&registry, "d").create(STEPS).await.expect("b and c are silent for more than a minute");
    named(&registry, "e").create(STEPS).await.unwrap();
    assert_eq!(named(&registry, "a").show().await.view.spent.committed, 40, "its losses are still there");
    assert_eq!(registry.shared.lock().taken(), 3);
}

#[tokio::test]
async fn a_job_that_has_ended_or_has_no_trainer_gives_its_place() {
    let registry = narrow();
    let ended = named(&registry, "ended");
    ended.create(STEPS).await.unwrap();
    let opened = ended.open(Open::default()).await.unwrap();
    ended.report(losses(&opened, STEPS)).await.unwrap();
    for name in 0..20 {
        named(&registry, &name.to_string()).create(STEPS).await.unwrap();
        assert!(registry.shared.lock().taken() <= 3);
    }
    assert!(!registry.is_live(&ended.key));
    let (view, watched) = registry.ask(&JobKey::new("default", "7"), Message::Watch).await.unwrap();
    for name in 20..30 {
        named(&registry, &name.to_string()).create(STEPS).await.unwrap();
    }
    assert!(registry.is_live(&JobKey::new("default", &view.name)), "someone watches it");
    assert_eq!(watched.borrow().version, view.revision);
}
