//! What a secured server needs: authorities with certificates, made anew for every test, and tokens.

use crate::{command::autolrs, server::Server};
use autolrs_client::{EndpointConfig, Token};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// An authority that signs certificates.
pub struct Authority {
    /// Its own certificate, in PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Signed {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// An authority of that name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these hosts, as server and as client.
    pub fn sign(&self, hosts: &[&str]) -> Signed {
        self.sign_until(hosts, 2100)
    }

    /// The same, until the beginning of a year.
    pub fn sign_until(&self, hosts: &[&str], year: i32) -> Signed {
        let hosts: Vec<_> = hosts.iter().map(|&host| host.to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Signed { cert, key: key.serialize_pem() }
    }
}

/// A folder of files for one test.
pub struct Files(TempDir);

impl Files {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    /// Where a file of that name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("text").to_owned()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("written");
        path
    }

    /// As Kubernetes mounts a secret: the files are links into a folder that a link leads to. A new version replaces
    /// that link in one step.
    pub fn secret(&self, version: &str, signed: &Signed) {
        let folder = self.path(version);
        fs::create_dir(&folder).expect("a new version");
        fs::write(folder.join("tls.crt"), &signed.cert).expect("written");
        fs::write(folder.join("tls.key"), &signed.key).expect("written");
        let swap = self.path("..swap");
        std::os::unix::fs::symlink(version, &swap).expect("a link");
        fs::rename(&swap, self.path("..data")).expect("swapped");
        for name in ["tls.crt", "tls.key"] {
            if !self.path(name).exists() {
                std::os::unix::fs::symlink(format!("..data/{name}"), self.path(name)).expect("a link");
            }
        }
    }

    /// Makes a token with `autolrs token create`.
    pub async fn token(&self, tenant: &str, role: &str) -> String {
        let tokens = self.text("tokens.json");
        let made =
            autolrs(["token", "create", "--tokens", &tokens, "--tenant", tenant, "--role", role]).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        made.out.trim().to_owned()
    }

    /// Revokes it with `autolrs token revoke`.
    pub async fn revoke(&self, token: &str) {
        let tokens = self.text("tokens.json");
        let gone = autolrs(["token", "revoke", id_of(token), "--tokens", &tokens]).await;
        assert_eq!(gone.code, Some(0), "{gone:?}");
    }
}

/// The part of a token that names it.
pub fn id_of(token: &str) -> &str {
    token.split('_').nth(1).expect("alrs_<id>_<secret>")
}

/// The part of a token that nobody may see.
pub fn secret_of(token: &str) -> &str {
    token.split('_').nth(2).expect("alrs_<id>_<secret>")
}

/// Sends a token.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A connection that sends a token.
pub type Line = InterceptedService<Channel, Bearer>;

/// Puts a token onto a connection.
pub fn bearer(channel: Channel, token: &str) -> Line {
    InterceptedService::new(channel, Bearer(format!("Bearer {token}").parse().expect("a token")))
}

/// A server with these flags that is started and ready.
pub async fn start(flags: &[&str]) -> Server {
    let mut server = Server::prepare(tempfile::tempdir().expect("a folder"));
    server.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    server.secured = true;
    server.up().await;
    server
}

/// Reaches a server over TLS by the name `localhost`.
pub fn endpoint(server: &Server, ca: &Path, token: Option<&str>) -> EndpointConfig {
    EndpointConfig {
        server: format!("https://localhost:{}", server.address.port()),
        token: token.map(Token::from),
        ca: Some(ca.into()),
        cert: None,
        key: None,
    }
}
