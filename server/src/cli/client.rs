//! The connection of the commands that ask a running server.

use crate::exit::{self, Failure};
use autolrs_client::{DEFAULT_SERVER, EndpointConfig, Token, tls_problem};
use autolrs_proto::v1::job_service_client::JobServiceClient;
use clap::Args;
use std::{fmt, fs, path::PathBuf, time::Duration};
use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time for one answer.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

/// What the transport says of a connection that was closed before the answer.
const HUNG_UP: [&str; 2] = ["operation was canceled", "transport error"];

/// A connection that sends the token.
pub(super) type Line = InterceptedService<Channel, Bearer>;

/// Which server, and how both sides prove who they are.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// URL of the server: http://, https:// or unix:///path.
    #[arg(long, env = "AUTOLRS_SERVER", value_name = "URL", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// PEM file with the authorities that may have signed the server's certificate, instead of the system's.
    #[arg(long, env = "AUTOLRS_CA", value_name = "FILE", hide_env_values = true)]
    ca: Option<PathBuf>,
    /// PEM file with this client's certificate, for a server that asks for one.
    #[arg(long, env = "AUTOLRS_CERT", value_name = "FILE", hide_env_values = true)]
    cert: Option<PathBuf>,
    /// PEM file with its key.
    #[arg(long, env = "AUTOLRS_KEY", value_name = "FILE", hide_env_values = true)]
    key: Option<PathBuf>,
    /// File with the token; the token itself may stand in AUTOLRS_TOKEN.
    #[arg(long, env = "AUTOLRS_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    token_file: Option<PathBuf>,
    /// Refused: everybody on this machine can read a command line.
    #[arg(long, hide = true, value_name = "TOKEN")]
    token: Option<Hidden>,
}

/// What was given and is not to be seen again.
#[derive(Clone)]
struct Hidden;

impl std::str::FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(_: &str) -> Result<Self, Self::Err> {
        Ok(Self)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Puts the token into each request.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Why a command that asks a server failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL, the token or a certificate can't be used.
    #[error("{0}")]
    Usage(String),
    /// The two sides don't trust each other.
    #[error("no secure connection to the server: {0}")]
    Tls(String),
    /// The server can't be reached.
    #[error("no server answers at {server} ({reason}): is `autolrs serve` running there?")]
    Unreachable {
        /// Its URL.
        server: String,
        /// What the system says.
        reason: String,
    },
    /// The connection was closed before the answer; the certificate that a server asks for is missed only then.
    #[error(
        "the server has closed the connection; if it asks for clients' certificates, give one of an authority that it \
         trusts with --cert and --key"
    )]
    HungUp,
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

impl Failure for ClientError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Unreachable { .. }
            | Self::Tls(_)
            | Self::HungUp
            | Self::Refused(_)
            | Self::NotServing(_)
            | Self::Nothing(_) => exit::FAILED,
            Self::Io(_) => exit::INTERNAL,
        }
    }
}

impl ClientError {
    /// Whether the server may be back soon.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::HungUp => true,
            // The transport says UNKNOWN when a connection breaks.
            Self::Refused(status) => matches!(status.code(), Code::Unavailable | Code::Unknown),
            Self::Usage(_) | Self::Tls(_) | Self::NotServing(_) | Self::Nothing(_) | Self::Io(_) => false,
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        // A certificate that a server asks for is missed only after the greeting.
        match tls_problem(&status) {
            Some(detail) => Self::Tls(detail),
            None if HUNG_UP.contains(&status.message()) => Self::HungUp,
            None => Self::Refused(Box::new(status)),
        }
    }
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| format!(" [{}]", info.reason)).unwrap_or_default()
}

impl Target {
    /// Whether nobody said which.
    pub(super) fn is_default(&self) -> bool {
        self.server == DEFAULT_SERVER
    }

    /// The same caller of another server.
    pub(super) fn at(&self, server: String) -> Self {
        Self { server, ..self.clone() }
    }

    /// Where it is and as whom.
    fn endpoint(&self) -> Result<EndpointConfig, ClientError> {
        if self.token.is_some() {
            let detail = "--token would show the token to everybody on this machine: put it into AUTOLRS_TOKEN, or into a \
                          file that --token-file names";
            return Err(ClientError::Usage(detail.into()));
        }
        let token =
            match &self.token_file {
                None => EndpointConfig::from_env().token,
                Some(path) => Some(Token::from(fs::read_to_string(path).map_err(|error| {
                    ClientError::Usage(format!("--token-file {}: {error}", path.display()))
                })?)),
            };
        let Self { server, ca, cert, key, .. } = self.clone();
        Ok(EndpointConfig { server, token, ca, cert, key })
    }

    /// A connection.
    ///
    /// # Errors
    /// If the URL, the token or a certificate can't be used, or nobody answers.
    pub(super) async fn connect(&self) -> Result<Line, ClientError> {
        let config = self.endpoint()?;
        let usage = |error: autolrs_client::Error| ClientError::Usage(error.to_string());
        let endpoint = config.endpoint().map_err(usage)?.connect_timeout(CONNECT).timeout(ANSWER);
        let bearer = Bearer(config.authorization().map_err(usage)?);
        let channel = endpoint.connect().await.map_err(|error| match tls_problem(&error) {
            Some(detail) => ClientError::Tls(detail),
            None => self.unreachable(&error),
        })?;
        Ok(InterceptedService::new(channel, bearer))
    }

    /// A client of `JobService`.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub(super) async fn jobs(&self) -> Result<JobServiceClient<Line>, ClientError> {
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
