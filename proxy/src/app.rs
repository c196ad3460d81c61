//! Builds the Pingora server of a data plane; the only file that knows every module.

mod leave;
mod listeners;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use aivonx_shared::bus::Bus;
use aivonx_shared::config::{AccessLog, Advertise, ProxyConfig};
use aivonx_shared::fleet_doc::FleetDoc;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::http_app::HttpServer;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownWatch};
use pingora::services::background::{BackgroundService, background_service};
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::watch;

pub use listeners::Addresses;

use crate::balance::Balancer;
use crate::dice::Dice;
use crate::edge::handover::{Inheritance, meeting_point};
use crate::edge::{
    self, Certificate, CertificateError, Connections as ClientConnections, Edge, Tls,
};
use crate::fleet::Fleet;
use crate::gateway::{Active, Gateway};
use crate::names::Names;
use crate::ops::{MoreMetrics, Ops, Orders, Token};
use crate::probe::{Client as ProbeClient, Probes};
use crate::request::body::BodyLimits;
use crate::request::budget::BodyBudget;
use crate::request::origin::OriginPolicy;
use crate::store::Stores;
use crate::store::ordered::Pulls;
use crate::sync::bus::{FleetBus, InForce};
use crate::sync::disk::Disk;
use crate::sync::file::FleetFile;
use crate::sync::members::Members;
use crate::sync::report::{Reporter, instance_name};
use crate::sync::usage::UsageRoad;
use crate::sync::{FleetSource, Source, has_callers};
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::metrics::Metrics;
use crate::upstream::connection::Connections;
use crate::upstream::control::ControlPlane;
use leave::{Drain, Signals, TakeOver};
use listeners::{Listeners, serve};

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
    /// The TLS listener has no certificate.
    #[error("proxy.tls: {0}")]
    Certificate(String),
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

impl From<CertificateError> for StartError {
    fn from(error: CertificateError) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// What must hold between the configuration and the fleet document.
pub fn check(config: &ProxyConfig, doc: &FleetDoc) -> Result<(), StartError> {
    check_front_door(config)?;
    if let Some(tls) = &config.edge.tls {
        Certificate::load(tls)?;
    }
    let Some(listener) = exposed(config).filter(|_| !has_callers(doc)) else {
        return Ok(());
    };
    Err(StartError::Config(format!(
        "{listener}, beyond loopback, and nobody there may use the fleet: add `keys` to the fleet file, \
         or networks under `anonymous`, or `anonymous: always` if everybody who can connect may; or listen on 127.0.0.1"
    )))
}

/// A front door that led to itself would fill up with one request.
fn check_front_door(config: &ProxyConfig) -> Result<(), StartError> {
    let own = [
        Some(config.listen.proxy),
        config.edge.tls.as_ref().map(|tls| tls.listen),
    ];
    let to = config.front_door.as_ref().map(|door| &door.to);
    let is_own = to.is_some_and(|to| {
        let ip = to.host.parse::<std::net::IpAddr>();
        let address = ip.map(|ip| SocketAddr::new(ip, to.port));
        address.is_ok_and(|address| own.into_iter().flatten().any(|own| own == address))
    });
    if is_own {
        let problem = "proxy.front_door.to is where this proxy itself listens; name the control plane's own address";
        return Err(StartError::Config(problem.to_owned()));
    }
    Ok(())
}

/// The listener that others than this machine reach, in words.
fn exposed(config: &ProxyConfig) -> Option<String> {
    let tls = config.edge.tls.as_ref();
    let tls = tls.map(|tls| ("proxy.tls.listen", tls.listen));
    let mut clients = [Some(("proxy.listen", config.listen.proxy)), tls]
        .into_iter()
        .flatten();
    let (key, listen) = clients.find(|(_, listen)| !listen.ip().is_loopback())?;
    Some(format!("{key} is {listen}"))
}

/// What must hold before anything is bound. Who may use a fleet that is published changes as it goes:
/// there that is a warning.
fn check_start(config: &ProxyConfig, fleet: &FleetSource) -> Result<(), StartError> {
    match fleet {
        FleetSource::File { doc, .. } => check(config, doc),
        FleetSource::Bus { .. } => check_front_door(config),
    }
}

/// A data plane whose listeners are bound and which has not started yet.
pub struct Bound {
    config: ProxyConfig,
    fleet: FleetSource,
    listeners: Listeners,
    inherited: Option<Inheritance>,
    certificate: Option<Arc<Certificate>>,
    more: Option<MoreMetrics>,
}

impl Bound {
    /// Binds the listeners: a taken port is an error here and now, and port 0 becomes known.
    pub fn bind(config: ProxyConfig, fleet: FleetSource) -> Result<Self, StartError> {
        Self::with(config, fleet, None)
    }

