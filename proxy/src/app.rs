//! Builds the Pingora server of a data plane; the only file that knows every module.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aivonx_shared::config::{AccessLog, ProxyConfig};
use aivonx_shared::fleet_doc::{Anonymous, FleetDoc};
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::http_app::HttpServer;
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds, Server, ShutdownWatch};
use pingora::services::Service;
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service as Listening;
use pingora_proxy::http_proxy_service_with_name;
use tokio::sync::watch;

use crate::balance::Balancer;
use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::gateway::{Active, Gateway};
use crate::names::Names;
use crate::ops::Ops;
use crate::probe::Probes;
use crate::request::body::BodyLimits;
use crate::request::budget::BodyBudget;
use crate::request::origin::OriginPolicy;
use crate::store::Stores;
use crate::sync::file::FleetFile;
use crate::sync::members::Members;
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::metrics::Metrics;
use crate::upstream::connection::Connections;

/// Why a data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: std::io::Error,
    },
    /// Two parts of the configuration do not go together.
    #[error("{0}")]
    Config(String),
    /// The system refused a thread or a file.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// A metric is registered twice: a bug.
    #[error("cannot start: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What must hold between the configuration and the fleet document.
pub fn check(config: &ProxyConfig, doc: &FleetDoc) -> Result<(), StartError> {
    let listen = config.listen.proxy;
    let someone = match &doc.anonymous {
        Anonymous::Always => true,
        Anonymous::Networks(networks) => !networks.is_empty(),
        Anonymous::Loopback | Anonymous::Never => false,
    };
    if listen.ip().is_loopback() || someone || !doc.keys.is_empty() {
        return Ok(());
    }
    Err(StartError::Config(format!(
        "proxy.listen is {listen}, beyond loopback, and nobody there may use the fleet: add `keys` to the fleet file, \
         or networks under `anonymous`, or `anonymous: always` if everybody who can connect may; or listen on 127.0.0.1"
    )))
}

/// A data plane whose listeners are bound and which has not started yet.
pub struct Bound {
    config: ProxyConfig,
    doc: FleetDoc,
    fleet_file: std::path::PathBuf,
    proxy: TcpListener,
    ops: TcpListener,
}

impl Bound {
    /// Binds the listeners: a taken port is an error here and now, and port 0 becomes known.
    /// `doc` is what `fleet_file` holds.
    pub fn bind(
        config: ProxyConfig,
        fleet_file: std::path::PathBuf,
        doc: FleetDoc,
    ) -> Result<Self, StartError> {
        check(&config, &doc)?;
        let (proxy, ops) = (listen(config.listen.proxy)?, listen(config.listen.ops)?);
        Ok(Self {
            config,
            doc,
            fleet_file,
            proxy,
            ops,
        })
    }

    /// Where clients and operators connect.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.proxy.local_addr()?, self.ops.local_addr()?))
    }

    /// Runs until a signal ends it: SIGTERM lets open requests finish up to `timeouts.drain`, then
    /// `exit` is called. Takes over the calling thread, which must be the main one.
    pub fn run(self, exit: fn() -> !) -> Result<(), StartError> {
        let (proxy_address, ops_address) = self.addresses()?;
        let seed = self.config.seed.unwrap_or_else(fastrand::get_seed);
        let parts = Parts::new(&self.config, proxy_address, seed)?;
        let file = Arc::new(FleetFile {
            path: self.fleet_file,
            members: parts.members(&self.config),
            metrics: Arc::clone(&parts.metrics),
        });
        let text = std::fs::read_to_string(&file.path).ok();
        file.apply(self.doc);

        let mut server = Server::new_with_opt_and_conf(None, server_conf(&self.config));
        let mut proxy = http_proxy_service_with_name(
            &server.configuration,
            parts.gateway(&self.config, seed),
            "proxy",
        );
        proxy.add_tcp(&proxy_address.to_string());
        server.add_service(WithListener::new(proxy, proxy_address, self.proxy));
        let mut ops = Listening::new("ops".to_owned(), HttpServer::new_app(parts.ops()));
        ops.threads = Some(1);
        ops.add_tcp(&ops_address.to_string());
        server.add_service(WithListener::new(ops, ops_address, self.ops));
        let background = Background {
            probes: parts.probes(&self.config, seed),
            balancer: Arc::clone(&parts.balancer),
            first_round: Arc::clone(&parts.first_round),
            file,
            file_text: Mutex::new(text),
            changes: parts.changed.subscribe(),
        };
        server.add_service(background_service("fleet", background));
        server.add_service(background_service("drain", parts.drain(exit)));
        server.run_forever()
    }
}

