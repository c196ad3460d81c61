//! The strategy, as the predecessor's resource, and all settings of the fleet.

use actix_web::{HttpResponse, get, patch, put, web};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::actor::Actor;
use super::body::Body;
use super::version::{IfMatch, etag};
use crate::app::App;
use crate::auth::Permission;
use crate::domain::SettingsPatch;
use crate::problem::{ApiError, ApiResult};
use crate::store::SettingsRow;

/// The strategy as the predecessor showed it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ConfigView {
    /// Always 1: there is one.
    id: i64,
    /// The order among candidates: `least_active` or `lowest_latency`.
    strategy: String,
    /// When a setting was last changed.
    updated_at: Option<String>,
}

impl From<SettingsRow> for ConfigView {
    fn from(row: SettingsRow) -> Self {
        Self {
            id: 1,
            strategy: row.settings.strategy().to_owned(),
            updated_at: row.updated_at.map(|at| at.to_string()),
        }
    }
}

/// The strategy in force.
#[utoipa::path(tag = "settings", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = ConfigView), (status = 401, description = "Nobody is logged in")))]
#[get("/api/proxy/config")]
pub(crate) async fn get_config(app: web::Data<App>, actor: Actor) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadFleet)?;
    let row = app.db.settings().await?;
    Ok(HttpResponse::Ok()
        .insert_header(etag(row.version))
        .json(ConfigView::from(row)))
}

/// Changes the strategy.
#[utoipa::path(tag = "settings", request_body = inline(StrategyDraft), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = ConfigView), (status = 400, description = "What is wrong, by field")))]
#[put("/api/proxy/config")]
pub(crate) async fn replace_config(
    app: web::Data<App>,
    actor: Actor,
    version: IfMatch,
    body: Body<Value>,
) -> ApiResult<HttpResponse> {
    change_strategy(&app, &actor, version, body).await
}

/// Changes the strategy.
#[utoipa::path(tag = "settings", request_body = inline(StrategyDraft), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = ConfigView), (status = 400, description = "What is wrong, by field")))]
#[patch("/api/proxy/config")]
pub(crate) async fn change_config(
    app: web::Data<App>,
    actor: Actor,
    version: IfMatch,
    body: Body<Value>,
) -> ApiResult<HttpResponse> {
    change_strategy(&app, &actor, version, body).await
}

/// What a change of the strategy says.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it documents a body that is read as a patch of settings"
)]
struct StrategyDraft {
    /// `least_active` or `lowest_latency`.
    #[schema(value_type = String, required = false, pattern = "^(least_active|lowest_latency)$")]
    strategy: Option<String>,
}

async fn change_strategy(
    app: &App,
    actor: &Actor,
    version: IfMatch,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeSettings)?;
    let strategy = body.get("strategy").cloned();
    let is_known = |name: &String| ["id", "strategy", "updated_at"].contains(&name.as_str());
    match body.as_object() {
        None => return Err(ApiError::field("non_field_errors", "must be an object")),
        Some(map) => {
            if let Some(name) = map.keys().find(|name| !is_known(name)) {
                return Err(ApiError::field(name, "unknown field"));
            }
        }
    }
    let row = match strategy {
        None => app.db.settings().await?,
        Some(Value::Null) => return Err(ApiError::field("strategy", "must not be null")),
        Some(strategy) => {
            let patch = SettingsPatch::parse(json!({ "strategy": strategy }), &[])?;
            app.db
                .set_settings(&actor.change(), version.expected(), patch)
                .await?
                .0
        }
    };
    app.publisher.announce();
    Ok(HttpResponse::Ok()
        .insert_header(etag(row.version))
        .json(ConfigView::from(row)))
}

/// All settings of the fleet document beside nodes and keys; what is not there has its default.
#[utoipa::path(tag = "settings", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Object), (status = 401, description = "Nobody is logged in")))]
#[get("/api/proxy/settings")]
pub(crate) async fn get_settings(app: web::Data<App>, actor: Actor) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadFleet)?;
    let row = app.db.settings().await?;
    Ok(HttpResponse::Ok()
        .insert_header(etag(row.version))
        .json(row.settings))
}

/// Changes settings; `null` falls back to the default.
#[utoipa::path(tag = "settings", params(("If-Match" = Option<String>, Header)), request_body = Object,
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Object), (status = 400, description = "What is wrong, by field"),
    (status = 412, description = "They were changed since they were read")))]
#[patch("/api/proxy/settings")]
pub(crate) async fn change_settings(
    app: web::Data<App>,
    actor: Actor,
    version: IfMatch,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ChangeSettings)?;
    let patch = SettingsPatch::parse(body, &[])?;
    let (row, _) = app
        .db
        .set_settings(&actor.change(), version.expected(), patch)
        .await?;
    app.publisher.announce();
    Ok(HttpResponse::Ok()
        .insert_header(etag(row.version))
        .json(row.settings))
}
