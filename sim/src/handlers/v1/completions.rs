//! `POST /v1/completions`

use serde_json::{Value, json};

use super::super::{Request, text};
use super::{Failure, bound, options, push_data, send_failure, start, usage, wants_usage};
use crate::answer::{ApiError, Dialect, send_json_line};
use crate::generation::{DIED, Generation, Step, collect};
use crate::gojson::schema::COMPLETION;
use crate::http::reply::{Reply, Written};
use crate::infer::Ask;
use crate::node::Node;
use crate::prompt::PromptBuilder;

/// Answers a completion.
pub(in super::super) async fn completions(
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
    let bound = bound(request, &COMPLETION)?;
    let mut ask = Ask::new(node, text(&bound, "model"));
    ask.options = options(&bound, "max_tokens");
    ask.huge = reply.huge_token();
    let mut prompt = PromptBuilder::new();
    prompt.message("user", text(&bound, "prompt"));
    prompt.text(text(&bound, "suffix"));
    ask.prompt = prompt.build();
    let streams = bound.get("stream") == Some(&Value::Bool(true));
    let suffix = !text(&bound, "suffix").is_empty();
    let generation = start(node, &ask, "/v1/completions", "generate", streams, suffix).await?;
    let id = format!("cmpl-{}", node.draw(999));
    let created = node.clock.wall().timestamp();
    if streams {
        let chunk = Chunk {
            id,
            created,
            model: ask.model,
            with_usage: wants_usage(&bound),
        };
        return Ok(stream(&chunk, generation, reply).await);
    }
    let all = collect(generation)
        .await
        .ok_or_else(|| Failure::Beneath(ApiError::new(500, DIED)))?;
    let body = json!({
        "id": id,
        "object": "text_completion",
        "created": created,
        "model": ask.model,
        "system_fingerprint": "fp_ollama",
        "choices": [{"text": all.text, "index": 0, "finish_reason": all.stats.reason}],
        "usage": usage(&all.stats),
    });
    Ok(send_json_line(reply, 200, &body).await)
}

/// What the chunks of one answer share.
struct Chunk {
    id: String,
    created: i64,
    model: String,
    /// Every chunk then carries counts, all but the last of them zero.
    with_usage: bool,
}

impl Chunk {
    fn push(&self, out: &mut Vec<u8>, model: &str, choices: &Value, counts: &Value) {
        let mut body = json!({
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "choices": choices,
            "model": model,
            "system_fingerprint": "fp_ollama",
        });
        if self.with_usage {
            body["usage"] = counts.clone();
        }
        push_data(out, &body);
    }
}

async fn stream(chunk: &Chunk, mut run: Generation, reply: &mut Reply<'_>) -> Written {
    reply.header("Content-Type", "text/event-stream");
    let zero = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
    let choice =
        |said: &str, reason: Value| json!([{"text": said, "index": 0, "finish_reason": reason}]);
    loop {
        let step = run.step().await;
        match step {
            Step::Text => chunk.push(
                &mut reply.out,
                &chunk.model,
                &choice(&run.text, Value::Null),
                &zero,
            ),
            Step::Thinking | Step::ToolCalls => {
                chunk.push(
                    &mut reply.out,
                    &chunk.model,
                    &choice("", Value::Null),
                    &zero,
                );
            }
            Step::Died => {
                chunk.push(&mut reply.out, "", &choice("", Value::Null), &zero);
                reply.flush().await?;
                return reply.finish().await;
            }
            Step::Done => {
                let stats = run.stats();
                drop(run);
                chunk.push(
                    &mut reply.out,
                    &chunk.model,
                    &choice("", stats.reason.into()),
                    &zero,
                );
                if chunk.with_usage {
                    chunk.push(&mut reply.out, &chunk.model, &json!([]), &usage(&stats));
                }
                reply.write(b"data: [DONE]\n\n");
                reply.flush().await?;
                return reply.finish().await;
            }
        }
        if step == Step::ToolCalls {
            let _ = run.take_tool_calls();
        }
        reply.flush().await?;
    }
}
