//! Error bodies in the dialect of the path, as Ollama writes them.
//!
//! Source: ollama-api.md §4 and §5 and the recordings in `sim/recordings/errors.jsonl`: native
//! routes answer `{"error":"…"}`, `/v1/messages` in Anthropic's shape, other `/v1` routes in OpenAI's.

use serde_json::{Value, json};

/// Which client library will read the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Ollama's own `/api` and everything outside `/v1`.
    Ollama,
    /// `/v1` except messages.
    OpenAi,
    /// `/v1/messages`.
    Anthropic,
}

impl Dialect {
    /// The dialect of a request path.
    pub fn of_path(path: &str) -> Self {
        if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Self::Anthropic
        } else if path == "/v1" || path.starts_with("/v1/") {
            Self::OpenAi
        } else {
            Self::Ollama
        }
    }

    /// The body of an error answer, without a trailing newline. `request_id` is shown where the
    /// dialect has a place for it.
    pub fn error_body(self, status: u16, message: &str, request_id: &str) -> String {
        let body: Value = match self {
            Self::Ollama => json!({ "error": message }),
            Self::OpenAi => json!({
                "error": { "message": message, "type": openai_type(status), "param": null, "code": null }
            }),
            Self::Anthropic => json!({
                "type": "error",
                "error": { "type": anthropic_type(status), "message": message },
                "request_id": request_id,
            }),
        };
        body.to_string()
    }

    /// What ends a stream that broke after its first byte, so that the client's library sees an
    /// error. `mid_line` says that the relayed bytes end within a line. `None` where the content
    /// type has no such form and the connection must be cut.
    pub fn stream_error(self, content_type: &str, message: &str, mid_line: bool) -> Option<String> {
        let media = content_type.split(';').next().unwrap_or("").trim();
        let gap = if mid_line { "\n" } else { "" };
        match media {
            "application/x-ndjson" => Some(format!("{gap}{}\n", json!({ "error": message }))),
            "text/event-stream" => {
                let gap = if mid_line { "\n\n" } else { "" };
                let body = self.error_body(502, message, "");
                Some(match self {
                    Self::Anthropic => format!("{gap}event: error\ndata: {body}\n\n"),
                    _ => format!("{gap}data: {body}\n\n"),
                })
            }
            _ => None,
        }
    }
}

/// OpenAI's `error.type` for a status (ollama: middleware/openai.go); those that Ollama never
/// gives as OpenAI names them.
fn openai_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        _ => "api_error",
    }
}

/// Anthropic's `error.type` for a status (ollama: middleware/anthropic.go).
fn anthropic_type(status: u16) -> &'static str {
    match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_speaks_its_dialect() {
        assert_eq!(Dialect::of_path("/api/chat"), Dialect::Ollama);
        assert_eq!(Dialect::of_path("/v1/chat/completions"), Dialect::OpenAi);
        assert_eq!(Dialect::of_path("/v1/messages"), Dialect::Anthropic);
        assert_eq!(Dialect::of_path("/v1x"), Dialect::Ollama);
    }

    #[test]
    fn bodies_look_like_the_recorded_ones() {
        assert_eq!(
            Dialect::Ollama.error_body(404, "model 'x' not found", ""),
            r#"{"error":"model 'x' not found"}"#
        );
        let openai: Value =
            serde_json::from_str(&Dialect::OpenAi.error_body(404, "m", "")).unwrap();
        assert_eq!(
            openai,
            json!({"error":{"message":"m","type":"not_found_error","param":null,"code":null}})
        );
        let anthropic: Value =
            serde_json::from_str(&Dialect::Anthropic.error_body(503, "m", "req_1")).unwrap();
        assert_eq!(anthropic["error"]["type"], "overloaded_error");
        assert_eq!(anthropic["request_id"], "req_1");
    }

    #[test]
    fn a_broken_stream_ends_in_an_error_of_its_dialect_or_in_a_cut() {
        let ndjson = Dialect::Ollama
            .stream_error("application/x-ndjson", "gone", true)
            .unwrap();
        assert_eq!(ndjson, "\n{\"error\":\"gone\"}\n");
        let sse = Dialect::Anthropic
            .stream_error("text/event-stream", "gone", false)
            .unwrap();
        assert!(sse.starts_with("event: error\ndata: {") && sse.ends_with("}\n\n"));
        assert_eq!(
            Dialect::Ollama.stream_error("application/json", "gone", false),
            None
        );
    }
}
