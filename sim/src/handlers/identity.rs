//! The node's own account at ollama.com, which a simulated node does not have.

use serde_json::json;

use crate::answer::{ApiError, Dialect, send_error, send_json};
use crate::http::reply::{Reply, Written};
use crate::node::Node;

/// `POST /api/me`
pub(super) async fn me(reply: &mut Reply<'_>) -> Written {
    send_json(reply, 503, &json!({"error": "account unavailable"})).await
}

/// `POST /api/signout` and its old alias
pub(super) async fn signout(reply: &mut Reply<'_>) -> Written {
    send_json(
        reply,
        500,
        &json!({"error": "there was an error signing out"}),
    )
    .await
}

/// `POST /api/experimental/web_search` and `web_fetch`, which ollama.com would answer.
pub(super) async fn web_tool(node: &Node, tool: &str, reply: &mut Reply<'_>) -> Written {
    let stamp = node.clock.wall().timestamp();
    let server = &node.spec.name_server;
    let text = format!(
        "Post \"https://ollama.com:443/api/{tool}?ts={stamp}\": dial tcp: lookup ollama.com on {server}: no such host"
    );
    send_error(reply, Dialect::Native, &ApiError::new(502, text), 0).await
}
