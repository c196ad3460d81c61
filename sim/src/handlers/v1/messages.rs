//! `POST /v1/messages`, Anthropic's dialect: named events, one chunk of HTTP each.

use serde_json::{Value, json};

use super::super::{Request, text};
use super::content::{fill, text_of};
use super::{Failure, bound, send_event, send_failure, start};
use crate::answer::{ApiError, Dialect, anthropic_id, send_json_line};
use crate::generation::{Collected, DIED, Generation, Stats, Step, collect};
use crate::gojson::bind::Bound;
use crate::gojson::schema::MESSAGES_REQUEST;
use crate::http::reply::{Reply, Written};
use crate::infer::Ask;
use crate::node::Node;

/// Answers a message.
pub(in super::super) async fn messages(
    node: &Node,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Written {
    match run(node, request, reply).await {
        Ok(written) => written,
        Err(failure) => send_failure(node, reply, Dialect::Anthropic, failure).await,
    }
}

async fn run(
    node: &Node,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<Written, Failure> {
    let bound = bound(request, &MESSAGES_REQUEST)?;
    let ask = ask(node, &bound, reply).map_err(Failure::Request)?;
    let streams = bound.get("stream") == Some(&Value::Bool(true));
    if streams {
        reply.header("Cache-Control", "no-cache");
        reply.header("Connection", "keep-alive");
    }
    let generation = start(node, &ask, "/v1/messages", "chat", streams, false).await?;
    let id = anthropic_id("msg_", node.id());
    if streams {
        return Ok(stream(&id, &ask, generation, reply).await);
    }
    let all = collect(generation)
        .await
        .ok_or_else(|| Failure::Beneath(ApiError::new(500, DIED)))?;
    Ok(send_json_line(reply, 200, &whole(&id, &ask, &all)).await)
}

fn ask(node: &Node, bound: &Bound, reply: &Reply<'_>) -> Result<Ask, ApiError> {
    let required = |ok: bool, text: &str| if ok { Ok(()) } else { Err(ApiError::bad(text)) };
    required(!text(bound, "model").is_empty(), "model is required")?;
    let max_tokens = bound
        .get("max_tokens")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    required(
        max_tokens > 0,
        "max_tokens is required and must be positive",
    )?;
    let empty = Vec::new();
    let messages = bound
        .get("messages")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    required(!messages.is_empty(), "messages is required")?;
    let mut ask = Ask::new(node, text(bound, "model"));
    ask.huge = reply.huge_token();
    ask.options.insert("num_predict".into(), max_tokens.into());
    for key in ["temperature", "top_p", "top_k"] {
        if let Some(value) = bound.get(key) {
            ask.options.insert(key.into(), value.clone());
        }
    }
    let tool = |t: &Value| {
        json!({"type": "function", "function": {
        "name": t["name"], "description": t["description"], "parameters": t["input_schema"]}})
    };
    ask.tools = bound
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(tool)
        .collect();
    let wants = bound.get("thinking").and_then(|t| t["type"].as_str());
    // A model that cannot think is not asked to: the wish is dropped without a word.
    let can = crate::infer::find(node, &ask.model, "").is_ok_and(|m| m.spec.can("thinking"));
    ask.think = wants.map(|w| w == "enabled" && can);
    let system = bound
        .get("system")
        .map(text_of)
        .transpose()?
        .unwrap_or_default()
        .0;
    fill(&mut ask, Some(&system), messages)?;
    Ok(ask)
}

fn stop_reason(stats: &Stats, has_calls: bool) -> &'static str {
    match stats.reason {
        _ if has_calls => "tool_use",
        "length" => "max_tokens",
        _ => "end_turn",
    }
}

fn counts(stats: &Stats) -> Value {
    json!({"input_tokens": stats.prompt_tokens, "output_tokens": stats.tokens})
}

fn whole(id: &str, ask: &Ask, all: &Collected) -> Value {
    let mut content = Vec::new();
    if !all.thinking.is_empty() {
        content.push(json!({"type": "thinking", "thinking": all.thinking, "signature": ""}));
    }
    if !all.text.is_empty() {
        content.push(json!({"type": "text", "text": all.text}));
    }
    let calls = all.tool_calls.as_ref().and_then(Value::as_array);
    content.extend(
        calls
            .into_iter()
            .flatten()
            .map(|c| tool_use(c, &c["function"]["arguments"])),
    );
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": stop_reason(&all.stats, calls.is_some()),
        "usage": counts(&all.stats),
    })
}

