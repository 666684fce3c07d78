//! What is done to a store that no server uses.

use super::{Found, StoreCommandError, file::NewFile};
use crate::{
    actor,
    store::{
        JobStore, SledOptions, SledStore, StoreError, WholeJob,
        export::{Exporter, Reader},
    },
};
use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) async fn verify(directory: &Path) -> Result<Found, StoreCommandError> {
    let store = open_store(directory).await?;
    let walked = walk(&store).await;
    store.close().await;
    let disk_bytes = size(directory)
        .map_err(|e| StoreError::Directory { path: directory.to_owned(), reason: e.to_string() })?;
    Ok(Found { disk_bytes: Some(disk_bytes), lost: lost(&store), ..walked? })
}

/// Also one that has lost something.
async fn open_store(directory: &Path) -> Result<SledStore, StoreError> {
    SledStore::open_existing(directory, SledOptions { accept_cut: true, ..SledOptions::default() }).await
}

fn lost(store: &SledStore) -> Option<String> {
    store.cut().map(ToString::to_string)
}

async fn walk(store: &SledStore) -> Result<Found, StoreError> {
    let (mut found, mut after) = (Found::default(), None);
    while let Some(job) = store.next_whole(after.as_ref()).await? {
        let problems = actor::problems(&job);
        let WholeJob { key, stored, rows, .. } = job;
        found.count.jobs += 1;
        found.count.rows += rows.len() as u64;
        let records = rows.iter().map(|(_, record)| record.len());
        let snapshot = stored.iter().map(|stored| stored.snapshot.len());
        found.count.bytes += records.chain(snapshot).sum::<usize>() as u64;
        if !problems.is_empty() {
            found.damaged.insert(key.clone(), problems);
        }
        after = Some(key);
    }
    Ok(found)
}

/// Bytes that a directory takes on the disk.
fn size(directory: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let (entry, meta) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        sum += if meta.is_dir() { size(&entry)? } else { meta.blocks() * 512 };
    }
    Ok(sum)
}

pub(super) async fn export(directory: &Path, path: PathBuf) -> Result<Found, StoreCommandError> {
    let store = Arc::new(open_store(directory).await?);
    let written = write(store.clone(), path).await;
    store.close().await;
    Ok(Found { lost: lost(&store), ..written? })
}

async fn write(store: Arc<SledStore>, path: PathBuf) -> Result<Found, StoreCommandError> {
    let mut file = NewFile::begin(path.clone())?;
    let (mut exporter, mut found) = (Exporter::new(store), Found::default());
    while let Some(part) = exporter.next().await? {
        file.write(&part.data)?;
        found.add(part.damaged);
    }
    Ok(Found { count: file.finish()?, file: Some(path), ..found })
}

pub(super) async fn import(directory: &Path, path: PathBuf) -> Result<Found, StoreCommandError> {
    // Twice: nothing is touched before the whole file is known to be good.
    let count = Reader::check(open(&path)?).map_err(|error| not_usable(&path, error))?;
    let mut reader = open(&path)?;
    let jobs = std::iter::from_fn(|| reader.next_job().map_err(|error| not_usable(&path, error)).transpose());
    SledStore::import(directory, SledOptions::default(), jobs).await?;
    Ok(Found { count, file: Some(path), ..Found::default() })
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, StoreCommandError> {
    let file = File::open(path).map_err(|error| StoreCommandError::Read { path: path.to_owned(), error })?;
    Reader::new(BufReader::new(file)).map_err(|error| not_usable(path, error))
}

fn not_usable(path: &Path, error: crate::store::export::ExportError) -> StoreCommandError {
    StoreCommandError::Export { path: path.to_owned(), error }
}
