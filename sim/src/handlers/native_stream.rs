//! Tokens in the native dialect: a line a token, or one object at the end.
//!
//! Lines are put together from fixed parts in a reused buffer; this is the path of benchmarks.

use std::io::Write as _;

use serde_json::Value;

use crate::answer::{ApiError, Dialect, JSON, send_error};
use crate::clock::push_rfc3339;
use crate::generation::{Collected, DIED, Generation, Stats, Step, collect};
use crate::gojson::encode::{encode, push_str, quote};
use crate::http::reply::{Reply, Stop, Written};
use crate::infer::{self, Ask};
use crate::node::Node;
use crate::sched::RunnerRef;
use crate::store::Installed;

/// Which of the two routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Generate { raw: bool },
}

/// Runs the model and answers.
pub(super) async fn answer(
    node: &Node,
    model: &Installed,
    runner: RunnerRef,
    ask: &Ask,
    shape: Shape,
    streams: bool,
    reply: &mut Reply<'_>,
) -> Written {
    let line = Line {
        node,
        model: quote(&ask.model),
        remote: remote_fields(model),
        shape,
    };
    match infer::start(node, model, runner, ask).await {
        Ok(run) if streams => stream(&line, run, reply).await,
        Ok(run) => match collect(run).await {
            Some(all) => once(&line, &all, reply).await,
            None => send_error(reply, Dialect::Native, &ApiError::new(500, DIED), 0).await,
        },
        Err(e) if streams => send_streamed_error(reply, &e).await,
        Err(e) => send_error(reply, Dialect::Native, &e, 0).await,
    }
}

/// An error found after the stream was set up: flushed, hence chunked.
pub(super) async fn send_streamed_error(reply: &mut Reply<'_>, error: &ApiError) -> Written {
    reply.status = error.status;
    reply.header("Content-Type", "application/json");
    reply.write(&encode(&Dialect::Native.error_body(error, 0)));
    reply.flush().await?;
    reply.finish().await
}

async fn stream(line: &Line<'_>, mut run: Generation, reply: &mut Reply<'_>) -> Written {
    reply.header("Content-Type", "application/x-ndjson");
    loop {
        let step = run.step().await;
        match step {
            Step::Text | Step::Thinking => line.token(&mut reply.out, &mut run, step),
            Step::ToolCalls => {
                let calls = run.take_tool_calls();
                line.begin(&mut reply.out);
                line.content(&mut reply.out, "", "", Some(&calls));
                reply.write(b",\"done\":false}\n");
            }
            Step::Done => {
                let all = Collected {
                    stats: run.stats(),
                    context: line.context(&run),
                    ..Collected::default()
                };
                drop(run); // the slot is free before the client knows
                line.whole(&mut reply.out, &all);
                reply.write(b"\n");
                reply.flush().await?;
                return reply.finish().await;
            }
            Step::Died => return died(reply).await,
        }
        reply.flush().await?;
    }
}

/// The runner was killed: an error line, or an error when nothing was said yet.
async fn died(reply: &mut Reply<'_>) -> Written {
    let error = ApiError::new(500, DIED);
    if !reply.has_started() {
        return send_streamed_error(reply, &error).await;
    }
    reply.write(&encode(&Dialect::Native.error_body(&error, 0)));
    reply.write(b"\n");
    reply.flush().await?;
    reply.finish().await
}

async fn once(line: &Line<'_>, all: &Collected, reply: &mut Reply<'_>) -> Result<(), Stop> {
    reply.content_type(JSON);
    line.whole(&mut reply.out, all);
    reply.finish().await
}

/// What the lines of one answer share.
struct Line<'a> {
    node: &'a Node,
    /// As JSON.
    model: String,
    /// Where a stub's model ran, as fields; empty for others.
    remote: String,
    shape: Shape,
}

fn remote_fields(model: &Installed) -> String {
    let remote = model.spec.remote.as_ref();
    remote
        .filter(|remote| !remote.model.is_empty())
        .map_or_else(String::new, |remote| {
            let (model, host) = (quote(&remote.model), quote(&remote.host));
            format!(",\"remote_model\":{model},\"remote_host\":{host}")
        })
}

impl Line<'_> {
    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"model\":");
        out.extend_from_slice(self.model.as_bytes());
        out.extend_from_slice(self.remote.as_bytes());
        out.extend_from_slice(b",\"created_at\":\"");
        push_rfc3339(out, self.node.clock.wall());
        out.extend_from_slice(b"\",");
    }

    fn content(&self, out: &mut Vec<u8>, text: &str, thinking: &str, calls: Option<&Value>) {
        let is_chat = self.shape == Shape::Chat;
        out.extend_from_slice(if is_chat {
            b"\"message\":{\"role\":\"assistant\",\"content\":".as_slice()
        } else {
            b"\"response\":"
        });
        push_str(out, text);
        if !thinking.is_empty() {
            out.extend_from_slice(b",\"thinking\":");
            push_str(out, thinking);
        }
        if let Some(calls) = calls {
            out.extend_from_slice(b",\"tool_calls\":");
            out.extend_from_slice(&encode(calls));
        }
        if is_chat {
            out.push(b'}');
        }
    }

    fn token(&self, out: &mut Vec<u8>, run: &mut Generation, step: Step) {
        self.begin(out);
        let (text, thinking) = if step == Step::Text {
            (&*run.text, "")
        } else {
            ("", &*run.text)
        };
        self.content(out, text, thinking, None);
        out.extend_from_slice(b",\"done\":false");
        if let Some(list) = run.logprobs() {
            out.extend_from_slice(b",\"logprobs\":");
            out.extend_from_slice(&encode(&list));
        }
        out.extend_from_slice(b"}\n");
    }

    fn context(&self, run: &Generation) -> Vec<u32> {
        if self.shape == (Shape::Generate { raw: false }) {
            run.context()
        } else {
            Vec::new()
        }
    }

    /// The last line, or the only object; no line end.
    fn whole(&self, out: &mut Vec<u8>, all: &Collected) {
        self.begin(out);
        self.content(out, &all.text, &all.thinking, all.tool_calls.as_ref());
        let _ = write!(
            out,
            ",\"done\":true,\"done_reason\":\"{}\"",
            all.stats.reason
        );
        if self.shape == (Shape::Generate { raw: false }) {
            out.extend_from_slice(b",\"context\":[");
            for (i, token) in all.context.iter().enumerate() {
                let _ = write!(out, "{}{token}", if i > 0 { "," } else { "" });
            }
            out.push(b']');
        }
        let logprobs = |out: &mut Vec<u8>| {
            if !all.logprobs.is_empty() {
                out.extend_from_slice(b",\"logprobs\":");
                out.extend_from_slice(&encode(&Value::Array(all.logprobs.clone())));
            }
        };
        if self.shape == Shape::Chat {
            logprobs(out);
            push_stats(out, &all.stats);
        } else {
            push_stats(out, &all.stats);
            logprobs(out);
        }
        out.push(b'}');
    }
}

/// The metrics, zeros left out.
fn push_stats(out: &mut Vec<u8>, s: &Stats) {
    let fields: [(&str, u128); 6] = [
        ("total_duration", s.total.as_nanos()),
        ("load_duration", s.load.as_nanos()),
        ("prompt_eval_count", s.prompt_tokens as u128),
        ("prompt_eval_duration", s.prompt.as_nanos()),
        ("eval_count", s.tokens as u128),
        ("eval_duration", s.eval.as_nanos()),
    ];
    for (name, n) in fields.iter().filter(|(_, n)| *n > 0) {
        let _ = write!(out, ",\"{name}\":{n}");
    }
}
