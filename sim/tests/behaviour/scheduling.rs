//! Memory, keep-alive, slots and leaving, where the scenes do not go.

use std::time::Duration;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};

use crate::support::client::{Client, get, post, request};
use crate::support::until;

fn load(model: &str) -> String {
    format!(r#"{{"model":"{model}"}}"#)
}

#[tokio::test]
async fn memory_decides_who_must_go_and_the_shortest_keep_alive_goes_first() {
    let models = ["a", "b", "c"].map(|n| ModelSpec::new(n).memory(10));
    let mut spec = NodeSpec::new().memory(20);
    spec.models.extend(models);
    let node = SimNode::start(spec).await.unwrap();
    post(
        node.addr(),
        "/api/generate",
        r#"{"model":"a","keep_alive":"1h"}"#,
    )
    .await;
    post(
        node.addr(),
        "/api/generate",
        r#"{"model":"b","keep_alive":"5m"}"#,
    )
    .await;
    post(node.addr(), "/api/generate", &load("c")).await;
    let mut resident = node.resident();
    resident.sort();
    assert_eq!(resident, ["a:latest", "c:latest"]);
}

#[tokio::test]
async fn an_idle_model_goes_when_its_time_is_up() {
    let node = SimNode::start(NodeSpec::new().model(ModelSpec::new("a")).time_scale(100.0))
        .await
        .unwrap();
    post(
        node.addr(),
        "/api/generate",
        r#"{"model":"a","keep_alive":2}"#,
    )
    .await;
    assert_eq!(node.resident(), ["a:latest"]);
    until("it is unloaded", || node.resident().is_empty()).await;
    post(
        node.addr(),
        "/api/generate",
        r#"{"model":"a","keep_alive":-1}"#,
    )
    .await;
    let expires = get(node.addr(), "/api/ps").await.json()["models"][0]["expires_at"].clone();
    assert!(expires.as_str().unwrap() > "2300");
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_slot_back_at_once() {
    let slow = ModelSpec::new("a").speed(f64::INFINITY, 20.0);
    let node = SimNode::start(NodeSpec::new().model(slow)).await.unwrap();
    let ask = |n: u32| {
        request(
            "POST",
            "/api/generate",
            &format!(r#"{{"model":"a","prompt":"x","options":{{"num_predict":{n}}}}}"#),
        )
    };
    let mut first = Client::connect(node.addr()).await.unwrap();
    first.send(&ask(100_000)).await;
    first.read().await.unwrap();
    let mut second = Client::connect(node.addr()).await.unwrap();
    second.send(&ask(1)).await;
    until("both are here", || node.in_flight() == 2).await;
    drop(first);
    let answer = second.answer(false).await.0.unwrap();
    assert!(answer.body().contains("\"done\":true"));
    until("nothing is left", || node.in_flight() == 0).await;
}

#[tokio::test]
async fn a_load_nobody_waits_for_is_given_up() {
    let node = SimNode::start(
        NodeSpec::new()
            .model(ModelSpec::new("a").load_time(Duration::from_hours(1)))
            .model(ModelSpec::new("b")),
    )
    .await
    .unwrap();
    let mut client = Client::connect(node.addr()).await.unwrap();
    client
        .send(&request("POST", "/api/generate", &load("a")))
        .await;
    until("it loads", || node.in_flight() == 1).await;
    drop(client);
    assert_eq!(
        post(node.addr(), "/api/generate", &load("b"))
            .await
            .status(),
        200
    );
    assert_eq!(node.resident(), ["b:latest"]);
}

#[tokio::test]
async fn a_runner_killed_while_it_loads_is_a_500() {
    let node = SimNode::start(
        NodeSpec::new().model(ModelSpec::new("a").load_time(Duration::from_hours(1))),
    )
    .await
    .unwrap();
    let mut client = Client::connect(node.addr()).await.unwrap();
    client
        .send(&request("POST", "/api/generate", &load("a")))
        .await;
    until("it is in flight", || node.in_flight() == 1).await;
    let answer = loop {
        node.kill_runner("a");
        tokio::select! {
            answer = client.answer(false) => break answer.0.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    };
    assert_eq!(answer.status(), 500);
    assert!(
        answer
            .body()
            .contains("llama-server process has terminated")
    );
}
