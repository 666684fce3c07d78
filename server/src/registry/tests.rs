use super::*;
use crate::store::memory::MemoryStore;
use autolrs_core::spec::{JobSpec, resolve};

fn registry(idle: Duration) -> Registry {
    Registry::new(Arc::new(MemoryStore::default()), Clock::start(), Bounds { mailbox: 4, idle })
}

fn create(reply: Reply<crate::actor::JobView>) -> Message {
    let asked = JobSpec {
        total_steps: Some(2000),
        lr_min: Some(1e-4),
        lr_max: Some(10.0),
        fallback_lr: Some(0.1),
        ..JobSpec::default()
    };
    let resolved = resolve(&asked).unwrap();
    Message::Create(Box::new((asked, resolved)), reply)
}

fn live(registry: &Registry) -> usize {
    registry.shared.lock().mailboxes.len()
}

#[tokio::test(start_paused = true)]
async fn an_idle_job_leaves_memory_and_comes_back() {
    let registry = registry(Duration::from_secs(600));
    let key = JobKey::new("t", "a");
    let made = registry.ask(&key, create).await.unwrap();
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert_eq!(live(&registry), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(live(&registry), 0);
    let Shown::Whole(view) = registry.ask(&key, Message::Show).await.unwrap() else { panic!("damaged") };
    assert_eq!((view.uid, live(&registry)), (made.uid, 1));
}
