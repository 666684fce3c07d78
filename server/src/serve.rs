//! `autolrs serve`: puts the parts together, runs them until a signal, and takes them apart in order.

use crate::{
    clock::Clock,
    config::{Config, Limits},
    exit,
    layers::Layers,
    operate::Probes,
    registry::{Bounds, Registry},
    rpc::{Edge, Jobs, Trainers},
    store::{JobStore, SledOptions, SledStore, StoreError},
    telemetry::{logs, metrics, rpc::RpcLayer},
};
use autolrs_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{job_service_server::JobServiceServer, trainer_service_server::TrainerServiceServer},
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::LayerExt as _,
    transport::{
        Server,
        server::{Router, TcpIncoming},
    },
};
use tower::layer::{
    layer_fn,
    util::{Identity, Stack},
};

/// Time that a silent connection has to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests and streams at once on one connection: a proxy may carry many trainers over one.
const STREAMS_PER_CONNECTION: u32 = 1024;

/// Why the server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port can't be listened on.
    #[error(
        "can't listen on {address} ({source}): stop what listens there, or choose another port with --{flag}"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The machine or the process failed us.
    #[error("{0}")]
    Internal(String),
}

impl ServeError {
    /// The exit code; see [`exit`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Store(_) | Self::Listen { .. } => exit::UNAVAILABLE,
            Self::Internal(_) => exit::INTERNAL,
        }
    }
}

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// See [`ServeError`].
pub fn run(config: &Config) -> Result<(), ServeError> {
    logs::start(&config.log).map_err(ServeError::Internal)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| ServeError::Internal(e.to_string()))?.block_on(serve(config))
}

async fn serve(config: &Config) -> Result<(), ServeError> {
    let metrics = metrics::start().map_err(|e| ServeError::Internal(e.to_string()))?;
    let mut ends = Ends::new()?;
    let grpc = listen(config.listen, "listen").await?;
    let http = match config.http_listen {
        Some(address) => Some(listen(address, "http-listen").await?),
        None => None,
    };
    let store = open_store(config).await?;
    let registry = Registry::new(
        store.clone(),
        Clock::start(),
        Bounds { mailbox: config.limits.mailbox, idle: config.limits.idle },
    );
    let draining = CancellationToken::new();
    let probes = Probes::new(store.clone(), draining.clone(), metrics);
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(probes.clone().beat());
    let reporting = tokio::spawn(probes.clone().report(reporter));
    if let Some(listener) = http {
        tokio::spawn(axum::serve(listener, probes.routes()).into_future());
    }
    let edge = Edge {
        registry: registry.clone(),
        draining: draining.clone(),
        trainers: Arc::new(Semaphore::new(config.limits.max_trainers)),
        request_timeout: config.limits.request_timeout,
    };
    let router = services(&edge, &config.limits)?.add_service(health);
    let incoming = TcpIncoming::from(grpc).with_nodelay(Some(true));
    let served =
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, draining.clone().cancelled_owned()));
    tracing::info!(listen = %config.listen, http = ?config.http_listen, version = env!("CARGO_PKG_VERSION"), "started");

    ends.wait().await;
    tracing::info!(seconds = config.drain.as_secs(), "draining");
    draining.cancel();
    let drained = async {
        drop(reporting.await);
        let served = served.await;
        registry.close().await;
        store.close().await;
        served
    };
    match tokio::time::timeout(config.drain, drained).await {
        Err(_) => tracing::warn!("not all that was under way could be finished; what was answered is stored"),
        Ok(Ok(Ok(()))) => tracing::info!("ended"),
        Ok(Ok(Err(error))) => return Err(ServeError::Internal(error.to_string())),
        Ok(Err(error)) => return Err(ServeError::Internal(error.to_string())),
    }
    Ok(())
}

async fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, flag, source })
}

async fn open_store(config: &Config) -> Result<Arc<dyn JobStore>, ServeError> {
    let path = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || SledStore::open(&path, SledOptions::default())).await;
    Ok(Arc::new(opened.map_err(|e| ServeError::Internal(e.to_string()))??))
}

/// The gRPC server with all services but health, which must exist before it.
fn services(edge: &Edge, limits: &Limits) -> Result<Router<Stack<RpcLayer, Identity>>, ServeError> {
    let bytes = limits.max_message_bytes;
    let jobs = JobServiceServer::new(Jobs::new(edge.clone()))
        .max_decoding_message_size(bytes)
        .max_encoding_message_size(bytes);
    let trainers = TrainerServiceServer::new(Trainers::new(edge.clone()))
        .max_decoding_message_size(bytes)
        .max_encoding_message_size(bytes);
    let layers = Layers::new(limits.max_requests, limits.request_timeout);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let broken = |e: tonic_reflection::server::Error| ServeError::Internal(e.to_string());
    Ok(Server::builder()
        .http2_keepalive_interval(Some(limits.keepalive))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .layer(RpcLayer::new())
        .add_service(layer_fn(|service| layers.around(service)).named_layer(jobs))
        .add_service(layer_fn(|service| layers.around(service)).named_layer(trainers))
        .add_service(reflection().build_v1().map_err(broken)?)
        .add_service(reflection().build_v1alpha().map_err(broken)?))
}

/// The signals that end the server.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new() -> Result<Self, ServeError> {
        let catch = |kind| signal(kind).map_err(|e| ServeError::Internal(e.to_string()));
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
