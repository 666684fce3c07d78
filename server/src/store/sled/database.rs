//! Opening and letting go of the sled database.

use super::{
    SledOptions,
    disk::{self, Directory, Files},
    mark::Mark,
    record,
};
use crate::store::StoreError;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

/// The record that carries the version given last.
pub(super) const COUNTER: &str = "version";
const FORMAT: &str = "format";
const FORMAT_TEXT: &str = "autolrs store format ";
/// The store format of this release.
const KNOWN_FORMAT: u32 = 1;

/// How long a database that is let go may take to stop its threads.
const STOPS_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait for threads of a database that this process has just let go: tries, and the pause between them.
const LOCK_TRIES: (u32, Duration) = (20, Duration::from_millis(50));

/// An open database.
pub(super) struct Database {
    pub(super) db: ::sled::Db,
    pub(super) files: Files,
    /// The version given last.
    pub(super) last_version: u64,
    pub(super) mark: Mark,
    /// What it has lost, if that was accepted.
    pub(super) cut: Option<StoreError>,
}

/// Why a database did not open.
pub(super) enum OpenError {
    /// It never will: the directory is not for this release.
    Refused(StoreError),
    /// It may later.
    Failed(String),
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<::sled::Error> for OpenError {
    fn from(error: ::sled::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Database {
    /// Opens or creates the database. All that it shows is on the disk when this returns.
    pub(super) fn open(directory: &Directory, options: &SledOptions) -> Result<Self, OpenError> {
        let path = directory.database();
        disk::forget_cache(&path);
        disk::remove_unfinished(&path)?;
        let mark = Mark::open(&path)?;
        let db = open_sled(&path, options.cache_bytes)?;
        if check_format(&db, directory.path())? == Format::New {
            db.apply_batch(first_records())?;
        }
        db.flush()?;
        let files = Files::open(&path)?;
        let last_version = read_counter(&db, directory.path())?;
        let cut = (last_version < mark.version()).then(|| StoreError::Cut {
            path: directory.path().to_owned(),
            found: last_version,
            marked: mark.version(),
        });
        match cut {
            Some(cut) if !options.accept_cut => Err(OpenError::Refused(cut)),
            cut => Ok(Self { db, files, last_version, mark, cut }),
        }
    }

    /// Flushes and closes. A database that failed may never stop its threads, so this waits for ten seconds at most.
    pub(super) fn let_go(self) {
        let Self { db, files, .. } = self;
        drop(files);
        let (done, stopped) = mpsc::channel::<()>();
        let stopper = thread::Builder::new().name("store-let-go".to_owned()).spawn(move || {
            drop(db);
            drop(done);
        });
        match stopper {
            // The channel is closed when the database is dropped, also if that panicked.
            Ok(_) => {
                if stopped.recv_timeout(STOPS_WITHIN) == Err(mpsc::RecvTimeoutError::Timeout) {
                    tracing::error!(
                        "the database does not stop; it can only be opened again by a new process"
                    );
                }
            }
            Err(e) => tracing::error!(error = %e, "the database was closed without its last flush"),
        }
    }
}

fn open_sled(path: &Path, cache_bytes: u64) -> Result<::sled::Db, OpenError> {
    let config = ::sled::Config::new().path(path).cache_capacity(cache_bytes);
    let (mut tries, pause) = LOCK_TRIES;
    loop {
        let opened = guarded(|| match config.open() {
            // We hold the directory's lock, so sled's own is held by threads of ours that are about to end.
            Err(::sled::Error::Io(e)) if tries > 0 && e.to_string().contains("could not acquire lock") => {
                Ok(None)
            }
            opened => opened.map(Some).map_err(|e| e.to_string()),
        });
        match opened {
            Ok(Some(db)) => return Ok(db),
            Ok(None) => thread::sleep(pause),
            Err(reason) => return Err(OpenError::Failed(reason)),
        }
        tries -= 1;
    }
}

#[derive(PartialEq)]
enum Format {
    New,
    Known,
}

/// What makes an empty database a store.
fn first_records() -> ::sled::Batch {
    let format = format!("{FORMAT_TEXT}{KNOWN_FORMAT}");
    let mut batch = ::sled::Batch::default();
    for (name, content) in [(COUNTER, &[][..]), (FORMAT, format.as_bytes())] {
        for (key, value) in record::split(&record::meta(name), 0, content) {
            batch.insert(key, value);
        }
    }
    batch
}

fn check_format(db: &::sled::Db, path: &Path) -> Result<Format, OpenError> {
    let refuse = |what: &str| {
        OpenError::Refused(StoreError::NotAStore { path: path.to_owned(), what: what.to_owned() })
    };
    let name = record::meta(FORMAT);
    let Some(first) = db.get(record::part(&name, 0))? else {
        return if db.is_empty() {
            Ok(Format::New)
        } else {
            Err(refuse("a sled database of something else"))
        };
    };
    let (_, text) = record::join(&name, &first, |key| db.get(key))?.map_err(|what| refuse(&what))?;
    let number =
        std::str::from_utf8(&text).ok().and_then(|text| text.strip_prefix(FORMAT_TEXT)?.parse().ok());
    match number {
        Some(KNOWN_FORMAT) => Ok(Format::Known),
        Some(found) if found > KNOWN_FORMAT => Err(OpenError::Refused(StoreError::NewerStore {
            path: path.to_owned(),
            found,
            known: KNOWN_FORMAT,
        })),
        _ => Err(refuse("its format record makes no sense")),
    }
}

fn read_counter(db: &::sled::Db, path: &Path) -> Result<u64, OpenError> {
    let name = record::meta(COUNTER);
    let first = db.get(record::part(&name, 0))?;
    let version = first.ok_or_else(|| "missing".to_owned()).and_then(|first| record::version(&name, &first));
    version.map_err(|what| {
        let what = format!("its version counter: {what}");
        OpenError::Refused(StoreError::NotAStore { path: path.to_owned(), what })
    })
}

/// Runs `f`; a panic (sled asserts a lot) becomes an error like any other.
pub(super) fn guarded<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| Err(format!("panicked: {}", message(&*panic))))
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
