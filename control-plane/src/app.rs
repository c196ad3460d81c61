//! Composition of the control plane: opens the store, makes the first user, starts the publisher and
//! serves the API. `run` goes on until it is told to stop; nothing here is global.

mod first_start;
mod signing;
mod start;
mod waiting;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use actix_web::middleware::from_fn;
use actix_web::{HttpServer, web};
use aivonx_shared::bus::Bus;
use aivonx_shared::config::ControlConfig;
use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::sealed::SealKey;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use utoipa_actix_web::AppExt as _;

use crate::auth::bootstrap::BootstrapError;
use crate::auth::client::FrontDoor;
use crate::auth::{KeyRing, Passwords, Throttle, random, throttle};
use crate::docs::{self, Schema};
use crate::domain::AddressRules;
use crate::domain::turns::PullLimits;
use crate::events::Hub;
use crate::jobs::{Runner, Timing, Wake};
use crate::ops::Operations;
use crate::planes::Planes;
use crate::publish::Publisher;
use crate::routes;
use crate::store::{DatabaseUrl, Db, StoreError};
use crate::telemetry::{self, Metrics};
use crate::usage::Intake;

pub(crate) use signing::Signing;

/// Threads that serve the API: it is small work, and a login works on threads of its own.
const WORKERS: usize = 2;
/// Passwords that are hashed at once, each with 19 MiB.
const HASHES: usize = 2;
/// How long open requests may go on after the end was asked for, seconds.
const GRACE: u64 = 5;

/// Why a control plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The database does not open.
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    /// The first password will not do.
    #[error("{0}")]
    FirstPassword(#[from] BootstrapError),
    /// The first user cannot be made.
    #[error("the first user: {0}")]
    FirstUser(String),
    /// The keys that sign tokens cannot be read.
    #[error(
        "the keys that sign access tokens were sealed under another secret key than the one given; give the one \
         that the database was first used with ({0})"
    )]
    Sealed(String),
    /// The server cannot run.
    #[error("cannot serve: {0}")]
    Serve(#[from] std::io::Error),
    /// A metric is registered twice: a bug.
    #[error("cannot start: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// How far a control plane is on its way up.
#[derive(Debug)]
pub enum Progress {
    /// Its database is away. It goes on trying, and answers 503 meanwhile.
    Waits,
    /// It serves; with the password of `root` where one was made up.
    Serves(Option<Secret>),
}

/// What a control plane is made of, beside its configuration.
pub struct Options {
    /// The truth.
    pub database: DatabaseUrl,
    /// The road to the data planes.
    pub bus: Arc<dyn Bus>,
    /// Under which secrets lie in the database.
    pub seal: SealKey,
    /// What the front door shows, where there is one.
    pub front_door_token: Option<Secret>,
    /// Whether others than this machine can reach the front door.
    pub front_door_is_exposed: bool,
    /// Where an Ollama answers that may be registered, if no node ever was.
    pub first_node: Option<String>,
    /// Whether it has an operations listener of its own. In one process with a data plane that one's shows both.
    pub has_ops: bool,
}

/// What handlers ask. One for all workers.
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) publisher: Publisher,
    pub(crate) passwords: Passwords,
    pub(crate) throttle: Throttle,
    pub(crate) signing: Signing,
    pub(crate) seal: SealKey,
    pub(crate) front_door: Option<FrontDoor>,
    pub(crate) addresses: AddressRules,
    pub(crate) metrics: Metrics,
    pub(crate) config: ControlConfig,
    pub(crate) planes: Arc<Planes>,
    pub(crate) jobs: Wake,
    pub(crate) events: Arc<Hub>,
}

/// A control plane whose listeners are bound and which has not started yet.
pub struct Bound {
    listener: TcpListener,
    ops: Option<TcpListener>,
    config: ControlConfig,
    options: Options,
    metrics: Metrics,
    operations: Operations,
}

impl Bound {
    /// Binds the listeners: a taken port is an error here and now, and port 0 becomes known.
    pub fn bind(config: ControlConfig, options: Options) -> Result<Self, StartError> {
        let listen = |address| {
            TcpListener::bind(address).map_err(|error| StartError::Listen { address, error })
        };
        let metrics = Metrics::new()?;
        Ok(Self {
            listener: listen(config.listen)?,
            ops: options
                .has_ops
                .then(|| listen(config.ops_listen))
                .transpose()?,
            operations: Operations::new(metrics.clone(), Arc::clone(&options.bus)),
            metrics,
            config,
            options,
        })
    }

    /// Where the API is.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Where the operations listener is, where there is one.
    pub fn ops_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.ops.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// What operators ask of it, for whoever shows it in its place.
    pub fn operations(&self) -> Operations {
        self.operations.clone()
    }

