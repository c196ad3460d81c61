//! Nodes: the predecessor's resource, with more fields; and the actions on one node.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, put, web};
use aivonx_shared::sealed;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::{Body, Id, Query};
use super::list::{FieldsQuery, PageQuery, Part};
use super::seen::{Health, Seen};
use super::version::{IfMatch, etag, until_written};
use crate::app::App;
use crate::auth::Permission;
use crate::domain::{NewNode, NodeDraft, NodeRules, draft};
use crate::problem::{ApiError, ApiResult};
use crate::store::{Node, NodeFilter, NodeSort};

/// Keys of a node that a GET gives and a change passes over.
const READ_ONLY: [&str; 10] = [
    "id",
    "slug",
    "version",
    "created_at",
    "updated_at",
    "health",
    "in_flight",
    "latency",
    "ollama_version",
    "has_bearer_token",
];

/// A node as it is shown.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the predecessor's names stand beside ours"
)]
pub(crate) struct NodeView {
    /// Never given to another node.
    id: i64,
    /// As operators wrote it.
    name: String,
    /// As the fleet document, metrics and `x-aivonx-node` name it.
    slug: String,
    /// `host`, `host:port` or a URL, as it was given.
    address: String,
    /// Beside an address without one; 0 adds none.
    port: i32,
    /// Where its Ollama listens, normalised.
    url: String,
    /// The predecessor's name of `enabled`.
    active: bool,
    /// Admin intent: takes work. Health is another field, so an outage changes nothing here.
    enabled: bool,
    /// Admin intent: finishes what it has.
    draining: bool,
    /// What the data planes see.
    health: Health,
    /// Requests with it now.
    in_flight: u64,
    /// Expected seconds to the first byte.
    latency: Option<f64>,
    /// Its Ollama's version.
    ollama_version: Option<String>,
    weight: i32,
    slots: i32,
    labels: BTreeMap<String, String>,
    models: ModelsView,
    tls: TlsView,
    insecure_tls: bool,
    /// Whether it is sent a token; the token is never shown.
    has_bearer_token: bool,
    /// Names of the headers that it is sent; their values are never shown.
    headers: BTreeMap<String, Option<String>>,
    discover: String,
    /// Grows with each change; for `If-Match`.
    version: i64,
    created_at: String,
    updated_at: String,
}

/// Which models may be sent to a node.
#[derive(Debug, Serialize, ToSchema)]
struct ModelsView {
    include: Vec<String>,
    exclude: Vec<String>,
}

/// Whom to believe behind https.
#[derive(Debug, Serialize, ToSchema)]
struct TlsView {
    ca: Option<String>,
    server_name: Option<String>,
}

/// Which nodes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct NodesQuery {
    /// Enabled ones, or the others.
    enabled: Option<bool>,
    /// Draining ones, or the others.
    draining: Option<bool>,
    /// The name contains this.
    name: Option<String>,
    /// `key` or `key=value`.
    label: Option<String>,
    /// `id`, `name` or `created_at`; with `-` in front the other way round.
    #[param(pattern = "^-?(id|name|created_at)$")]
    sort: Option<String>,
}

impl NodeView {
    fn of(node: Node, seen: &Seen) -> Self {
        let sight = seen.node(&node.slug, node.discover != "none");
        Self {
            health: sight.health,
            in_flight: sight.in_flight,
            latency: sight.latency,
            ollama_version: sight.version,
            id: node.id,
            name: node.name,
            slug: node.slug,
            address: node.address,
            port: node.port,
            url: node.url,
            active: node.enabled,
            enabled: node.enabled,
            draining: node.draining,
            weight: node.weight,
            slots: node.slots,
            labels: node.labels.0,
            models: ModelsView {
                include: node.models_include.0,
                exclude: node.models_exclude.0,
            },
            tls: TlsView {
                ca: node.tls_ca,
                server_name: node.tls_server_name,
            },
            insecure_tls: node.tls_insecure,
            has_bearer_token: node.bearer_token.is_some(),
            headers: node
                .headers
                .0
                .into_keys()
                .map(|name| (name, None))
                .collect(),
            discover: node.discover,
            version: node.version,
            created_at: node.created_at.to_string(),
            updated_at: node.updated_at.to_string(),
        }
    }
}

