//! A disk that is full.

use serde_json::{Value, json};

use crate::control::house;
use crate::support::{Kind, Stack, Traffic, until};

/// Registers a node that takes no requests.
async fn write(stack: &Stack, number: usize) -> crate::support::Response {
    let labels = json!({ "filler": "x".repeat(255) });
    let draft = json!({
        "name": format!("n{number}"), "url": "http://127.0.0.1:9", "enabled": false, "labels": labels,
    });
    stack.api("POST", "/api/proxy/nodes", draft).await
}

#[tokio::test]
async fn in_one_process_changes_are_refused_and_nothing_is_lost_while_requests_flow() {
    let (_sim, stack, id) = house(Kind::Alone).await;
    let traffic = Traffic::start(stack.aivonx.addr);
    for round in 1..3 {
        stack.aivonx.bound_files(Some(4096)); // less than its files have
        let refused = write(&stack, round).await;
        assert_eq!(refused.status, 507, "{}", refused.text());
        assert_eq!(refused.json()["status"], 507);
        let again = write(&stack, round).await;
        assert_eq!(again.status, 507, "{}", again.text());
        traffic.flows().await;
        let nodes = stack.api("GET", "/api/proxy/nodes", Value::Null).await;
        assert_eq!(nodes.json()["count"], round, "{}", nodes.text());

        stack.aivonx.bound_files(None);
        until("changes are taken again", || async {
            write(&stack, round).await.status == 201
        })
        .await;
    }
    let path = format!("/api/proxy/nodes/{id}");
    let slots = stack.api("PATCH", &path, json!({ "slots": 7 })).await;
    assert_eq!(slots.status, 200, "{}", slots.text());
    let series = "aivonx_node_slots{model=\"tiny:latest\",node=\"gpu-1\"}";
    stack.aivonx.metric_is(series, 7.0).await;
    traffic.end().await;
}

#[tokio::test]
async fn a_data_plane_that_cannot_write_serves_takes_changes_and_says_so_once() {
    let (_sim, stack, id) = house(Kind::Many).await;
    let traffic = Traffic::start(stack.aivonx.addr);
    stack.aivonx.bound_files(Some(1));
    let path = format!("/api/proxy/nodes/{id}");
    let slots = "aivonx_node_slots{model=\"tiny:latest\",node=\"gpu-1\"}";
    for count in [7, 9] {
        let changed = stack.api("PATCH", &path, json!({ "slots": count })).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        stack.aivonx.metric_is(slots, f64::from(count)).await;
        traffic.flows().await;
    }
    let told = || {
        let log = stack.aivonx.log();
        log.matches("usage cannot be kept on disk").count()
    };
    until("it says so", || async { told() == 1 }).await;
    traffic.flows().await;
    assert_eq!(told(), 1, "{}", stack.aivonx.log());
    stack.aivonx.bound_files(None);
    let kept = stack.state().join("fleet.json");
    let changed = stack.api("PATCH", &path, json!({ "slots": 11 })).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    until("the fleet is kept again", || async {
        std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"slots\":11"))
    })
    .await;
    traffic.end().await;
}