    /// Serves until `stop` says so or goes away; `said` hears how far it is. While Postgres is away at the start
    /// it waits, and the operations listener says so.
    pub async fn run(
        mut self,
        stop: watch::Receiver<bool>,
        said: impl FnMut(Progress),
    ) -> Result<(), StartError> {
        let operations = self.operations.clone();
        let Some(listener) = self.ops.take() else {
            return self.serve(stop, said).await;
        };
        let server = operations.serve(listener)?;
        let handle = server.handle();
        let shown = tokio::spawn(server);
        let ended = self.serve(stop, said).await;
        handle.stop(false).await;
        // how it ended does not matter any more
        let _ = shown.await;
        ended
    }

    async fn serve(
        self,
        mut stop: watch::Receiver<bool>,
        mut said: impl FnMut(Progress),
    ) -> Result<(), StartError> {
        let opened = tokio::select! {
            opened = start::open(&self, &mut said) => opened?,
            // an error means that who could stop it is gone
            _ = stop.wait_for(|stops| *stops) => return Ok(()),
        };
        let operations = self.operations.clone();
        operations.serves(opened.db.clone());
        let (app, listener) = self.into_app(opened.db, opened.ring);
        let publisher = app.publisher.clone();
        let intake = Intake::new(
            app.db.clone(),
            Arc::clone(&app.bus),
            app.metrics.usage.clone(),
        );
        let server = serve(&app, listener)?;
        let handle = server.handle();
        said(Progress::Serves(opened.made_up));
        let events = Arc::clone(&app.events);
        let ended = async move {
            let _ = stop.wait_for(|stops| *stops).await; // as above
            operations.ends();
            events.close();
            handle.stop(true).await;
        };
        tokio::select! {
            result = server => result.map_err(StartError::Serve),
            ((), ()) = async { tokio::join!(ended, std::future::pending()) } => Ok(()),
            () = publisher.run() => Ok(()),
            () = Box::pin(intake.run()) => Ok(()),
            () = Arc::clone(&app).follow_signing() => Ok(()),
            () = app.runner().run() => Ok(()),
            () = app.events.run(&app.db, &*app.bus) => Ok(()),
        }
    }

    fn into_app(self, db: Db, ring: KeyRing) -> (web::Data<App>, TcpListener) {
        let Self {
            listener,
            config,
            options,
            metrics,
            ..
        } = self;
        let publishing = metrics.publishing.clone();
        let planes = Planes::new(Arc::clone(&options.bus), config.operations_token.clone());
        let app = web::Data::new(App {
            planes: Arc::new(planes),
            jobs: Wake::default(),
            events: Arc::new(Hub::new()),
            publisher: Publisher::new(db.clone(), Arc::clone(&options.bus), publishing),
            bus: options.bus,
            passwords: Passwords::new(HASHES),
            throttle: Throttle::new(throttle::ThrottleRules::default()),
            signing: Signing::new(ArcSwap::from_pointee(ring)),
            seal: options.seal,
            front_door: options.front_door_token.as_ref().map(FrontDoor::new),
            addresses: AddressRules {
                allowed: config.node_networks.clone(),
            },
            metrics,
            config,
            db,
        });
        (app, listener)
    }
}

impl App {
    async fn follow_signing(self: Arc<Self>) {
        signing::follow(&self).await;
    }

    /// Who works on jobs here.
    fn runner(&self) -> Arc<Runner> {
        let limits = PullLimits {
            per_node: self.config.pulls.per_node as usize,
            fleet: self.config.pulls.fleet as usize,
        };
        Arc::new(Runner {
            db: self.db.clone(),
            planes: Arc::clone(&self.planes),
            limits,
            timing: Timing::default(),
            wake: self.jobs.clone(),
            worker: format!("{:032x}", u128::from_ne_bytes(random::bytes())),
            claims: AtomicU64::new(0),
        })
    }

    /// The keys that sign and verify access tokens.
    pub(crate) fn key_ring(&self) -> Arc<KeyRing> {
        self.signing.load()
    }
}

fn schema() -> Schema {
    let app = actix_web::App::new().into_utoipa_app();
    Schema::of(app.configure(routes::api).split_for_parts().1)
}

/// The `OpenAPI` document of the REST API, YAML: what `/api/schema` serves.
pub fn openapi() -> String {
    schema().into_yaml()
}

fn serve(app: &web::Data<App>, listener: TcpListener) -> std::io::Result<actix_web::dev::Server> {
    let schema = web::Data::new(schema());
    let app = app.clone();
    let requests = web::Data::new(app.metrics.requests.clone());
    let server = HttpServer::new(move || {
        let (service, _) = actix_web::App::new()
            .into_utoipa_app()
            .app_data(app.clone())
            .app_data(schema.clone())
            .app_data(requests.clone())
            .app_data(web::PayloadConfig::new(crate::api::LONGEST_BODY))
            .configure(routes::api)
            .split_for_parts();
        service
            .configure(docs::routes)
            .default_service(web::route().to(routes::nowhere))
            .wrap(from_fn(telemetry::measure))
    })
    .workers(WORKERS)
    .shutdown_timeout(GRACE)
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(server)
}