fn tool_use(call: &Value, input: &Value) -> Value {
    json!({"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": input})
}

/// The blocks of a stream: which one is open, under which number.
struct Blocks {
    index: usize,
    open: Option<&'static str>,
}

impl Blocks {
    /// Makes `kind` the open block.
    async fn open(&mut self, kind: &'static str, start: Value, reply: &mut Reply<'_>) -> Written {
        if self.open == Some(kind) {
            return Ok(());
        }
        self.close(reply).await?;
        self.open = Some(kind);
        let event =
            json!({"type": "content_block_start", "index": self.index, "content_block": start});
        send_event(reply, "content_block_start", &event).await
    }

    async fn delta(&self, delta: Value, reply: &mut Reply<'_>) -> Written {
        let event = json!({"type": "content_block_delta", "index": self.index, "delta": delta});
        send_event(reply, "content_block_delta", &event).await
    }

    async fn close(&mut self, reply: &mut Reply<'_>) -> Written {
        if self.open.take().is_none() {
            return Ok(());
        }
        let event = json!({"type": "content_block_stop", "index": self.index});
        self.index += 1;
        send_event(reply, "content_block_stop", &event).await
    }
}

#[expect(clippy::too_many_lines, reason = "one arm an event")]
async fn stream(id: &str, ask: &Ask, mut run: Generation, reply: &mut Reply<'_>) -> Written {
    reply.header("Content-Type", "text/event-stream");
    let mut blocks = Blocks {
        index: 0,
        open: None,
    };
    let (mut is_begun, mut has_calls) = (false, false);
    loop {
        let step = run.step().await;
        if !is_begun && step != Step::Died {
            is_begun = true;
            send_event(reply, "message_start", &message_start(id, ask)).await?;
        }
        match step {
            Step::Text => {
                blocks
                    .open("text", json!({"type": "text", "text": ""}), reply)
                    .await?;
                blocks
                    .delta(json!({"type": "text_delta", "text": run.text}), reply)
                    .await?;
            }
            Step::Thinking => {
                blocks
                    .open(
                        "thinking",
                        json!({"type": "thinking", "thinking": ""}),
                        reply,
                    )
                    .await?;
                blocks
                    .delta(
                        json!({"type": "thinking_delta", "thinking": run.text}),
                        reply,
                    )
                    .await?;
            }
            Step::ToolCalls => {
                has_calls = true;
                for call in run.take_tool_calls().as_array().into_iter().flatten() {
                    blocks
                        .open("tool_use", tool_use(call, &json!({})), reply)
                        .await?;
                    let partial = call["function"]["arguments"].to_string();
                    blocks
                        .delta(
                            json!({"type": "input_json_delta", "partial_json": partial}),
                            reply,
                        )
                        .await?;
                    blocks.close(reply).await?;
                }
            }
            Step::Died => return end_early(reply).await,
            Step::Done => {
                let stats = run.stats();
                drop(run);
                blocks.close(reply).await?;
                let delta = json!({
                    "type": "message_delta",
                    "delta": {"stop_reason": stop_reason(&stats, has_calls)},
                    "usage": counts(&stats),
                });
                send_event(reply, "message_delta", &delta).await?;
                send_event(reply, "message_stop", &json!({"type": "message_stop"})).await?;
                return reply.finish().await;
            }
        }
    }
}

/// The runner died: whatever is out is all there is, and HTTP ends well.
async fn end_early(reply: &mut Reply<'_>) -> Written {
    if !reply.has_started() {
        reply.flush().await?;
    }
    reply.finish().await
}

fn message_start(id: &str, ask: &Ask) -> Value {
    json!({"type": "message_start", "message": {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [],
        "usage": {"input_tokens": ask.question.len().div_ceil(4) + 1, "output_tokens": 0},
    }})
}
