//! History rows: the core's rows as writes; stages and schedules put together from their rows.

use super::{JobView, loaded::from_store};
use crate::{
    error::Error,
    store::{
        JobKey, JobStore, RowKey, RowWrite,
        codec::{self, CodecError},
    },
};
use autolrs_core::{
    job::{Checkpoint, DirectiveRecord, End, KeptLine, Row, Stretch},
    lr_pieces::Piece,
    policy::{CommitNote, StageEndNote, TrialNote, downsample},
};
use serde::{Serialize, de::DeserializeOwned};

/// Losses of a directive that are left when it is no longer kept in detail.
const THIN: usize = 8;
/// Rows that are made thin with one decision at most: it makes one or two old, and a rewind many.
const MAX_THINNED: usize = 64;

/// Most trials of a stage that are read: more than any policy runs.
const MAX_TRIALS: usize = 4096;

/// A stage, its search and what came of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StageView {
    /// Its number, from 0.
    pub stage: u32,
    /// The trials that have ended.
    pub trials: Vec<TrialNote>,
    /// The LR taken; none: the search is open, or the stage has none.
    pub commit: Option<CommitNote>,
    /// What came of it; none: it has not ended.
    pub end: Option<StageEndNote>,
}

/// The schedule that a job has run.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleView {
    /// The job.
    pub job: JobView,
    /// The LR of every step that it has kept.
    pub pieces: Vec<Piece>,
    /// What was measured on the way, in the order of the first steps; empty unless it was asked for.
    pub stretches: Vec<Stretch>,
}

/// The write of a row.
pub(super) fn write(row: &Row) -> Result<RowWrite, CodecError> {
    match row {
        Row::Directive(record) => put(RowKey::Directive { seq: record.directive.seq }, record),
        Row::Checkpoint(checkpoint) => put(RowKey::Checkpoint { seq: checkpoint.seq() }, checkpoint),
        Row::DropCheckpoint(seq) => Ok(RowWrite::Delete(RowKey::Checkpoint { seq: *seq })),
        Row::Trial(note) => put(RowKey::Trial { stage: note.stage, trial: note.trial }, note),
        Row::Commit(note) => put(RowKey::Commit { stage: note.stage }, note),
        Row::StageEnd(note) => put(RowKey::StageEnd { stage: note.stage }, note),
        Row::Clear => Ok(RowWrite::Clear),
    }
}

fn put<T: Serialize>(key: RowKey, value: &T) -> Result<RowWrite, CodecError> {
    Ok(RowWrite::Put { key, record: codec::encode(key.into(), value)?.into() })
}

/// The writes that make those directives thin that a new one makes old: their losses become a few means, all else stays. What
/// can't be read stays as it is: it is no reason against a decision.
pub(super) async fn thinned(store: &dyn JobStore, job: &JobKey, rows: &[Row], history: u64) -> Vec<RowWrite> {
    let mut given = rows.iter().rev().filter_map(|row| match row {
        Row::Directive(record) if record.end == End::Open => Some((record.follows, record.directive.seq)),
        _ => None,
    });
    let Some((follows, seq)) = given.next().filter(|_| !rows.contains(&Row::Clear)) else {
        return Vec::new();
    };
    let (first, last) = (follows.saturating_sub(history) + 1, seq.saturating_sub(history));
    if first > last {
        return Vec::new();
    }
    let (first, last) = (RowKey::Directive { seq: first }, RowKey::Directive { seq: last });
    let old = store.rows(job, first, last, MAX_THINNED).await.unwrap_or_default();
    let is_written = |key: &RowKey| {
        let is_of = |row: &Row| matches!(row, Row::Directive(record) if *key == RowKey::Directive { seq: record.directive.seq });
        rows.iter().any(is_of)
    };
    let thin = old.iter().filter(|(key, _)| !is_written(key)).filter_map(|(key, record)| {
        let mut record = decode::<DirectiveRecord>(job, *key, record).ok()?;
        if record.losses.len() <= THIN {
            return None;
        }
        record.losses = downsample(&record.losses, THIN);
        put(*key, &record).ok()
    });
    thin.collect()
}

/// The checkpoint of a directive, if it is still kept.
pub(super) async fn checkpoint(
    store: &dyn JobStore,
    job: &JobKey,
    seq: u64,
) -> Result<Option<Box<Checkpoint>>, Error> {
    Ok(read(store, job, RowKey::Checkpoint { seq }).await?.map(Box::new))
}

/// The rows of a stage.
pub(super) async fn stage(store: &dyn JobStore, job: &JobKey, stage: u32) -> Result<StageView, Error> {
    let (first, last) = (RowKey::Trial { stage, trial: 0 }, RowKey::Trial { stage, trial: u32::MAX });
    let rows = store.rows(job, first, last, MAX_TRIALS).await.map_err(|e| from_store(job, e))?;
    let trials = rows.iter().map(|(key, record)| decode(job, *key, record)).collect::<Result<_, _>>()?;
    let commit = read(store, job, RowKey::Commit { stage }).await?;
    let end = read(store, job, RowKey::StageEnd { stage }).await?;
    Ok(StageView { stage, trials, commit, end })
}

/// A kept line, made whole from the records of the directives.
pub(super) async fn line(
    store: &dyn JobStore,
    job: &JobKey,
    mut line: KeptLine,
) -> Result<(Vec<Piece>, Vec<Stretch>), Error> {
    while let Some(seq) = line.wants() {
        let Some(record) = read::<DirectiveRecord>(store, job, RowKey::Directive { seq }).await? else {
            let detail = format!("the record of directive {seq} is missing");
            return Err(Error::JobDamaged { job: job.name.clone(), detail });
        };
        line.add(&record);
    }
    Ok(line.finish_with_losses())
}

async fn read<T: DeserializeOwned>(
    store: &dyn JobStore,
    job: &JobKey,
    key: RowKey,
) -> Result<Option<T>, Error> {
    let record = store.row(job, key).await.map_err(|e| from_store(job, e))?;
    record.map(|record| decode(job, key, &record)).transpose()
}

fn decode<T: DeserializeOwned>(job: &JobKey, key: RowKey, record: &[u8]) -> Result<T, Error> {
    codec::decode(key.into(), record).map_err(|e| from_store(job, e.of(job)))
}