    /// As `bind`, with the listeners of the running process that is told to hand them over (SIGQUIT).
    pub fn take_over(config: ProxyConfig, fleet: FleetSource) -> Result<Self, StartError> {
        check_start(&config, &fleet)?; // before the other process is asked to leave
        let socket = config.edge.upgrade_socket.as_deref();
        let socket = meeting_point(socket, config.listen.proxy.port())?;
        let inherited = Inheritance::receive(&socket)?;
        Self::with(config, fleet, Some(inherited))
    }

    fn with(
        config: ProxyConfig,
        fleet: FleetSource,
        mut inherited: Option<Inheritance>,
    ) -> Result<Self, StartError> {
        check_start(&config, &fleet)?;
        let certificate = config
            .edge
            .tls
            .as_ref()
            .map(Certificate::load)
            .transpose()?;
        Ok(Self {
            listeners: Listeners::bind(&config, inherited.as_mut())?,
            config,
            fleet,
            inherited,
            certificate: certificate.map(Arc::new),
            more: None,
        })
    }

    /// Shows the metrics of somebody else in this process behind its own.
    #[must_use]
    pub fn showing(mut self, more: MoreMetrics) -> Self {
        self.more = Some(more);
        self
    }

    /// Where clients and operators connect.
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        self.listeners.addresses()
    }

    /// Runs until a signal ends it: SIGTERM, and SIGQUIT once a new process serves, let open requests
    /// finish up to `timeouts.drain`, then `exit` is called. Takes over the calling thread, which must
    /// be the main one.
    pub fn run(self, exit: fn() -> !) -> Result<(), StartError> {
        let addresses = self.addresses()?;
        let seed = self.config.seed.unwrap_or_else(fastrand::get_seed);
        let parts = Parts::new(&self.config, &self.fleet, addresses, seed)?;
        let usage = parts.usage.clone();
        let (source, reporter) = parts.source(&self.config, self.fleet);

        let mut server = Server::new_with_opt_and_conf(None, server_conf(&self.config));
        let to_hand_over = self.listeners.to_hand_over()?;
        let tls = parts.tls(self.certificate.as_ref())?;
        let clients = parts.edge(&self.config, &server, seed, tls);
        let open = watch::Sender::new(false);
        let Listeners { proxy, tls, ops } = self.listeners;
        let sockets = [Some((addresses.proxy, proxy)), addresses.tls.zip(tls)];
        let sockets = sockets.into_iter().flatten().collect();
        server.add_service(serve("proxy", clients, None, sockets, &open));
        let probes = parts.probes(&self.config, seed);
        let operators = HttpServer::new_app(parts.ops(&self.config, &probes, self.more));
        let sockets = vec![(addresses.ops, ops)];
        server.add_service(serve("ops", operators, Some(1), sockets, &open));
        let background = Background {
            probes,
            balancer: Arc::clone(&parts.balancer),
            first_round: Arc::clone(&parts.first_round),
            certificate: self.certificate,
            members: Arc::clone(&parts.members),
            source,
            reporter,
            usage: parts.usage.clone(),
            changes: parts.changed.subscribe(),
        };
        server.add_service(background_service("fleet", background));
        let take_over = TakeOver {
            inherited: Mutex::new(self.inherited),
            first_round: Arc::clone(&parts.first_round),
            open,
        };
        server.add_service(background_service("take over", take_over));
        server.add_service(background_service("drain", parts.drain(exit)));
        let meeting_point = (self.config.edge.upgrade_socket, addresses.proxy.port());
        let signals = Signals::new(to_hand_over, meeting_point, Arc::clone(&parts.handed_over));
        server.run(RunArgs {
            shutdown_signal: Box::new(signals),
        });
        // here after a SIGINT, and where a drain took too long
        if let Some(usage) = usage {
            usage.keep();
        }
        Ok(())
    }
}

