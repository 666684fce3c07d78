//! What is made from files and made anew when they change: certificates and tokens. A file that is broken changes
//! nothing: what was made before stays in use, and the log and a metric say so.

use crate::telemetry::metrics;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Something that can be made anew.
pub(crate) trait Reload: Send + Sync {
    /// Makes it anew.
    fn reload(&self);
    /// Makes it anew if its files have changed.
    fn look(&self);
}

/// Everything that can be made anew.
#[derive(Clone, Default)]
pub struct Reloads(Vec<Arc<dyn Reload>>);

impl Reloads {
    pub(crate) fn add(&mut self, part: Arc<dyn Reload>) {
        self.0.push(part);
    }

    /// Makes all of it anew, whether or not its files have changed.
    pub fn reload(&self) {
        self.0.iter().for_each(|part| part.reload());
    }

    /// Looks at the files for ever: a rename, or the swap of a link that a Kubernetes secret is, is seen as a change.
    pub(crate) async fn watch(self) {
        let mut interval = tokio::time::interval(LOOK);
        loop {
            interval.tick().await;
            let parts = self.0.clone();
            // A file system may be slow.
            drop(tokio::task::spawn_blocking(move || parts.iter().for_each(|part| part.look())).await);
        }
    }
}

type Make<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// A value that was made from files.
pub(crate) struct Live<T> {
    /// What it is, for log and metric.
    what: &'static str,
    files: Vec<PathBuf>,
    make: Make<T>,
    current: watch::Sender<Arc<T>>,
    /// The files as they were when they were read last. Held while it is made anew.
    seen: Mutex<Vec<Option<Stamp>>>,
}

impl<T: Send + Sync> Live<T> {
    /// Makes it for the first time.
    ///
    /// # Errors
    /// What `make` says.
    pub(crate) fn start(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let seen = Mutex::new(stamps(&files));
        let current = watch::Sender::new(Arc::new(make()?));
        metrics::reloaded(what, true);
        Ok(Self { what, files, make: Box::new(make), current, seen })
    }

    /// As it is now.
    pub(crate) fn current(&self) -> Arc<T> {
        self.current.borrow().clone()
    }

    /// Tells when it was made anew.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.current.subscribe()
    }

    fn make_anew(&self, only_if_changed: bool) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the files are read: what changes meanwhile is seen the next time.
        let now = stamps(&self.files);
        if only_if_changed && *seen == now {
            return;
        }
        *seen = now;
        let made = (self.make)();
        metrics::reloaded(self.what, made.is_ok());
        match made {
            Ok(made) => {
                self.current.send_replace(Arc::new(made));
                tracing::info!(what = self.what, "read anew");
            }
            Err(error) => tracing::error!(
                what = self.what,
                error,
                "the new files can't be used, what was read before stays in use: mend them, they are read again when they change"
            ),
        }
    }
}

impl<T: Send + Sync> Reload for Live<T> {
    fn reload(&self) {
        self.make_anew(false);
    }

    fn look(&self) {
        self.make_anew(true);
    }
}

/// What changes when a file does: its place, size, and times of change in seconds and nanoseconds.
#[derive(PartialEq, Eq)]
struct Stamp([i128; 7]);

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|path| stamp(path)).collect()
}

/// None: there is no such file.
fn stamp(path: &Path) -> Option<Stamp> {
    let of = fs::metadata(path).ok()?;
    let numbers = [of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec()].map(i128::from);
    let [mtime, mtime_nsec, ctime, ctime_nsec] = numbers;
    Some(Stamp([of.dev().into(), of.ino().into(), of.len().into(), mtime, mtime_nsec, ctime, ctime_nsec]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: PathBuf) -> Live<u32> {
        let file = path.clone();
        let make =
            move || fs::read_to_string(&file).map_err(|e| e.to_string())?.parse().map_err(|_| "no".into());
        Live::start("number", vec![path], make).unwrap()
    }

    #[test]
    fn a_change_is_seen_and_a_broken_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let live = number(path.clone());
        let mut told = live.subscribe();
        live.look();
        assert!(!told.has_changed().unwrap(), "nothing has changed");
        fs::write(&path, "22").unwrap();
        live.look();
        assert_eq!((**told.borrow_and_update(), *live.current()), (22, 22));
        fs::write(&path, "broken").unwrap();
        live.look();
        fs::remove_file(&path).unwrap();
        live.look();
        assert_eq!(*live.current(), 22);
        fs::write(&path, "3").unwrap();
        live.look();
        assert_eq!(*live.current(), 3);
    }

    #[test]
    fn the_swap_of_a_link_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new, data, path] = ["old", "new", "data", "number"].map(|name| folder.path().join(name));
        for (version, number) in [(&old, "1"), (&new, "2")] {
            fs::create_dir(version).unwrap();
            fs::write(version.join("number"), number).unwrap();
        }
        std::os::unix::fs::symlink("old", &data).unwrap();
        std::os::unix::fs::symlink("data/number", &path).unwrap();
        let live = number(path);
        let swap = folder.path().join("swap");
        std::os::unix::fs::symlink("new", &swap).unwrap();
        fs::rename(&swap, &data).unwrap();
        live.look();
        assert_eq!(*live.current(), 2);
    }

    #[test]
    fn reload_reads_although_nothing_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let live = Arc::new(number(path));
        let told = live.subscribe();
        let mut all = Reloads::default();
        all.add(live);
        all.reload();
        assert!(told.has_changed().unwrap());
    }
}
