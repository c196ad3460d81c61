//! `POST /v1/chat/completions`

use serde_json::{Value, json};

use super::super::{Request, text};
use super::{Failure, bound, content, options, push_data, send_failure, start, usage, wants_usage};
use crate::answer::{ApiError, Dialect, send_json_line};
use crate::generation::{Collected, DIED, Generation, Step, collect};
use crate::gojson::bind::Bound;
use crate::gojson::encode::{encode, push_str, quote};
use crate::gojson::schema::CHAT_COMPLETION;
use crate::http::reply::{Reply, Written};
use crate::infer::Ask;
use crate::node::Node;

/// Answers a chat completion.
pub(in super::super) async fn chat(
    node: &Node,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Written {
    match run(node, request, reply).await {
        Ok(written) => written,
        Err(failure) => send_failure(node, reply, Dialect::OpenAi, failure).await,
    }
}

async fn run(
    node: &Node,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<Written, Failure> {
    let bound = bound(request, &CHAT_COMPLETION)?;
    let ask = ask(node, &bound, reply).map_err(Failure::Request)?;
    if ask.model.trim().is_empty() {
        return Err(Failure::Beneath(ApiError::bad("model is required")));
    }
    let streams = bound.get("stream") == Some(&Value::Bool(true));
    let generation = start(node, &ask, "/v1/chat/completions", "chat", streams, false).await?;
    let chunk = Chunk {
        id: format!("chatcmpl-{}", node.draw(999)),
        created: node.clock.wall().timestamp(),
        model: quote(&ask.model),
    };
    if streams {
        return Ok(stream(&chunk, generation, wants_usage(&bound), reply).await);
    }
    let all = collect(generation)
        .await
        .ok_or_else(|| Failure::Beneath(ApiError::new(500, DIED)))?;
    Ok(send_json_line(reply, 200, &whole(&chunk, &ask, &all)).await)
}

fn ask(node: &Node, bound: &Bound, reply: &Reply<'_>) -> Result<Ask, ApiError> {
    let empty = Vec::new();
    let messages = bound
        .get("messages")
        .and_then(Value::as_array)
        .unwrap_or(&empty);
    if messages.is_empty() {
        return Err(ApiError::bad("[] is too short - 'messages'"));
    }
    let mut ask = Ask::new(node, text(bound, "model"));
    ask.options = options(bound, "max_tokens");
    ask.tools = bound.get("tools").cloned().unwrap_or_default();
    ask.huge = reply.huge_token();
    let format = bound.get("response_format");
    ask.format = match format.and_then(|f| f["type"].as_str()) {
        Some("json_object") => json!("json"),
        Some("json_schema") => format
            .map(|f| f["json_schema"]["schema"].clone())
            .unwrap_or_default(),
        _ => Value::Null,
    };
    let effort = bound.get("reasoning").and_then(|r| r["effort"].as_str());
    let effort = effort.or_else(|| bound.get("reasoning_effort").and_then(Value::as_str));
    ask.think = effort.map(|e| e != "none");
    if bound.get("logprobs") == Some(&Value::Bool(true)) {
        let top = bound
            .get("top_logprobs")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        ask.logprobs = Some(top as usize);
    }
    content::fill(&mut ask, None, messages)?;
    Ok(ask)
}

/// What the chunks of one answer share.
struct Chunk {
    id: String,
    created: i64,
    /// As JSON.
    model: String,
}

impl Chunk {
    fn begin(&self, out: &mut Vec<u8>, model: &str) {
        use std::io::Write as _;

        let _ = write!(
            out,
            "data: {{\"id\":\"{}\",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":{model},\
             \"system_fingerprint\":\"fp_ollama\",\"choices\":[{{\"index\":0,\"delta\":{{",
            self.id, self.created
        );
    }
}

/// Writes one delta: what it says, under which key, and its log probabilities.
fn push_delta(out: &mut Vec<u8>, is_first: bool, key: &str, said: &str, logprobs: Option<&Value>) {
    if is_first {
        out.extend_from_slice(b"\"role\":\"assistant\",");
    }
    if key == "content" {
        out.extend_from_slice(b"\"content\":");
    } else {
        out.extend_from_slice(b"\"content\":\"\",\"reasoning\":");
    }
    push_str(out, said);
    out.extend_from_slice(b"},\"finish_reason\":null");
    if let Some(list) = logprobs {
        out.extend_from_slice(b",\"logprobs\":{\"content\":");
        out.extend_from_slice(&encode(list));
        out.push(b'}');
    }
    out.extend_from_slice(b"}]}\n\n");
}

async fn stream(
    chunk: &Chunk,
    mut run: Generation,
    wants_usage: bool,
    reply: &mut Reply<'_>,
) -> Written {
    reply.header("Content-Type", "text/event-stream");
    let (mut is_first, mut has_calls) = (true, false);
    loop {
        match run.step().await {
            step @ (Step::Text | Step::Thinking) => {
                let key = if step == Step::Text {
                    "content"
                } else {
                    "reasoning"
                };
                let logprobs = run.logprobs();
                chunk.begin(&mut reply.out, &chunk.model);
                push_delta(&mut reply.out, is_first, key, &run.text, logprobs.as_ref());
            }
            Step::ToolCalls => {
                has_calls = true;
                let calls = tool_calls(&run.take_tool_calls());
                chunk.begin(&mut reply.out, &chunk.model);
                if is_first {
                    reply.write(b"\"role\":\"assistant\",");
                }
                reply.write(b"\"content\":\"\",\"tool_calls\":");
                reply.write(&encode(&calls));
                reply.write(b"},\"finish_reason\":null}]}\n\n");
            }
            Step::Done => return finish(chunk, run, has_calls, wants_usage, reply).await,
            Step::Died => {
                chunk.begin(&mut reply.out, "\"\"");
                push_delta(&mut reply.out, is_first, "content", "", None);
                reply.flush().await?;
                return reply.finish().await;
            }
        }
        is_first = false;
        reply.flush().await?;
    }
}

/// The last delta, the counts if asked for and the end mark: one chunk of HTTP.
async fn finish(
    chunk: &Chunk,
    run: Generation,
    has_calls: bool,
    wants_usage: bool,
    reply: &mut Reply<'_>,
) -> Written {
    let stats = run.stats();
    drop(run);
    let reason = if has_calls {
        "tool_calls"
    } else {
        stats.reason
    };
    chunk.begin(&mut reply.out, &chunk.model);
    reply.write(format!("}},\"finish_reason\":\"{reason}\"}}]}}\n\n").as_bytes());
    if wants_usage {
        let model: Value = serde_json::from_str(&chunk.model).unwrap_or_default();
        let last = json!({
            "id": chunk.id,
            "object": "chat.completion.chunk",
            "created": chunk.created,
            "model": model,
            "system_fingerprint": "fp_ollama",
            "choices": [],
            "usage": usage(&stats),
        });
        push_data(&mut reply.out, &last);
    }
    reply.write(b"data: [DONE]\n\n");
    reply.flush().await?;
    reply.finish().await
}

fn whole(chunk: &Chunk, ask: &Ask, all: &Collected) -> Value {
    let mut message = json!({"role": "assistant", "content": all.text});
    if !all.thinking.is_empty() {
        message["reasoning"] = all.thinking.as_str().into();
    }
    let mut reason = all.stats.reason;
    if let Some(calls) = &all.tool_calls {
        message["tool_calls"] = tool_calls(calls);
        reason = "tool_calls";
    }
    let mut choice = json!({"index": 0, "message": message, "finish_reason": reason});
    if !all.logprobs.is_empty() {
        choice["logprobs"] = json!({"content": all.logprobs});
    }
    json!({
        "id": chunk.id,
        "object": "chat.completion",
        "created": chunk.created,
        "model": ask.model,
        "system_fingerprint": "fp_ollama",
        "choices": [choice],
        "usage": usage(&all.stats),
    })
}

/// Calls in OpenAI's shape: arguments as text.
fn tool_calls(calls: &Value) -> Value {
    let call = |(i, c): (usize, &Value)| {
        let arguments = String::from_utf8(encode(&c["function"]["arguments"])).unwrap_or_default();
        json!({
            "id": c["id"],
            "index": i,
            "type": "function",
            "function": {"name": c["function"]["name"], "arguments": arguments},
        })
    };
    calls
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(call)
        .collect()
}
