//! The fleet document as it is published.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use aivonx_shared::fleet_doc::as_yaml;
use aivonx_shared::revision::Revision;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::Query;
use super::version::revision_etag;
use crate::app::App;
use crate::auth::Permission;
use crate::domain::fleet::Secrets;
use crate::problem::{ApiError, ApiResult};

/// In which form.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// `yaml` as in `fleet.yaml`, or `json`; without it what `Accept` names, or JSON.
    #[param(inline)]
    format: Option<Format>,
    /// `references`, the default: each secret of a node is named and stays here; an import here knows the
    /// name. `sealed`: encrypted under this installation's secret key, for a backup that stands by itself.
    #[param(inline)]
    secrets: Option<SecretsAs>,
}

/// What an export holds in the place of secrets.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SecretsAs {
    References,
    Sealed,
}

#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    Yaml,
    Json,
}

/// The fleet document in force, as `fleet.yaml` would hold it (JSON is YAML, too). Secrets of nodes in it
/// are references (`{stored: gpu-1/bearer_token}`) or sealed, and keys are digests.
#[utoipa::path(tag = "settings", params(ExportQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, content((Object = "application/json"), (Object = "application/yaml")), description = "With the revision as its ETag"),
    (status = 403, description = "For operators")))]
#[get("/api/proxy/fleet")]
pub(crate) async fn export_fleet(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
    Query(query): Query<ExportQuery>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadAudit)?;
    let fleet = app.db.fleet().await?;
    let document = fleet.document_with(match query.secrets {
        Some(SecretsAs::Sealed) => Secrets::Sealed,
        Some(SecretsAs::References) | None => Secrets::References,
    });
    let yaml = wants_yaml(&request, query.format).then(|| as_yaml(&document));
    let (kind, body) = match yaml.flatten() {
        Some(yaml) => ("application/yaml", yaml),
        None => ("application/json", document),
    };
    Ok(HttpResponse::Ok()
        .insert_header(("x-aivonx-revision", fleet.revision.to_string()))
        .insert_header(revision_etag(fleet.revision))
        .content_type(kind)
        .body(body))
}

/// The epoch that began.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EpochBegun {
    /// `epoch.number`, newer than all that any data plane is known to hold.
    revision: String,
}

/// Has the fleet of the database win over a newer one that data planes hold, as after a restored backup.
#[utoipa::path(tag = "settings", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = EpochBegun), (status = 403, description = "For admins"),
    (status = 503, description = "The bus does not answer, so what data planes hold is not known")))]
#[post("/api/proxy/fleet/epoch")]
pub(crate) async fn begin_epoch(
    app: web::Data<App>,
    actor: Actor,
) -> ApiResult<web::Json<EpochBegun>> {
    actor.may(Permission::ImportFleet)?;
    let seen = newest_held(&app).await?;
    let revision = app.db.new_epoch(&actor.change(), seen).await?;
    app.publisher.announce();
    Ok(web::Json(EpochBegun {
        revision: revision.to_string(),
    }))
}

/// The newest revision that the bus holds or a data plane says it has in force.
async fn newest_held(app: &App) -> ApiResult<Option<Revision>> {
    let away = |_| ApiError::Unavailable("the bus does not answer".to_owned());
    let held = app.bus.revision().await.map_err(away)?;
    let reports = app.bus.reports().await.map_err(away)?;
    let applied = reports.into_iter().filter_map(|report| report.applied);
    Ok(applied.chain(held).max())
}

fn wants_yaml(request: &HttpRequest, format: Option<Format>) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    let accepts = accept
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match format {
        Some(format) => format == Format::Yaml,
        None => accepts.contains("yaml") && !accepts.contains("json"),
    }
}
