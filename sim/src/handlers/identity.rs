//! The node's own account at ollama.com, as far as a simulated node has one.

use serde_json::json;

use crate::answer::{ApiError, Dialect, send_error, send_json};
use crate::cloud::{Account, admit};
use crate::http::reply::{Reply, Written};
use crate::node::Node;

/// `POST /api/me`
pub(super) async fn me(node: &Node, reply: &mut Reply<'_>) -> Written {
    let account = *node.account.lock();
    match account {
        Account::Unreachable => {
            send_json(reply, 503, &json!({"error": "account unavailable"})).await
        }
        Account::SignedOut => {
            let error = ApiError::new(401, "unauthorized");
            send_error(reply, Dialect::Native, &error, 0).await
        }
        Account::SignedIn => {
            let user = json!({
                "id": "00000000-0000-0000-0000-000000000001",
                "email": "sim@example.com",
                "name": "sim",
                "plan": "free",
            });
            send_json(reply, 200, &user).await
        }
    }
}

/// `POST /api/signout` and its old alias
pub(super) async fn signout(node: &Node, reply: &mut Reply<'_>) -> Written {
    let was = std::mem::replace(
        &mut *node.account.lock(),
        match node.spec.account {
            Account::Unreachable => Account::Unreachable,
            Account::SignedOut | Account::SignedIn => Account::SignedOut,
        },
    );
    if was == Account::SignedIn {
        return send_json(reply, 200, &serde_json::Value::Null).await;
    }
    send_json(
        reply,
        500,
        &json!({"error": "there was an error signing out"}),
    )
    .await
}

/// `POST /api/experimental/web_search` and `web_fetch`, which ollama.com answers.
pub(super) async fn web_tool(node: &Node, tool: &str, reply: &mut Reply<'_>) -> Written {
    match admit(node, &format!("/api/{tool}")) {
        Ok(()) if tool == "web_search" => send_json(reply, 200, &json!({"results": []})).await,
        Ok(()) => {
            let page = json!({"title": "a page", "content": "of words", "links": []});
            send_json(reply, 200, &page).await
        }
        Err(error) => send_error(reply, Dialect::Native, &error, 0).await,
    }
}
