//! The compatible routes: other clothes over the same runs.

pub(super) mod audio;
pub(super) mod chat;
pub(super) mod completions;
mod content;
pub(super) mod embeddings;
pub(super) mod messages;
pub(super) mod responses;

use serde_json::{Map, Value, json};

use super::Request;
use crate::answer::{ApiError, Dialect, send_error, send_rewritten};
use crate::generation::{Generation, Stats};
use crate::gojson::bind::Bound;
use crate::gojson::encode::encode;
use crate::gojson::schema::Struct;
use crate::http::reply::{Reply, Written};
use crate::infer::{self, Ask};
use crate::node::Node;

/// Where an error was found decides how it is written.
pub(super) enum Failure {
    /// By the middleware, in the request.
    Request(ApiError),
    /// By the handler beneath.
    Beneath(ApiError),
    /// By the cloud passthrough, which stays native.
    Cloud(ApiError),
    /// By the runner of a stream, after the stream was set up.
    Streamed(ApiError),
}

impl Failure {
    fn beneath(error: ApiError) -> Self {
        if matches!(error.status, 401 | 502) {
            Self::Cloud(error)
        } else {
            Self::Beneath(error)
        }
    }
}

/// Binds a `/v1` body.
fn bound(request: &Request<'_>, shape: &'static Struct) -> Result<Bound, Failure> {
    request
        .bound(shape)
        .map_err(|text| Failure::Request(ApiError::bad(text)))
}

/// Writes an error where nothing has been said yet.
async fn send_failure(
    node: &Node,
    reply: &mut Reply<'_>,
    dialect: Dialect,
    failure: Failure,
) -> Written {
    match failure {
        Failure::Request(e) => send_error(reply, dialect, &e, node.id()).await,
        Failure::Beneath(e) => send_rewritten(reply, dialect, &e, node.id()).await,
        Failure::Cloud(e) => send_error(reply, Dialect::Native, &e, 0).await,
        Failure::Streamed(e) => {
            reply.status = e.status;
            reply.header("Content-Type", "application/json");
            reply.write(&encode(&dialect.error_body(&e, node.id())));
            reply.write(b"\n");
            reply.flush().await?;
            reply.finish().await
        }
    }
}

/// Finds, checks, loads and starts, as the native handler beneath does.
async fn start(
    node: &Node,
    ask: &Ask,
    path: &str,
    verb: &str,
    streams: bool,
    suffix: bool,
) -> Result<Generation, Failure> {
    let model = infer::find(node, &ask.model, path).map_err(Failure::beneath)?;
    infer::check_capabilities(&model, ask, verb, suffix).map_err(Failure::Beneath)?;
    let runner = infer::load(node, &model, ask)
        .await
        .map_err(Failure::Beneath)?;
    let failed = |e| {
        if streams {
            Failure::Streamed(e)
        } else {
            Failure::Beneath(e)
        }
    };
    infer::start(node, &model, runner, ask)
        .await
        .map_err(failed)
}

/// Options by native name from OpenAI's fields; temperature and `top_p` are forced.
fn options(bound: &Bound, limit: &str) -> Map<String, Value> {
    let mut options = Map::new();
    for (from, to) in [
        (limit, "num_predict"),
        ("seed", "seed"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("frequency_penalty", "frequency_penalty"),
        ("presence_penalty", "presence_penalty"),
    ] {
        if let Some(value) = bound.get(from) {
            options.insert(to.to_owned(), value.clone());
        }
    }
    for forced in ["temperature", "top_p"] {
        options.entry(forced).or_insert_with(|| json!(1.0));
    }
    options
}

/// OpenAI's counts.
fn usage(stats: &Stats) -> Value {
    let (prompt, completion) = (stats.prompt_tokens, stats.tokens);
    json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
}

/// Whether `stream_options.include_usage` is set.
fn wants_usage(bound: &Bound) -> bool {
    bound
        .get("stream_options")
        .is_some_and(|o| o["include_usage"] == true)
}

/// `data: …` and its empty line.
fn push_data(out: &mut Vec<u8>, value: &Value) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(&encode(value));
    out.extend_from_slice(b"\n\n");
}

/// A named event, flushed by itself.
async fn send_event(reply: &mut Reply<'_>, name: &str, value: &Value) -> Written {
    reply.write(format!("event: {name}\n").as_bytes());
    push_data(&mut reply.out, value);
    reply.flush().await
}
