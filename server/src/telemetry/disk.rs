//! What the store takes on its disk, and what is left there.

use super::table;
use metrics::gauge;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(15);
/// Bytes of a block of [`MetadataExt::blocks`].
const BLOCK: u64 = 512;

/// Measures from now on. Never ends. A disk that hangs keeps one thread waiting, nothing else.
pub(crate) async fn measure(path: PathBuf) {
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let path = path.clone();
        let measured = tokio::task::spawn_blocking(move || tell(&path)).await;
        if let Ok(Err(error)) = measured {
            tracing::debug!(%error, "the store's disk can't be measured");
        }
    }
}

fn tell(path: &Path) -> io::Result<()> {
    let disk = rustix::fs::statvfs(path)?;
    gauge!(table::FREE_BYTES.name).set(disk.f_bavail.saturating_mul(disk.f_frsize) as f64);
    gauge!(table::DISK_BYTES.name).set(disk.f_blocks.saturating_mul(disk.f_frsize) as f64);
    gauge!(table::STORE_BYTES.name).set(taken(path)? as f64);
    Ok(())
}

/// Bytes that a directory and all in it take on the disk. What vanishes meanwhile takes none.
pub(crate) fn taken(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => taken(&entry.path())?,
            Ok(found) => found.blocks() * BLOCK,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_folders_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(taken(folder.path()).unwrap(), 0);
        fs::create_dir(folder.path().join("sled")).unwrap();
        fs::write(folder.path().join("sled/db"), vec![7; 100_000]).unwrap();
        fs::File::open(folder.path().join("sled/db")).unwrap().sync_all().unwrap();
        let bytes = taken(folder.path()).unwrap();
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
    }
}
