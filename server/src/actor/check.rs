//! Whether a job can be read: every record decoded, and none missing that its schedule needs.

use super::loaded::Snapshot;
use crate::store::{
    RowKey, WholeJob,
    codec::{self, CodecError, Kind},
};
use autolrs_core::{
    job::{Checkpoint, DirectiveRecord},
    policy::{CommitNote, StageEndNote, TrialNote},
};
use serde::de::DeserializeOwned;

/// What is wrong with a job, a sentence per record; empty: it is whole.
pub fn problems(job: &WholeJob) -> Vec<String> {
    let mut problems = job.damage.clone();
    let rows = job.rows.iter().filter_map(|(key, record)| {
        let problem = row_problem(*key, record)?;
        Some(format!("{key}: {problem}"))
    });
    problems.extend(rows);
    let Some(stored) = &job.stored else { return problems };
    match codec::decode::<Snapshot>(Kind::Snapshot, &stored.snapshot) {
        Err(error) => problems.push(format!("its snapshot: {error}")),
        // A record that is damaged was named; what lies behind it can't be told.
        Ok(snapshot) if problems.is_empty() => problems.extend(missing(job, &snapshot)),
        Ok(_) => {}
    }
    problems
}

fn row_problem(key: RowKey, record: &[u8]) -> Option<CodecError> {
    match key {
        RowKey::Directive { .. } => decodes::<DirectiveRecord>(key, record),
        RowKey::Checkpoint { .. } => decodes::<Checkpoint>(key, record),
        RowKey::Trial { .. } => decodes::<TrialNote>(key, record),
        RowKey::Commit { .. } => decodes::<CommitNote>(key, record),
        RowKey::StageEnd { .. } => decodes::<StageEndNote>(key, record),
    }
}

fn decodes<T: DeserializeOwned>(key: RowKey, record: &[u8]) -> Option<CodecError> {
    codec::decode::<T>(key.into(), record).err()
}

/// The first directive of the kept line whose record is not there.
fn missing(job: &WholeJob, snapshot: &Snapshot) -> Option<String> {
    let mut line = snapshot.job.kept_line();
    while let Some(seq) = line.wants() {
        let key = RowKey::Directive { seq };
        let found = job.rows.binary_search_by_key(&key, |(key, _)| *key).ok();
        match found.and_then(|at| codec::decode(key.into(), &job.rows[at].1).ok()) {
            Some(record) => line.add(&record),
            None => return Some(format!("the record of directive {seq} is missing")),
        }
    }
    None
}
