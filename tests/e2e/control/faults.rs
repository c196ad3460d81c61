//! What dies around the data plane while requests flow: not one of them may fail.

use serde_json::{Value, json};

use super::house;
use crate::support::{Kind, Traffic, get, until};

#[tokio::test]
async fn redis_stops_and_comes_back_empty_while_requests_flow() {
    let (_sim, stack, id) = house(Kind::Many).await;
    let traffic = Traffic::start(stack.aivonx.addr);
    let apart = stack.apart.as_ref().unwrap();
    apart.redis.stop();
    traffic.flows().await;
    // the change is kept, and comes into force once there is a road again
    let path = format!("/api/proxy/nodes/{id}");
    let changed = stack
        .api(
            "PATCH",
            &path,
            json!({"labels": {"changed": "yes"}, "slots": 7}),
        )
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    apart.redis.start();
    until("the change is in force", || async {
        stack
            .aivonx
            .metric("aivonx_node_slots{model=\"tiny:latest\",node=\"gpu-1\"}")
            == 7.0
    })
    .await;
    traffic.end().await;
}

#[tokio::test]
async fn the_control_plane_dies_and_comes_back_while_requests_flow() {
    let (_sim, mut stack, id) = house(Kind::Many).await;
    let traffic = Traffic::start(stack.aivonx.addr);
    stack.apart.as_mut().unwrap().kill_control();
    let away = get(stack.aivonx.addr, "/api/proxy").await;
    assert_eq!(away.status, 503, "{}", away.text());
    traffic.flows().await;
    traffic.end().await;
    let _ = id;
}

#[tokio::test]
async fn postgres_stops_and_comes_back_while_requests_flow() {
    let (_sim, stack, id) = house(Kind::Many).await;
    let traffic = Traffic::start(stack.aivonx.addr);
    let apart = stack.apart.as_ref().unwrap();
    apart.postgres.stop().unwrap();
    let path = format!("/api/proxy/nodes/{id}");
    let refused = stack.api("PATCH", &path, json!({"weight": 2})).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    traffic.flows().await;
    apart.postgres.start().unwrap();
    until("the database is used again", || async {
        stack.api("GET", &path, Value::Null).await.status == 200
    })
    .await;
    assert_eq!(
        stack.api("GET", &path, Value::Null).await.json()["weight"],
        1,
        "what was refused was not done"
    );
    traffic.end().await;
}
