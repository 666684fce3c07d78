//! `autolrs serve`: puts the parts together, runs them until a signal, and takes them apart in order.

use crate::{
    audit::Audit,
    auth::{Guard, Tokens},
    build,
    clock::Clock,
    config::{Config, ConfigError, Limits, Security, Settings},
    connections::{Connections, Patience, places},
    exit::{self, Failure},
    layers::Layers,
    listen::{self, Listen, Listener},
    live::{Live, Reloads},
    operate::Probes,
    quotas::Quotas,
    registry::Registry,
    reload::{self, Parts, Reload},
    retention::Retention,
    rpc::{Edge, Jobs, Stores, Trainers},
    store::{JobStore, LateStore, SledOptions, SledStore, StoreError},
    supervisor,
    telemetry::{disk, exposition::Exposition, logs, logs::Filter, metrics, otlp::Traces, rpc::RpcLayer},
};
use autolrs_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        job_service_server::JobServiceServer, store_service_server::StoreServiceServer,
        trainer_service_server::TrainerServiceServer,
    },
};
use metrics_exporter_prometheus::PrometheusHandle;
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    service::LayerExt as _,
    transport::{Server, server::Router},
};
use tower::layer::{
    layer_fn,
    util::{Identity, Stack},
};

/// Time that a silent connection has to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes that a stream, and a connection, may send ahead of what the server has read: this much memory for each.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;
/// What gRPC clients accept unless told otherwise, in bytes.
const LEAST_MESSAGE: usize = 4 << 20;
/// What an HTTP/2 client says first, in bytes, and the time that it has for it.
const PREFACE: usize = 24;
const GREETING_TIME: Duration = Duration::from_secs(10);
/// Connections to the plain HTTP listener at once, and the silence after which one is closed.
const MAX_HTTP_CONNECTIONS: usize = 64;
const HTTP_SILENCE: Duration = Duration::from_secs(30);
/// Time for the store to be opened before the probes say that it is not there yet.
const FIRST_ATTEMPT: Duration = Duration::from_secs(10);
/// Time for clients to close their connections when nothing is under way any more.
const FAREWELL: Duration = Duration::from_secs(1);
/// Time for what is left when the server has ended.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// Why the server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A setting can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store can't be used, and waiting does not help.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A port can't be listened on.
    #[error(
        "can't listen on {address} ({source}): stop what listens there, or choose another address with --{flag}"
    )]
    Listen {
        /// The address.
        address: Listen,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// A certificate or the token file can't be used.
    #[error("{key}: {problem}")]
    Security {
        /// The setting that names it.
        key: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The traces can't be sent as the settings say.
    #[error("{0}")]
    Otlp(String),
    /// The machine or the process failed us.
    #[error("{0}")]
    Internal(String),
}

impl Failure for ServeError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Store(_) => exit::UNFIT,
            Self::Listen { .. } => exit::UNAVAILABLE,
            Self::Config(_) | Self::Security { .. } | Self::Otlp(_) => exit::USAGE,
            Self::Internal(_) => exit::INTERNAL,
        }
    }
}

/// Runs the server until SIGTERM or SIGINT. On SIGHUP it asks `reread` for the settings.
///
/// # Errors
/// See [`ServeError`].
pub fn run(config: &Config, reread: impl Fn() -> Settings + Send + 'static) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(internal)?;
    let traces = runtime.block_on(async { config.otlp.as_ref().map(Traces::start).transpose() });
    let traces = traces.map_err(ServeError::Otlp)?;
    let filter = logs::start(&config.log, traces.as_ref()).map_err(ServeError::Internal)?;
    let result = runtime.block_on(serve(config, filter, reread));
    if let Some(traces) = traces {
        traces.end();
    }
    // What still waits for a stuck disk must not keep the process.
    runtime.shutdown_timeout(LEFTOVERS);
    result
}

