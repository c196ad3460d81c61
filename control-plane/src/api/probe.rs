//! Probing a node now.

use std::collections::BTreeMap;

use actix_web::{post, web};
use aivonx_shared::operations::{NodeProbed, ProbeOrder};
use aivonx_shared::report::HealthSeen;
use futures_util::future::join_all;
use serde::Serialize;
use utoipa::ToSchema;

use super::actor::Actor;
use super::body::Id;
use crate::app::App;
use crate::auth::Permission;
use crate::planes::{Plane, PlaneError};
use crate::problem::{ApiError, ApiResult};

/// What the data planes found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProbeView {
    node_id: i64,
    /// As the fleet document names it.
    slug: String,
    /// Each data plane looks for itself: one may reach what another does not.
    planes: Vec<PlaneProbe>,
}

/// What one data plane found.
#[derive(Debug, Serialize, ToSchema)]
struct PlaneProbe {
    /// Which process.
    instance: String,
    /// Why it found nothing.
    error: Option<String>,
    /// By the node's name: an entry that discovers stands for several.
    nodes: BTreeMap<String, NodeProbe>,
}

/// What a probe found at one node.
#[derive(Debug, Serialize, ToSchema)]
struct NodeProbe {
    /// `up`, `down` or `unknown`: what follows from this probe and those before it.
    health: &'static str,
    /// Why this probe failed.
    error: Option<String>,
    /// Its Ollama's version.
    version: Option<String>,
    /// The models that it has installed.
    models: Vec<String>,
}

impl From<NodeProbed> for NodeProbe {
    fn from(probed: NodeProbed) -> Self {
        Self {
            health: match probed.health {
                HealthSeen::Up => "up",
                HealthSeen::Down => "down",
                HealthSeen::Unknown => "unknown",
            },
            error: probed.error,
            version: probed.version,
            models: probed.models,
        }
    }
}

/// Has every data plane probe a node now, and says what they found. It counts as any probe does.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = ProbeView), (status = 401, description = "Nobody is logged in"),
    (status = 403, description = "For operators"), (status = 404, description = "There is none"),
    (status = 503, description = "No data plane can be asked")))]
#[post("/api/proxy/nodes/{id}/probe")]
pub(crate) async fn probe_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<web::Json<ProbeView>> {
    actor.may(Permission::ChangeNodes)?;
    let node = app.db.node(id).await?;
    let is_many = node.discover != "none";
    let order = ProbeOrder {
        nodes: app.planes.names(&node.slug, is_many).await,
    };
    if order.nodes.is_empty() {
        let words = "no data plane knows an address of it yet";
        return Err(ApiError::Unavailable(words.to_owned()));
    }
    let planes = ask_all(&app, &order).await?;
    Ok(web::Json(ProbeView {
        node_id: id,
        slug: node.slug,
        planes,
    }))
}

/// What each data plane says; an error where none of them says anything.
async fn ask_all(app: &App, order: &ProbeOrder) -> ApiResult<Vec<PlaneProbe>> {
    let live = app.planes.live().await;
    let asked = live.into_iter().map(|plane| async move {
        let probed = app.planes.probe(&plane, order).await;
        (plane, probed)
    });
    let answers = join_all(asked).await;
    let is_lost = answers.iter().all(|(_, probed)| probed.is_err());
    let first = answers.iter().find_map(|(_, probed)| probed.as_ref().err());
    if is_lost {
        let words = first.map_or_else(
            || "no data plane reports now".to_owned(),
            PlaneError::to_string,
        );
        return Err(ApiError::Unavailable(words));
    }
    let view = |(plane, probed): (Plane, Result<_, PlaneError>)| match probed {
        Ok(aivonx_shared::operations::Probed { nodes }) => PlaneProbe {
            instance: plane.instance,
            error: None,
            nodes: nodes
                .into_iter()
                .map(|(name, probed)| (name, probed.into()))
                .collect(),
        },
        Err(error) => PlaneProbe {
            instance: plane.instance,
            error: Some(error.to_string()),
            nodes: BTreeMap::new(),
        },
    };
    Ok(answers.into_iter().map(view).collect())
}
