//! `POST /v1/responses`: named events with numbers, the whole answer repeated at the end.

use serde_json::{Map, Value, json};

use super::super::{Request, text};
use super::content::fill;
use super::{Failure, bound, options, send_event, send_failure, start};
use crate::answer::{ApiError, Dialect, send_json_line};
use crate::generation::{DIED, Generation, Stats, Step, collect};
use crate::gojson::bind::Bound;
use crate::gojson::schema::RESPONSES;
use crate::http::reply::{Reply, Written};
use crate::infer::Ask;
use crate::node::Node;

/// Answers a response request.
pub(in super::super) async fn responses(
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
    let bound = bound(request, &RESPONSES)?;
    let ask = ask(node, &bound, reply).map_err(Failure::Request)?;
    let streams = bound.get("stream") == Some(&Value::Bool(true));
    if streams {
        reply.header("Cache-Control", "no-cache");
        reply.header("Connection", "keep-alive");
    }
    if ask.model.trim().is_empty() {
        return Err(Failure::Beneath(ApiError::bad("model is required")));
    }
    let generation = start(node, &ask, "/v1/responses", "chat", streams, false).await?;
    let about = About {
        id: format!("resp_{}", node.draw(999_999)),
        item: format!("msg_{}", node.draw(999_999)),
        created: node.clock.wall().timestamp(),
        node,
        ask: &ask,
        bound: &bound,
    };
    if streams {
        return Ok(stream(&about, generation, reply).await);
    }
    let all = collect(generation)
        .await
        .ok_or_else(|| Failure::Beneath(ApiError::new(500, DIED)))?;
    let mut output = Vec::new();
    if !all.thinking.is_empty() {
        output.push(reasoning_item(&about.item, &all.thinking));
    }
    match &all.tool_calls {
        Some(calls) => output.extend(calls.as_array().into_iter().flatten().map(|c| call_item(c, "completed"))),
        None => output.push(json!({
            "id": about.item,
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": all.text, "annotations": [], "logprobs": []}],
        })),
    }
    Ok(send_json_line(reply, 200, &about.whole(&output, &all.stats)).await)
}

fn ask(node: &Node, bound: &Bound, reply: &Reply<'_>) -> Result<Ask, ApiError> {
    let mut ask = Ask::new(node, text(bound, "model"));
    ask.options = options(bound, "max_output_tokens");
    ask.huge = reply.huge_token();
    let tool = |t: &Value| {
        json!({"type": "function", "function": {
        "name": t["name"], "description": t["description"], "parameters": t["parameters"]}})
    };
    ask.tools = bound
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(tool)
        .collect();
    ask.think = bound
        .get("reasoning")
        .and_then(|r| r["effort"].as_str())
        .map(|e| e != "none");
    let format = bound
        .get("text")
        .map(|t| t["format"].clone())
        .unwrap_or_default();
    ask.format = match format["type"].as_str() {
        Some("json_object") => json!("json"),
        Some("json_schema") => format["schema"].clone(),
        _ => Value::Null,
    };
    let messages = match bound.get("input") {
        Some(Value::String(s)) => vec![json!({"role": "user", "content": s})],
        Some(Value::Array(items)) => items.clone(),
        _ => Vec::new(),
    };
    fill(&mut ask, Some(text(bound, "instructions")), &messages)?;
    Ok(ask)
}

fn reasoning_item(id: &str, thinking: &str) -> Value {
    json!({"id": format!("rs_{id}"), "type": "reasoning", "summary": [{"type": "summary_text", "text": thinking}]})
}

fn call_item(call: &Value, status: &str) -> Value {
    json!({
        "arguments": call["function"]["arguments"].to_string(),
        "call_id": call["id"],
        "id": format!("fc_{}", call["id"].as_str().unwrap_or_default()),
        "name": call["function"]["name"],
        "status": status,
        "type": "function_call",
    })
}

/// What all events of one answer repeat.
struct About<'a> {
    id: String,
    item: String,
    created: i64,
    node: &'a Node,
    ask: &'a Ask,
    bound: &'a Bound,
}