/// What the services share.
struct Parts {
    fleet: Arc<Fleet>,
    members: Arc<Members>,
    balancer: Arc<Balancer>,
    metrics: Arc<Metrics>,
    names: Arc<Names>,
    limits: Arc<BodyLimits>,
    stores: Arc<Stores>,
    active: Arc<Active>,
    draining: Arc<AtomicBool>,
    first_round: Arc<AtomicBool>,
    access_log: AccessLogger,
    /// Where somebody stores usage.
    usage: Option<Arc<UsageRoad>>,
    /// Which process this is.
    instance: String,
    changed: watch::Sender<u64>,
    addresses: Addresses,
    /// Open connections of clients.
    clients: Arc<ClientConnections>,
    closing: watch::Sender<bool>,
    handed_over: Arc<AtomicBool>,
}

impl Parts {
    fn new(
        config: &ProxyConfig,
        source: &FleetSource,
        addresses: Addresses,
        seed: u64,
    ) -> Result<Self, StartError> {
        let limits = &config.edge.limits;
        let fleet = Arc::new(Fleet::new(config.breaker));
        let access_log = match config.access_log {
            AccessLog::Stdout => AccessLogger::start(std::io::stdout())?,
            AccessLog::Off => AccessLogger::off(),
        };
        let metrics = Arc::new(Metrics::new()?);
        let stores = Stores::new(Arc::clone(&fleet), config.timeouts, Arc::clone(&metrics));
        let names = Arc::new(Names::new(config.hosts_file.clone()));
        let changed = watch::Sender::new(0);
        let instance = instance_name(&hostname());
        let members = Arc::new(Members {
            fleet: Arc::clone(&fleet),
            names: Arc::clone(&names),
            metrics: Arc::clone(&metrics),
            changed: changed.clone(),
            interval: config.probe.interval,
            patience: config.probe.timeout,
            state: Mutex::default(),
            wake: tokio::sync::Notify::new(),
        });
        Ok(Self {
            balancer: Arc::new(Balancer::new(Arc::clone(&fleet), Dice::new(seed))),
            fleet,
            members,
            clients: Arc::new(ClientConnections::new(
                limits.connections,
                limits.connections_per_client,
                metrics.connections(),
            )),
            usage: usage_road(config, source, &instance, &metrics),
            instance,
            metrics,
            names,
            stores: Arc::new(stores),
            limits: Arc::new(BodyLimits {
                each: config.body.buffer,
                budget: BodyBudget::new(config.body.buffer_total),
                most: limits.body,
                rate: limits.body_rate,
                patience: config.timeouts.client,
            }),
            active: Arc::default(),
            draining: Arc::default(),
            first_round: Arc::default(),
            access_log,
            changed,
            addresses,
            closing: watch::Sender::new(false),
            handed_over: Arc::default(),
        })
    }

