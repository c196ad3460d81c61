//! What the services of a data plane share, and each service made of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use aivonx_shared::bus::Bus;
use aivonx_shared::config::{AccessLog, Advertise, ProxyConfig};
use aivonx_shared::fleet_doc::FleetDoc;
use parking_lot::Mutex;
use pingora::server::Server;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::watch;

use super::checks::exposed;
use super::leave::Drain;
use super::{Addresses, StartError};
use crate::balance::Balancer;
use crate::dice::Dice;
use crate::edge::{self, Certificate, Connections as ClientConnections, Edge, Tls};
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
use crate::sync::{FleetSource, Source};
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::metrics::Metrics;
use crate::upstream::connection::Connections;
use crate::upstream::control::ControlPlane;

/// What the services share.
pub(super) struct Parts {
    pub(super) fleet: Arc<Fleet>,
    pub(super) members: Arc<Members>,
    pub(super) balancer: Arc<Balancer>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) names: Arc<Names>,
    pub(super) limits: Arc<BodyLimits>,
    pub(super) stores: Arc<Stores>,
    pub(super) active: Arc<Active>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) first_round: Arc<AtomicBool>,
    pub(super) access_log: AccessLogger,
    /// Where somebody stores usage.
    pub(super) usage: Option<Arc<UsageRoad>>,
    /// Which process this is.
    pub(super) instance: String,
    pub(super) changed: watch::Sender<u64>,
    pub(super) addresses: Addresses,
    /// Open connections of clients.
    pub(super) clients: Arc<ClientConnections>,
    pub(super) closing: watch::Sender<bool>,
    pub(super) handed_over: Arc<AtomicBool>,
}

impl Parts {
    pub(super) fn new(
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

    pub(super) fn tls(
        &self,
        certificate: Option<&Arc<Certificate>>,
    ) -> Result<Option<Tls>, StartError> {
        let tls = certificate.zip(self.addresses.tls);
        let tls = tls.map(|(certificate, here)| Tls::new(certificate, here, self.addresses.proxy));
        tls.transpose()
            .map_err(|error| StartError::Certificate(error.to_string()))
    }

    pub(super) fn edge(
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
    pub(super) fn source(
        &self,
        config: &ProxyConfig,
        fleet: FleetSource,
    ) -> (Source, Option<Reporter>) {
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

    pub(super) fn ops(
        &self,
        config: &ProxyConfig,
        probes: &Arc<Probes>,
        more: Option<MoreMetrics>,
    ) -> Ops {
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

    pub(super) fn probes(&self, config: &ProxyConfig, seed: u64) -> Arc<Probes> {
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

    pub(super) fn drain(&self, most: Duration, exit: fn() -> !) -> Drain {
        Drain {
            stores: Arc::clone(&self.stores),
            active: Arc::clone(&self.active),
            connections: Arc::clone(&self.clients),
            closing: self.closing.clone(),
            handed_over: Arc::clone(&self.handed_over),
            draining: Arc::clone(&self.draining),
            access_log: self.access_log.clone(),
            usage: self.usage.clone(),
            most,
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
