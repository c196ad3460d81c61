//! `POST /v1/embeddings`

use std::io::Write as _;

use serde_json::Value;

use super::super::embed::{EmbedAsk, Embedded, inputs, push_vector, run};
use super::super::{Request, text};
use super::{Failure, bound, send_failure};
use crate::answer::{ApiError, Dialect};
use crate::gojson::encode::quote;
use crate::gojson::schema::V1_EMBED;
use crate::http::reply::{Reply, Written};
use crate::infer::Ask;
use crate::node::Node;

/// Answers with vectors, as numbers or as base64.
pub(in super::super) async fn embeddings(
    node: &Node,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Written {
    match try_embed(node, request).await {
        Ok((model, done, base64)) => {
            reply.header("Content-Type", "application/json");
            let body = render(&model, &done, base64);
            reply.write(&body);
            reply.finish().await
        }
        Err(failure) => send_failure(node, reply, Dialect::OpenAi, failure).await,
    }
}

async fn try_embed(
    node: &Node,
    request: &Request<'_>,
) -> Result<(String, Embedded, bool), Failure> {
    let bound = bound(request, &V1_EMBED)?;
    let inputs = match bound.get("input") {
        None | Some(Value::Null) => return Err(invalid_input()),
        Some(Value::Array(items)) if items.is_empty() => return Err(invalid_input()),
        Some(Value::String(s)) => vec![s.clone()],
        given => inputs(given).map_err(Failure::Beneath)?,
    };
    let base64 = match text(&bound, "encoding_format")
        .to_ascii_lowercase()
        .as_str()
    {
        "" | "float" => false,
        "base64" => true,
        other => {
            let text = format!(
                "Invalid value for 'encoding_format' = {other}. Supported values: ['float', 'base64']."
            );
            return Err(Failure::Request(ApiError::bad(text)));
        }
    };
    let asked = text(&bound, "model").to_owned();
    let dimensions = bound
        .get("dimensions")
        .and_then(Value::as_u64)
        .unwrap_or_default() as usize;
    let wanted = EmbedAsk {
        ask: Ask::new(node, &asked),
        inputs,
        dimensions,
    };
    let done = run(node, &wanted, "/v1/embeddings")
        .await
        .map_err(Failure::beneath)?;
    Ok((asked, done, base64))
}

fn invalid_input() -> Failure {
    Failure::Request(ApiError::bad("invalid input"))
}

fn render(model: &str, done: &Embedded, base64: bool) -> Vec<u8> {
    let mut out = b"{\"object\":\"list\",\"data\":[".to_vec();
    for (i, vector) in done.vectors.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"object\":\"embedding\",\"embedding\":");
        if base64 {
            out.push(b'"');
            push_base64(&mut out, vector);
            out.push(b'"');
        } else {
            push_vector(&mut out, vector);
        }
        let _ = write!(out, ",\"index\":{i}}}");
    }
    let (model, tokens) = (quote(model), done.tokens);
    let _ = write!(
        out,
        "],\"model\":{model},\"usage\":{{\"prompt_tokens\":{tokens},\"total_tokens\":{tokens}}}}}"
    );
    out.push(b'\n');
    out
}

/// Little-endian single precision in base64.
fn push_base64(out: &mut Vec<u8>, vector: &[f32]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
    for three in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..three.len()].copy_from_slice(three);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63];
            out.push(if i <= three.len() { digit } else { b'=' });
        }
    }
}