/// What the services share.
struct Parts {
    fleet: Arc<Fleet>,
    balancer: Arc<Balancer>,
    metrics: Arc<Metrics>,
    names: Arc<Names>,
    limits: Arc<BodyLimits>,
    stores: Arc<Stores>,
    active: Arc<Active>,
    draining: Arc<AtomicBool>,
    first_round: Arc<AtomicBool>,
    access_log: AccessLogger,
    changed: watch::Sender<u64>,
    listen: SocketAddr,
}

impl Parts {
    fn new(config: &ProxyConfig, listen: SocketAddr, seed: u64) -> Result<Self, StartError> {
        let fleet = Arc::new(Fleet::new(config.breaker));
        let access_log = match config.access_log {
            AccessLog::Stdout => AccessLogger::start(std::io::stdout())?,
            AccessLog::Off => AccessLogger::off(),
        };
        let metrics = Arc::new(Metrics::new()?);
        let stores = Stores::new(Arc::clone(&fleet), config.timeouts, Arc::clone(&metrics));
        Ok(Self {
            balancer: Arc::new(Balancer::new(Arc::clone(&fleet), Dice::new(seed))),
            fleet,
            metrics,
            names: Arc::new(Names::new(config.hosts_file.clone())),
            stores: Arc::new(stores),
            limits: Arc::new(BodyLimits {
                each: config.body.buffer,
                budget: BodyBudget::new(config.body.buffer_total),
            }),
            active: Arc::default(),
            draining: Arc::default(),
            first_round: Arc::default(),
            access_log,
            changed: watch::Sender::new(0),
            listen,
        })
    }

    fn gateway(&self, config: &ProxyConfig, seed: u64) -> Gateway {
        let hostname = nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default();
        Gateway {
            fleet: Arc::clone(&self.fleet),
            balancer: Arc::clone(&self.balancer),
            connections: Arc::new(Connections::default()),
            limits: Arc::clone(&self.limits),
            trusted_proxies: config.trusted_proxies.clone(),
            origin: OriginPolicy::new(self.listen, hostname.to_ascii_lowercase()),
            metrics: Arc::clone(&self.metrics),
            access_log: self.access_log.clone(),
            timeouts: config.timeouts,
            max_attempts: config.max_attempts as u32,
            version: config.version.clone(),
            dice: Dice::new(seed ^ 0x1D5),
            stores: Arc::clone(&self.stores),
            active: Arc::clone(&self.active),
        }
    }

    fn ops(&self) -> Ops {
        Ops {
            fleet: Arc::clone(&self.fleet),
            metrics: Arc::clone(&self.metrics),
            limits: Arc::clone(&self.limits),
            first_round: Arc::clone(&self.first_round),
            draining: Arc::clone(&self.draining),
        }
    }

    fn probes(&self, config: &ProxyConfig, seed: u64) -> Arc<Probes> {
        Arc::new(Probes {
            fleet: Arc::clone(&self.fleet),
            dice: Dice::new(seed ^ 0x9E0),
            names: Arc::clone(&self.names),
            probe: config.probe,
            inventory: config.inventory,
            residency: config.residency,
            changed: self.changed.clone(),
        })
    }