    fn gateway(&self, config: &ProxyConfig, seed: u64) -> Gateway {
        Gateway {
            fleet: Arc::clone(&self.fleet),
            balancer: Arc::clone(&self.balancer),
            connections: Arc::new(Connections::default()),
            limits: Arc::clone(&self.limits),
            trusted_proxies: config.trusted_proxies.clone(),
            origin: OriginPolicy::new(
                self.addresses.proxy,
                self.addresses.tls,
                hostname().to_ascii_lowercase(),
                config.edge.origins.clone(),
            ),
            metrics: Arc::clone(&self.metrics),
            access_log: self.access_log.clone(),
            usage: self.usage.as_ref().map(|usage| usage.counts()),
            timeouts: config.timeouts,
            max_attempts: config.max_attempts as u32,
            version: config.version.clone(),
            dice: Dice::new(seed ^ 0x1D5),
            stores: Arc::clone(&self.stores),
            front_door: config
                .front_door
                .as_ref()
                .map(|door| Arc::new(ControlPlane::new(door, Arc::clone(&self.names)))),
            active: Arc::clone(&self.active),
        }
    }

    fn tls(&self, certificate: Option<&Arc<Certificate>>) -> Result<Option<Tls>, StartError> {
        let tls = certificate.zip(self.addresses.tls);
        let tls = tls.map(|(certificate, here)| Tls::new(certificate, here, self.addresses.proxy));
        tls.transpose()
            .map_err(|error| StartError::Certificate(error.to_string()))
    }

    fn edge(
        &self,
        config: &ProxyConfig,
        server: &Server,
        seed: u64,
        tls: Option<Tls>,
    ) -> Edge<HttpProxy<Gateway>> {
        let mut proxy = http_proxy(&server.configuration, self.gateway(config, seed));
        proxy.server_options = Some(edge::server_options());
        proxy.h2_options = Some(edge::h2_options(&config.edge.limits));
        let (metrics, clients) = (Arc::clone(&self.metrics), Arc::clone(&self.clients));
        Edge::new(
            proxy,
            config,
            metrics,
            clients,
            tls,
            self.closing.subscribe(),
        )
    }

    /// Follows the source of the fleet from now on, and says what it sees where somebody listens.
    fn source(&self, config: &ProxyConfig, fleet: FleetSource) -> (Source, Option<Reporter>) {
        let (bus, folder, key) = match fleet {
            FleetSource::File { path, doc } => return (self.file(path, doc), None),
            FleetSource::Bus { bus, folder, key } => (bus, folder, key),
        };
        let in_force = Arc::new(InForce::default());
        let reporter = self.reporter(config, &bus, &in_force);
        let source = FleetBus {
            bus,
            disk: folder.map(Disk::new),
            key,
            members: Arc::clone(&self.members),
            metrics: Arc::clone(&self.metrics),
            in_force,
            exposed: exposed(config),
        };
        source.start_from_disk();
        (Source::Bus(Arc::new(source)), Some(reporter))
    }

    fn file(&self, path: std::path::PathBuf, doc: FleetDoc) -> Source {
        let file = FleetFile {
            path,
            members: Arc::clone(&self.members),
            metrics: Arc::clone(&self.metrics),
        };
        let text = std::fs::read_to_string(&file.path).ok();
        file.apply(doc);
        let file = Arc::new(file);
        Source::File { file, text }
    }

    fn reporter(
        &self,
        config: &ProxyConfig,
        bus: &Arc<dyn Bus>,
        in_force: &Arc<InForce>,
    ) -> Reporter {
        let (active, hostname, ops) = (Arc::clone(&self.active), hostname(), self.addresses.ops);
        let advertised = config.operations.advertise.as_ref();
        let advertised = advertised.map(|advertise| advertise.with_port(ops.port()));
        Reporter {
            bus: Arc::clone(bus),
            fleet: Arc::clone(&self.fleet),
            metrics: Arc::clone(&self.metrics),
            in_force: Arc::clone(in_force),
            active: Box::new(move || active.count()),
            draining: Arc::clone(&self.draining),
            ops: advertised.unwrap_or_else(|| Advertise::by_default(ops, &hostname)),
            instance: self.instance.clone(),
            started: SystemTime::now(),
        }
    }

