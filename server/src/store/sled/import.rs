//! Filling a new store with the jobs of another one: all of them, or none.

use super::{
    Database, Directory, OpenError, SledOptions, SledStore,
    disk::{DATABASE, sync_directory},
    reader,
};
use crate::store::{JobStore, StoreError, WholeJob};
use std::{fs, io, path::Path, sync::Arc};
use tokio::task::JoinSet;

/// Where the new store is made, in the directory of the one that it becomes.
const UNFINISHED: &str = "import.new";
/// Jobs that are written at once: they share their flushes.
const AT_ONCE: usize = 32;

impl SledStore {
    /// Makes the store in `path` from these jobs. If the process ends before it returns, or a job is an error, the
    /// store is as it was. Keeps other processes out meanwhile.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`] if the store has jobs; what [`SledStore::open`] and [`JobStore::restore`] say; the
    /// errors of `jobs`.
    pub async fn import<E: From<StoreError>>(
        path: &Path,
        options: SledOptions,
        jobs: impl Iterator<Item = Result<WholeJob, E>>,
    ) -> Result<(), E> {
        let unusable = |e: io::Error| StoreError::Directory { path: path.to_owned(), reason: e.to_string() };
        let directory = Directory::lock(path)?;
        must_be_empty(&directory, &options)?;
        let unfinished = path.join(UNFINISHED);
        remove(&unfinished).map_err(unusable)?;
        let store = Arc::new(Self::open(&unfinished, options)?);
        let filled = fill(&store, jobs).await;
        store.close().await;
        if let Err(error) = filled {
            remove(&unfinished).map_err(unusable)?;
            return Err(error);
        }
        // The store that goes is empty: if this is cut off here, a new empty one is found.
        let (from, to) = (unfinished.join(DATABASE), directory.database());
        let swapped = fs::remove_dir_all(&to)
            .and_then(|()| fs::rename(&from, &to))
            .and_then(|()| sync_directory(path))
            .and_then(|()| remove(&unfinished));
        Ok(swapped.map_err(unusable)?)
    }
}

fn must_be_empty(directory: &Directory, options: &SledOptions) -> Result<(), StoreError> {
    let database = Database::open(directory, options).map_err(|e| match e {
        OpenError::Refused(error) => error,
        OpenError::Failed(reason) => StoreError::Unavailable(reason),
    })?;
    let found = reader::next_whole(&database.db, None);
    database.let_go();
    match found {
        Ok(None) => Ok(()),
        Ok(Some(job)) => Err(StoreError::NotEmpty { path: directory.path().to_owned(), job: job.key }),
        Err(error) => Err(error.into_store()),
    }
}

async fn fill<E: From<StoreError>>(
    store: &Arc<SledStore>,
    jobs: impl Iterator<Item = Result<WholeJob, E>>,
) -> Result<(), E> {
    let mut writes = JoinSet::new();
    for job in jobs {
        let WholeJob { key, stored, rows, .. } = job?;
        let Some(stored) = stored else { continue };
        let store = store.clone();
        writes.spawn(async move { store.restore(&key, stored, rows).await });
        if writes.len() == AT_ONCE {
            written(writes.join_next().await)?;
        }
    }
    while let ended @ Some(_) = writes.join_next().await {
        written(ended)?;
    }
    Ok(())
}

fn written(ended: Option<Result<Result<(), StoreError>, tokio::task::JoinError>>) -> Result<(), StoreError> {
    ended.unwrap_or(Ok(Ok(()))).unwrap_or_else(|e| Err(StoreError::Unavailable(e.to_string())))
}

/// Removes a directory that may not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
