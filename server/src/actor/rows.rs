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
    job::{Checkpoint, DirectiveRecord, KeptLine, Row, Stretch},
    lr_pieces::Piece,
    policy::{CommitNote, StageEndNote, TrialNote},
};
use serde::{Serialize, de::DeserializeOwned};

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
