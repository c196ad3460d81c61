//! What changes in the fleet, as it happens.

use std::collections::VecDeque;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::actor::Actor;
use super::sse;
use crate::app::App;
use crate::auth::Permission;
use crate::events::{Event, Listener, TOLD, change};
use crate::problem::ApiResult;
use crate::store::{AuditFilter, Page};

/// Most changes that are told again to who comes back; who missed more reads the state anew.
const AGAIN: u32 = 500;

/// Events for one listener: those that it missed, and then what happens.
struct Feed {
    listener: Listener,
    missed: VecDeque<Bytes>,
    /// The last change that was told.
    last: i64,
    is_ready: bool,
}

impl sse::Source for Feed {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(event) = self.missed.pop_front() {
            return Some(event);
        }
        if !self.is_ready {
            self.listener.ready().await;
            self.is_ready = true;
            return Some(sse::frame(None, "ready", "{}"));
        }
        loop {
            match self.listener.events.recv().await {
                Ok(event) => {
                    if let Some(told) = self.tell(&event) {
                        return Some(told);
                    }
                }
                Err(RecvError::Lagged(count)) => {
                    let data = json!({"events": count}).to_string();
                    return Some(sse::frame(None, "missed", &data));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Feed {
    /// A change that was told already is not told again.
    fn tell(&mut self, event: &Event) -> Option<Bytes> {
        if let Some(id) = event.id {
            if id <= self.last {
                return None;
            }
            self.last = id;
        }
        Some(sse::frame(event.id, event.name, &event.data))
    }
}

/// What happens, as server-sent events: `change` (what was changed, with an id to come back with), `revision`,
/// `plane` (a data plane came, went or applied another revision), `health` (of a node), `job` (as
/// `GET /api/proxy/jobs/{id}` shows it). What happens after `ready` is told: read the state then. `missed` says
/// that the listener was too slow, and should read it again. A sign of life comes every 15 s; the stream ends
/// with the login.
#[utoipa::path(tag = "events", params(("Last-Event-ID" = Option<String>, Header, description = "The changes after this one are told first")),
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = String, content_type = "text/event-stream"), (status = 401, description = "Nobody is logged in"),
    (status = 503, description = "Too many streams are open")))]
#[get("/api/proxy/events")]
pub(crate) async fn follow_events(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadFleet)?;
    let place = sse::place(&app)?;
    let listener = app.events.listen();
    let (missed, last) = match sse::last_seen(&request) {
        Some(id) => missed(&app, id).await?,
        None => (VecDeque::new(), 0),
    };
    let feed = Feed {
        listener,
        missed,
        last,
        is_ready: false,
    };
    Ok(sse::answer(&app, request, &actor, place, feed))
}

/// The changes after one, the oldest first, and the id of the last.
async fn missed(app: &App, after: i64) -> ApiResult<(VecDeque<Bytes>, i64)> {
    let filter = AuditFilter {
        kinds: TOLD.to_vec(),
        after_id: Some(after),
        ..AuditFilter::default()
    };
    let page = Page {
        limit: AGAIN,
        offset: 0,
    };
    let found = app.db.audit(filter, page).await?;
    let last = found.rows.first().map_or(after, |row| row.id);
    let mut told = VecDeque::new();
    let missed = found.count - i64::from(AGAIN);
    if missed > 0 {
        let data = json!({"events": missed}).to_string();
        told.push_back(sse::frame(None, "missed", &data));
    }
    for event in found.rows.iter().rev().map(change) {
        told.push_back(sse::frame(event.id, event.name, &event.data));
    }
    Ok((told, last))
}
