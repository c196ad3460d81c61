//! Optimistic concurrency: `If-Match` with the version that the caller read.

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use aivonx_shared::revision::Revision;
use serde_json::Value;

use super::body::{Reading, told_to_users};
use crate::problem::{ApiError, ApiResult};
use crate::store::StoreError;

/// How often a change without a version is made anew after others were first: of those who race, each round
/// lets one through.
const ROUNDS: usize = 64;

/// Makes a change that reads, changes and writes at the version that was read. Where the caller expects a
/// version of its own, a conflict is its to hear; else `again` is done anew with what others left.
pub(crate) async fn until_written<R>(
    expected: Option<i64>,
    again: impl AsyncFn() -> ApiResult<R>,
) -> ApiResult<R> {
    if expected.is_some() {
        return again().await;
    }
    for _ in 0..ROUNDS {
        match again().await {
            Err(ApiError::Changed { .. }) => {}
            done => return done,
        }
    }
    Err(StoreError::Busy.into())
}

/// The version that `If-Match` names; `None` where there is none, or any will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IfMatch(Option<i64>);

impl IfMatch {
    /// The version to expect: the header's, or the one in a body that a GET gave.
    pub(crate) fn or_in(self, body: &Value) -> ApiResult<Option<i64>> {
        if self.0.is_some() {
            return Ok(self.0);
        }
        match body.get("version") {
            None | Some(Value::Null) => Ok(None),
            Some(version) => version
                .as_i64()
                .map(Some)
                .ok_or_else(|| ApiError::field("version", "must be a whole number")),
        }
    }

    /// The header's alone.
    pub(crate) fn expected(self) -> Option<i64> {
        self.0
    }
}

impl FromRequest for IfMatch {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let read = |text: &str| {
            let version = text.trim_start_matches("W/").trim_matches('"').parse();
            version.ok()
        };
        let version = if_match(request, read, not_a_version).map(Self);
        told_to_users(request, std::future::ready(version))
    }
}

/// What the header says, as `read` understands it; `None` where it is absent or `*`.
fn if_match<T>(
    request: &HttpRequest,
    read: impl FnOnce(&str) -> Option<T>,
    problem: impl FnOnce() -> ApiError,
) -> ApiResult<Option<T>> {
    let Some(value) = request.headers().get(header::IF_MATCH) else {
        return Ok(None);
    };
    match value.to_str().map(str::trim) {
        Ok("*") => Ok(None),
        Ok(text) => read(text).map(Some).ok_or_else(problem),
        Err(_) => Err(problem()),
    }
}

/// The revision of the fleet that `If-Match` names; `None` where there is none, or any will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IfRevision(pub(crate) Option<Revision>);

impl FromRequest for IfRevision {
    type Error = ApiError;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let problem = || {
            let words =
                "If-Match must be a revision in quotes, as the ETag of GET /api/proxy/fleet";
            ApiError::Malformed(words.to_owned())
        };
        let revision = if_match(request, read_revision, problem).map(Self);
        told_to_users(request, std::future::ready(revision))
    }
}

fn read_revision(text: &str) -> Option<Revision> {
    let text = text.trim_start_matches("W/").trim_matches('"');
    let (epoch, number) = text.split_once('.')?;
    Some(Revision::new(epoch.parse().ok()?, number.parse().ok()?))
}

/// The `ETag` of a revision.
pub(crate) fn revision_etag(revision: Revision) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{revision}\""))
}

fn not_a_version() -> ApiError {
    ApiError::Malformed("If-Match must be a version in quotes, as the ETag of a GET".to_owned())
}

/// The `ETag` of a version.
pub(crate) fn etag(version: i64) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{version}\""))
}
