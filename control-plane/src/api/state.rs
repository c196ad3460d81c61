//! How the fleet is, from the reports of the data planes: the predecessor's views, and models and planes.

use std::collections::BTreeMap;

use actix_web::{HttpResponse, get, web};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::Query;
use super::seen::{Health, Plane, Seen};
use crate::app::App;
use crate::auth::Permission;
use crate::problem::{ApiError, ApiResult};
use crate::store::{Node, NodeFilter, Page};

/// The predecessor's dump of the fleet.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct StateView {
    /// Nodes that take work.
    active: Vec<String>,
    /// Nodes that are enabled and do not.
    standby: Vec<String>,
    /// URLs by id.
    node_id_map: BTreeMap<String, String>,
    /// Expected seconds to the first byte, by URL.
    latencies: BTreeMap<String, Option<f64>>,
    /// Requests in flight, by URL.
    active_counts: BTreeMap<String, u64>,
    /// Installed models, by URL.
    models: BTreeMap<String, Vec<String>>,
    /// The data planes that this comes from, with the age of each report.
    planes: Vec<Plane>,
}

/// The load of the nodes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActiveView {
    /// The busiest first.
    nodes: Vec<ActiveNode>,
    /// Over all of them.
    total_active_requests: u64,
}

/// The load of one node.
#[derive(Debug, Serialize, ToSchema)]
struct ActiveNode {
    id: i64,
    name: String,
    /// Its URL.
    address: String,
    active_requests: u64,
    /// `active`, `standby` or `inactive`.
    status: &'static str,
    /// Expected seconds to the first byte.
    latency: Option<f64>,
    /// Installed models.
    models: Vec<String>,
}

/// One model and where it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelView {
    name: String,
    /// Nodes that have it installed, as the fleet document names them.
    nodes: Vec<String>,
    /// Nodes that have it in memory.
    resident: Vec<String>,
}

/// Whether the control plane is there.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthView {
    /// Always `ok`.
    status: &'static str,
}

/// Which node.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ActiveQuery {
    /// This node alone, also one that is disabled; 0 means all.
    #[param(value_type = Option<i64>)]
    node_id: Option<String>,
}

/// Whether the control plane is there.
#[utoipa::path(tag = "state", responses((status = 200, body = HealthView)))]
#[get("/api/health")]
pub(crate) async fn get_health() -> web::Json<HealthView> {
    web::Json(HealthView { status: "ok" })
}

/// Why nothing beats, as the predecessor said it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it documents an answer")]
pub(crate) struct NoHeartbeat {
    /// In words.
    error: String,
}

/// Whether any node can take work: the predecessor's heartbeat.
#[utoipa::path(tag = "state", responses(
    (status = 200, body = String, content_type = "text/plain", description = "`Ollama is running`"),
    (status = 404, body = NoHeartbeat, description = "No node is healthy"),
    (status = 503, body = NoHeartbeat, description = "No node is registered")))]
#[get("/api/proxy")]
pub(crate) async fn get_heartbeat(app: web::Data<App>) -> ApiResult<HttpResponse> {
    let nodes = enabled(&app).await?;
    if nodes.is_empty() {
        return Ok(
            HttpResponse::ServiceUnavailable().json(json!({"error": "no proxy nodes configured"}))
        );
    }
    let seen = Seen::of(&app).await;
    if nodes.iter().any(|node| status(node, &seen) == "active") {
        return Ok(HttpResponse::Ok()
            .content_type("text/plain; charset=utf-8")
            .body("Ollama is running"));
    }
    Ok(HttpResponse::NotFound().json(json!({"error": "no healthy nodes available"})))
}

