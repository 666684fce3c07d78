//! TLS of the gRPC listener: rustls with the certificate, its key and, for mTLS, the authority of the clients, all from
//! PEM files.

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// What HTTP/2 is called in a handshake.
const H2: &[u8] = b"h2";

/// Where the certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those that it was signed with, up to one that clients trust.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates; none: clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Why they can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or what must be in it is not.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never says what is in it.
        problem: String,
    },
    /// They don't fit together.
    #[error("{} and {} can't be used together: {problem}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl TlsFiles {
    /// All files, to see when they change.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten().cloned().collect()
    }

    /// Reads them. New connections get what was read last; those that exist go on with what they began with.
    ///
    /// # Errors
    /// If one of them can't be used.
    pub(crate) fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.pair(&error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path)? {
                    roots.add(root).map_err(|error| file(path, &error))?;
                }
                let provider = Arc::new(ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| file(path, &error))?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| file(&self.key, &error))?;
        let mut config =
            builder.with_single_cert(certificates(&self.cert)?, key).map_err(|error| self.pair(&error))?;
        config.alpn_protocols = vec![H2.to_vec()];
        Ok(Arc::new(config))
    }

    /// When the server's certificate ends to be valid, in seconds since 1970.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn expires(&self) -> Result<i64, TlsError> {
        let found = certificates(&self.cert)?;
        let leaf = found.first().ok_or_else(|| file(&self.cert, &"there is no certificate in it"))?;
        let (_, leaf) =
            x509_parser::parse_x509_certificate(leaf).map_err(|error| file(&self.cert, &error))?;
        Ok(leaf.validity().not_after.timestamp())
    }

    fn pair(&self, error: &rustls::Error) -> TlsError {
        TlsError::Pair { cert: self.cert.clone(), key: self.key.clone(), problem: error.to_string() }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| file(path, &error))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| file(path, &error))?;
    if found.is_empty() {
        return Err(file(path, &"there is no certificate (in PEM) in it"));
    }
    Ok(found)
}

fn file(path: &Path, problem: &impl std::fmt::Display) -> TlsError {
    TlsError::File { path: path.into(), problem: problem.to_string() }
}
