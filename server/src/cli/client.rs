//! The connection of the commands that ask a running server.

use crate::exit;
use autolrs_proto::v1::job_service_client::JobServiceClient;
use clap::Args;
use std::time::Duration;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

/// Where a server listens that was told nothing.
pub(super) const DEFAULT: &str = "http://127.0.0.1:7461";
/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for one answer.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// Which server.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// URL of the server.
    #[arg(long, env = "AUTOLRS_SERVER", value_name = "URL", default_value = DEFAULT)]
    pub server: String,
}

/// Why a command that asks a server failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is none.
    #[error("--server must be a URL such as http://127.0.0.1:7461, is {0:?}")]
    Url(String),
    /// The server can't be reached.
    #[error("no server answers at {server} ({reason}): is `autolrs serve` running there?")]
    Unreachable {
        /// Its URL.
        server: String,
        /// What the system says.
        reason: String,
    },
    /// The server refused.
    #[error("{}{}", .0.message(), reason(.0))]
    Refused(Box<Status>),
    /// The server answers, but is not serving.
    #[error("the server at {0} is not serving")]
    NotServing(String),
    /// The job has nothing to show of what was asked for.
    #[error("{0}")]
    Nothing(String),
    /// stdout or a file can't be written, or the machine failed us.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl ClientError {
    /// The exit code; see [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Url(_) => exit::USAGE,
            Self::Unreachable { .. } | Self::Refused(_) | Self::NotServing(_) | Self::Nothing(_) => {
                exit::FAILED
            }
            Self::Io(_) => exit::INTERNAL,
        }
    }
}

impl ClientError {
    /// Whether the server may be back soon.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            // The transport says UNKNOWN when a connection breaks.
            Self::Refused(status) => matches!(status.code(), Code::Unavailable | Code::Unknown),
            Self::Url(_) | Self::NotServing(_) | Self::Nothing(_) | Self::Io(_) => false,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| format!(" [{}]", info.reason)).unwrap_or_default()
}

impl Target {
    /// Whether nobody said which.
    pub(super) fn is_default(&self) -> bool {
        self.server == DEFAULT
    }

    /// A connection.
    ///
    /// # Errors
    /// If the URL is none, or nobody answers.
    pub async fn connect(&self) -> Result<Channel, ClientError> {
        let endpoint = Endpoint::from_shared(self.server.clone())
            .map_err(|_| ClientError::Url(self.server.clone()))?
            .connect_timeout(CONNECT)
            .timeout(ANSWER);
        if endpoint.uri().scheme().is_none() {
            return Err(ClientError::Url(self.server.clone()));
        }
        endpoint.connect().await.map_err(|error| self.unreachable(&error))
    }

    /// A client of `JobService`.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn jobs(&self) -> Result<JobServiceClient<Channel>, ClientError> {
        Ok(JobServiceClient::new(self.connect().await?))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> ClientError {
        let mut deepest = error;
        while let Some(source) = deepest.source() {
            deepest = source;
        }
        ClientError::Unreachable { server: self.server.clone(), reason: deepest.to_string() }
    }
}

/// Runs a command.
///
/// # Errors
/// What the command says, or that the machine has no room for it.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
