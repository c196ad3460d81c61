//! Embeddings: `POST /api/embed`, the older `POST /api/embeddings`, and what `/v1` needs of them.

use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::model_name::ModelName;
use serde_json::Value;

use super::{Request, text};
use crate::answer::{ApiError, Dialect, JSON, send_error};
use crate::gojson::encode::{go_quote, push_f32, push_f64, quote};
use crate::gojson::schema::{EMBED, EMBEDDINGS};
use crate::http::reply::{Reply, Written};
use crate::infer::{self, Ask};
use crate::node::Node;
use crate::prompt::{Prompt, PromptBuilder};
use crate::store::Installed;

/// What a model without embeddings says.
const NOT_CAPABLE: &str = "This server does not support embeddings. Start it with `--embeddings`";

/// What was asked to be embedded.
#[derive(Clone, Debug, Default)]
pub(super) struct EmbedAsk {
    pub(super) ask: Ask,
    pub(super) inputs: Vec<String>,
    pub(super) dimensions: usize,
}

/// Vectors and counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Embedded {
    pub(super) vectors: Vec<Vec<f32>>,
    pub(super) tokens: usize,
    total: Duration,
    load: Duration,
}

/// `POST /api/embed`
pub(super) async fn embed(node: &Node, request: &Request<'_>, reply: &mut Reply<'_>) -> Written {
    match try_embed(node, request).await {
        Ok((model, done)) => {
            reply.content_type(JSON);
            let body = native_body(&model, &done);
            reply.write(&body);
            reply.finish().await
        }
        Err(e) => send_error(reply, Dialect::Native, &e, 0).await,
    }
}

async fn try_embed(node: &Node, request: &Request<'_>) -> Result<(String, Embedded), ApiError> {
    let bound = request.native(&EMBED)?;
    let asked = text(&bound, "model").to_owned();
    let mut ask = Ask::new(node, &asked);
    if let Some(Value::Object(options)) = bound.get("options") {
        ask.options = options.clone();
    }
    ask.keep_alive = bound.get("keep_alive").and_then(Value::as_f64);
    ask.truncate = bound.get("truncate") != Some(&Value::Bool(false));
    let inputs = inputs(bound.get("input"))?;
    let dimensions = bound
        .get("dimensions")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let wanted = EmbedAsk {
        ask,
        inputs,
        dimensions: dimensions as usize,
    };
    let done = run(node, &wanted, "/api/embed").await?;
    Ok((asked, done))
}

/// A text or a list of texts; no text at all for nothing.
pub(super) fn inputs(input: Option<&Value>) -> Result<Vec<String>, ApiError> {
    match input {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(s)) if s.is_empty() => Ok(Vec::new()),
        Some(Value::String(s)) => Ok(vec![s.clone()]),
        Some(Value::Array(items)) => items
            .iter()
            .map(|i| {
                i.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| ApiError::bad("invalid input type"))
            })
            .collect(),
        Some(_) => Err(ApiError::bad("invalid input type")),
    }
}

/// Loads the model and embeds the inputs one after the other.
pub(super) async fn run(node: &Node, wanted: &EmbedAsk, path: &str) -> Result<Embedded, ApiError> {
    let asked = &wanted.ask.model;
    let missing = || {
        ApiError::new(
            404,
            format!("model {} not found, try pulling it first", go_quote(asked)),
        )
    };
    let model = infer::find_or(node, asked, path, missing)?;
    run_on(node, &model, wanted, 501).await
}

async fn run_on(
    node: &Node,
    model: &Arc<Installed>,
    wanted: &EmbedAsk,
    incapable: u16,
) -> Result<Embedded, ApiError> {
    let runner = infer::load(node, model, &wanted.ask).await?;
    let load = node.clock.now().saturating_sub(wanted.ask.begun);
    if wanted.inputs.is_empty() {
        return Ok(Embedded::default());
    }
    let num_ctx = runner.num_ctx();
    let slot = runner.slot(&Prompt::default()).await?;
    if !model.spec.can("embedding") {
        return Err(ApiError::new(incapable, NOT_CAPABLE));
    }
    let mut done = Embedded {
        load,
        ..Embedded::default()
    };
    for input in &wanted.inputs {
        let mut prompt = PromptBuilder::new();
        prompt.text(input);
        let mut tokens = prompt.build().tokens + 1;
        if tokens as u64 > num_ctx {
            if !wanted.ask.truncate {
                return Err(ApiError::bad("the input length exceeds the context length"));
            }
            tokens = num_ctx as usize;
        }
        done.tokens += tokens;
        let span = tokens as f64 / model.spec.prompt_tokens_per_second;
        node.clock
            .sleep(Duration::try_from_secs_f64(span).unwrap_or_default())
            .await;
        done.vectors
            .push(vector(node, model, input, wanted.dimensions));
    }
    drop(slot);
    done.total = node.clock.now().saturating_sub(wanted.ask.begun);
    Ok(done)
}

