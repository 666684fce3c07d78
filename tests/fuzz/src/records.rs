//! What was stored: the first byte chooses the kind of record, the second whether the envelope of the rest is made good,
//! so that what is inside it is read too.

use crate::input::Input;
use autolrs_client::session::Checkpoint as Session;
use autolrs_core::{
    job::{Checkpoint, DirectiveRecord, Job},
    policy::{CommitNote, StageEndNote, TrialNote},
};
use autolrs_server::{
    actor::Shown,
    clock::Clock,
    registry::{Bounds, Registry},
    store::{
        JobKey, JobStore,
        codec::{self, FORMAT, Kind},
        memory::MemoryStore,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{sync::Arc, time::Duration};

/// Bytes before the payload of a stored record, and of a session's state in a trainer's checkpoint.
const HEADERS: (usize, usize) = (11, 10);

/// What is read can be written again; what can't be read is an error, and no other job is the worse for it.
///
/// # Panics
/// If that does not hold.
pub fn target(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (kind, whole) = (input.byte(), input.flag());
    match kind % 8 {
        0 => record::<Job>(Kind::Snapshot, input.0, whole),
        1 => record::<DirectiveRecord>(Kind::Directive, input.0, whole),
        2 => record::<Checkpoint>(Kind::Checkpoint, input.0, whole),
        3 => record::<TrialNote>(Kind::Trial, input.0, whole),
        4 => record::<CommitNote>(Kind::Commit, input.0, whole),
        5 => record::<StageEndNote>(Kind::StageEnd, input.0, whole),
        6 => session(input.0, whole),
        _ => listed(input.0),
    }
}

fn record<T: DeserializeOwned + Serialize>(kind: Kind, bytes: &[u8], whole: bool) {
    let bytes = if whole { sealed(kind, bytes) } else { bytes.to_vec() };
    if let Ok(value) = codec::decode::<T>(kind, &bytes) {
        let written = codec::encode(kind, &value).expect("what was read can be written");
        let again = codec::decode::<T>(kind, &written).expect("what was written can be read");
        assert_eq!(codec::encode(kind, &again), Ok(written));
    }
}

fn sealed(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let payload = bytes.get(HEADERS.0..).unwrap_or_default();
    let rest = [&FORMAT.to_be_bytes()[..], &[kind as u8], payload].concat();
    [&b"ALRS"[..], &crc32fast::hash(&rest).to_be_bytes(), &rest].concat()
}

fn session(bytes: &[u8], whole: bool) {
    let payload = bytes.get(HEADERS.1..).unwrap_or_default();
    let made_good =
        [&b"ALRS"[..], &1u16.to_le_bytes(), &crc32fast::hash(payload).to_le_bytes(), payload].concat();
    if let Ok(checkpoint) = Session::decode(if whole { &made_good } else { bytes }) {
        let resume = checkpoint.resume();
        assert!(resume.is_none_or(|resume| resume.seq > 0));
        let written = postcard::to_stdvec(&checkpoint).expect("what was read can be written");
        assert!(postcard::from_bytes::<Session>(&written).is_ok());
    }
}

/// A store with the bytes as a job's record: the list shows that job as damaged.
fn listed(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let store = MemoryStore::default();
        store.save(&JobKey::new("t", "a"), None, bytes.to_vec().into(), vec![]).await.expect("saved");
        let bounds = Bounds { jobs: 100, mailbox: 4, idle: Duration::from_secs(60), history: 16 };
        let registry = Registry::new(Arc::new(store), Clock::start(), bounds);
        let page = registry.page("t", None, 10).await.expect("a page");
        if let [Shown::Damaged { name, detail }] = &page[..] {
            assert!(name == "a" && !detail.is_empty());
        } else {
            assert!(matches!(&page[..], [Shown::Whole(_)]), "{page:?}");
        }
        registry.close().await;
    });
}
