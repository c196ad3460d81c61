//! Builds the Pingora server of a data plane; the only module that knows every other.

mod background;
mod checks;
mod leave;
mod listeners;
mod parts;

use std::net::SocketAddr;
use std::sync::Arc;

use aivonx_shared::config::ProxyConfig;
use parking_lot::Mutex;
use pingora::apps::http_app::HttpServer;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use tokio::sync::watch;

pub use checks::check;
pub use listeners::Addresses;

use crate::edge::handover::{Inheritance, meeting_point};
use crate::edge::{Certificate, CertificateError};
use crate::ops::MoreMetrics;
use crate::sync::FleetSource;
use background::Background;
use checks::check_start;
use leave::{Signals, TakeOver};
use listeners::{Listeners, serve};
use parts::Parts;

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
        let drain = parts.drain(self.config.timeouts.drain, exit);
        server.add_service(background_service("drain", drain));
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
