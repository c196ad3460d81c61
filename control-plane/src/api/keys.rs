//! Keys of the data plane: who may use the fleet, for what and how much. A key is shown once.

use actix_web::{HttpRequest, HttpResponse, delete, get, patch, post, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::{Body, Id, Query};
use super::list::{PageQuery, Part};
use super::version::{IfMatch, etag, until_written};
use crate::app::App;
use crate::auth::api_key::{KeyKind, NewKey};
use crate::auth::{Permission, random};
use crate::domain::{ApiKeyDraft, Hidden, draft};
use crate::problem::ApiResult;
use crate::store::{ApiKey, ApiKeyFilter};

/// Keys of a key that a GET gives and a change passes over.
const READ_ONLY: [&str; 5] = ["id", "version", "created_at", "updated_at", "created_by"];

/// A key as it is shown: never its text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyView {
    id: i64,
    /// As metrics, logs and usage name it.
    key_id: String,
    note: String,
    scopes: Vec<String>,
    /// Patterns of models; empty: all.
    models: Vec<String>,
    rate: Option<String>,
    burst: Option<i32>,
    max_concurrent: Option<i32>,
    expires_at: Option<String>,
    user_header: Option<String>,
    enabled: bool,
    created_by: String,
    version: i64,
    created_at: String,
    updated_at: String,
}

/// A new key: the only time that its text is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyOnce {
    /// To be given to its holder now; it cannot be shown again.
    key: String,
    #[serde(flatten)]
    view: KeyView,
}

/// Which keys.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct KeysQuery {
    /// Enabled ones, or the others.
    enabled: Option<bool>,
    /// The id contains this.
    key_id: Option<String>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            key_id: key.key_id,
            note: key.note,
            scopes: key.scopes.0,
            models: key.models.0,
            rate: key.rate,
            burst: key.burst,
            max_concurrent: key.max_concurrent,
            expires_at: key.expires_at.map(|at| at.to_string()),
            user_header: key.user_header,
            enabled: key.enabled,
            created_by: key.created_by,
            version: key.version,
            created_at: key.created_at.to_string(),
            updated_at: key.updated_at.to_string(),
        }
    }
}

/// The keys.
#[utoipa::path(tag = "keys", params(PageQuery, KeysQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Part<KeyView>), (status = 401, description = "Nobody is logged in")))]
#[get("/api/proxy/keys")]
pub(crate) async fn list_keys(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
    Query(page): Query<PageQuery>,
    Query(query): Query<KeysQuery>,
) -> ApiResult<web::Json<Value>> {
    actor.may(Permission::ReadFleet)?;
    let filter = ApiKeyFilter {
        enabled: query.enabled,
        key_id: query.key_id,
        descending: false,
    };
    let found = app.db.api_keys(filter, page.page()).await?;
    let rows: Vec<_> = found.rows.into_iter().map(KeyView::from).collect();
    Ok(web::Json(page.part(&request, found.count, &rows)))
}

/// Makes a key and shows it, once.
#[utoipa::path(tag = "keys", request_body = ApiKeyDraft, security(("bearer" = []), ("session" = [])), responses(
    (status = 201, body = KeyOnce), (status = 400, description = "What is wrong, by field"),
    (status = 409, description = "Another key has this id")))]
#[post("/api/proxy/keys")]
pub(crate) async fn create_key(
    app: web::Data<App>,
    actor: Actor,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeKeys)?;
    let draft: ApiKeyDraft = draft(body, &READ_ONLY)?;
    let new = NewKey::new(KeyKind::DataPlane, random::bytes());
    let digest = Hidden::new(new.digest.hex());
    let (row, _) = app
        .db
        .create_api_key(&actor.change(), draft.create()?, digest)
        .await?;
    app.publisher.announce();
    Ok(once(&mut HttpResponse::Created(), &new, row))
}

/// One key.
#[utoipa::path(tag = "keys", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = KeyView), (status = 404, description = "There is none")))]
#[get("/api/proxy/keys/{id}")]
pub(crate) async fn get_key(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadFleet)?;
    let row = app.db.api_key(id).await?;
    Ok(HttpResponse::Ok()
        .insert_header(etag(row.version))
        .json(KeyView::from(row)))
}

/// Changes what a key may do; what is absent stays.
#[utoipa::path(tag = "keys", params(("id" = i64, Path), ("If-Match" = Option<String>, Header)), request_body = ApiKeyDraft,
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = KeyView), (status = 400, description = "What is wrong, by field"),
    (status = 404, description = "There is none"), (status = 412, description = "It was changed since it was read")))]
#[patch("/api/proxy/keys/{id}")]
pub(crate) async fn change_key(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    version: IfMatch,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeKeys)?;
    let expected = version.or_in(&body)?;
    let draft: ApiKeyDraft = draft(body, &READ_ONLY)?;
    let row = until_written(expected, async || {
        let present = app.db.api_key(id).await?;
        let new = draft.clone().patch(present.spec())?;
        let expected = expected.or(Some(present.version));
        let (change, db) = (actor.change(), &app.db);
        Ok(db.update_api_key(&change, id, expected, new).await?.0)
    })
    .await?;
    app.publisher.announce();
    Ok(HttpResponse::Ok()
        .insert_header(etag(row.version))
        .json(KeyView::from(row)))
}

/// Puts another key in its place and shows that one, once. The old one is refused from then on.
#[utoipa::path(tag = "keys", params(("id" = i64, Path), ("If-Match" = Option<String>, Header)),
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = KeyOnce), (status = 404, description = "There is none")))]
#[post("/api/proxy/keys/{id}/rotate")]
pub(crate) async fn rotate_key(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    version: IfMatch,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeKeys)?;
    let new = NewKey::new(KeyKind::DataPlane, random::bytes());
    let digest = Hidden::new(new.digest.hex());
    let (row, _) = app
        .db
        .rotate_api_key(&actor.change(), id, version.expected(), digest)
        .await?;
    app.publisher.announce();
    Ok(once(&mut HttpResponse::Ok(), &new, row))
}

/// Revokes a key for good. Its usage stays.
#[utoipa::path(tag = "keys", params(("id" = i64, Path), ("If-Match" = Option<String>, Header)),
    security(("bearer" = []), ("session" = [])), responses(
    (status = 204, description = "It is revoked"), (status = 404, description = "There is none")))]
#[delete("/api/proxy/keys/{id}")]
pub(crate) async fn delete_key(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    version: IfMatch,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeKeys)?;
    app.db
        .delete_api_key(&actor.change(), id, version.expected())
        .await?;
    app.publisher.announce();
    Ok(HttpResponse::NoContent().finish())
}

fn once(answer: &mut actix_web::HttpResponseBuilder, new: &NewKey, row: ApiKey) -> HttpResponse {
    answer
        .insert_header(etag(row.version))
        .insert_header((actix_web::http::header::CACHE_CONTROL, "no-store"))
        .json(KeyOnce {
            key: new.secret.reveal().to_owned(),
            view: row.into(),
        })
}
