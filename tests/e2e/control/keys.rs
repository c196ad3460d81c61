//! Keys and settings: made in the control plane, in force at the data plane.

use serde_json::{Value, json};

use super::{house, on_both};
use crate::support::{Kind, chat, until};

on_both!(
    a_key_is_shown_once_and_in_force_until_it_is_revoked,
    secrets_of_nodes_reach_them_and_nobody_else
);

async fn a_key_is_shown_once_and_in_force_until_it_is_revoked(kind: Kind) {
    let (_sim, stack, _) = house(kind).await;
    let made = stack
        .api(
            "POST",
            "/api/proxy/keys",
            json!({"key_id": "ci", "models": ["tiny"]}),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let key = made["key"].as_str().unwrap().to_owned();
    let closed = stack
        .api(
            "PATCH",
            "/api/proxy/settings",
            json!({"anonymous": "never"}),
        )
        .await;
    assert_eq!(closed.status, 200, "{}", closed.text());
    let ask = |key: String| {
        let stack = &stack;
        async move {
            let lines =
                format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
            stack
                .send("POST", "/api/chat", &lines, &chat("tiny", 2, false))
                .await
                .status
        }
    };
    until("nobody gets in without a key", || async {
        ask("none".into()).await == 401
    })
    .await;
    assert_eq!(ask(key.clone()).await, 200);

    let path = format!("/api/proxy/keys/{}", made["id"]);
    for text in [
        stack
            .api("GET", "/api/proxy/keys", Value::Null)
            .await
            .text(),
        stack
            .api("GET", "/api/proxy/audit", Value::Null)
            .await
            .text(),
        stack
            .api("GET", "/api/proxy/fleet", Value::Null)
            .await
            .text(),
    ] {
        assert!(text.contains("ci") && !text.contains(&key), "{text}");
    }
    let other = stack
        .api("POST", &format!("{path}/rotate"), Value::Null)
        .await
        .json();
    let other = other["key"].as_str().unwrap().to_owned();
    until("the old key is out", || async {
        ask(key.clone()).await == 401
    })
    .await;
    assert_eq!(ask(other.clone()).await, 200);
    assert_eq!(stack.api("DELETE", &path, Value::Null).await.status, 204);
    until("the key is revoked", || async {
        ask(other.clone()).await == 401
    })
    .await;
}

async fn secrets_of_nodes_reach_them_and_nobody_else(kind: Kind) {
    let (sim, stack, id) = house(kind).await;
    let path = format!("/api/proxy/nodes/{id}");
    let body = json!({"bearer_token": "hush-hush-hush", "headers": {"X-Team": "blue-secret"}});
    let changed = stack.api("PATCH", &path, body).await;
    assert_eq!(
        (changed.status, &changed.json()["has_bearer_token"]),
        (200, &json!(true)),
        "{}",
        changed.text()
    );
    until("the node sees its token", || async {
        let lines = "Content-Type: application/json\r\n";
        stack
            .send("POST", "/api/chat", lines, &chat("tiny", 1, false))
            .await;
        let seen = crate::support::last_chat(&sim);
        seen.header("authorization") == Some("Bearer hush-hush-hush")
            && seen.header("x-team") == Some("blue-secret")
    })
    .await;
    // what a GET gave is sent back: the secrets stay
    let read = stack.api("GET", &path, Value::Null).await.json();
    assert_eq!(
        stack.api("PUT", &path, read).await.json()["has_bearer_token"],
        true
    );
    for path in [
        "/api/proxy/nodes",
        "/api/proxy/audit",
        "/api/proxy/fleet",
        path.as_str(),
    ] {
        let text = stack.api("GET", path, Value::Null).await.text();
        assert!(
            !text.contains("hush") && !text.contains("blue-secret"),
            "{path}: {text}"
        );
    }
    assert!(!stack.aivonx.log().contains("hush"));
}
