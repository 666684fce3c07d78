//! Configuration of `autolrs serve`: flag over environment over file, checked once, all errors at once.

pub mod knobs;
mod nearest;
mod quantity;
mod read;
mod sources;

pub use sources::{Origin, Setting};

use crate::{audit::AuditTo, listen::Listen, quotas::Shares, tls::TlsFiles};
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// A checked configuration. The fields are described by [`knobs::KNOBS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The gRPC listener.
    pub listen: Listen,
    /// The plain HTTP listener; none: off.
    pub http_listen: Option<SocketAddr>,
    /// Who may connect and ask.
    pub security: Security,
    /// Where the store keeps its files.
    pub data_dir: PathBuf,
    /// Make a store where there is none.
    pub create_store: bool,
    /// Log lines.
    pub log: LogConfig,
    /// Where traces go; none: nowhere.
    pub otlp: Option<OtlpConfig>,
    /// What bounds memory and time.
    pub limits: Limits,
    /// Longest time to finish what is under way when the server is told to end.
    pub drain: Duration,
}

/// Who may connect and ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// TLS of the gRPC listener; none: in the clear.
    pub tls: Option<TlsFiles>,
    /// The token file; none: everyone may do everything.
    pub tokens: Option<PathBuf>,
    /// Where the audit log goes.
    pub audit: AuditTo,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// A filter of `tracing_subscriber::EnvFilter`, checked.
    pub filter: String,
    /// A decision that takes this long has a line.
    pub slow_decision: Duration,
}

/// Where traces go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// URL of the collector's gRPC port.
    pub endpoint: String,
    /// PEM file with the authorities of its certificate; none: the machine's.
    pub ca: Option<PathBuf>,
    /// File with headers for it.
    pub header_file: Option<PathBuf>,
    /// Traces of a million that are sent, of those that begin here.
    pub samples_per_million: u32,
}

impl OtlpConfig {
    /// Share of the traces that are sent, of those that begin here.
    pub fn sample_ratio(&self) -> f64 {
        f64::from(self.samples_per_million) / 1e6
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// What bounds memory and time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest gRPC message in bytes.
    pub max_message: usize,
    /// gRPC connections at once.
    pub max_connections: usize,
    /// Requests under way at once.
    pub max_requests: usize,
    /// `Train` streams at once.
    pub max_trainers: usize,
    /// Jobs in memory at once.
    pub max_jobs: usize,
    /// `WatchJob` streams at once.
    pub max_watchers: usize,
    /// Backups at once.
    pub max_backups: usize,
    /// Requests and streams at once on one connection.
    pub max_streams: u32,
    /// Most bytes of the headers of one request.
    pub max_metadata: u32,
    /// What each tenant may take.
    pub shares: Shares,
    /// Requests that may wait for one job.
    pub mailbox: usize,
    /// Longest time for one request.
    pub request_timeout: Duration,
    /// Silence after which a connection is pinged.
    pub keepalive: Duration,
    /// Age at which a client is asked to make a new connection.
    pub connection_age: Duration,
    /// Time that it has for what is under way on the old one.
    pub connection_grace: Duration,
    /// Silence after which a job leaves memory.
    pub idle: Duration,
    /// How long a job that has ended is kept; none: for ever.
    pub keep_ended: Option<Duration>,
    /// Newest directives of a job whose losses are kept in detail.
    pub history: u64,
    /// Free bytes on the store's disk below which the server warns.
    pub disk_warning: u64,
    /// Silence of the store's writer after which it counts as stuck.
    pub writer_silence: Duration,
}

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, or the variable that is none.
    pub key: String,
    /// What it must be instead, with the value found and where.
    pub message: String,
}

/// Everything that is wrong, in the order found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not usable:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {} {}", problem.key, problem.message))
    }
}

impl Config {
    /// The configuration from the flags that were given (by key), the environment and a file.
    ///
    /// # Errors
    /// Every setting that is unknown or out of range, at once.
    pub fn read(
        flags: &BTreeMap<String, String>,
        env: &HashMap<String, String>,
        file: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        Settings::collect(flags, env, file).config()
    }
}

/// Every setting with its origin, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    values: Vec<Setting>,
    /// What is wrong with the sources themselves.
    problems: Vec<Problem>,
}

impl Settings {
    /// The settings from the flags that were given (by key), the environment and a file.
    pub fn collect(
        flags: &BTreeMap<String, String>,
        env: &HashMap<String, String>,
        file: Option<&Path>,
    ) -> Self {
        let (values, problems) = sources::merge(flags, env, file);
        Self { values, problems }
    }

    /// One per knob, in the order of [`knobs::KNOBS`].
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.values.iter()
    }

    /// These settings, but those knobs as `other` has them.
    #[must_use]
    pub fn with(&self, other: &Self, whose: impl Fn(&knobs::Knob) -> bool) -> Self {
        let pairs = self.values.iter().zip(&other.values);
        let values = pairs.map(|(old, new)| if whose(new.knob) { new } else { old }.clone());
        Self { values: values.collect(), problems: self.problems.clone() }
    }

    /// The configuration.
    ///
    /// # Errors
    /// Every setting that is unknown or out of range, at once.
    pub fn config(&self) -> Result<Config, ConfigError> {
        match self.best() {
            (config, problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(ConfigError(problems)),
        }
    }

    /// The configuration with something usable for what is not, and everything that is wrong.
    pub fn best(&self) -> (Config, Vec<Problem>) {
        let (config, problems) = read::config(&self.values);
        (config, [self.problems.clone(), problems].concat())
    }
}

#[cfg(test)]
mod tests;
