//! The fleet document as it is published.

use actix_web::{HttpResponse, get, web};

use super::actor::Actor;
use crate::app::App;
use crate::auth::Permission;
use crate::problem::ApiResult;

/// The fleet document in force, as `fleet.yaml` would hold it (JSON is YAML, too). Secrets of nodes in it
/// are sealed, and keys are digests.
#[utoipa::path(tag = "settings", security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Object), (status = 403, description = "For operators")))]
#[get("/api/proxy/fleet")]
pub(crate) async fn export_fleet(app: web::Data<App>, actor: Actor) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadAudit)?;
    let fleet = app.db.fleet().await?;
    Ok(HttpResponse::Ok()
        .insert_header(("x-aivonx-revision", fleet.revision.to_string()))
        .content_type("application/json")
        .body(fleet.document()))
}