/// Nodes, models and load, as the predecessor showed them.
#[utoipa::path(tag = "state", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = StateView), (status = 401, description = "Nobody is logged in")))]
#[get("/api/proxy/state")]
pub(crate) async fn get_state(
    app: web::Data<App>,
    actor: Actor,
) -> ApiResult<web::Json<StateView>> {
    actor.may(Permission::ReadFleet)?;
    let (nodes, seen) = (enabled(&app).await?, Seen::of(&app).await);
    let mut view = StateView {
        planes: seen.planes(),
        ..StateView::default()
    };
    for node in nodes {
        let sight = seen.node(&node.slug, node.discover != "none");
        let url = node.url.clone();
        match status(&node, &seen) {
            "active" => view.active.push(url.clone()),
            _ => view.standby.push(url.clone()),
        }
        view.node_id_map.insert(node.id.to_string(), url.clone());
        view.latencies.insert(url.clone(), sight.latency);
        view.active_counts.insert(url.clone(), sight.in_flight);
        view.models.insert(url, sight.models.into_iter().collect());
    }
    Ok(web::Json(view))
}

/// The load of each node.
#[utoipa::path(tag = "state", params(ActiveQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = ActiveView), (status = 400, description = "`node_id` is no integer"),
    (status = 404, description = "There is no such node")))]
#[get("/api/proxy/active-requests")]
pub(crate) async fn get_active_requests(
    app: web::Data<App>,
    actor: Actor,
    Query(query): Query<ActiveQuery>,
) -> ApiResult<web::Json<ActiveView>> {
    actor.may(Permission::ReadFleet)?;
    let id = query.node_id.as_deref().map(str::parse::<i64>).transpose();
    let id =
        id.map_err(|_| ApiError::Malformed("invalid node_id: must be an integer".to_owned()))?;
    let nodes = match id.filter(|id| *id != 0) {
        None => enabled(&app).await?,
        Some(id) => match app.db.node(id).await {
            Ok(node) => vec![node],
            Err(crate::store::StoreError::NotFound) => {
                return Err(ApiError::NotFound(format!("node not found: {id}")));
            }
            Err(error) => return Err(error.into()),
        },
    };
    let seen = Seen::of(&app).await;
    let mut nodes: Vec<_> = nodes
        .into_iter()
        .map(|node| active_node(node, &seen))
        .collect();
    nodes.sort_by_key(|node| std::cmp::Reverse(node.active_requests));
    Ok(web::Json(ActiveView {
        total_active_requests: nodes.iter().map(|node| node.active_requests).sum(),
        nodes,
    }))
}

/// Models, and the nodes that have them.
#[utoipa::path(tag = "state", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Vec<ModelView>), (status = 401, description = "Nobody is logged in")))]
#[get("/api/proxy/models")]
pub(crate) async fn list_models(
    app: web::Data<App>,
    actor: Actor,
) -> ApiResult<web::Json<Vec<ModelView>>> {
    actor.may(Permission::ReadFleet)?;
    let models = Seen::of(&app).await.models().into_iter();
    let view = models.map(|(name, (nodes, resident))| ModelView {
        name,
        nodes: nodes.into_iter().collect(),
        resident: resident.into_iter().collect(),
    });
    Ok(web::Json(view.collect()))
}

/// The data planes that report, and those that fell silent a moment ago.
#[utoipa::path(tag = "state", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Vec<Plane>), (status = 401, description = "Nobody is logged in")))]
#[get("/api/proxy/planes")]
pub(crate) async fn list_planes(
    app: web::Data<App>,
    actor: Actor,
) -> ApiResult<web::Json<Vec<Plane>>> {
    actor.may(Permission::ReadFleet)?;
    Ok(web::Json(Seen::of(&app).await.planes()))
}

async fn enabled(app: &App) -> ApiResult<Vec<Node>> {
    let filter = NodeFilter {
        enabled: Some(true),
        ..NodeFilter::default()
    };
    Ok(app.db.nodes(filter, Page::ALL).await?.rows)
}

fn active_node(node: Node, seen: &Seen) -> ActiveNode {
    let sight = seen.node(&node.slug, node.discover != "none");
    ActiveNode {
        status: status(&node, seen),
        id: node.id,
        name: node.name,
        address: node.url,
        active_requests: sight.in_flight,
        latency: sight.latency,
        models: sight.models.into_iter().collect(),
    }
}

/// The predecessor's word for a node's state.
fn status(node: &Node, seen: &Seen) -> &'static str {
    if !node.enabled {
        return "inactive";
    }
    match seen.node(&node.slug, node.discover != "none").health {
        Health::Up | Health::Partly if !node.draining => "active",
        _ => "standby",
    }
}
