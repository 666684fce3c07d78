//! A file that appears under its name only when it is whole and on the disk.

use super::StoreCommandError;
use crate::store::export::{Count, Reader};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// An export that is being written.
pub(super) struct NewFile {
    path: PathBuf,
    unfinished: PathBuf,
    out: BufWriter<File>,
    kept: bool,
}

impl NewFile {
    /// Begins `path` as `path.new`, for this user only: it names jobs and hosts.
    pub(super) fn begin(path: PathBuf) -> Result<Self, StoreCommandError> {
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        match options.open(&unfinished) {
            Ok(file) => Ok(Self { path, unfinished, out: BufWriter::new(file), kept: false }),
            Err(error) => Err(StoreCommandError::Write { path: unfinished, error }),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreCommandError> {
        self.out.write_all(bytes).map_err(|error| self.failed(error))
    }

    /// Reads it again, and gives it its name if it is whole.
    pub(super) fn finish(mut self) -> Result<Count, StoreCommandError> {
        self.synced().map_err(|error| self.failed(error))?;
        let read = Reader::new(BufReader::new(self.out.get_ref())).and_then(Reader::check);
        let path = self.path.clone();
        let count = read.map_err(|error| StoreCommandError::NotWhole { path, error })?;
        self.named().map_err(|error| self.failed(error))?;
        self.kept = true;
        Ok(count)
    }

    fn synced(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        self.out.get_mut().rewind()
    }

    fn named(&self) -> io::Result<()> {
        fs::rename(&self.unfinished, &self.path)?;
        let directory = self.path.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn failed(&self, error: io::Error) -> StoreCommandError {
        StoreCommandError::Write { path: self.path.clone(), error }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // What is left of it helps nobody.
            drop(fs::remove_file(&self.unfinished));
        }
    }
}
