//! A data plane for tests: its operations listener with pulls that do as the test says, and its report.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aivonx_shared::bus::Bus;
use aivonx_shared::bus::memory::MemoryBus;
use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::operations::{NodeProbed, ProbeOrder, Probed, PullOrder, PullSeen, PullState};
use aivonx_shared::report::Report;
use parking_lot::Mutex;

use super::{Plane, Planes};

const TOKEN: &str = "the-token-of-both-planes";

/// What the listener knows.
#[derive(Default)]
struct State {
    /// By id.
    pulls: HashMap<String, (PullOrder, PullSeen)>,
    /// How pulls at a node go, by its name; others go on.
    script: HashMap<String, PullSeen>,
    /// Most pulls that went on at once: at one node, and altogether.
    most: (usize, usize),
}

/// A data plane that does as it is told.
pub(crate) struct FakePlane {
    bus: Arc<MemoryBus>,
    instance: String,
    ops: String,
    state: Arc<Mutex<State>>,
    server: ServerHandle,
    reporter: tokio::task::JoinHandle<()>,
}

impl FakePlane {
    /// Starts one and reports it.
    pub(crate) async fn start(bus: &Arc<MemoryBus>, instance: &str) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = web::Data::from(Arc::clone(&state));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(shared.clone())
                .route("/probe", web::post().to(probe))
                .route("/pulls/{id}", web::put().to(put))
                .route("/pulls/{id}", web::get().to(get))
                .route("/pulls/{id}", web::delete().to(end))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
        let ops = server.addrs()[0].to_string();
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        let report = Report {
            instance: instance.to_owned(),
            ops: ops.clone(),
            ..Report::default()
        };
        bus.report(&report).await.unwrap();
        let on = Arc::clone(bus);
        let reporter = tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_millis(500));
            loop {
                tick.tick().await;
                on.report(&report).await.unwrap();
            }
        });
        Self {
            bus: Arc::clone(bus),
            instance: instance.to_owned(),
            ops,
            state,
            server: handle,
            reporter,
        }
    }

    /// Says that another one, at the same address, is on its way out.
    pub(crate) async fn report_draining(&self, instance: &str) {
        let report = Report {
            instance: instance.to_owned(),
            ops: self.ops.clone(),
            draining: true,
            ..Report::default()
        };
        self.bus.report(&report).await.unwrap();
    }

    /// Who asks it.
    pub(crate) fn planes(&self) -> Planes {
        Planes::new(self.bus.clone(), Some(Secret::new(TOKEN)))
    }

    /// Where it is.
    pub(crate) fn plane(&self) -> Plane {
        Plane {
            instance: self.instance.clone(),
            ops: self.ops.clone(),
        }
    }

    /// From now on pulls at this node are so, those that go on too.
    pub(crate) fn set(&self, node: &str, pull: PullState, message: &str) {
        let seen = PullSeen {
            state: pull,
            message: message.to_owned(),
            completed: 50,
            total: 100,
        };
        let mut state = self.state.lock();
        for (order, old) in state.pulls.values_mut() {
            if order.node == node && old.state == PullState::Running {
                *old = seen.clone();
            }
        }
        state.script.insert(node.to_owned(), seen);
    }

    /// The ids of the pulls at a node that go on.
    pub(crate) fn running(&self, node: &str) -> Vec<String> {
        let state = self.state.lock();
        let running = state
            .pulls
            .iter()
            .filter(|(_, (order, seen))| order.node == node && seen.state == PullState::Running);
        running.map(|(id, _)| id.clone()).collect()
    }

    /// Every pull that goes on ends well.
    pub(crate) fn finish_running(&self) {
        let mut state = self.state.lock();
        for (_, seen) in state.pulls.values_mut() {
            if seen.state == PullState::Running {
                seen.state = PullState::Success;
            }
        }
    }

    /// How many pulls it was asked for, ended ones too.
    pub(crate) fn known(&self) -> usize {
        self.state.lock().pulls.len()
    }

    /// The state of every pull at a node.
    pub(crate) fn states(&self, node: &str) -> Vec<PullState> {
        let state = self.state.lock();
        let pulls = state.pulls.values();
        pulls
            .filter(|(order, _)| order.node == node)
            .map(|(_, seen)| seen.state)
            .collect()
    }

    /// Most pulls that ever went on at once: at one node, and altogether.
    pub(crate) fn most(&self) -> (usize, usize) {
        self.state.lock().most
    }

    /// Ends it, as a crash does: its last report is still there for a while.
    pub(crate) async fn stop(&self) {
        self.reporter.abort();
        self.server.stop(false).await;
    }

    /// An address at which nobody listens.
    pub(crate) async fn stopped_address(&self) -> String {
        let taken = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        taken.local_addr().unwrap().to_string()
    }
}

impl Drop for FakePlane {
    fn drop(&mut self) {
        self.reporter.abort();
        drop(self.server.stop(false));
    }
}

fn refused(request: &HttpRequest) -> Option<HttpResponse> {
    let given = request.headers().get("authorization");
    let is_right = given.is_some_and(|value| *value == format!("Bearer {TOKEN}"));
    let error = serde_json::json!({"error": "wrong token"});
    (!is_right).then(|| HttpResponse::Unauthorized().json(error))
}

fn not_found() -> HttpResponse {
    HttpResponse::NotFound().json(serde_json::json!({"error": "no such pull"}))
}

async fn probe(request: HttpRequest, order: web::Json<ProbeOrder>) -> HttpResponse {
    if let Some(refused) = refused(&request) {
        return refused;
    }
    let found = |name: &String| (name.clone(), NodeProbed::default());
    let nodes: BTreeMap<_, _> = order.nodes.iter().map(found).collect();
    HttpResponse::Ok().json(Probed { nodes })
}

async fn put(
    request: HttpRequest,
    id: web::Path<String>,
    state: web::Data<Mutex<State>>,
    order: web::Json<PullOrder>,
) -> HttpResponse {
    if let Some(refused) = refused(&request) {
        return refused;
    }
    let mut state = state.lock();
    let scripted = state.script.get(&order.node).cloned().unwrap_or_default();
    let pull = (order.into_inner(), scripted);
    let seen = state.pulls.entry(id.into_inner()).or_insert(pull).1.clone();
    let mut at_nodes: HashMap<&str, usize> = HashMap::new();
    for (order, _) in state
        .pulls
        .values()
        .filter(|(_, seen)| seen.state == PullState::Running)
    {
        *at_nodes.entry(&order.node).or_default() += 1;
    }
    let at_one = at_nodes.values().copied().max().unwrap_or(0);
    let all = at_nodes.values().sum();
    let most = state.most;
    state.most = (most.0.max(at_one), most.1.max(all));
    HttpResponse::Ok().json(seen)
}

async fn get(
    request: HttpRequest,
    id: web::Path<String>,
    state: web::Data<Mutex<State>>,
) -> HttpResponse {
    if let Some(refused) = refused(&request) {
        return refused;
    }
    let state = state.lock();
    let found = state.pulls.get(&id.into_inner());
    found.map_or_else(not_found, |(_, seen)| HttpResponse::Ok().json(seen))
}

async fn end(
    request: HttpRequest,
    id: web::Path<String>,
    state: web::Data<Mutex<State>>,
) -> HttpResponse {
    if let Some(refused) = refused(&request) {
        return refused;
    }
    let mut state = state.lock();
    let Some((_, seen)) = state.pulls.get_mut(&id.into_inner()) else {
        return not_found();
    };
    if seen.state == PullState::Running {
        seen.state = PullState::Cancelled;
    }
    HttpResponse::Ok().json(seen)
}
