//! Jobs: queued, seen, followed and cancelled.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use super::actor::Actor;
use super::body::{Body, Id, Query};
use super::list::{FieldsQuery, PageQuery, Part};
use super::sse;
use super::version::etag;
use crate::app::App;
use crate::auth::Permission;
use crate::domain::{JobDraft, NewPull, draft, rules_allow};
use crate::jobs::PULL;
use crate::jobs::view::{JobView, Names};
use crate::problem::{ApiError, ApiResult};
use crate::store::{Job, JobFilter, JobState, NewJob, Node, NodeFilter, NodeProgress, Page};

/// Most jobs that wait or are worked on.
const OPEN: i64 = 1000;
/// Between two looks at a job that somebody follows.
pub(super) const LOOK: Duration = Duration::from_millis(250);

/// Which jobs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobsQuery {
    /// Of `queued`, `running`, `done`, `failed` and `cancelled` these, separated by commas.
    #[param(
        pattern = "^((queued|running|done|failed|cancelled)(,(queued|running|done|failed|cancelled))*)?$"
    )]
    state: Option<String>,
    /// `pull`.
    kind: Option<String>,
    /// For this model, as it was written.
    model: Option<String>,
}

impl JobsQuery {
    fn filter(self) -> ApiResult<JobFilter> {
        let names = self.state.as_deref().unwrap_or_default().split(',');
        let names = names.map(str::trim).filter(|name| !name.is_empty());
        let state = |name: &str| {
            let known = JobState::ALL
                .into_iter()
                .find(|state| state.as_str() == name);
            known.ok_or_else(|| {
                let words = "must be of queued, running, done, failed and cancelled";
                ApiError::field("state", words)
            })
        };
        Ok(JobFilter {
            states: names.map(state).collect::<ApiResult<_>>()?,
            kind: self.kind,
            model: self.model,
        })
    }
}

/// The jobs, newest first.
#[utoipa::path(tag = "jobs", params(PageQuery, JobsQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = Part<JobView>), (status = 400, description = "There is no such state"),
    (status = 401, description = "Nobody is logged in")))]
#[get("/api/proxy/jobs")]
pub(crate) async fn list_jobs(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
    Query(page): Query<PageQuery>,
    Query(query): Query<JobsQuery>,
) -> ApiResult<web::Json<Value>> {
    actor.may(Permission::ReadFleet)?;
    let found = app.db.jobs(query.filter()?, page.page()).await?;
    let names = Names::read(&app.db).await?;
    let rows: Vec<_> = found
        .rows
        .iter()
        .map(|job| JobView::of(job, &names))
        .collect();
    Ok(web::Json(page.part(&request, found.count, &rows)))
}

/// Queues a pull of a model, on some nodes or on every enabled one; of these, nodes whose `models` rules
/// exclude it are `skipped`. It goes on whatever becomes of the
/// caller, and of the control plane.
#[utoipa::path(tag = "jobs", request_body = JobDraft, security(("bearer" = []), ("session" = [])), responses(
    (status = 201, body = JobView), (status = 400, description = "What is wrong, by field"),
    (status = 401, description = "Nobody is logged in"), (status = 403, description = "For operators"),
    (status = 404, description = "There is no such node, or none that is enabled and may have the model"),
    (status = 503, description = "Too many jobs wait, or data planes cannot be asked")))]
#[post("/api/proxy/jobs")]
pub(crate) async fn create_job(
    app: web::Data<App>,
    actor: Actor,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::Pull)?;
    let draft: JobDraft = draft(body, &[])?;
    let (job, names) = queue(&app, &actor, draft.create()?).await?;
    Ok(HttpResponse::Created()
        .insert_header(etag(job.version))
        .insert_header(location(&job))
        .json(JobView::of(&job, &names)))
}

/// One job.
#[utoipa::path(tag = "jobs", params(("id" = i64, Path), FieldsQuery), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = JobView), (status = 401, description = "Nobody is logged in"),
    (status = 404, description = "There is none")))]
