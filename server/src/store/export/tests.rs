use super::{write::Frames, *};
use crate::store::{JobStore, RowKey, RowWrite, Stored, WholeJob, memory::MemoryStore};
use bytes::Bytes;
use proptest::prelude::*;
use std::sync::Arc;

fn job(tenant: &str, name: &str, version: u64, rows: usize) -> WholeJob {
    let row = |seq| (RowKey::Directive { seq: seq as u64 }, Bytes::from(vec![seq as u8; seq * 7]));
    let stored = Some(Stored { version, snapshot: Bytes::from(vec![1; version as usize]) });
    WholeJob {
        key: JobKey::new(tenant, name),
        stored,
        rows: (0..rows).map(row).collect(),
        damage: Vec::new(),
    }
}

fn some() -> Vec<WholeJob> {
    vec![job("", "", 0, 0), job("t", "a\0\n", 9, 3), job("t", "b", 4, 1)]
}

fn file(jobs: &[WholeJob]) -> Vec<u8> {
    let mut frames = Frames::new();
    jobs.iter().for_each(|job| frames.whole(job));
    frames.end();
    frames.out
}

fn read(file: &[u8]) -> Result<Vec<WholeJob>, ExportError> {
    let mut reader = Reader::new(file)?;
    let mut jobs = Vec::new();
    while let Some(job) = reader.next_job()? {
        jobs.push(job);
    }
    Ok(jobs)
}

#[test]
fn jobs_come_back() {
    assert_eq!(read(&file(&some())).expect("whole"), some());
    assert_eq!(read(&file(&[])).expect("whole"), []);
    let count = Reader::new(&file(&some())[..]).and_then(Reader::check).expect("whole");
    assert_eq!(count, Count { jobs: 3, rows: 4, bytes: 13 + 7 + 14 });
}

#[test]
fn the_bytes_of_format_1_are_pinned() {
    let whole = file(&[job("t", "a", 2, 0)]);
    let begin = b"autolrs export 1\n\0\0\0\x15\x01\0\0\0\x01t\0\0\0\x01a\0\0\0\0\0\0\0\x02\x01\x01";
    assert_eq!(whole[..begin.len()], *begin);
    assert_eq!((whole.len(), crc32fast::hash(&whole)), (71, 0x88212a01), "as Python's zlib has them");
}

#[test]
fn every_cut_is_found() {
    let whole = file(&some());
    for len in 0..whole.len() {
        let found = read(&whole[..len]);
        let told = matches!(&found, Err(ExportError::Cut { .. }))
            || len < 17 && matches!(&found, Err(ExportError::NotAnExport));
        assert!(told, "{len} bytes: {found:?}");
    }
    let found = read(&[&whole[..], b"x"].concat());
    assert!(matches!(found, Err(ExportError::Damaged { .. })), "{found:?}");
}

#[test]
fn every_flipped_bit_is_found() {
    let whole = file(&some());
    for bit in 0..whole.len() * 8 {
        let mut broken = whole.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&broken).is_err(), "bit {bit}");
    }
}

#[test]
fn a_newer_format_says_so() {
    let found = read(b"autolrs export 2\nanother form");
    assert!(matches!(found, Err(ExportError::Newer { found: 2 })), "{found:?}");
}

/// Frames that are whole, each for itself, in another order.
#[test]
fn a_frame_in_another_place_is_found() {
    let (one, other) = (file(&[job("t", "a", 3, 0)]), file(&[job("t", "b", 3, 0)]));
    let frame = 17..17 + 4 + one[20] as usize + 4;
    let mixed = [&one[..frame.end], &other[frame.clone()], &one[frame.end..]].concat();
    assert!(matches!(read(&mixed), Err(ExportError::Damaged { at, .. }) if at == frame.end as u64));
}

#[tokio::test]
async fn a_store_comes_back_from_its_export() {
    let store = Arc::new(MemoryStore::default());
    for name in ["b", "a"] {
        let rows = vec![RowWrite::Put { key: RowKey::Commit { stage: 3 }, record: name.into() }];
        store.save(&JobKey::new("t", name), None, name.into(), rows).await.expect("saved");
    }
    let mut exporter = Exporter::new(store.clone());
    let mut file = Vec::new();
    while let Some(part) = exporter.next().await.expect("a part") {
        file.extend(part.data);
        assert_eq!(part.damaged, []);
    }
    assert_eq!(exporter.count(), Count { jobs: 2, rows: 2, bytes: 4 });
    let jobs = read(&file).expect("whole");
    let mut after = None;
    for job in &jobs {
        assert_eq!(store.next_whole(after.as_ref()).await.expect("a job").as_ref(), Some(job));
        after = Some(job.key.clone());
    }
    assert_eq!(jobs.len(), 2);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(read(&[b"autolrs export 1\n", &bytes[..]].concat()).is_err());
    }
}
