//! `POST /v1/audio/transcriptions`: a form in, text out. The run beneath streams.

use serde_json::json;

use super::super::Request;
use super::super::multipart::Form;
use super::{Failure, send_failure, start};
use crate::answer::{ApiError, Dialect};
use crate::generation::{DIED, collect};
use crate::gojson::encode::encode;
use crate::http::reply::{Reply, Written};
use crate::infer::Ask;
use crate::node::Node;
use crate::prompt::PromptBuilder;

/// Answers with what was said in the sound.
pub(in super::super) async fn transcriptions(
    node: &Node,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Written {
    match run(node, request).await {
        Ok((text, plain)) => {
            reply.header(
                "Content-Type",
                if plain {
                    "text/plain"
                } else {
                    "application/x-ndjson"
                },
            );
            if plain {
                reply.write(text.as_bytes());
            } else {
                reply.write(&encode(&json!({ "text": text })));
                reply.write(b"\n");
            }
            reply.flush().await?;
            reply.finish().await
        }
        Err(failure) => send_failure(node, reply, Dialect::OpenAi, failure).await,
    }
}

async fn run(node: &Node, request: &Request<'_>) -> Result<(String, bool), Failure> {
    let form = Form::read(request);
    let model = form.text("model").unwrap_or_default();
    if model.is_empty() {
        return Err(Failure::Request(ApiError::bad("model is required")));
    }
    let Some(sound) = form.bytes("file") else {
        return Err(Failure::Request(ApiError::bad("file is required")));
    };
    let mut ask = Ask::new(node, &model);
    let mut prompt = PromptBuilder::new();
    prompt.message("user", &form.text("prompt").unwrap_or_default());
    prompt.text(&crate::digest::sha256_hex(sound));
    ask.prompt = prompt.build();
    ask.has_media = true;
    let generation = start(node, &ask, "/v1/audio/transcriptions", "chat", true, false).await?;
    let all = collect(generation)
        .await
        .ok_or_else(|| Failure::Streamed(ApiError::new(500, DIED)))?;
    Ok((
        all.text.trim().to_owned(),
        form.text("response_format").as_deref() == Some("text"),
    ))
}
