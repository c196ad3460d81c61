//! Who did what.

use actix_web::{HttpRequest, get, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::body::Query;
use super::list::{PageQuery, Part};
use crate::app::App;
use crate::auth::Permission;
use crate::problem::ApiResult;
use crate::store::{AuditFilter, AuditRow, Time};

/// One event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditView {
    id: i64,
    at: String,
    /// The user; none for aivonx itself and for those who are none.
    actor_id: Option<i64>,
    actor: String,
    /// From where; empty on the machine itself.
    address: String,
    action: String,
    kind: String,
    object_id: String,
    object_name: String,
    /// As it was; secrets are `***`.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// As it became; secrets are `***`.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
}

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// By whom, by name.
    actor: Option<String>,
    /// What was done: `create`, `update`, `delete`, `login`, …
    action: Option<String>,
    /// To what: `node`, `api_key`, `user`, …
    kind: Option<String>,
    /// To which.
    object_id: Option<String>,
    /// Not before.
    from: Option<DateTime<Utc>>,
    /// Before.
    to: Option<DateTime<Utc>>,
    /// With a smaller id: the next part of a list that grows at its head.
    before_id: Option<i64>,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at.to_string(),
            actor_id: row.actor_id,
            actor: row.actor,
            address: row.address,
            action: row.action,
            kind: row.kind,
            object_id: row.object_id,
            object_name: row.object_name,
            before: row.before,
            after: row.after,
        }
    }
}

/// Who did what, newest first.
#[utoipa::path(tag = "audit", params(PageQuery, AuditQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Part<AuditView>), (status = 403, description = "For operators")))]
#[get("/api/proxy/audit")]
pub(crate) async fn list_audit(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
    Query(page): Query<PageQuery>,
    Query(query): Query<AuditQuery>,
) -> ApiResult<web::Json<Value>> {
    actor.may(Permission::ReadAudit)?;
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        kind: query.kind,
        object_id: query.object_id,
        from: query.from.map(Time::from),
        to: query.to.map(Time::from),
        before_id: query.before_id,
        ..AuditFilter::default()
    };
    let found = app.db.audit(filter, page.page()).await?;
    let rows: Vec<_> = found.rows.into_iter().map(AuditView::from).collect();
    Ok(web::Json(page.part(&request, found.count, &rows)))
}