impl About<'_> {
    fn given(&self, key: &str, default: Value) -> Value {
        self.bound.get(key).cloned().unwrap_or(default)
    }

    /// The fields of a response, in the order of the struct.
    fn whole(&self, output: &[Value], stats: &Stats) -> Value {
        json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": self.node.clock.wall().timestamp(),
            "status": "completed",
            "incomplete_details": null,
            "model": self.ask.model,
            "previous_response_id": null,
            "instructions": self.given("instructions", Value::Null),
            "output": output,
            "error": null,
            "tools": self.given("tools", json!([])),
            "tool_choice": self.given("tool_choice", json!("auto")),
            "truncation": self.given("truncation", json!("disabled")),
            "parallel_tool_calls": true,
            "text": self.given("text", json!({"format": {"type": "text"}})),
            "top_p": self.given("top_p", json!(1)),
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "temperature": self.given("temperature", json!(1)),
            "reasoning": self.given("reasoning", Value::Null),
            "usage": usage(stats),
            "max_output_tokens": self.given("max_output_tokens", Value::Null),
            "max_tool_calls": null,
            "store": false,
            "background": false,
            "service_tier": "default",
            "metadata": {},
            "safety_identifier": null,
            "prompt_cache_key": null,
        })
    }

    /// The same in a stream: keys sorted, and no result yet unless `done`.
    fn sorted(&self, done: Option<(&[Value], &Stats)>) -> Value {
        let (output, stats) = done.map_or((&[][..], Stats::default()), |(o, s)| (o, s.clone()));
        let Value::Object(map) = self.whole(output, &stats) else {
            return Value::Null;
        };
        let mut fields: Vec<(String, Value)> = map.into_iter().collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        let mut map: Map<String, Value> = fields.into_iter().collect();
        match done {
            None => {
                map["completed_at"] = Value::Null;
                map["usage"] = Value::Null;
                map["status"] = json!("in_progress");
            }
            Some(_) => map["usage"] = sorted_usage(&stats),
        }
        Value::Object(map)
    }
}

fn usage(s: &Stats) -> Value {
    json!({
        "input_tokens": s.prompt_tokens,
        "output_tokens": s.tokens,
        "total_tokens": s.prompt_tokens + s.tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    })
}

fn sorted_usage(s: &Stats) -> Value {
    json!({
        "input_tokens": s.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": s.tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": s.prompt_tokens + s.tokens,
    })
}

/// Numbers the events of one stream.
struct Events {
    next: u64,
}

impl Events {
    /// Sends an event; number and type are put into their sorted places.
    async fn send(&mut self, name: &str, fields: Value, reply: &mut Reply<'_>) -> Written {
        let Value::Object(map) = fields else {
            return Ok(());
        };
        let mut fields: Vec<(String, Value)> = map.into_iter().collect();
        fields.push(("sequence_number".into(), self.next.into()));
        fields.push(("type".into(), name.into()));
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        self.next += 1;
        send_event(reply, name, &Value::Object(fields.into_iter().collect())).await
    }
}

/// What has been said so far in one stream.
#[derive(Default)]
struct Said {
    text: String,
    thinking: String,
    is_item_open: bool,
    /// Finished items.
    output: Vec<Value>,
}

async fn stream(about: &About<'_>, mut run: Generation, reply: &mut Reply<'_>) -> Written {
    reply.header("Content-Type", "text/event-stream");
    let mut events = Events { next: 0 };
    let mut said = Said::default();
    loop {
        let step = run.step().await;
        if events.next == 0 && step != Step::Died {
            let response = about.sorted(None);
            events
                .send("response.created", json!({"response": response}), reply)
                .await?;
            events
                .send("response.in_progress", json!({"response": response}), reply)
                .await?;
        }
        match step {
            Step::Text => say(about, &mut events, &mut said, &run.text, reply).await?,
            Step::Thinking => think(about, &mut events, &mut said, &run.text, reply).await?,
            Step::ToolCalls => {
                end_thinking(about, &mut events, &mut said, reply).await?;
                for call in run.take_tool_calls().as_array().into_iter().flatten() {
                    call_tool(&mut events, &mut said, call, reply).await?;
                }
            }
            Step::Died => {
                if !reply.has_started() {
                    reply.flush().await?;
                }
                return reply.finish().await;
            }
            Step::Done => {
                let stats = run.stats();
                drop(run);
                end_item(about, &mut events, &mut said, reply).await?;
                let response = about.sorted(Some((&said.output, &stats)));
                events
                    .send("response.completed", json!({"response": response}), reply)
                    .await?;
                return reply.finish().await;
            }
        }
    }
}

