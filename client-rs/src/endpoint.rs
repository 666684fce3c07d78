//! Where the server is, and how both sides prove who they are: the address, the token, the certificates.

use crate::{
    config::{DEFAULT_SERVER, ENV_CA, ENV_CERT, ENV_KEY, ENV_SERVER, ENV_TOKEN, SessionConfig, variable},
    error::Error,
};
use rustls::{AlertDescription, CertificateError};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

/// Below the 60 s after which load balancers drop a silent connection.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A bearer token. It is not shown when it is printed for debugging.
///
/// ```
/// # use autolrs_client::Token;
/// let token = Token::from("alrs_9f0c2b6d51e84a37_secret\n");
/// assert_eq!(token.expose(), "alrs_9f0c2b6d51e84a37_secret");
/// assert_eq!(format!("{token:?}"), "Token(hidden)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token itself.
    ///
    /// ```
    /// # use autolrs_client::Token;
    /// assert_eq!(Token::from("x").expose(), "x");
    /// ```
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    /// The line that a file ends with is left out.
    fn from(text: &str) -> Self {
        Self(text.trim().into())
    }
}

impl From<String> for Token {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Where the server is, and how both sides prove who they are.
///
/// ```
/// # use autolrs_client::EndpointConfig;
/// let config = EndpointConfig { server: "https://autolrs.example:7461".into(), ..EndpointConfig::from_env() };
/// assert_eq!(config.server, "https://autolrs.example:7461");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointConfig {
    /// See [`SessionConfig::server`].
    pub server: String,
    /// See [`SessionConfig::token`].
    pub token: Option<Token>,
    /// See [`SessionConfig::ca`].
    pub ca: Option<PathBuf>,
    /// See [`SessionConfig::cert`].
    pub cert: Option<PathBuf>,
    /// See [`SessionConfig::key`].
    pub key: Option<PathBuf>,
}

impl From<&SessionConfig> for EndpointConfig {
    fn from(config: &SessionConfig) -> Self {
        let SessionConfig { server, token, ca, cert, key, .. } = config.clone();
        Self { server, token, ca, cert, key }
    }
}

impl EndpointConfig {
    /// What the environment says.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let server = EndpointConfig::from_env().server; // AUTOLRS_SERVER, else DEFAULT_SERVER
    /// assert!(!server.is_empty());
    /// ```
    pub fn from_env() -> Self {
        let path = |name| variable(name).map(PathBuf::from);
        Self {
            server: variable(ENV_SERVER).unwrap_or_else(|| DEFAULT_SERVER.into()),
            token: variable(ENV_TOKEN).map(Token::from),
            ca: path(ENV_CA),
            cert: path(ENV_CERT),
            key: path(ENV_KEY),
        }
    }

    /// The address with its certificates, which are read now. It connects with its first call.
    ///
    /// # Errors
    /// [`Error::BadAddress`], [`Error::BadCertificate`], and [`Error::InsecureToken`] if a token would be sent in the
    /// clear.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let open = EndpointConfig { server: "http://10.0.0.1:7461".into(), ..EndpointConfig::from_env() };
    /// assert!(open.endpoint().is_ok());
    /// let leaky = EndpointConfig { token: Some("alrs_1_x".into()), ..open };
    /// assert!(matches!(leaky.endpoint(), Err(Error::InsecureToken(_))));
    /// ```
    pub fn endpoint(&self) -> Result<Endpoint, Error> {
        let server = &self.server;
        let bad = |detail: String| Error::BadAddress { address: server.clone(), detail };
        let endpoint = Endpoint::from_shared(server.clone()).map_err(|error| bad(error.to_string()))?;
        let endpoint = match endpoint.uri().scheme_str() {
            _ if server.starts_with("unix:") => endpoint,
            Some("http") => endpoint,
            Some("https") => endpoint.tls_config(self.tls()?).map_err(|error| bad(deepest(&error)))?,
            _ => return Err(bad("it begins with none of http://, https://, unix:".into())),
        };
        if self.token.is_some() && !server.starts_with("unix:") && !is_private(&endpoint) {
            return Err(Error::InsecureToken(server.clone()));
        }
        Ok(endpoint
            .user_agent(concat!("autolrs-client/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| bad(error.to_string()))?
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true))
    }

    /// The value of the metadata `authorization`.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if the token has characters that no token has.
    ///
    /// ```
    /// # use autolrs_client::*;
    /// let config = EndpointConfig { token: Some("alrs_1_x".into()), ..EndpointConfig::from_env() };
    /// assert_eq!(config.authorization()?.unwrap().to_str().unwrap(), "Bearer alrs_1_x");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn authorization(&self) -> Result<Option<MetadataValue<Ascii>>, Error> {
        let Some(Token(token)) = &self.token else { return Ok(None) };
        let value: Result<MetadataValue<Ascii>, _> = format!("Bearer {token}").parse();
        let mut value =
            value.map_err(|_| Error::Unauthenticated("the token has characters that no token has".into()))?;
        // So that nothing below us prints it.
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn tls(&self) -> Result<ClientTlsConfig, Error> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca {
            None => tls.with_native_roots(),
            Some(path) => tls.ca_certificate(Certificate::from_pem(read(path)?)),
        };
        match (&self.cert, &self.key) {
            (None, None) => Ok(tls),
            (Some(cert), Some(key)) => Ok(tls.identity(Identity::from_pem(read(cert)?, read(key)?))),
            (Some(path), None) | (None, Some(path)) => Err(Error::BadCertificate {
                path: path.clone(),
                detail: "a client's certificate and its key are given together".into(),
            }),
        }
    }
}