async fn serve(
    config: &Config,
    filter: Filter,
    reread: impl Fn() -> Settings + Send + 'static,
) -> Result<(), ServeError> {
    let settings = reread();
    let metrics = metrics::start().map_err(internal)?;
    let mut ends = Ends::new()?;
    let hang_up = signal(SignalKind::hangup()).map_err(internal)?;
    let secrets = Secrets::read(&config.security)?;
    let files = secrets.reloads.clone();
    let refused = |address: Listen, flag| move |source| ServeError::Listen { address, flag, source };
    let grpc = config.listen.bind().await.map_err(refused(config.listen.clone(), "listen"))?;
    let http = config
        .http_listen
        .map(|address| listen::tcp(address).map_err(refused(Listen::Tcp(address), "http-listen")));
    let http = http.transpose()?;
    let store = open_store(config).await?;
    let running = Running::start(config, store.clone(), metrics, secrets, grpc, http).await?;
    let Security { tls, tokens, .. } = &config.security;
    tracing::info!(
        listen = %config.listen,
        http = ?config.http_listen,
        tls = tls.is_some(),
        client_certificates = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()),
        tokens = tokens.is_some(),
        version = build::LINE,
        "started"
    );
    if !config.listen.is_private() && (tls.is_none() || tokens.is_none()) {
        tracing::warn!("insecure: whoever reaches the port can listen in, or see, change and end jobs");
    }
    supervisor::ready();
    let reload = Reload::new(reread, settings, config.clone(), running.parts(filter, files));
    let reloading = tokio::spawn(reload.at_every(hang_up));
    let refused = tokio::select! {
        () = ends.wait() => None,
        error = store.refused() => Some(error),
    };
    reloading.abort();
    supervisor::stopping();
    let drain = *running.drain.borrow();
    tracing::info!(seconds = drain.as_secs_f64(), "draining");
    tokio::select! {
        drained = tokio::time::timeout(drain, running.drain()) => match drained {
            Ok(result) => result?,
            Err(_) => tracing::warn!("not all that was under way could be finished; what was answered is stored"),
        },
        () = ends.wait() => tracing::warn!("told twice to end; what was answered is stored"),
    }
    tracing::info!("ended");
    refused.map_or(Ok(()), |error| Err(error.into()))
}

