//! Ports, and the server as a client sees it.

use super::Finding;
use crate::{
    cli::client::{ClientError, Target},
    config::Config,
    listen::Listen,
};
use std::{
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    os::unix::fs::FileTypeExt,
    path::Path,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Longest time for a neighbour to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a server of ours answers gRPC there. The name in its certificate may be another than this address: then TLS
/// there, and our probes beside it, are enough.
pub(super) async fn serves(config: &Config, caller: &Target) -> bool {
    let server = match &config.listen {
        Listen::Tcp(address) if config.security.tls.is_some() => format!("https://{address}"),
        Listen::Tcp(address) => format!("http://{address}"),
        Listen::Unix(path) => format!("unix://{}", path.display()),
    };
    match timeout(PATIENCE, health(&caller.at(server))).await {
        Ok(Ok(_)) => true,
        Ok(Err(ClientError::Tls(_) | ClientError::HungUp)) => match config.http_listen {
            Some(address) => probes(address).await,
            None => false,
        },
        _ => false,
    }
}

async fn health(target: &Target) -> Result<ServingStatus, ClientError> {
    let mut client = HealthClient::new(target.connect().await?);
    Ok(client.check(HealthCheckRequest::default()).await?.into_inner().status())
}

/// Whether our probes answer there.
pub(super) async fn probes(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: doctor\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer.ends_with("\r\n\r\nok\n") || answer.contains("is stuck since"))
    };
    matches!(timeout(PATIENCE, ask).await, Ok(Ok(true)))
}

/// Whether a server can listen there; `ours`: one does.
pub(super) fn port(check: &'static str, listen: &Listen, flag: &str, ours: bool) -> Finding {
    if ours {
        return Finding::ok(check, format!("an AutoLRS server listens on {listen}"));
    }
    let (address, error) = match listen {
        Listen::Tcp(address) => match TcpListener::bind(address) {
            Ok(_) => return Finding::ok(check, format!("{address} is free")),
            Err(error) => (address, error),
        },
        Listen::Unix(path) => return socket(check, path),
    };
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => {
            format!("stop what listens there (`ss -ltnp`), or choose another port with --{flag}")
        }
        ErrorKind::PermissionDenied => format!("choose a port above 1023 with --{flag}"),
        ErrorKind::AddrNotAvailable => {
            format!("give --{flag} an address that this machine has (`ip address`)")
        }
        _ => format!("choose another address with --{flag}"),
    };
    Finding::fail(check, format!("can't listen on {address}: {error}"), remedy)
}

/// Whether a Unix socket can be made there.
fn socket(check: &'static str, path: &Path) -> Finding {
    let folder = path.parent().unwrap_or(path);
    if !folder.is_dir() {
        let what = format!("can't listen on {}: {} is no directory", path.display(), folder.display());
        return Finding::fail(check, what, "make the directory, or choose another with --listen");
    }
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            let what = format!("can't listen on {}: there is a file that is no socket", path.display());
            Finding::fail(check, what, "remove it, or choose another path with --listen")
        }
        _ => Finding::ok(check, format!("{} is free", path.display())),
    }
}

/// Whether a client finds a server that serves; `here`: one answers on the address of this configuration.
pub(super) async fn client(target: &Target, here: bool) -> Finding {
    let (check, server) = ("client", &target.server);
    let start = "start it with `autolrs serve`, or give clients its URL (AUTOLRS_SERVER, --server)";
    match timeout(PATIENCE, health(target)).await {
        Ok(Ok(ServingStatus::Serving)) => Finding::ok(check, format!("the server at {server} is serving")),
        Ok(Ok(_)) => {
            let remedy = "its log and /readyz say why; the checks above may too";
            Finding::fail(check, format!("the server at {server} is not serving"), remedy)
        }
        Ok(Err(ClientError::Unreachable { reason, .. })) if target.is_default() && !here => {
            Finding::warn(check, format!("no server answers at {server} ({reason})"), start)
        }
        Ok(Err(error)) => Finding::fail(check, error.to_string(), start),
        Err(_) => Finding::fail(check, format!("{server} does not answer within {PATIENCE:?}"), start),
    }
}
