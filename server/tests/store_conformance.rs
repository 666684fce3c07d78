//! The conformance suite on every store.

use autolrs_server::store::{
    JobStore, SledOptions, SledStore,
    conformance::{self, Subject},
    faulty::{Flaky, Freezing, LastWrite},
    memory::MemoryStore,
};
use std::{path::Path, sync::Arc};

fn sled(path: &Path) -> Arc<dyn JobStore> {
    Arc::new(SledStore::open(path, SledOptions::default()).expect("the store opens"))
}

fn memory() -> Arc<dyn JobStore> {
    Arc::new(MemoryStore::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_conforms() {
    conformance::run(&mut Subject::fleeting(memory())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_conforms() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("not/yet/there");
    let mut subject = Subject::lasting({
        let path = path.clone();
        move || sled(&path)
    });
    conformance::run(&mut subject).await;
    let blobs = std::fs::read_dir(path.join("sled/blobs")).expect("sled's directory").count();
    assert_eq!(blobs, 0, "sled put pages into files of their own, which it does not sync");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freezing_store_conforms_until_it_freezes() {
    let store = Freezing::new(memory(), u64::MAX, LastWrite::Answered);
    conformance::run(&mut Subject::fleeting(Arc::new(store))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flaky_store_conforms_between_its_failures() {
    conformance::run(&mut Subject::fleeting(Arc::new(Flaky::new(memory(), 0, 1)))).await;
}

#[tokio::test]
async fn memory_survives_crashes_and_failures() {
    conformance::crash_at_every_write(async || memory(), 60).await;
    for seed in 0..20 {
        conformance::random_failures(memory(), seed, 50).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sled_survives_crashes_and_failures() {
    let directory = tempfile::tempdir().expect("a directory");
    let fresh = async || {
        let path = tempfile::tempdir_in(directory.path()).expect("a directory").keep();
        sled(&path)
    };
    conformance::crash_at_every_write(fresh, 8).await;
    let store = fresh().await;
    conformance::random_failures(store.clone(), 7, 40).await;
    store.close().await;
}