impl NodesQuery {
    fn filter(&self) -> ApiResult<NodeFilter> {
        let (sort, descending) = match self.sort.as_deref().unwrap_or("id") {
            text if text.starts_with('-') => (&text[1..], true),
            text => (text, false),
        };
        let sort = match sort {
            "id" => NodeSort::Id,
            "name" => NodeSort::Name,
            "created_at" => NodeSort::CreatedAt,
            _ => {
                return Err(ApiError::field(
                    "sort",
                    "must be id, name or created_at, perhaps with `-` in front",
                ));
            }
        };
        let label = self
            .label
            .as_deref()
            .map(|text| match text.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (text.to_owned(), None),
            });
        Ok(NodeFilter {
            enabled: self.enabled,
            draining: self.draining,
            name: self.name.clone(),
            label,
            sort,
            descending,
        })
    }
}

/// The nodes.
#[utoipa::path(tag = "nodes", params(PageQuery, NodesQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Part<NodeView>), (status = 401, description = "Nobody is logged in")))]
#[get("/api/proxy/nodes")]
pub(crate) async fn list_nodes(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
    Query(page): Query<PageQuery>,
    Query(query): Query<NodesQuery>,
) -> ApiResult<web::Json<Value>> {
    actor.may(Permission::ReadFleet)?;
    let found = app.db.nodes(query.filter()?, page.page()).await?;
    let seen = Seen::of(&app).await;
    let rows = found.rows.into_iter().map(|node| NodeView::of(node, &seen));
    Ok(web::Json(page.part(
        &request,
        found.count,
        &rows.collect::<Vec<_>>(),
    )))
}

/// Registers a node. It takes work as soon as the data planes have seen it.
#[utoipa::path(tag = "nodes", request_body = NodeDraft, security(("bearer" = []), ("session" = [])), responses(
    (status = 201, body = NodeView), (status = 400, description = "What is wrong, by field"),
    (status = 409, description = "Another node has this name")))]
#[post("/api/proxy/nodes")]
pub(crate) async fn create_node(
    app: web::Data<App>,
    actor: Actor,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeNodes)?;
    let draft: NodeDraft = draft(body, &READ_ONLY)?;
    let new = draft.create(rules(&app, &seal_with(&app)))?;
    let (node, _) = app.db.create_node(&actor.change(), new).await?;
    app.publisher.announce();
    let location = format!("/api/proxy/nodes/{}", node.id);
    let seen = Seen::of(&app).await;
    Ok(HttpResponse::Created()
        .insert_header(etag(node.version))
        .insert_header((actix_web::http::header::LOCATION, location))
        .json(NodeView::of(node, &seen)))
}

/// One node.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path), FieldsQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = NodeView), (status = 404, description = "There is none")))]
#[get("/api/proxy/nodes/{id}")]
pub(crate) async fn get_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    Query(query): Query<FieldsQuery>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadFleet)?;
    let node = app.db.node(id).await?;
    let (version, seen) = (node.version, Seen::of(&app).await);
    Ok(HttpResponse::Ok()
        .insert_header(etag(version))
        .json(query.select(&NodeView::of(node, &seen))))
}

/// Changes a node. Name and address must be there; what else is absent stays.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path), ("If-Match" = Option<String>, Header)), request_body = NodeDraft,
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = NodeView), (status = 400, description = "What is wrong, by field"),
    (status = 404, description = "There is none"), (status = 409, description = "Another node has this name"),
    (status = 412, description = "It was changed since it was read")))]
#[put("/api/proxy/nodes/{id}")]
pub(crate) async fn replace_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    version: IfMatch,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeNodes)?;
    let expected = version.or_in(&body)?;
    let draft: NodeDraft = draft(body, &READ_ONLY)?;
    let seal = seal_with(&app);
    change(&app, &actor, id, expected, |node| {
        Ok(draft.clone().replace(node, rules(&app, &seal))?)
    })
    .await
}

