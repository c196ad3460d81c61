//! `POST /api/chat`

use serde_json::{Value, json};

use super::native_stream::{Shape, answer};
use super::{Request, text};
use crate::answer::{ApiError, Dialect, send_error, send_json};
use crate::clock::rfc3339;
use crate::gojson::bind::Bound;
use crate::gojson::schema::CHAT;
use crate::http::reply::{Reply, Written};
use crate::infer::{self, Ask};
use crate::node::Node;
use crate::prompt::PromptBuilder;

/// What comes before a runner is needed.
enum Early {
    Unload,
    Run(Box<Ask>, std::sync::Arc<crate::store::Installed>),
}

/// Answers a chat.
pub(super) async fn chat(node: &Node, request: &Request<'_>, reply: &mut Reply<'_>) -> Written {
    let fail = |e| (e, Dialect::Native);
    let bound = match request.native(&CHAT) {
        Ok(bound) => bound,
        Err(e) => return send_error(reply, Dialect::Native, &e, 0).await,
    };
    let (ask, model) = match early(node, &bound, reply).map_err(fail) {
        Err((e, dialect)) => return send_error(reply, dialect, &e, 0).await,
        Ok(Early::Unload) => return send_empty(node, reply, text(&bound, "model"), "unload").await,
        Ok(Early::Run(ask, model)) => (ask, model),
    };
    let runner = match infer::load(node, &model, &ask).await {
        Ok(runner) => runner,
        Err(e) => return send_error(reply, Dialect::Native, &e, 0).await,
    };
    if messages(&bound).is_empty() {
        return send_empty(node, reply, &ask.model, "load").await;
    }
    let streams = bound.get("stream") != Some(&Value::Bool(false));
    answer(node, &model, runner, &ask, Shape::Chat, streams, reply).await
}

fn early(node: &Node, bound: &Bound, reply: &Reply<'_>) -> Result<Early, ApiError> {
    let asked = text(bound, "model");
    if asked.trim().is_empty() {
        return Err(ApiError::bad("model is required"));
    }
    let model = infer::find(node, asked, "/api/chat")?;
    let ask = ask(node, bound, reply)?;
    if messages(bound).is_empty() && ask.keep_alive == Some(0.0) {
        node.sched.expire(&model.spec.weights_digest);
        return Ok(Early::Unload);
    }
    infer::check_capabilities(&model, &ask, "chat", false)?;
    Ok(Early::Run(Box::new(ask), model))
}

fn messages(bound: &Bound) -> &[Value] {
    bound
        .get("messages")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn ask(node: &Node, bound: &Bound, reply: &Reply<'_>) -> Result<Ask, ApiError> {
    let mut ask = common(node, bound, reply)?;
    let mut prompt = PromptBuilder::new();
    ask.tools = bound.get("tools").cloned().unwrap_or_default();
    if ask.tools.as_array().is_some_and(|t| !t.is_empty()) {
        prompt.text(&ask.tools.to_string());
    }
    for message in messages(bound) {
        let content = message["content"].as_str().unwrap_or_default();
        prompt.message(message["role"].as_str().unwrap_or_default(), content);
        ask.has_media |= message["images"].as_array().is_some_and(|i| !i.is_empty());
    }
    let said = |m: &&Value| {
        m["role"]
            .as_str()
            .is_some_and(|r| r.eq_ignore_ascii_case("user"))
    };
    let question = messages(bound).last().filter(said);
    let question = question.and_then(|m| m["content"].as_str());
    question.unwrap_or_default().clone_into(&mut ask.question);
    ask.prompt = prompt.build();
    Ok(ask)
}

/// What chat and generate have in common.
pub(super) fn common(node: &Node, bound: &Bound, reply: &Reply<'_>) -> Result<Ask, ApiError> {
    let mut ask = Ask::new(node, text(bound, "model"));
    if let Some(Value::Object(options)) = bound.get("options") {
        ask.options.clone_from(options);
    }
    ask.keep_alive = bound.get("keep_alive").and_then(Value::as_f64);
    ask.format = bound.get("format").cloned().unwrap_or_default();
    ask.truncate = bound.get("truncate") != Some(&Value::Bool(false));
    ask.huge = reply.huge_token();
    ask.think = match bound.get("think") {
        Some(Value::Bool(b)) => Some(*b),
        Some(Value::String(_)) => Some(true),
        _ => None,
    };
    let top = bound
        .get("top_logprobs")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    if !(0..=20).contains(&top) {
        return Err(ApiError::bad("top_logprobs must be between 0 and 20"));
    }
    if bound.get("logprobs") == Some(&Value::Bool(true)) {
        ask.logprobs = usize::try_from(top).ok();
    }
    Ok(ask)
}

async fn send_empty(node: &Node, reply: &mut Reply<'_>, model: &str, reason: &str) -> Written {
    let body = json!({
        "model": model,
        "created_at": rfc3339(node.clock.wall()),
        "message": {"role": "assistant", "content": ""},
        "done": true,
        "done_reason": reason,
    });
    send_json(reply, 200, &body).await
}
