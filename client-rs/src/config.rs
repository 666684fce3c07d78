//! What a session needs to be opened.

use crate::endpoint::{EndpointConfig, Token};
use autolrs_core::spec::JobSpec;
use std::{path::PathBuf, time::Duration};

/// Environment variable with the server's address.
pub const ENV_SERVER: &str = "AUTOLRS_SERVER";
/// The address of a server that was started on this machine without further ado.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7461";
/// Environment variable with the bearer token.
pub const ENV_TOKEN: &str = "AUTOLRS_TOKEN";
/// Environment variable with the path of the authority that has signed the server's certificate.
pub const ENV_CA: &str = "AUTOLRS_CA";
/// Environment variable with the path of this client's certificate.
pub const ENV_CERT: &str = "AUTOLRS_CERT";
/// Environment variable with the path of its key.
pub const ENV_KEY: &str = "AUTOLRS_KEY";
/// Environment variable with the trace that this process is part of.
pub const ENV_TRACEPARENT: &str = "TRACEPARENT";
/// How long opening a session may take. Long enough for a server that is being restarted.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long training may stand still at the end of a directive.
pub const DEFAULT_DECISION_TIMEOUT: Duration = Duration::from_secs(120);

/// What to do while the server does not answer.
///
/// ```
/// # use autolrs_client::{blocking::Session, *};
/// # let spec = JobSpec {
/// #     total_steps: Some(3), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
/// # };
/// # let alone = SessionConfig { on_outage: OnOutage::Fallback, connect_timeout: std::time::Duration::ZERO,
/// #     server: "http://127.0.0.1:1".into(), token: None, ..SessionConfig::new("digits", spec) };
/// let config = SessionConfig { on_outage: OnOutage::Fallback, ..alone };
/// assert!(Session::open(config)?.snapshot().detached, "this example has no server");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnOutage {
    /// Opening fails after the connect time-out; a session that is open goes on with its fallback.
    #[default]
    Auto,
    /// As `Auto`, and a session that can't be opened runs the job's `fallback_lr`, or the schedule that is replayed,
    /// for its whole budget. The server has no such job then, so the run does not look for it later.
    Fallback,
    /// Waiting for a directive fails after the decision time-out. It may be called again.
    Raise,
}

/// What a session needs to be opened.
///
/// ```
/// # use autolrs_client::*;
/// let spec = JobSpec {
///     total_steps: Some(20_000), lr_min: Some(1e-3), lr_max: Some(1.0), fallback_lr: Some(0.1), ..JobSpec::default()
/// };
/// let config = SessionConfig {
///     server: "https://autolrs.example:7461".into(),
///     replay: true,
///     ..SessionConfig::new("resnet50", spec)
/// };
/// assert_eq!(config.decision_timeout, DEFAULT_DECISION_TIMEOUT);
/// ```
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// The job's name: `[a-z0-9]([a-z0-9._-]{0,62})`.
    pub job: String,
    /// What the job should do. The job is created if it does not exist.
    pub spec: JobSpec,
    /// The server: `http://host:port`, `https://host:port` or `unix:/path`.
    pub server: String,
    /// The bearer token. Not sent over `http` beyond loopback.
    pub token: Option<Token>,
    /// With `https`: a PEM file with the authorities that may have signed the server's certificate; none: the system's
    /// roots (or those in `SSL_CERT_FILE`).
    pub ca: Option<PathBuf>,
    /// A PEM file with this client's certificate, for a server that asks for one. Read anew when a connection has to be
    /// made anew.
    pub cert: Option<PathBuf>,
    /// A PEM file with its key.
    pub key: Option<PathBuf>,
    /// The trace that this training is part of, as W3C's `traceparent` (`00-<trace>-<parent>-01`): the server's spans of its
    /// requests are put in there. With the feature `opentelemetry`, the trace of the current `tracing` span comes first.
    pub traceparent: Option<String>,
    /// The bytes of a session's state from the trainer's checkpoint.
    pub resume: Option<Vec<u8>>,
    /// Take the job over from a trainer that was heard in the last minute. A trainer of this host whose process is
    /// gone is taken over in any case.
    pub takeover: bool,
    /// Forget what the job has done and start again, with this spec.
    pub restart: bool,
    /// The trainer can give the same batches once more.
    pub replay: bool,
    /// The trainer measures a validation loss on [`crate::Status::Validate`]. If not, it is never asked.
    pub validate: bool,
    /// What to do while the server does not answer.
    pub on_outage: OnOutage,
    /// How long opening may take.
    pub connect_timeout: Duration,
    /// How long training may stand still at the end of a directive.
    pub decision_timeout: Duration,
}

impl SessionConfig {
    /// A session of `job` with the defaults, on the server that the environment names.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let config = SessionConfig::new("resnet50", JobSpec::default());
    /// assert_eq!(config.job, "resnet50");
    /// ```
    pub fn new(job: impl Into<String>, spec: JobSpec) -> Self {
        let EndpointConfig { server, token, ca, cert, key } = EndpointConfig::from_env();
        Self {
            job: job.into(),
            spec,
            server,
            token,
            ca,
            cert,
            key,
            traceparent: std::env::var(ENV_TRACEPARENT).ok().filter(|text| !text.is_empty()),
            resume: None,
            takeover: false,
            restart: false,
            replay: false,
            validate: false,
            on_outage: OnOutage::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            decision_timeout: DEFAULT_DECISION_TIMEOUT,
        }
    }
}

/// An environment variable that is set to something.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