/// Changes what is said of a node; what is absent stays.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path), ("If-Match" = Option<String>, Header)), request_body = NodeDraft,
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = NodeView), (status = 400, description = "What is wrong, by field"),
    (status = 404, description = "There is none"), (status = 409, description = "Another node has this name"),
    (status = 412, description = "It was changed since it was read")))]
#[patch("/api/proxy/nodes/{id}")]
pub(crate) async fn change_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    version: IfMatch,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeNodes)?;
    let expected = version.or_in(&body)?;
    let draft: NodeDraft = draft(body, &READ_ONLY)?;
    let seal = seal_with(&app);
    change(&app, &actor, id, expected, |node| {
        Ok(draft.clone().patch(node, rules(&app, &seal))?)
    })
    .await
}

/// Takes a node out. Requests that it has run on.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path), ("If-Match" = Option<String>, Header)),
    security(("bearer" = []), ("session" = [])), responses(
    (status = 204, description = "It is out"), (status = 404, description = "There is none"),
    (status = 412, description = "It was changed since it was read")))]
#[delete("/api/proxy/nodes/{id}")]
pub(crate) async fn delete_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    version: IfMatch,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeNodes)?;
    app.db
        .delete_node(&actor.change(), id, version.expected())
        .await?;
    app.publisher.announce();
    Ok(HttpResponse::NoContent().finish())
}

/// Lets a node take work.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = NodeView), (status = 404, description = "There is none")))]
#[post("/api/proxy/nodes/{id}/enable")]
pub(crate) async fn enable_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    act(&app, &actor, id, |node| node.enabled = true).await
}

/// Lets a node take nothing; it is not probed either.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = NodeView), (status = 404, description = "There is none")))]
#[post("/api/proxy/nodes/{id}/disable")]
pub(crate) async fn disable_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    act(&app, &actor, id, |node| node.enabled = false).await
}

/// Lets a node finish what it has and take nothing new.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = NodeView), (status = 404, description = "There is none")))]
#[post("/api/proxy/nodes/{id}/drain")]
pub(crate) async fn drain_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    act(&app, &actor, id, |node| node.draining = true).await
}

/// Lets a node that drains take work again.
#[utoipa::path(tag = "nodes", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = NodeView), (status = 404, description = "There is none")))]
#[post("/api/proxy/nodes/{id}/undrain")]
pub(crate) async fn undrain_node(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    act(&app, &actor, id, |node| node.draining = false).await
}

async fn act(
    app: &App,
    actor: &Actor,
    id: i64,
    set: impl Fn(&mut NewNode),
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeNodes)?;
    change(app, actor, id, None, |mut node| {
        set(&mut node);
        Ok(node)
    })
    .await
}

/// Reads a node, changes it, and writes it at the version that was read: of two who change it at once
/// neither is lost, and without a version of their own neither hears of the other.
async fn change(
    app: &App,
    actor: &Actor,
    id: i64,
    expected: Option<i64>,
    by: impl Fn(NewNode) -> ApiResult<NewNode>,
) -> ApiResult<HttpResponse> {
    let node = until_written(expected, async || {
        let present = app.db.node(id).await?;
        let new = by(present.spec())?;
        let expected = expected.or(Some(present.version));
        let (change, db) = (actor.change(), &app.db);
        Ok(db.update_node(&change, id, expected, new).await?.0)
    })
    .await?;
    app.publisher.announce();
    let (version, seen) = (node.version, Seen::of(app).await);
    Ok(HttpResponse::Ok()
        .insert_header(etag(version))
        .json(NodeView::of(node, &seen)))
}

fn seal_with(app: &App) -> impl Fn(&str) -> Option<String> {
    |text| sealed::seal(&app.seal, text).ok()
}

fn rules<'a>(app: &'a App, seal: &'a dyn Fn(&str) -> Option<String>) -> NodeRules<'a> {
    NodeRules {
        addresses: &app.addresses,
        seal,
    }
}
