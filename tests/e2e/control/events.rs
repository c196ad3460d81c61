//! Events: what changes in the fleet is told to who listens, for as long as the login holds. And probing now.

use serde_json::{Value, json};

use super::listen::Events;
use super::{house, node, on_both};
use crate::support::{Kind, Stack, until};

on_both!(
    what_changes_is_told,
    a_stream_ends_with_its_login,
    a_node_is_probed_now,
);

const PATH: &str = "/api/proxy/events";

async fn what_changes_is_told(kind: Kind) {
    let stack = Stack::start(kind).await;
    let mut events = Events::open(&stack, &stack.token, PATH, None).await;
    assert_eq!(events.next().await.unwrap().name, "ready");
    let sim = node().await;
    let id = stack.register("gpu-1", &sim).await;
    let change = events.until(|event| event.name == "change").await;
    assert_eq!(
        (
            &change.data["kind"],
            &change.data["action"],
            &change.data["object_id"]
        ),
        (&json!("node"), &json!("create"), &json!(id.to_string()))
    );
    assert!(
        change.id.is_some() && change.data.get("actor").is_none(),
        "{change:?}"
    );
    let revision = events.until(|event| event.name == "revision").await;
    let applied = &revision.data["revision"];
    events
        .until(|event| event.name == "plane" && event.data["applied"] == *applied)
        .await;
    let up = json!({"node": "gpu-1", "health": "up"});
    events.until(|event| event.data == up).await;
    sim.stop().await;
    let down = json!({"node": "gpu-1", "health": "down"});
    events.until(|event| event.data == down).await;
    drop(events);

    // who comes back is told what was changed meanwhile, and nothing twice
    let path = format!("/api/proxy/nodes/{id}");
    for weight in [2, 3] {
        let changed = stack.api("PATCH", &path, json!({"weight": weight})).await;
        assert_eq!(changed.status, 200);
    }
    let mut events = Events::open(&stack, &stack.token, PATH, change.id).await;
    let again = [events.next().await.unwrap(), events.next().await.unwrap()];
    assert!(
        again.iter().all(|event| event.data["action"] == "update"),
        "{again:?}"
    );
    assert_eq!(events.next().await.unwrap().name, "ready");
    let gone = stack.api("DELETE", &path, Value::Null).await;
    assert_eq!(gone.status, 204);
    let last = events.until(|event| event.name == "change").await;
    assert_eq!(last.data["action"], "delete");
    assert!(last.id > again[1].id);
}

async fn a_stream_ends_with_its_login(kind: Kind) {
    let stack = Stack::start(kind).await;
    let token = async |body: Value| {
        let made = stack.api("POST", "/api/account/tokens", body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()
    };
    let soon = chrono::Utc::now() + chrono::TimeDelta::seconds(3);
    let short =
        token(json!({"name": "short", "role": "viewer", "expires_at": soon.to_rfc3339()})).await;
    let long = token(json!({"name": "long", "role": "viewer"})).await;
    let text = |token: &Value| token["token"].as_str().unwrap().to_owned();
    let mut expiring = Events::open(&stack, &text(&short), PATH, None).await;
    let mut revoked = Events::open(&stack, &text(&long), PATH, None).await;
    assert_eq!(expiring.next().await.unwrap().name, "ready");
    assert_eq!(revoked.next().await.unwrap().name, "ready");
    let path = format!("/api/account/tokens/{}", long["id"]);
    assert_eq!(stack.api("DELETE", &path, Value::Null).await.status, 204);
    tokio::join!(expiring.end(), revoked.end());
}

async fn a_node_is_probed_now(kind: Kind) {
    let (sim, stack, id) = house(kind).await;
    let path = format!("/api/proxy/nodes/{id}/probe");
    let probe = async || stack.api("POST", &path, Value::Null).await;
    until("a data plane is there to ask", || async {
        probe().await.status == 200
    })
    .await;
    let found = probe().await.json();
    let seen = &found["planes"][0]["nodes"]["gpu-1"];
    assert_eq!(
        (&seen["health"], &seen["models"], &seen["error"]),
        (&json!("up"), &json!(["tiny:latest"]), &Value::Null),
        "{found}"
    );
    sim.stop().await;
    let found = probe().await.json();
    let seen = &found["planes"][0]["nodes"]["gpu-1"];
    assert!(seen["error"].is_string(), "{found}");
    let unknown = stack
        .api("POST", "/api/proxy/nodes/99/probe", Value::Null)
        .await;
    assert_eq!(unknown.status, 404);
}