/// A server that serves.
struct Running {
    registry: Registry,
    store: Arc<dyn JobStore>,
    draining: CancellationToken,
    requests: Arc<Semaphore>,
    trainers: Arc<Semaphore>,
    keep_ended: watch::Sender<Option<Duration>>,
    /// Time for what is under way when it is told to end.
    drain: watch::Sender<Duration>,
    /// RPCs that have not ended.
    under_way: TaskTracker,
    audit: Audit,
    reporting: JoinHandle<()>,
    grpc: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Running {
    async fn start(
        config: &Config,
        store: Arc<dyn JobStore>,
        metrics: PrometheusHandle,
        secrets: Secrets,
        grpc: Listener,
        http: Option<TcpListener>,
    ) -> Result<Self, ServeError> {
        let limits = &config.limits;
        let clock = Clock::start();
        let (bounds, quotas) = (reload::bounds(limits), Quotas::new(limits.shares));
        let registry = Registry::with(store.clone(), clock, bounds, secrets.audit.clone(), quotas.clone());
        let draining = CancellationToken::new();
        tokio::spawn(disk::measure(config.data_dir.clone()));
        let counted = registry.clone();
        let metrics = Exposition::new(metrics, move || counted.measure());
        let mut probes = Probes::new(store.clone(), limits, draining.clone(), metrics);
        let (reporter, health) = tonic_health::server::health_reporter();
        probes.report(&reporter).await;
        let requests = Arc::new(Semaphore::new(limits.max_requests));
        let trainers = Arc::new(Semaphore::new(limits.max_trainers));
        let edge = Edge {
            registry: registry.clone(),
            draining: draining.clone(),
            trainers: trainers.clone(),
            watchers: Arc::new(Semaphore::new(limits.max_watchers)),
            quotas: quotas.clone(),
            request_timeout: limits.request_timeout,
            page_bytes: limits.max_message.min(LEAST_MESSAGE) / 2,
        };
        let under_way = TaskTracker::new();
        let guard = Guard::new(secrets.tokens.clone(), secrets.audit.clone(), quotas);
        let services = services(
            edge,
            store.clone(),
            limits,
            requests.clone(),
            &guard,
            &secrets.audit,
            under_way.clone(),
        );
        let router = services?.add_service(health);
        let greeting = Patience::Greeting(PREFACE, GREETING_TIME);
        let incoming = Connections::new(grpc, places(limits.max_connections), greeting);
        let incoming = incoming
            .over(secrets.certificate)
            .until(limits.connection_age + limits.connection_grace)
            .into_stream();
        tokio::spawn(secrets.reloads.clone().watch());
        let end = draining.clone().cancelled_owned();
        tokio::spawn(probes.clone().beat());
        if let Some(listener) = http {
            let connections = Connections::new(
                Listener::Tcp(listener),
                MAX_HTTP_CONNECTIONS,
                Patience::Always(HTTP_SILENCE),
            );
            tokio::spawn(axum::serve(connections, probes.clone().routes()).into_future());
        }
        let reporting = tokio::spawn(probes.keep_reporting(reporter));
        let grpc = tokio::spawn(router.serve_with_incoming_shutdown(incoming, end));
        let (keep_ended, keep) = watch::channel(limits.keep_ended);
        let (owners, cancel) = (registry.clone(), draining.clone());
        let retention = Retention { store: store.clone(), registry: owners, clock, keep, draining: cancel };
        tokio::spawn(retention.run());
        Ok(Self {
            registry,
            store,
            draining,
            requests,
            trainers,
            keep_ended,
            drain: watch::Sender::new(config.drain),
            under_way,
            audit: secrets.audit,
            reporting,
            grpc,
        })
    }

    /// What can change while it runs.
    fn parts(&self, filter: Filter, files: Reloads) -> Parts {
        Parts {
            filter,
            files,
            registry: self.registry.clone(),
            requests: self.requests.clone(),
            trainers: self.trainers.clone(),
            keep_ended: self.keep_ended.clone(),
            drain: self.drain.clone(),
        }
    }

    /// Takes no more requests, finishes those that were taken, and closes the store.
    async fn drain(self) -> Result<(), ServeError> {
        self.draining.cancel();
        self.reporting.await.map_err(internal)?;
        self.under_way.close();
        self.under_way.wait().await;
        match tokio::time::timeout(FAREWELL, self.grpc).await {
            Ok(ended) => ended.map_err(internal)?.map_err(internal)?,
            Err(_) => tracing::debug!("a client keeps its connection open; nothing is under way on it"),
        }
        self.registry.close().await;
        self.audit.flush().await;
        self.store.close().await;
        Ok(())
    }
}

/// What the listener and the guard go by, and what makes it anew.
struct Secrets {
    certificate: Option<Arc<Live<Arc<rustls::ServerConfig>>>>,
    tokens: Option<Arc<Live<Tokens>>>,
    reloads: Reloads,
    audit: Audit,
}

impl Secrets {
    fn read(security: &Security) -> Result<Self, ServeError> {
        let mut reloads = Reloads::default();
        let certificate = security.tls.clone().map(|files| {
            Live::start("certificate", files.paths(), move || {
                let read = files.read().map_err(|error| error.to_string())?;
                metrics::certificate_expires(files.expires().ok());
                Ok(read)
            })
        });
        let unusable = |key| move |problem| ServeError::Security { key, problem };
        let certificate = certificate.transpose().map_err(unusable("tls_cert"))?.map(Arc::new);
        let tokens = security.tokens.clone().map(|path| {
            Live::start("tokens", vec![path.clone()], move || {
                Tokens::read(&path).map_err(|error| error.to_string())
            })
        });
        let tokens = tokens.transpose().map_err(unusable("tokens"))?.map(Arc::new);
        certificate.iter().for_each(|part| reloads.add(part.clone()));
        tokens.iter().for_each(|part| reloads.add(part.clone()));
        let audit = Audit::start(security.audit.clone());
        let audit = audit.map_err(|error| unusable("audit")(error.to_string()))?;
        Ok(Self { certificate, tokens, reloads, audit })
    }
}

async fn open_store(config: &Config) -> Result<Arc<LateStore>, StoreError> {
    let (path, create) = (config.data_dir.clone(), config.create_store);
    let open = move || -> Result<Arc<dyn JobStore>, StoreError> {
        Ok(Arc::new(SledStore::open(&path, SledOptions { create, ..SledOptions::default() })?))
    };
    LateStore::open(open, FIRST_ATTEMPT).await
}

fn internal(error: impl std::fmt::Display) -> ServeError {
    ServeError::Internal(error.to_string())
}

/// The gRPC server with all services but health, which must exist before it.
fn services(
    edge: Edge,
    store: Arc<dyn JobStore>,
    limits: &Limits,
    requests: Arc<Semaphore>,
    guard: &Guard,
    audit: &Audit,
    under_way: TaskTracker,
) -> Result<Router<Stack<RpcLayer, Identity>>, ServeError> {
    let bytes = limits.max_message;
    let jobs = JobServiceServer::new(Jobs::new(edge.clone()))
        .max_decoding_message_size(bytes)
        .max_encoding_message_size(bytes);
    let stores = StoreServiceServer::new(Stores::new(edge.clone(), store, audit.clone(), limits.max_backups));
    let trainers = TrainerServiceServer::new(Trainers::new(edge))
        .max_decoding_message_size(bytes)
        .max_encoding_message_size(bytes);
    let layers = Layers::new(requests, limits.request_timeout);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Server::builder()
        .http2_keepalive_interval(Some(limits.keepalive))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(Some(limits.max_streams))
        .http2_max_header_list_size(Some(limits.max_metadata))
        // The grace is that of the connection itself: with one, this would not ask first.
        .max_connection_age(limits.connection_age)
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .layer(RpcLayer::new(under_way))
        .add_service(layer_fn(|service| guard.around(layers.around(service))).named_layer(jobs))
        .add_service(layer_fn(|service| guard.around(layers.around(service))).named_layer(trainers))
        .add_service(layer_fn(|service| guard.around(layers.around(service))).named_layer(stores))
        .add_service(reflection().build_v1().map_err(internal)?)
        .add_service(reflection().build_v1alpha().map_err(internal)?))
}

/// The signals that end the server.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn new() -> Result<Self, ServeError> {
        let catch = |kind| signal(kind).map_err(internal);
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    /// Until one that ends it.
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