    fn ops(&self, config: &ProxyConfig, probes: &Arc<Probes>, more: Option<MoreMetrics>) -> Ops {
        Ops {
            orders: Orders {
                token: config.operations.token.as_ref().map(Token::of),
                probes: Arc::clone(probes),
                pulls: Pulls::new(Arc::clone(&self.stores)),
            },
            fleet: Arc::clone(&self.fleet),
            metrics: Arc::clone(&self.metrics),
            limits: Arc::clone(&self.limits),
            first_round: Arc::clone(&self.first_round),
            draining: Arc::clone(&self.draining),
            more,
        }
    }

    fn probes(&self, config: &ProxyConfig, seed: u64) -> Arc<Probes> {
        Arc::new(Probes {
            fleet: Arc::clone(&self.fleet),
            dice: Dice::new(seed ^ 0x9E0),
            names: Arc::clone(&self.names),
            client: ProbeClient::default(),
            probe: config.probe,
            inventory: config.inventory,
            residency: config.residency,
            changed: self.changed.clone(),
        })
    }

    fn drain(&self, exit: fn() -> !) -> Drain {
        Drain {
            stores: Arc::clone(&self.stores),
            active: Arc::clone(&self.active),
            connections: Arc::clone(&self.clients),
            closing: self.closing.clone(),
            handed_over: Arc::clone(&self.handed_over),
            draining: Arc::clone(&self.draining),
            access_log: self.access_log.clone(),
            usage: self.usage.clone(),
            exit,
        }
    }
}

/// The way of usage to a control plane, where there is one.
fn usage_road(
    config: &ProxyConfig,
    source: &FleetSource,
    instance: &str,
    metrics: &Arc<Metrics>,
) -> Option<Arc<UsageRoad>> {
    let FleetSource::Bus { bus, folder, .. } = source else {
        return None;
    };
    let road = UsageRoad::new(bus, metrics, config.usage, instance, folder.as_deref());
    Some(Arc::new(road))
}

/// This machine's name; empty where it has none that is text.
fn hostname() -> String {
    let name = nix::unistd::gethostname().ok();
    name.and_then(|name| name.into_string().ok())
        .unwrap_or_default()
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

/// Follows the source of the fleet and the nodes.
struct Background {
    probes: Arc<Probes>,
    balancer: Arc<Balancer>,
    /// Set once every node was probed and what was found is in force. Stays set.
    first_round: Arc<AtomicBool>,
    certificate: Option<Arc<Certificate>>,
    members: Arc<Members>,
    source: Source,
    /// Where somebody listens.
    reporter: Option<Reporter>,
    usage: Option<Arc<UsageRoad>>,
    changes: watch::Receiver<u64>,
}

#[async_trait]
impl BackgroundService for Background {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let probes = Arc::clone(&self.probes).run(self.changes.clone());
        // nodes are watched until the last request has ended, the source until the drain begins
        let follow = async {
            tokio::select! {
                () = self.source.follow() => {}
                _ = shutdown.changed() => {}
            }
        };
        tokio::join!(
            probes,
            follow,
            self.members.follow(),
            self.report(),
            self.bring_usage(),
            self.keep_in_force(),
            self.keep_certificate()
        );
    }
}

impl Background {
    async fn report(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.run().await;
        }
    }

    async fn bring_usage(&self) {
        if let Some(usage) = &self.usage {
            usage.run().await;
        }
    }

    /// Takes a new certificate when there is one.
    async fn keep_certificate(&self) {
        if let Some(certificate) = &self.certificate {
            certificate.follow().await;
        }
    }

    /// Builds what requests look at again after each change of document, health or inventory.
    async fn keep_in_force(&self) {
        let mut changes = self.changes.clone();
        loop {
            self.probes.fleet.refresh();
            self.balancer.sync().await;
            // nothing was told since, so all that is known is in force
            let is_known = self.members.is_settled() && self.probes.all_probed();
            if is_known && !changes.has_changed().unwrap_or(true) {
                self.first_round.store(true, Ordering::Release);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}