    fn members(&self, config: &ProxyConfig) -> Arc<Members> {
        Arc::new(Members {
            fleet: Arc::clone(&self.fleet),
            names: Arc::clone(&self.names),
            metrics: Arc::clone(&self.metrics),
            changed: self.changed.clone(),
            interval: config.probe.interval,
            patience: config.probe.timeout,
            state: Mutex::default(),
            wake: tokio::sync::Notify::new(),
        })
    }

    fn drain(&self, exit: fn() -> !) -> Drain {
        Drain {
            stores: Arc::clone(&self.stores),
            active: Arc::clone(&self.active),
            draining: Arc::clone(&self.draining),
            access_log: self.access_log.clone(),
            exit,
        }
    }
}

fn server_conf(config: &ProxyConfig) -> ServerConf {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    ServerConf {
        threads: if config.threads == 0 {
            cores
        } else {
            config.threads
        },
        upstream_keepalive_pool_size: config.upstream_keepalive,
        // our own limit is lower; a pooled connection that was closed does not count
        max_retries: config.max_attempts + 17,
        // Pingora waits this out on SIGTERM; `Drain` leaves as soon as nothing is open
        grace_period_seconds: Some(config.timeouts.drain.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| StartError::Listen { address, error })
}

/// A service with a listener that is bound already: Pingora itself would try a taken port for
/// half a minute and then leave a process without one (pingora.md §5).
struct WithListener<S> {
    service: S,
    fds: ListenFds,
}

impl<S> WithListener<S> {
    fn new(service: S, address: SocketAddr, listener: TcpListener) -> Self {
        let mut fds = Fds::new();
        fds.add(address.to_string(), listener.into_raw_fd());
        Self {
            service,
            fds: Arc::new(Mutex::new(fds)),
        }
    }
}

#[async_trait]
impl<S: Service> Service for WithListener<S> {
    async fn start_service(
        &mut self,
        _: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let fds = Some(Arc::clone(&self.fds));
        self.service
            .start_service(fds, shutdown, listeners_per_fd)
            .await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}

/// Follows the fleet file and the nodes.
struct Background {
    probes: Arc<Probes>,
    balancer: Arc<Balancer>,
    /// Set once every node was probed and what was found is in force. Stays set.
    first_round: Arc<AtomicBool>,
    file: Arc<FleetFile>,
    file_text: Mutex<Option<String>>,
    changes: watch::Receiver<u64>,
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let text = self.file_text.lock().take();
        let probes = Arc::clone(&self.probes).run(self.changes.clone());
        // nodes are watched until the last request has ended, the file until the drain begins
        let follow = async {
            tokio::select! {
                () = self.file.follow(text) => {}
                _ = shutdown.changed() => {}
            }
        };
        tokio::join!(
            probes,
            follow,
            self.file.members.follow(),
            self.keep_in_force()
        );
    }
}

impl Background {
    /// Builds what requests look at again after each change of document, health or inventory.
    async fn keep_in_force(&self) {
        let mut changes = self.changes.clone();
        loop {
            self.probes.fleet.refresh();
            self.balancer.sync().await;
            // nothing was told since, so all that is known is in force
            let is_known = self.file.members.is_settled() && self.probes.all_probed();
            if is_known && !changes.has_changed().unwrap_or(true) {
                self.first_round.store(true, Ordering::Release);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Leaves as soon as nothing is open after SIGTERM.
struct Drain {
    stores: Arc<Stores>,
    active: Arc<Active>,
    draining: Arc<AtomicBool>,
    access_log: AccessLogger,
    exit: fn() -> !,
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        // an error means that the server is gone already
        let _ = shutdown.changed().await;
        self.draining.store(true, Ordering::Release);
        self.stores.stop();
        tracing::info!(requests.open = self.active.count(), "draining");
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while self.active.count() > 0 {
            tick.tick().await;
        }
        tracing::info!("drained");
        self.access_log.flush();
        (self.exit)()
    }
}
