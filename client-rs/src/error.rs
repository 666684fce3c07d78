//! Everything that can go wrong, as one closed list whose messages say what to do.

use crate::session::BadCheckpoint;
use autolrs_core::directive::Slot;
use std::path::PathBuf;

/// Why a session could not be opened or can't go on.
///
/// ```
/// # use autolrs_client::{blocking::Session, *};
/// # let spec = JobSpec {
/// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
/// # };
/// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
/// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
/// let config = SessionConfig { on_outage: OnOutage::Auto, ..alone };
/// match Session::open(config) {
///     Err(error @ Error::ServerUnavailable { .. }) => println!("{error}"),
///     Err(other) => return Err(other),
///     Ok(_) => unreachable!("nobody listens there"),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer in time, or the server can't serve now.
    #[error(
        "no answer from the AutoLRS server at {server}: {detail}. Is it running (autolrs serve), and is the address right (AUTOLRS_SERVER)?"
    )]
    ServerUnavailable {
        /// The address that was tried.
        server: String,
        /// What was seen last.
        detail: String,
    },
    /// The token is missing, unknown or expired.
    #[error(
        "the server does not know who this is: {0}. Set AUTOLRS_TOKEN to a token that whoever runs the server has made (autolrs token create)"
    )]
    Unauthenticated(String),
    /// The token's role does not allow it.
    #[error("the token may not do this: {0}. Training needs the role write")]
    PermissionDenied(String),
    /// A token would be sent in the clear.
    #[error("a token is not sent over {0}: use https:// (http:// is for loopback)")]
    InsecureToken(String),
    /// The two sides don't trust each other, or one of them speaks no TLS.
    #[error("no secure connection to the AutoLRS server at {server}: {detail}")]
    Tls {
        /// The address.
        server: String,
        /// What is wrong and what to do.
        detail: String,
    },
    /// A certificate or a key can't be used.
    #[error("{} can't be used: {detail}. Give a PEM file (AUTOLRS_CA, AUTOLRS_CERT, AUTOLRS_KEY)", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The address can't be used.
    #[error(
        "the server's address {address:?} can't be used: {detail}. Give one such as http://127.0.0.1:7461"
    )]
    BadAddress {
        /// The address.
        address: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The job's description breaks rules.
    #[error("the job can't be run as described{}", .violations.iter().map(|(field, text)| format!("; {field} {text}")).collect::<String>())]
    InvalidSpec {
        /// (field, what it must be): all of them.
        violations: Vec<(String, String)>,
    },
    /// The name is taken by a job with another spec.
    #[error("a job {job:?} exists with another spec (different: {}): choose another name, or restart it", .fields.join(", "))]
    JobDiffers {
        /// The job.
        job: String,
        /// The fields that differ.
        fields: Vec<String>,
    },
    /// There is no such job.
    #[error("the server has no job {0:?}")]
    JobNotFound(String),
    /// The job has ended.
    #[error("the job has ended: {0}. Restart it, or choose another name")]
    JobFinished(String),
    /// The job has progressed and the trainer brings no checkpoint.
    #[error("{0}. Resume from a checkpoint, restart the job, or choose another name")]
    ResumeRequired(String),
    /// Another trainer speaks for the job.
    #[error(
        "another trainer speaks for the job (host {host}, process {pid}): stop it, wait a minute, or take the job over"
    )]
    SessionActive {
        /// Its host.
        host: String,
        /// Its process.
        pid: u32,
        /// Whether it is on this host (and in this process name space).
        same_host: bool,
    },
    /// The server can't go back that far.
    #[error("{detail}. Resume from a newer checkpoint")]
    CheckpointTooOld {
        /// What the server says.
        detail: String,
        /// The oldest directive that it can go back to.
        oldest_seq: Option<u64>,
    },
    /// The checkpoint belongs to another job.
    #[error("the checkpoint does not fit: {0}. Use the job's own checkpoint, or restart the job")]
    CheckpointMismatch(String),
    /// The checkpoint can't be read.
    #[error(transparent)]
    BadCheckpoint(#[from] BadCheckpoint),
    /// A newer session speaks for the job.
    #[error("{0}. Stop one of the two trainers, or take the job over")]
    Fenced(String),
    /// A limit of the server is reached.
    #[error("a limit of the server is reached: {0}. Try again later")]
    LimitReached(String),
    /// The tenant has all that it may have.
    #[error("{0}")]
    QuotaExceeded(String),
    /// The job's record is damaged.
    #[error("the server can't read the job's record: {0}. Ask its operator")]
    JobDamaged(String),
    /// Something that this client does not know.
    #[error("the server refused: {0}")]
    Refused(String),
    /// An answer that this client can't read.
    #[error("{0}")]
    Unreadable(String),
    /// The process was forked after the session was opened.
    #[error(
        "this session belongs to the process that opened it, not to its forked child: open one in the process that trains"
    )]
    Forked,
    /// The system would give no thread or runtime.
    #[error("the session's background thread could not be started: {0}")]
    NoThread(String),
    /// A slot is restored, dropped or asked for that this trainer does not hold.
    #[error(
        "slot {0:?} is not held by this trainer: do all slot operations in order, and put a state that was loaded from a checkpoint into its slot (Handle::take_resumed_slot)"
    )]
    SlotMissing(Slot),
    /// The session was opened for a trainer that replays batches, and this one does not.
    #[error(
        "this trainer can't take the batches that followed the save of slot {0:?} once more: open its session with replay: false, or implement Trainable::rewind"
    )]
    CannotReplay(Slot),
    /// The session was opened for a trainer that validates, and this one does not.
    #[error(
        "this trainer measures no validation loss: open its session with validate: false, or implement Trainable::validate"
    )]
    CannotValidate,
    /// A checkpoint was asked for too early.
    #[error(transparent)]
    LossesMissing(#[from] crate::session::LossesMissing),
    /// The next directive was asked for too early.
    #[error(transparent)]
    NotReady(#[from] crate::session::NotReady),
}

impl Error {
    /// Whether trying again may help.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// assert!(Error::LimitReached("mailbox".into()).is_transient());
    /// assert!(!Error::JobNotFound("digits".into()).is_transient());
    /// ```
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::ServerUnavailable { .. } | Self::LimitReached(_))
    }

    /// Whether another connection may do better.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        self.is_transient() || matches!(self, Self::Tls { .. })
    }
}
