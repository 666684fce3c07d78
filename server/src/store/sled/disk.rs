//! What the store asks of the operating system: a directory of its own, free space, and data that is on the disk.

use crate::store::StoreError;
use rustix::fs::{Advice, FlockOperation};
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// Sled's directory in the store's.
pub(super) const DATABASE: &str = "sled";

/// The directory of a store, held by this process until the value is dropped.
pub(super) struct Directory {
    path: PathBuf,
    /// Carries the lock, and names the holder for others.
    _lock: File,
}

impl Directory {
    /// Creates the directory if need be and locks it. What lies in it is for this user only.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Directory`] if it can't be used.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        let unusable = |e: io::Error| StoreError::Directory { path: path.to_owned(), reason: e.to_string() };
        // Sled's files are readable by all unless the umask says otherwise: its directory keeps others out.
        DirBuilder::new().recursive(true).mode(0o700).create(path.join(DATABASE)).map_err(unusable)?;
        let lock_path = path.join("LOCK");
        let mut options = OpenOptions::new();
        let mut lock =
            options.read(true).write(true).create(true).truncate(false).open(lock_path).map_err(unusable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StoreError::Locked { path: path.to_owned(), holder: holder(&mut lock) });
            }
            Err(e) => return Err(unusable(e.into())),
        }
        // The note only helps a human: a full disk must not keep the store from opening.
        let note = format!("process {}\n", std::process::id());
        if let Err(e) = lock.set_len(0).and_then(|()| lock.write_all(note.as_bytes())) {
            tracing::warn!(error = %e, "the lock file can't be written; the lock itself is held");
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The store's directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where sled keeps its files.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Bytes that this process may still write.
    ///
    /// # Errors
    /// Those of statvfs(3).
    pub(super) fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

fn holder(lock: &mut File) -> String {
    let mut note = String::new();
    match lock.take(256).read_to_string(&mut note) {
        Ok(_) if !note.trim().is_empty() => note.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}

/// Whether a store was made in this directory.
pub(super) fn holds_a_store(path: &Path) -> bool {
    path.join(DATABASE).join("db").exists()
}

/// Puts the names in a directory on the disk.
///
/// # Errors
/// Those of open(2) and fsync(2).
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Our own descriptors of sled's files. Sled's `flush` only starts the write-back (`sync_file_range`); a power loss
/// after it can lose data until [`Files::sync`] returns.
pub(super) struct Files {
    /// The log with all pages.
    log: File,
    /// Pages too large for the log would lie here, one file each. `record` sees to it that there are none, so that
    /// looking costs a few microseconds.
    blobs: PathBuf,
    synced_blobs: BTreeSet<OsString>,
}

impl Files {
    /// Opens the files of an open database and puts all that they hold on the disk, the directories too.
    ///
    /// # Errors
    /// Those of open(2) and fsync(2).
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().read(true).write(true).open(database.join("db"))?;
        let blobs = database.join("blobs");
        let mut files = Self { log, blobs, synced_blobs: BTreeSet::new() };
        File::open(database.join("conf"))?.sync_all()?;
        files.sync()?;
        for directory in [Some(database), database.parent(), database.parent().and_then(Path::parent)] {
            match directory {
                Some(path) if !path.as_os_str().is_empty() => sync_directory(path)?,
                _ => {}
            }
        }
        Ok(files)
    }

    /// Returns when everything written so far survives a power loss.
    ///
    /// # Errors
    /// Those of fdatasync(2); after one nothing is known of the writes since the last success.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let mut present = BTreeSet::new();
        for entry in fs::read_dir(&self.blobs)? {
            present.insert(entry?.file_name());
        }
        for new in present.difference(&self.synced_blobs) {
            match File::open(self.blobs.join(new)) {
                Ok(blob) => blob.sync_data()?,
                // Replaced meanwhile: what the log says now does not need it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        if !present.is_subset(&self.synced_blobs) {
            sync_directory(&self.blobs)?;
        }
        self.synced_blobs = present;
        self.log.sync_data()
    }
}

/// Makes the next open read what the disk has, not what the kernel's cache claims after a failed write-back.
pub(super) fn forget_cache(database: &Path) {
    let forgotten = File::open(database.join("db"))
        .and_then(|log| Ok(rustix::fs::fadvise(&log, 0, None, Advice::DontNeed)?));
    if let Err(e) = forgotten {
        tracing::debug!(error = %e, "the kernel's cache of the database was not dropped");
    }
}

/// Removes the index snapshots that sled had begun to write when its process or its disk failed. Sled takes such a file
/// for a finished one, finds it damaged, and would not open again.
///
/// # Errors
/// Those of readdir(3) and unlink(2).
pub(super) fn remove_unfinished(database: &Path) -> io::Result<()> {
    for entry in fs::read_dir(database)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
