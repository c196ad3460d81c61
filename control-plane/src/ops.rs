//! What operators ask of a control plane: `/metrics`, `/healthz`, `/readyz`. It stands apart from the API's
//! listener, because it has no login (design.md D8). In one process with a data plane there is no such listener:
//! the data plane's shows these metrics, too.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, Responder, guard, web};
use aivonx_shared::bus::Bus;
use arc_swap::ArcSwap;
use tokio::time::timeout;

use crate::store::Db;
use crate::telemetry::{Metrics, PlanesSeen};

/// How long a probe may take: whoever asks waits for a few seconds only.
const PROBE: Duration = Duration::from_secs(2);
/// How long reading for the metrics may take; what does not come in time is left out.
const READ: Duration = Duration::from_millis(500);

/// What operators ask. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    metrics: Metrics,
    bus: Arc<dyn Bus>,
    phase: Arc<ArcSwap<Phase>>,
}

/// Where a control plane is in its life.
enum Phase {
    /// On its way up; why it is not there yet.
    Starts(String),
    Serves(Db),
    Ends,
}

impl Operations {
    pub(crate) fn new(metrics: Metrics, bus: Arc<dyn Bus>) -> Self {
        let begun = Phase::Starts("it has only begun".to_owned());
        Self {
            metrics,
            bus,
            phase: Arc::new(ArcSwap::from_pointee(begun)),
        }
    }

    /// It cannot serve yet.
    pub(crate) fn waits_for(&self, why: &str) {
        self.phase.store(Arc::new(Phase::Starts(why.to_owned())));
    }

    /// It serves from this database.
    pub(crate) fn serves(&self, db: Db) {
        self.phase.store(Arc::new(Phase::Serves(db)));
    }

    /// It is on its way out.
    pub(crate) fn ends(&self) {
        self.phase.store(Arc::new(Phase::Ends));
    }

    /// The metrics as text; empty where they cannot be written.
    pub async fn metrics(&self) -> String {
        self.read().await;
        self.metrics.render().unwrap_or_else(|error| {
            tracing::error!(%error, "metrics could not be written");
            String::new()
        })
    }

    /// What keeps it from doing its work; nothing where it is ready.
    pub async fn missing(&self) -> Vec<String> {
        let db = match &*self.phase.load_full() {
            Phase::Starts(why) => return vec![format!("not started yet: {why}")],
            Phase::Ends => return vec!["ending".to_owned()],
            Phase::Serves(db) => db.clone(),
        };
        let asked = (
            timeout(PROBE, db.ping()),
            timeout(PROBE, self.bus.revision()),
        );
        let (db, bus) = tokio::join!(asked.0, asked.1);
        let mut missing = Vec::new();
        match db {
            Ok(Ok(())) => {}
            Ok(Err(error)) => missing.push(error.to_string()),
            Err(_) => missing.push("the database does not answer in time".to_owned()),
        }
        match bus {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => missing.push(error.to_string()),
            Err(_) => missing.push("the bus does not answer in time".to_owned()),
        }
        missing
    }

    /// Reads what is not counted as it happens.
    async fn read(&self) {
        let phase = self.phase.load_full();
        let Phase::Serves(db) = &*phase else {
            return;
        };
        let (jobs, reports, revision) = tokio::join!(
            timeout(READ, db.job_counts()),
            timeout(READ, self.bus.reports()),
            timeout(READ, db.revision())
        );
        let seen = &self.metrics.seen;
        seen.jobs(jobs.ok().and_then(Result::ok));
        let reports = reports.ok().and_then(Result::ok);
        let revision = revision.ok().and_then(Result::ok);
        let planes = reports.zip(revision);
        seen.planes(planes.map(|(reports, revision)| PlanesSeen::of(&reports, revision)));
        seen.connections(db.connections());
    }

    /// Serves operators. The server has to be polled.
    pub(crate) fn serve(&self, listener: TcpListener) -> std::io::Result<Server> {
        let shown = web::Data::new(self.clone());
        let server = HttpServer::new(move || {
            let read = || web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
            App::new()
                .app_data(shown.clone())
                .route("/metrics", read().to(show_metrics))
                .route("/healthz", read().to(is_alive))
                .route("/readyz", read().to(is_ready))
                .default_service(web::route().to(nowhere))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)?
        .run();
        Ok(server)
    }
}

async fn show_metrics(operations: web::Data<Operations>) -> impl Responder {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(operations.metrics().await)
}

async fn is_alive() -> impl Responder {
    "ok\n"
}

async fn is_ready(operations: web::Data<Operations>) -> HttpResponse {
    let missing = operations.missing().await;
    let (mut answer, body) = if missing.is_empty() {
        (HttpResponse::Ok(), "ready\n".to_owned())
    } else {
        let body = format!("{}\n", missing.join("\n"));
        (HttpResponse::ServiceUnavailable(), body)
    };
    answer.content_type(ContentType::plaintext()).body(body)
}

async fn nowhere() -> impl Responder {
    HttpResponse::NotFound().body("here are /metrics, /healthz and /readyz\n")
}