#[get("/api/proxy/jobs/{id}")]
pub(crate) async fn get_job(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
    Query(query): Query<FieldsQuery>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadFleet)?;
    let job = app.db.job(id).await?;
    let names = Names::read(&app.db).await?;
    Ok(HttpResponse::Ok()
        .insert_header(etag(job.version))
        .json(query.select(&JobView::of(&job, &names))))
}

/// Ends a job: at once where nobody works on it, else within seconds. One that has ended stays as it is.
#[utoipa::path(tag = "jobs", params(("id" = i64, Path)), security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = JobView), (status = 401, description = "Nobody is logged in"),
    (status = 403, description = "For operators"), (status = 404, description = "There is none")))]
#[post("/api/proxy/jobs/{id}/cancel")]
pub(crate) async fn cancel_job(
    app: web::Data<App>,
    actor: Actor,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::Pull)?;
    let job = app.db.cancel_job(&actor.change(), id).await?;
    let names = Names::read(&app.db).await?;
    Ok(HttpResponse::Ok()
        .insert_header(etag(job.version))
        .json(JobView::of(&job, &names)))
}

/// A job's progress as server-sent events: each `job` is the whole job, the first as it is now, the last as it
/// ended. Who comes back after that is answered 204, so that a browser does not ask again.
#[utoipa::path(tag = "jobs", params(("id" = i64, Path), ("Last-Event-ID" = Option<String>, Header, description = "The version that was seen last")),
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = String, content_type = "text/event-stream"),
    (status = 204, description = "It has ended, and the caller has seen that"),
    (status = 401, description = "Nobody is logged in"), (status = 404, description = "There is none"),
    (status = 503, description = "Too many streams are open")))]
#[get("/api/proxy/jobs/{id}/events")]
pub(crate) async fn follow_job(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
    Id(id): Id,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::ReadFleet)?;
    let job = app.db.job(id).await?;
    let seen = sse::last_seen(&request);
    if job.state.is_final() && seen == Some(job.version) {
        return Ok(HttpResponse::NoContent().finish());
    }
    let place = sse::place(&app)?;
    let progress = Progress {
        app: app.clone(),
        id,
        seen,
        has_ended: false,
    };
    Ok(sse::answer(&app, request, &actor, place, progress))
}

/// A job that somebody follows.
struct Progress {
    app: web::Data<App>,
    id: i64,
    /// The version that was told last.
    seen: Option<i64>,
    has_ended: bool,
}

