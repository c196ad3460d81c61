//! Blobs, copy and delete: the changes of the store that take no time.

use aivonx_shared::model_name::{ModelName, NameError};
use serde_json::{Value, json};

use super::{Request, model_or_name, text};
use crate::answer::{ApiError, Dialect, send_error, send_json};
use crate::gojson::encode::go_quote;
use crate::gojson::schema::{COPY, DELETE};
use crate::http::reply::{Reply, Written};
use crate::node::Node;

/// `POST /api/blobs/:digest`
pub(super) async fn put(
    node: &Node,
    request: &Request<'_>,
    digest: &str,
    reply: &mut Reply<'_>,
) -> Written {
    let Some(expected) = parse_digest(digest) else {
        return fail(reply, &ApiError::bad("invalid digest format")).await;
    };
    if node.store.lock().has_blob(&expected) {
        return empty(reply, 200).await;
    }
    if is_full(node, request.body_len) {
        return fail(reply, &no_space(node, &expected)).await;
    }
    let got = &request.body_sha256;
    if *got != expected {
        let text = format!(
            "digest mismatch, expected {}, got {}",
            go_quote(&format!("sha256:{expected}")),
            go_quote(&format!("sha256:{got}"))
        );
        return fail(reply, &ApiError::bad(text)).await;
    }
    node.store.lock().put_blob(&expected, request.body_len);
    empty(reply, 201).await
}

/// Whether so many bytes more do not fit on the disk.
pub(super) fn is_full(node: &Node, more: u64) -> bool {
    node.store.lock().bytes().saturating_add(more) > node.spec.disk
}

/// What Go says of a write to a full disk.
pub(super) fn no_space(node: &Node, digest: &str) -> ApiError {
    let dir = &node.spec.models_dir;
    let text = format!("write {dir}/blobs/sha256-{digest}-partial: no space left on device");
    ApiError::new(500, text)
}

/// `HEAD /api/blobs/:digest`
pub(super) async fn head(node: &Node, digest: &str, reply: &mut Reply<'_>) -> Written {
    let Some(expected) = parse_digest(digest) else {
        return fail(reply, &ApiError::bad("invalid digest format")).await;
    };
    if node.store.lock().has_blob(&expected) {
        return empty(reply, 200).await;
    }
    let text = format!("blob {} not found", go_quote(&format!("sha256:{expected}")));
    send_json(reply, 404, &json!({ "error": text })).await
}

/// `sha256:` or `sha256-` and 64 hex digits, given back in lower case.
pub(super) fn parse_digest(text: &str) -> Option<String> {
    let hex = text
        .strip_prefix("sha256:")
        .or_else(|| text.strip_prefix("sha256-"))?;
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| hex.to_ascii_lowercase())
}

/// `POST /api/copy`
pub(super) async fn copy(node: &Node, request: &Request<'_>, reply: &mut Reply<'_>) -> Written {
    match try_copy(node, request) {
        Ok(()) => empty(reply, 200).await,
        Err(e) => fail(reply, &e).await,
    }
}

fn try_copy(node: &Node, request: &Request<'_>) -> Result<(), ApiError> {
    let bound = request.native(&COPY)?;
    let (from, to) = (text(&bound, "source"), text(&bound, "destination"));
    let source = ModelName::parse(from)
        .map_err(|_| ApiError::bad(format!("source {} is invalid", go_quote(from))))?;
    let target = ModelName::parse(to)
        .map_err(|_| ApiError::bad(format!("destination {} is invalid", go_quote(to))))?;
    if node.store.lock().copy(&source, target, node.clock.wall()) {
        Ok(())
    } else {
        Err(ApiError::new(
            404,
            format!("model {} not found", go_quote(from)),
        ))
    }
}

/// `DELETE /api/delete`
pub(super) async fn delete(node: &Node, request: &Request<'_>, reply: &mut Reply<'_>) -> Written {
    match try_delete(node, request) {
        Ok(()) => empty(reply, 200).await,
        Err(e) => fail(reply, &e).await,
    }
}

fn try_delete(node: &Node, request: &Request<'_>) -> Result<(), ApiError> {
    let bound = request.native(&DELETE)?;
    let asked = model_or_name(&bound);
    let name = ModelName::parse_for_store(asked).map_err(|e| match e {
        NameError::Empty => ApiError::bad("model is required"),
        NameError::BothSuffixes(_) => ApiError::bad(e.to_string()),
        NameError::Invalid => ApiError::bad(format!("name {} is invalid", go_quote(asked))),
    })?;
    if node.store.lock().delete(&name) {
        Ok(())
    } else {
        Err(ApiError::new(404, format!("model '{asked}' not found")))
    }
}

async fn empty(reply: &mut Reply<'_>, status: u16) -> Written {
    reply.status = status;
    reply.finish().await
}

async fn fail(reply: &mut Reply<'_>, error: &ApiError) -> Written {
    send_error(reply, Dialect::Native, error, 0).await
}

/// An error line of a progress stream.
pub(super) fn error_line(text: &str) -> Value {
    json!({ "error": text })
}
