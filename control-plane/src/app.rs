//! Composition of the control plane: opens the store, makes the first user, starts the publisher and
//! serves the API. `run` goes on until it is told to stop; nothing here is global.

mod first_start;
mod signing;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

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
use crate::auth::{KeyRing, Passwords, Throttle, throttle};
use crate::docs::{self, Schema};
use crate::domain::AddressRules;
use crate::publish::Publisher;
use crate::routes;
use crate::store::{DatabaseUrl, Db, StoreError};
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
    pub(crate) config: ControlConfig,
}

/// A control plane whose listener is bound and which has not started yet.
pub struct Bound {
    listener: TcpListener,
    config: ControlConfig,
    options: Options,
}

impl Bound {
    /// Binds the listener: a taken port is an error here and now, and port 0 becomes known.
    pub fn bind(config: ControlConfig, options: Options) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen {
            address: config.listen,
            error,
        };
        let listener = TcpListener::bind(config.listen).map_err(failed)?;
        Ok(Self {
            listener,
            config,
            options,
        })
    }

    /// Where the API is.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` says so or goes away. `ready` is called once it serves, with the password of
    /// `root` where one was made up.
    pub async fn run(
        self,
        mut stop: watch::Receiver<bool>,
        ready: impl FnOnce(Option<Secret>),
    ) -> Result<(), StartError> {
        let Self {
            listener,
            config,
            options,
        } = self;
        let db = Db::open(&options.database).await?;
        let passwords = Passwords::new(HASHES);
        let exposed = config.is_exposed() || options.front_door_is_exposed;
        let has_started = first_start::is_first(&db).await?;
        let made_up = first_start::make_root(&db, &passwords, &config, exposed).await?;
        if let (Some(url), true) = (&options.first_node, has_started) {
            first_start::register(&db, url).await?;
        }
        let ring = signing::read(&db, &options.seal, config.logins.access_token).await?;
        let publisher = Publisher::new(db.clone(), Arc::clone(&options.bus));
        let intake = Intake::new(db.clone(), Arc::clone(&options.bus));
        let app = web::Data::new(App {
            publisher: publisher.clone(),
            bus: options.bus,
            passwords,
            throttle: Throttle::new(throttle::ThrottleRules::default()),
            signing: Signing::new(ArcSwap::from_pointee(ring)),
            seal: options.seal,
            front_door: options.front_door_token.as_ref().map(FrontDoor::new),
            addresses: AddressRules {
                allowed: config.node_networks.clone(),
            },
            config,
            db,
        });
        let server = serve(&app, listener)?;
        let handle = server.handle();
        ready(made_up);
        let ended = async move {
            // an error means that who could stop it is gone
            let _ = stop.wait_for(|stops| *stops).await;
            handle.stop(true).await;
        };
        tokio::select! {
            result = server => result.map_err(StartError::Serve),
            ((), ()) = async { tokio::join!(ended, std::future::pending()) } => Ok(()),
            () = publisher.run() => Ok(()),
            () = Box::pin(intake.run()) => Ok(()),
            () = Arc::clone(&app).follow_signing() => Ok(()),
        }
    }
}

impl App {
    async fn follow_signing(self: Arc<Self>) {
        signing::follow(&self).await;
    }

    /// The keys that sign and verify access tokens.
    pub(crate) fn key_ring(&self) -> Arc<KeyRing> {
        self.signing.load()
    }
}

fn serve(app: &web::Data<App>, listener: TcpListener) -> std::io::Result<actix_web::dev::Server> {
    let (_, api) = actix_web::App::new()
        .into_utoipa_app()
        .configure(routes::api)
        .split_for_parts();
    let schema = web::Data::new(Schema::of(api));
    let app = app.clone();
    let server = HttpServer::new(move || {
        let (service, _) = actix_web::App::new()
            .into_utoipa_app()
            .app_data(app.clone())
            .app_data(schema.clone())
            .app_data(web::PayloadConfig::new(crate::api::LONGEST_BODY))
            .configure(routes::api)
            .split_for_parts();
        service
            .configure(docs::routes)
            .default_service(web::route().to(routes::nowhere))
    })
    .workers(WORKERS)
    .shutdown_timeout(GRACE)
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(server)
}
