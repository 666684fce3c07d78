//! A service manager.

use std::{
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longest time to wait for a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// The other end of `NOTIFY_SOCKET`, as sd_notify(3) describes it.
#[derive(Debug)]
pub struct Manager {
    messages: Receiver<String>,
    path: PathBuf,
    _folder: TempDir,
}

impl Default for Manager {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let (send, messages) = channel();
        // Read at once, as a manager does: few messages fit into the socket, and then its sender waits.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                if send.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self { messages, path, _folder: folder }
    }
}

impl Manager {
    /// What it gives a service besides: it has a watchdog.
    pub fn variables(&self) -> Vec<(String, String)> {
        let path = self.path.to_str().expect("text");
        vec![("NOTIFY_SOCKET".into(), path.into()), ("WATCHDOG_USEC".into(), "30000000".into())]
    }

    /// The next message that says this; those before it are dropped.
    pub fn told(&self, what: &str) -> String {
        self.hears(what, PATIENCE).unwrap_or_else(|| panic!("never told {what}"))
    }

    /// Drops what was said so far, then whether nothing like this is said for so long.
    pub fn hears_no(&self, what: &str, time: Duration) -> bool {
        while self.messages.try_recv().is_ok() {}
        self.hears(what, time).is_none()
    }

    fn hears(&self, what: &str, patience: Duration) -> Option<String> {
        let end = Instant::now() + patience;
        loop {
            let message = self.messages.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
            if message.lines().any(|line| line.starts_with(what)) {
                return Some(message);
            }
        }
    }
}