/// A vector of length one, the same for the same text, model and seed.
fn vector(node: &Node, model: &Installed, input: &str, dimensions: usize) -> Vec<f32> {
    let mut prompt = PromptBuilder::new();
    prompt.text(input);
    prompt.text(&model.spec.weights_digest);
    let mut rng = fastrand::Rng::with_seed(prompt.build().hash ^ node.spec.seed);
    let full = model.spec.details.embedding_length.max(1) as usize;
    let mut numbers: Vec<f32> = (0..full).map(|_| rng.f32() * 2.0 - 1.0).collect();
    if dimensions > 0 {
        numbers.truncate(dimensions);
    }
    let length = numbers
        .iter()
        .map(|n| n * n)
        .sum::<f32>()
        .sqrt()
        .max(f32::MIN_POSITIVE);
    numbers.iter().map(|n| n / length).collect()
}

fn native_body(model: &str, done: &Embedded) -> Vec<u8> {
    use std::io::Write as _;

    let mut out = Vec::with_capacity(64 + done.vectors.len() * 1600);
    let _ = write!(out, "{{\"model\":{},\"embeddings\":[", quote(model));
    for (i, vector) in done.vectors.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_vector(&mut out, vector);
    }
    out.push(b']');
    let counts = [
        ("total_duration", done.total.as_nanos()),
        (
            "load_duration",
            if done.vectors.is_empty() {
                0
            } else {
                done.load.as_nanos()
            },
        ),
        ("prompt_eval_count", done.tokens as u128),
    ];
    for (name, n) in counts.iter().filter(|(_, n)| *n > 0) {
        let _ = write!(out, ",\"{name}\":{n}");
    }
    out.push(b'}');
    out
}

/// A vector in single precision.
pub(super) fn push_vector(out: &mut Vec<u8>, vector: &[f32]) {
    out.push(b'[');
    for (i, n) in vector.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_f32(out, *n);
    }
    out.push(b']');
}

/// `POST /api/embeddings`: no counts, and a name's case matters.
pub(super) async fn embeddings(
    node: &Node,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Written {
    match try_embeddings(node, request).await {
        Ok(vector) => {
            reply.content_type(JSON);
            reply.write(b"{\"embedding\":[");
            for (i, n) in vector.iter().enumerate() {
                if i > 0 {
                    reply.write(b",");
                }
                push_f64(&mut reply.out, f64::from(*n));
            }
            reply.write(b"]}");
            reply.finish().await
        }
        Err(e) => send_error(reply, Dialect::Native, &e, 0).await,
    }
}

async fn try_embeddings(node: &Node, request: &Request<'_>) -> Result<Vec<f32>, ApiError> {
    let bound = request.native(&EMBEDDINGS)?;
    let asked = text(&bound, "model");
    if asked.trim().is_empty() {
        return Err(ApiError::bad("model is required"));
    }
    let missing = || {
        ApiError::new(
            404,
            format!("model {} not found, try pulling it first", go_quote(asked)),
        )
    };
    let model = infer::find_or(node, asked, "/api/embeddings", missing)?;
    let exact = ModelName::parse_with_source(asked)
        .ok()
        .and_then(|(n, _)| node.store.lock().find_exact(&n));
    if exact.is_none() {
        return Err(missing());
    }
    let mut ask = Ask::new(node, asked);
    if let Some(Value::Object(options)) = bound.get("options") {
        ask.options = options.clone();
    }
    ask.keep_alive = bound.get("keep_alive").and_then(Value::as_f64);
    let inputs = Some(text(&bound, "prompt"))
        .filter(|p| !p.is_empty())
        .map(str::to_owned);
    let wanted = EmbedAsk {
        ask,
        inputs: inputs.into_iter().collect(),
        dimensions: 0,
    };
    let done = run_on(node, &model, &wanted, 500).await?;
    Ok(done.vectors.into_iter().next().unwrap_or_default())
}
