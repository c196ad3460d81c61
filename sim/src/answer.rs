//! Answers in one piece, and errors in the dialect of their route.

use serde_json::{Value, json};

use crate::cloud::SIGNIN_URL;
use crate::digest::hex;
use crate::gojson::encode::encode;
use crate::http::reply::{Reply, Written};

/// gin's type for JSON.
pub(crate) const JSON: &str = "application/json; charset=utf-8";

/// An error before the first byte of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl ApiError {
    pub(crate) fn new(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    pub(crate) fn bad(text: impl Into<String>) -> Self {
        Self::new(400, text)
    }
}

/// How a family of routes says things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Native,
    OpenAi,
    Anthropic,
}

impl Dialect {
    /// The dialect of a path, known route or not.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/v1/messages") {
            Self::Anthropic
        } else if path.starts_with("/v1/") {
            Self::OpenAi
        } else {
            Self::Native
        }
    }

    /// The body of an error.
    pub(crate) fn error_body(self, error: &ApiError, id: u128) -> Value {
        let (status, text) = (error.status, &error.text);
        match self {
            // only ollama.com asks for a sign-in
            Self::Native if status == 401 => json!({ "error": text, "signin_url": SIGNIN_URL }),
            Self::Native => json!({ "error": text }),
            Self::OpenAi => {
                let kind = match status {
                    400 => "invalid_request_error",
                    404 => "not_found_error",
                    _ => "api_error",
                };
                json!({"error": {"message": text, "type": kind, "param": null, "code": null}})
            }
            Self::Anthropic => {
                let kind = match status {
                    400 => "invalid_request_error",
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    429 => "rate_limit_error",
                    503 | 529 => "overloaded_error",
                    _ => "api_error",
                };
                json!({
                    "type": "error",
                    "error": {"type": kind, "message": text},
                    "request_id": anthropic_id("req_", id),
                })
            }
        }
    }
}

/// An id of the Anthropic routes: a prefix and 24 hex digits.
pub(crate) fn anthropic_id(prefix: &str, random: u128) -> String {
    format!("{prefix}{}", hex(&random.to_be_bytes()[4..]))
}

/// gin's `c.JSON`: the whole object, no line end.
pub(crate) async fn send_json(reply: &mut Reply<'_>, status: u16, body: &Value) -> Written {
    reply.status = status;
    reply.content_type(JSON);
    reply.write(&encode(body));
    reply.finish().await
}

/// The `/v1` writers' form: `application/json` and a line end.
pub(crate) async fn send_json_line(reply: &mut Reply<'_>, status: u16, body: &Value) -> Written {
    reply.status = status;
    reply.header("Content-Type", "application/json");
    reply.write(&encode(body));
    reply.write(b"\n");
    reply.finish().await
}

/// An error a handler of `/api` or a middleware of `/v1` finds in the request.
pub(crate) async fn send_error(
    reply: &mut Reply<'_>,
    dialect: Dialect,
    error: &ApiError,
    id: u128,
) -> Written {
    send_json(reply, error.status, &dialect.error_body(error, id)).await
}

/// An error of the handler beneath a `/v1` route, rewritten on its way out.
pub(crate) async fn send_rewritten(
    reply: &mut Reply<'_>,
    dialect: Dialect,
    error: &ApiError,
    id: u128,
) -> Written {
    let body = dialect.error_body(error, id);
    match dialect {
        Dialect::Native => send_json(reply, error.status, &body).await,
        _ => send_json_line(reply, error.status, &body).await,
    }
}

/// Plain text of the routing layer.
pub(crate) async fn send_text(
    reply: &mut Reply<'_>,
    status: u16,
    kind: &str,
    text: &str,
) -> Written {
    reply.status = status;
    reply.content_type(kind);
    reply.write(text.as_bytes());
    reply.finish().await
}
