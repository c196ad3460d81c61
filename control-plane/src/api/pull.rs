//! `POST /api/proxy/pull`, as the predecessor answered it, and a job behind it.
//!
//! The predecessor pulled while its caller waited and answered 200 with a line for each node, whatever
//! became of them. So does this; but the pull is a job, and who leaves does not end it. An answer that takes
//! long begins at once, with line breaks for signs of life, which no reader of JSON minds: proxies on the
//! way would take a silent answer for a dead one.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::header;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, post, web};
use futures_util::stream;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::actor::Actor;
use super::body::Body;
use super::jobs::{LOOK, location, queue};
use crate::app::App;
use crate::auth::Permission;
use crate::domain::{PullDraft, draft};
use crate::jobs::view::{JobNode, JobView, Names};
use crate::problem::ApiResult;
use crate::store::{Job, NodeProgress};

/// How long an answer waits for its first byte.
const PLAIN: Duration = Duration::from_secs(10);
/// Between two signs of life after that.
const BEAT: Duration = Duration::from_secs(15);
/// How long an answer waits for the job; one that takes longer goes on without it.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What became of a pull.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PullView {
    /// A line for each node.
    results: Vec<PullResult>,
    model: String,
    total_nodes: usize,
    /// The job behind it: `GET /api/proxy/jobs/{id}`.
    job_id: i64,
}

/// What became of a pull at one node.
#[derive(Debug, Serialize, ToSchema)]
struct PullResult {
    node_id: i64,
    /// None where the node was taken out since.
    node_name: Option<String>,
    /// Its URL.
    node_address: Option<String>,
    /// `success`, `error` or `cancelled`, `skipped` where its `models` rules exclude the model; `initiated` for who does not wait, and `waiting` or `running` after
    /// an hour.
    status: String,
    message: String,
}

impl PullView {
    fn of(job: &Job, names: &Names, result: fn(JobNode) -> PullResult) -> Self {
        let view = JobView::of(job, names);
        Self {
            total_nodes: view.nodes.len(),
            results: view.nodes.into_iter().map(result).collect(),
            model: view.model,
            job_id: view.id,
        }
    }
}

fn ended(node: JobNode) -> PullResult {
    let message = match node.status.as_str() {
        NodeProgress::SUCCESS => "Model pulled successfully".to_owned(),
        NodeProgress::WAITING => "waits for its turn".to_owned(),
        _ => node.message,
    };
    PullResult {
        node_id: node.node_id,
        node_name: node.node_name,
        node_address: node.node_address,
        status: node.status,
        message,
    }
}

fn initiated(node: JobNode) -> PullResult {
    if node.status == NodeProgress::SKIPPED {
        return ended(node);
    }
    PullResult {
        status: "initiated".to_owned(),
        message: "Model pull initiated".to_owned(),
        ..ended(node)
    }
}

/// Pulls a model, on one node or on every enabled one whose `models` rules do not exclude it, and waits until that has ended at each of them, for an
/// hour at most. `stream: true` answers 200 at once; `wait: false` and `Prefer: respond-async` answer 202 at
/// once, with the job in `Location`. In each case the pull goes on whatever becomes of the caller.
#[utoipa::path(tag = "jobs", request_body = PullDraft, params(("Prefer" = Option<String>, Header, description = "`respond-async` does not wait")),
    security(("bearer" = []), ("session" = [])), responses(
    (status = 200, body = PullView, description = "What became of it at each node, also where it failed at all of them"),
    (status = 202, body = PullView, description = "It was begun"), (status = 400, description = "What is wrong, by field"),
    (status = 401, description = "Nobody is logged in"), (status = 403, description = "For operators"),
    (status = 404, description = "There is no such node, or none that is enabled and may have the model"),
    (status = 503, description = "Too many jobs wait, or data planes cannot be asked")))]
#[post("/api/proxy/pull")]
pub(crate) async fn pull_model(
    app: web::Data<App>,
    actor: Actor,
    request: HttpRequest,
    Body(body): Body<Value>,
) -> ApiResult<HttpResponse> {
    actor.may(Permission::Pull)?;
    let draft: PullDraft = draft(body, &[])?;
    let (job, names) = queue(&app, &actor, draft.create()?).await?;
    if draft.stream == Some(true) {
        return Ok(begun(HttpResponse::Ok(), &job, &names));
    }
    let place = app.events.place();
    match place.filter(|_| draft.wait != Some(false) && !prefers_not_to_wait(&request)) {
        Some(place) => Ok(wait(app, job, names, place).await),
        None => Ok(begun(HttpResponse::Accepted(), &job, &names)),
    }
}

fn prefers_not_to_wait(request: &HttpRequest) -> bool {
    let lines = request.headers().get_all("prefer");
    let mut wishes = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    wishes.any(|wish| wish.trim().eq_ignore_ascii_case("respond-async"))
}

fn begun(mut answer: HttpResponseBuilder, job: &Job, names: &Names) -> HttpResponse {
    answer
        .insert_header(location(job))
        .json(PullView::of(job, names, initiated))
}

async fn wait(
    app: web::Data<App>,
    job: Job,
    names: Names,
    place: OwnedSemaphorePermit,
) -> HttpResponse {
    let mut waiting = Waiting {
        app,
        job,
        names,
        until: Instant::now() + PATIENCE,
        is_told: false,
        _place: place,
    };
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header(location(&waiting.job))
        .insert_header((header::CACHE_CONTROL, "no-store"));
    if waiting.ends_within(PLAIN).await {
        return answer.json(waiting.view());
    }
    let pieces = stream::unfold(waiting, |mut waiting| async move {
        let bytes = waiting.next().await?;
        Some((Ok::<_, Infallible>(bytes), waiting))
    });
    answer.content_type("application/json").streaming(pieces)
}

/// An answer that waits for its job.
struct Waiting {
    app: web::Data<App>,
    job: Job,
    names: Names,
    until: Instant,
    is_told: bool,
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    /// Whether it is over within a time: the job, or the patience with it.
    async fn ends_within(&mut self, time: Duration) -> bool {
        let (begin, mut closed) = (Instant::now(), self.app.events.closed());
        loop {
            if self.job.state.is_final() || Instant::now() >= self.until || *closed.borrow() {
                return true;
            }
            if begin.elapsed() >= time {
                return false;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = closed.changed() => {}
            }
            // a database that is away comes back, and the job goes on meanwhile
            if let Ok(job) = self.app.db.job(self.job.id).await {
                self.job = job;
            }
        }
    }

    /// The next piece of the answer.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_told {
            return None;
        }
        if !self.ends_within(BEAT).await {
            return Some(Bytes::from_static(b"\n"));
        }
        self.is_told = true;
        let view = serde_json::to_vec(&self.view()).expect("a pull is JSON");
        Some(view.into())
    }

    fn view(&self) -> PullView {
        PullView::of(&self.job, &self.names, ended)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_wish_not_to_wait_is_one_of_several() {
        let with = |wish: &'static str| {
            let request = TestRequest::default().insert_header(("prefer", wish));
            prefers_not_to_wait(&request.to_http_request())
        };
        assert!(with("return=minimal, Respond-Async"));
        assert!(!with("wait=10"));
    }
}
