//! `POST /api/generate`

use serde_json::{Value, json};

use super::chat::common;
use super::native_stream::{Shape, answer};
use super::{Request, text};
use crate::answer::{ApiError, Dialect, send_error, send_json};
use crate::clock::rfc3339;
use crate::gojson::bind::Bound;
use crate::gojson::schema::GENERATE;
use crate::http::reply::{Reply, Written};
use crate::infer::{self, Ask};
use crate::node::Node;
use crate::prompt::PromptBuilder;

/// Answers a prompt.
pub(super) async fn generate(node: &Node, request: &Request<'_>, reply: &mut Reply<'_>) -> Written {
    match run(node, request, reply).await {
        Ok(written) => written,
        Err(e) => send_error(reply, Dialect::Native, &e, 0).await,
    }
}

async fn run(
    node: &Node,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<Written, ApiError> {
    let bound = request.native(&GENERATE)?;
    let asked = text(&bound, "model");
    let model = infer::find(node, asked, "/api/generate")?;
    let ask = ask(node, &bound, reply)?;
    let prompt = text(&bound, "prompt");
    if prompt.is_empty() && ask.keep_alive == Some(0.0) {
        node.sched.expire(&model.spec.weights_digest);
        return Ok(send_empty(node, reply, asked, "unload").await);
    }
    let raw = bound.get("raw") == Some(&Value::Bool(true));
    let shaped = ["template", "system"]
        .iter()
        .any(|k| !text(&bound, k).is_empty());
    if raw
        && (shaped
            || bound
                .get("context")
                .is_some_and(|c| c.as_array().is_some_and(|c| !c.is_empty())))
    {
        return Err(ApiError::bad(
            "raw mode does not support template, system, or context",
        ));
    }
    infer::check_capabilities(&model, &ask, "generate", !text(&bound, "suffix").is_empty())?;
    let runner = infer::load(node, &model, &ask).await?;
    if prompt.is_empty() {
        return Ok(send_empty(node, reply, asked, "load").await);
    }
    let streams = bound.get("stream") != Some(&Value::Bool(false));
    Ok(answer(
        node,
        &model,
        runner,
        &ask,
        Shape::Generate { raw },
        streams,
        reply,
    )
    .await)
}

fn ask(node: &Node, bound: &Bound, reply: &Reply<'_>) -> Result<Ask, ApiError> {
    let mut ask = common(node, bound, reply)?;
    let mut prompt = PromptBuilder::new();
    let context = bound
        .get("context")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    for _ in 0..context {
        prompt.text("x ");
    }
    if !text(bound, "system").is_empty() {
        prompt.message("system", text(bound, "system"));
    }
    let asked = text(bound, "prompt");
    if bound.get("raw") == Some(&Value::Bool(true)) {
        prompt.text(asked);
    } else {
        prompt.message("user", asked);
    }
    prompt.text(text(bound, "suffix"));
    ask.has_media = bound
        .get("images")
        .and_then(Value::as_array)
        .is_some_and(|i| !i.is_empty());
    ask.prompt = prompt.build();
    Ok(ask)
}

async fn send_empty(node: &Node, reply: &mut Reply<'_>, model: &str, reason: &str) -> Written {
    let body = json!({
        "model": model,
        "created_at": rfc3339(node.clock.wall()),
        "response": "",
        "done": true,
        "done_reason": reason,
    });
    send_json(reply, 200, &body).await
}
