//! Ports, and the server as a client sees it.

use super::Finding;
use crate::cli::client::{ClientError, Target};
use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
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

/// Whether a server of ours answers gRPC there.
pub(super) async fn serves(address: SocketAddr) -> bool {
    let target = Target { server: format!("http://{address}") };
    matches!(timeout(PATIENCE, health(&target)).await, Ok(Ok(_)))
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
pub(super) fn port(check: &'static str, address: SocketAddr, flag: &str, ours: bool) -> Finding {
    if ours {
        return Finding::ok(check, format!("an AutoLRS server listens on {address}"));
    }
    let Err(error) = TcpListener::bind(address) else {
        return Finding::ok(check, format!("{address} is free"));
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