async fn say(
    about: &About<'_>,
    events: &mut Events,
    said: &mut Said,
    piece: &str,
    reply: &mut Reply<'_>,
) -> Written {
    let id = &about.item;
    end_thinking(about, events, said, reply).await?;
    let index = said.output.len();
    if !said.is_item_open {
        said.is_item_open = true;
        let item = json!({"content": [], "id": id, "role": "assistant", "status": "in_progress", "type": "message"});
        events
            .send(
                "response.output_item.added",
                json!({"item": item, "output_index": index}),
                reply,
            )
            .await?;
        let part = json!({"annotations": [], "logprobs": [], "text": "", "type": "output_text"});
        let fields =
            json!({"content_index": 0, "item_id": id, "output_index": index, "part": part});
        events
            .send("response.content_part.added", fields, reply)
            .await?;
    }
    said.text.push_str(piece);
    let fields = json!({"content_index": 0, "delta": piece, "item_id": id, "logprobs": [], "output_index": index});
    events
        .send("response.output_text.delta", fields, reply)
        .await
}

async fn end_item(
    about: &About<'_>,
    events: &mut Events,
    said: &mut Said,
    reply: &mut Reply<'_>,
) -> Written {
    end_thinking(about, events, said, reply).await?;
    if !said.is_item_open {
        return Ok(());
    }
    let (id, text, index) = (&about.item, &said.text, said.output.len());
    let fields = json!({"content_index": 0, "item_id": id, "logprobs": [], "output_index": index, "text": text});
    events
        .send("response.output_text.done", fields, reply)
        .await?;
    let part = json!({"annotations": [], "logprobs": [], "text": text, "type": "output_text"});
    let fields = json!({"content_index": 0, "item_id": id, "output_index": index, "part": part});
    events
        .send("response.content_part.done", fields, reply)
        .await?;
    let item = json!({
        "content": [part], "id": id, "role": "assistant", "status": "completed", "type": "message",
    });
    said.output.push(item.clone());
    events
        .send(
            "response.output_item.done",
            json!({"item": item, "output_index": index}),
            reply,
        )
        .await
}

async fn think(
    about: &About<'_>,
    events: &mut Events,
    said: &mut Said,
    piece: &str,
    reply: &mut Reply<'_>,
) -> Written {
    let id = format!("rs_{}", about.item);
    if said.thinking.is_empty() {
        let item = json!({"id": id, "summary": [], "type": "reasoning"});
        events
            .send(
                "response.output_item.added",
                json!({"item": item, "output_index": 0}),
                reply,
            )
            .await?;
    }
    said.thinking.push_str(piece);
    let fields = json!({"delta": piece, "item_id": id, "output_index": 0, "summary_index": 0});
    events
        .send("response.reasoning_summary_text.delta", fields, reply)
        .await
}

async fn end_thinking(
    about: &About<'_>,
    events: &mut Events,
    said: &mut Said,
    reply: &mut Reply<'_>,
) -> Written {
    if said.thinking.is_empty() {
        return Ok(());
    }
    let thinking = std::mem::take(&mut said.thinking);
    let item = reasoning_item(&about.item, &thinking);
    let fields =
        json!({"item_id": item["id"], "output_index": 0, "summary_index": 0, "text": thinking});
    events
        .send("response.reasoning_summary_text.done", fields, reply)
        .await?;
    said.output.push(item.clone());
    events
        .send(
            "response.output_item.done",
            json!({"item": item, "output_index": 0}),
            reply,
        )
        .await
}

async fn call_tool(
    events: &mut Events,
    said: &mut Said,
    call: &Value,
    reply: &mut Reply<'_>,
) -> Written {
    let (item, index) = (call_item(call, "completed"), said.output.len());
    let (id, arguments) = (item["id"].clone(), item["arguments"].clone());
    let mut added = call_item(call, "in_progress");
    added["arguments"] = "".into();
    events
        .send(
            "response.output_item.added",
            json!({"item": added, "output_index": index}),
            reply,
        )
        .await?;
    let delta = json!({"delta": arguments, "item_id": id, "output_index": index});
    events
        .send("response.function_call_arguments.delta", delta, reply)
        .await?;
    let done = json!({"arguments": arguments, "item_id": id, "output_index": index});
    events
        .send("response.function_call_arguments.done", done, reply)
        .await?;
    said.output.push(item.clone());
    events
        .send(
            "response.output_item.done",
            json!({"item": item, "output_index": index}),
            reply,
        )
        .await
}
