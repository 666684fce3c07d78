//! The audit log: who has changed what, and what was decided for it. A JSON object per line, handed to a thread of its
//! own after the change is stored and before it is answered; whoever changes something waits if the disk is slow. What
//! was handed over is written at once, and before an orderly end.

use crate::{
    auth::{By, token::TokenId},
    store::JobKey,
    telemetry::metrics,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::SystemTime,
};
use tokio::sync::{mpsc, oneshot};

/// Entries that may wait for the disk.
const WAITING: usize = 1024;

/// Where entries go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AuditTo {
    /// Nowhere.
    #[default]
    Off,
    /// Among the log lines.
    Stderr,
    /// To the end of a file for this user alone; one that was moved away is begun anew.
    File(PathBuf),
}

impl AuditTo {
    fn write(&self, lines: &str) -> io::Result<()> {
        match self {
            Self::Off => Ok(()),
            Self::Stderr => io::stderr().lock().write_all(lines.as_bytes()),
            Self::File(path) => open(path)?.write_all(lines.as_bytes()),
        }
    }
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A job was made.
    Create,
    /// A trainer has opened a session.
    OpenSession,
    /// A directive was decided: the LR of the steps that follow.
    Decide,
    /// A search has committed an LR.
    Commit,
    /// An operator has changed a job.
    Update,
    /// An operator, or the trainer, has asked a job to end in order.
    Finish,
    /// An operator has cancelled a job.
    Cancel,
    /// A job was deleted.
    Delete,
    /// All jobs are copied.
    Backup,
    /// A known token was refused for its role or tenant.
    Deny,
}

#[derive(Serialize)]
struct Entry<'e> {
    /// RFC 3339, UTC.
    time: String,
    action: Action,
    tenant: &'e str,
    job: &'e str,
    /// The token's id; null: the server asks for none.
    token: Option<&'e str>,
    request_id: &'e str,
    #[serde(flatten)]
    detail: Value,
}

enum Letter {
    Line(String),
    /// Everything before it is written.
    Flushed(oneshot::Sender<()>),
}

/// Takes entries. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<mpsc::Sender<Letter>>);

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Letter")
    }
}

impl Audit {
    /// Begins to write.
    ///
    /// # Errors
    /// If the file can't be opened.
    pub(crate) fn start(to: AuditTo) -> io::Result<Self> {
        match &to {
            AuditTo::Off => return Ok(Self(None)),
            AuditTo::Stderr => {}
            AuditTo::File(path) => drop(open(path)?),
        }
        let (sender, letters) = mpsc::channel(WAITING);
        thread::Builder::new().name("audit".into()).spawn(move || write(&to, letters))?;
        Ok(Self(Some(sender)))
    }

    /// Enters what was done to a job.
    pub(crate) async fn record(&self, by: &By, job: &JobKey, action: Action, detail: Value) {
        let Some(sender) = &self.0 else { return };
        let line = line(by.token.as_ref(), &by.request_id, (&job.tenant, &job.name), action, detail);
        // The thread ends with the last sender.
        drop(sender.send(Letter::Line(line)).await);
    }

    /// Enters that a request was refused, unless the disk is so slow that entries wait: then they are counted.
    pub(crate) fn deny(&self, token: &TokenId, tenant: &str, rpc: &str, reason: &str) {
        let Some(sender) = &self.0 else { return };
        let detail = json!({ "rpc": rpc, "reason": reason });
        let line = line(Some(token), "", (tenant, ""), Action::Deny, detail);
        if sender.try_send(Letter::Line(line)).is_err() {
            metrics::audit_failed();
        }
    }

    /// Until everything that was entered is written.
    pub(crate) async fn flush(&self) {
        let Some(sender) = &self.0 else { return };
        let (flushed, wait) = oneshot::channel();
        if sender.send(Letter::Flushed(flushed)).await.is_ok() {
            drop(wait.await);
        }
    }
}

fn line(
    token: Option<&TokenId>,
    request_id: &str,
    (tenant, job): (&str, &str),
    action: Action,
    detail: Value,
) -> String {
    let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let token = token.map(TokenId::as_str);
    let entry = Entry { time, action, tenant, job, token, request_id, detail };
    // Text and finite numbers: it has a form in JSON.
    serde_json::to_string(&entry).unwrap_or_default() + "\n"
}

/// Writes what has queued up at once.
fn write(to: &AuditTo, mut letters: mpsc::Receiver<Letter>) {
    let mut waiting = Vec::new();
    while let Some(first) = letters.blocking_recv() {
        let mut lines = String::new();
        let mut next = Some(first);
        while let Some(letter) = next {
            match letter {
                Letter::Line(line) => lines += &line,
                Letter::Flushed(reply) => waiting.push(reply),
            }
            next = letters.try_recv().ok();
        }
        if let Err(error) = to.write(&lines) {
            metrics::audit_failed();
            tracing::error!(%error, lines, "the audit log can't be written");
        }
        for reply in waiting.drain(..) {
            // Who no longer waits needs no answer.
            let _ = reply.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn by() -> By {
        By { token: TokenId::parse("0011223344556677"), request_id: "r1".into() }
    }

    #[tokio::test]
    async fn entries_are_lines_of_json_in_a_file_of_ones_own_that_may_be_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let audit = Audit::start(AuditTo::File(path.clone())).unwrap();
        let key = JobKey::new("a", "job");
        audit.record(&by(), &key, Action::Decide, json!({ "seq": 1 })).await;
        audit.flush().await;
        let text = fs::read_to_string(&path).unwrap();
        let entry: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&entry["tenant"], &entry["job"], &entry["seq"]), (&json!("a"), &json!("job"), &json!(1)));
        assert_eq!((&entry["token"], &entry["action"]), (&json!("0011223344556677"), &json!("decide")));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::rename(&path, folder.path().join("audit.1")).unwrap();
        audit.deny(&by().token.unwrap(), "a", "DeleteJob", "too low");
        audit.flush().await;
        assert!(fs::read_to_string(&path).unwrap().contains("\"deny\""));
    }

    #[test]
    fn a_file_that_can_not_be_opened_is_an_error() {
        assert!(Audit::start(AuditTo::File("/nonexistent/audit".into())).is_err());
    }
}