impl sse::Source for Progress {
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        loop {
            match self.look().await {
                Ok(job) if Some(job.0) != self.seen => {
                    (self.seen, self.has_ended) = (Some(job.0), job.1);
                    return Some(sse::frame(Some(job.0), "job", &job.2));
                }
                // forgotten meanwhile
                Err(ApiError::NotFound(_)) => return None,
                // nothing new, or the database is away: that passes
                Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }
}

impl Progress {
    /// Its version, whether it has ended, and how it is shown.
    async fn look(&self) -> ApiResult<(i64, bool, String)> {
        let job = self.app.db.job(self.id).await?;
        if Some(job.version) == self.seen {
            return Ok((job.version, false, String::new()));
        }
        let view = JobView::of(&job, &Names::read(&self.app.db).await?);
        let text = serde_json::to_string(&view).expect("a job is JSON");
        Ok((job.version, job.state.is_final(), text))
    }
}

/// Where a job is.
pub(super) fn location(job: &Job) -> (actix_web::http::header::HeaderName, String) {
    let path = format!("/api/proxy/jobs/{}", job.id);
    (actix_web::http::header::LOCATION, path)
}

/// Queues a pull and has it begun.
pub(super) async fn queue(app: &App, actor: &Actor, new: NewPull) -> ApiResult<(Job, Names)> {
    if !app.planes.has_token() {
        let words = "pulls are done by the data planes: set control_plane.operations_token, and \
                     proxy.operations_token to the same";
        return Err(ApiError::Unavailable(words.to_owned()));
    }
    let enabled = NodeFilter {
        enabled: Some(true),
        ..NodeFilter::default()
    };
    let nodes = app.db.nodes(enabled, Page::ALL).await?.rows;
    let may_have =
        |node: &Node| rules_allow(&new.model, &node.models_include, &node.models_exclude);
    let there: BTreeMap<_, _> = nodes.iter().map(|node| (node.id, may_have(node))).collect();
    let (node_ids, progress) = wanted(new.node_ids, &there)?;
    leave_room(app).await?;
    let new = NewJob {
        kind: PULL.to_owned(),
        model: new.model,
        insecure: new.insecure,
        node_ids,
        progress,
    };
    let job = app.db.create_job(&actor.change(), new).await?;
    app.jobs.announce();
    Ok((job, Names::of(&nodes)))
}

/// Nodes of a job, and what is known of them from the beginning.
type Wanted = (Vec<i64>, BTreeMap<i64, NodeProgress>);

/// The nodes that are named, all of which must be enabled, whatever their rules; or every enabled one, where
/// those that may not have the model are skipped. `there` says of each enabled node whether it may.
fn wanted(named: Option<Vec<i64>>, there: &BTreeMap<i64, bool>) -> ApiResult<Wanted> {
    if let Some(named) = named {
        return match named.iter().find(|id| !there.contains_key(id)) {
            Some(id) => Err(ApiError::NotFound(format!("node not found: {id}"))),
            None => Ok((named, BTreeMap::new())),
        };
    }
    if there.is_empty() {
        return Err(ApiError::NotFound("no active nodes available".to_owned()));
    }
    if there.values().all(|may| !may) {
        let words = "no active node may have this model: the `models` rules of each exclude it";
        return Err(ApiError::NotFound(words.to_owned()));
    }
    let words = "skipped: the `models` rules of this node exclude the model";
    let skipped = there.iter().filter(|(_, may)| !**may);
    let skipped = skipped.map(|(id, _)| (*id, NodeProgress::of(NodeProgress::SKIPPED, words)));
    Ok((there.keys().copied().collect(), skipped.collect()))
}

async fn leave_room(app: &App) -> ApiResult<()> {
    let open = JobFilter {
        states: vec![JobState::Queued, JobState::Running],
        ..JobFilter::default()
    };
    let one = Page {
        limit: 1,
        offset: 0,
    };
    if app.db.jobs(open, one).await?.count < OPEN {
        return Ok(());
    }
    let words = format!("{OPEN} jobs wait already: cancel some, or try again later");
    Err(ApiError::Unavailable(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_there_is_told() {
        let there = || BTreeMap::from([(1, true), (2, true)]);
        assert_eq!(wanted(None, &there()).unwrap().0, [1, 2]);
        assert_eq!(wanted(Some(vec![2]), &there()).unwrap().0, [2]);
        let missing = wanted(Some(vec![1, 7]), &there()).unwrap_err();
        assert_eq!(missing, ApiError::NotFound("node not found: 7".to_owned()));
        assert!(wanted(None, &BTreeMap::new()).is_err());
    }

    #[test]
    fn a_node_that_may_not_have_the_model_is_skipped_unless_it_is_named() {
        let there = || BTreeMap::from([(1, true), (2, false)]);
        let (ids, known) = wanted(None, &there()).unwrap();
        assert_eq!(ids, [1, 2]);
        assert_eq!(known.keys().collect::<Vec<_>>(), [&2]);
        assert!(known[&2].is_final() && known[&2].message.starts_with("skipped: "));
        assert_eq!(wanted(Some(vec![2]), &there()).unwrap().1, BTreeMap::new());
        assert!(wanted(None, &BTreeMap::from([(2, false)])).is_err());
    }

    #[test]
    fn states_are_read_from_a_list() {
        let query = |state: &str| JobsQuery {
            state: Some(state.to_owned()),
            ..JobsQuery::default()
        };
        let filter = query("queued, running").filter().unwrap();
        assert_eq!(filter.states, [JobState::Queued, JobState::Running]);
        assert!(query("").filter().unwrap().states.is_empty());
        assert!(query("begun").filter().is_err());
    }
}
