//! A service manager.

use std::{os::unix::net::UnixDatagram, path::PathBuf, time::Duration};
use tempfile::TempDir;

/// Longest time to wait for a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages among which one is that is waited for.
const MESSAGES: usize = 60;

/// The other end of `NOTIFY_SOCKET`, as sd_notify(3) describes it.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: TempDir,
}

impl Default for Manager {
    fn default() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { socket, path, _folder: folder }
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
        // A server that lives says so every second.
        for _ in 0..MESSAGES {
            let Some(message) = self.next(PATIENCE) else { break };
            if message.lines().any(|line| line.starts_with(what)) {
                return message;
            }
        }
        panic!("never told {what}");
    }

    /// Drops what was said so far, then whether nothing like this is said for so long.
    pub fn hears_no(&self, what: &str, time: Duration) -> bool {
        self.socket.set_nonblocking(true).expect("a socket");
        let mut bytes = [0; 4096];
        while self.socket.recv(&mut bytes).is_ok() {}
        self.socket.set_nonblocking(false).expect("a socket");
        let end = std::time::Instant::now() + time;
        while let Some(left) = end.checked_duration_since(std::time::Instant::now()).filter(|t| !t.is_zero())
        {
            if self.next(left).is_some_and(|message| message.lines().any(|line| line.starts_with(what))) {
                return false;
            }
        }
        true
    }

    fn next(&self, patience: Duration) -> Option<String> {
        let mut bytes = [0; 4096];
        self.socket.set_read_timeout(Some(patience)).expect("a socket");
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }
}