/// What is wrong and what to do, if a failure of the transport is one of TLS; looks through the chain of its causes.
///
/// ```
/// assert_eq!(autolrs_client::tls_problem(&std::io::Error::other("unplugged")), None);
/// ```
pub fn tls_problem(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = tls_error(error) {
            return Some(detail(error));
        }
        next = error.source();
    }
    None
}

/// Whether nobody else can read what is sent.
fn is_private(endpoint: &Endpoint) -> bool {
    let uri = endpoint.uri();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    uri.scheme_str() != Some("http") || loopback
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = fs::read(path);
    let pem = bytes.and_then(|bytes| {
        let marked = bytes.windows(11).any(|part| part == b"-----BEGIN ");
        if marked { Ok(bytes) } else { Err(io::Error::other("it is no PEM file")) }
    });
    pem.map_err(|error| Error::BadCertificate { path: path.into(), detail: error.to_string() })
}

/// The error itself or, since an I/O error hides what it was made of, what is in it.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| inner.and_then(|inner| inner.downcast_ref()))
}

fn deepest(mut error: &dyn std::error::Error) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What it means and what to do.
fn detail(error: &rustls::Error) -> String {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(error) => certificate(error),
        E::AlertReceived(AlertDescription::CertificateRequired) => {
            "it asks for a client's certificate. Give one and its key (AUTOLRS_CERT and AUTOLRS_KEY)".into()
        }
        E::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError),
        ) => format!(
            "it does not accept this client's certificate ({alert:?}). Give a valid one of an authority that the server \
             trusts, with its key (AUTOLRS_CERT and AUTOLRS_KEY)"
        ),
        E::InvalidMessage(_) => "it does not speak TLS. Does its address begin with http://?".into(),
        other => other.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as C;
    match error {
        C::UnknownIssuer => "its certificate is signed by an authority that is not trusted here. Give the \
                             certificate of that authority as a PEM file (AUTOLRS_CA)"
            .into(),
        C::Expired | C::ExpiredContext { .. } => {
            "its certificate has expired. Renew it on the server, or set this machine's clock".into()
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "its certificate is not valid yet. Set this machine's clock, or wait".into()
        }
        C::NotValidForNameContext { expected, presented } => format!(
            "its certificate is for {}, not for {:?}. Use one of its names in the address, or a certificate with this one",
            presented.join(", "),
            expected.to_str()
        ),
        C::NotValidForName => "its certificate is for another host. Use its name in the address".into(),
        other => format!("its certificate is not accepted: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(server: &str, token: Option<&str>) -> EndpointConfig {
        let token = token.map(Token::from);
        EndpointConfig { server: server.into(), token, ca: None, cert: None, key: None }
    }

    #[tokio::test]
    async fn a_token_is_not_sent_in_the_clear() {
        let error = |server| config(server, Some("alrs_1_x")).endpoint().err();
        for server in ["http://10.0.0.1:7461", "http://box:7461", "http://127.0.0.1.evil.example:1"] {
            assert_eq!(error(server), Some(Error::InsecureToken(server.into())));
        }
        for server in [
            "http://127.0.0.1:7461",
            "http://localhost:1",
            "http://[::1]:1",
            "https://box:7461",
            "unix:/run/a",
        ] {
            assert_eq!(error(server), None, "{server}");
        }
        assert!(config("http://10.0.0.1:7461", None).endpoint().is_ok());
    }

    #[tokio::test]
    async fn an_address_that_can_not_be_used_is_named() {
        for server in ["", "box:7461", "ftp://box:7461", "http://"] {
            let error = config(server, None).endpoint().err();
            assert!(matches!(error, Some(Error::BadAddress { .. })), "{server}: {error:?}");
        }
    }

    #[tokio::test]
    async fn certificates_that_can_not_be_used_are_named() {
        let absent = EndpointConfig { ca: Some("/nonexistent/ca".into()), ..config("https://box:1", None) };
        let alone = EndpointConfig { cert: Some("/a/cert".into()), ..config("https://box:1", None) };
        for (config, path) in [(absent, "/nonexistent/ca"), (alone, "/a/cert")] {
            let error = config.endpoint().err();
            assert!(
                matches!(&error, Some(Error::BadCertificate { path: p, .. }) if p == Path::new(path)),
                "{error:?}"
            );
        }
    }

    #[test]
    fn the_token_is_not_printed() {
        let config = config("https://box:1", Some("alrs_1_verysecret"));
        let header = config.authorization().unwrap().unwrap();
        for shown in [format!("{config:?}"), format!("{header:?}")] {
            assert!(!shown.contains("verysecret"), "{shown}");
        }
    }
}
