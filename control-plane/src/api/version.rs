//! Optimistic concurrency: `If-Match` with the version that the caller read.

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpRequest};
use aivonx_shared::revision::Revision;
use serde_json::Value;

use crate::problem::{ApiError, ApiResult};

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
    type Future = std::future::Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let value = request.headers().get(header::IF_MATCH);
        std::future::ready(match value.map(|value| value.to_str().map(str::trim)) {
            None | Some(Ok("*")) => Ok(Self(None)),
            Some(Ok(text)) => match text.trim_start_matches("W/").trim_matches('"').parse() {
                Ok(version) => Ok(Self(Some(version))),
                Err(_) => Err(not_a_version()),
            },
            Some(Err(_)) => Err(not_a_version()),
        })
    }
}

/// The revision of the fleet that `If-Match` names; `None` where there is none, or any will do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IfRevision(pub(crate) Option<Revision>);

impl FromRequest for IfRevision {
    type Error = ApiError;
    type Future = std::future::Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let value = request.headers().get(header::IF_MATCH);
        std::future::ready(match value.map(|value| value.to_str().map(str::trim)) {
            None | Some(Ok("*")) => Ok(Self(None)),
            Some(text) => {
                let revision = text.ok().and_then(read_revision);
                revision.map(|revision| Self(Some(revision))).ok_or_else(|| {
                    let words = "If-Match must be a revision in quotes, as the ETag of GET /api/proxy/fleet";
                    ApiError::Malformed(words.to_owned())
                })
            }
        })
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
