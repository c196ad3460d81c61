//! Every fault, seen from the client's side of the wire.

use std::time::Duration;

use aivonx_sim::{Fault, FaultScope, ModelSpec, NodeSpec, Outcome, SimNode};

use crate::support::client::{Answer, Client, End, exchange, get, post, request};
use crate::support::until;

const CHAT: &str =
    r#"{"model":"zebra","messages":[{"role":"user","content":"hi"}],"options":{"num_predict":20}}"#;

async fn node() -> SimNode {
    SimNode::start(
        NodeSpec::new()
            .model(ModelSpec::new("zebra"))
            .model(ModelSpec::new("gnu")),
    )
    .await
    .unwrap()
}

async fn chat(node: &SimNode) -> (Option<Answer>, End) {
    exchange(node.addr(), &request("POST", "/api/chat", CHAT)).await
}

/// Whether nothing comes for a while.
async fn is_silent(client: &mut Client) -> bool {
    tokio::time::timeout(Duration::from_millis(60), client.read())
        .await
        .is_err()
}

#[tokio::test]
async fn statuses_speak_the_dialect_and_count_down() {
    let node = node().await;
    node.fault_for(Fault::error_500(), FaultScope::next(1));
    let answer = chat(&node).await.0.unwrap();
    assert_eq!(answer.status(), 500);
    assert!(
        answer
            .body()
            .contains("model runner has unexpectedly stopped")
    );
    node.fault_for(Fault::busy_503(), FaultScope::next(1).path("/v1/messages"));
    assert_eq!(chat(&node).await.0.unwrap().status(), 200);
    let body = r#"{"model":"zebra","max_tokens":3,"messages":[{"role":"user","content":"x"}]}"#;
    let answer = post(node.addr(), "/v1/messages", body).await;
    assert_eq!(answer.json()["error"]["type"], "overloaded_error");
    assert_eq!(node.requests().pop().unwrap().outcome, Outcome::Faulted);
    assert_eq!(post(node.addr(), "/v1/messages", body).await.status(), 200);
}

#[tokio::test]
async fn a_fault_can_be_for_one_model() {
    let node = node().await;
    node.fault_for(
        Fault::error_500(),
        FaultScope::always().model("zebra:latest"),
    );
    assert_eq!(chat(&node).await.0.unwrap().status(), 500);
    let other = CHAT.replace("zebra", "gnu");
    assert_eq!(post(node.addr(), "/api/chat", &other).await.status(), 200);
    node.clear_faults();
    assert_eq!(chat(&node).await.0.unwrap().status(), 200);
}

#[tokio::test]
async fn a_reset_comes_where_it_was_put() {
    let node = node().await;
    node.fault_for(Fault::ResetMidStream { chunks: 0 }, FaultScope::next(1));
    let (answer, end) = chat(&node).await;
    assert!(answer.is_none() && end == End::Reset);
    node.fault_for(Fault::ResetOnAccept, FaultScope::next(1));
    assert_eq!(chat(&node).await.1, End::Reset);
    node.fault_for(Fault::ResetWhileReading { bytes: 10 }, FaultScope::next(1));
    assert_eq!(chat(&node).await.1, End::Reset);
    assert_eq!(chat(&node).await.0.unwrap().status(), 200);
}

#[tokio::test]
async fn a_slow_reader_sees_a_reset_in_the_middle_of_a_stream() {
    let slow = ModelSpec::new("zebra").speed(f64::INFINITY, 100.0);
    let node = SimNode::start(NodeSpec::new().model(slow)).await.unwrap();
    node.fault(Fault::ResetMidStream { chunks: 4 });
    let (answer, end) = chat(&node).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.chunks.len(), answer.is_complete, end),
        (4, false, End::Reset)
    );
}

#[tokio::test]
async fn a_truncated_stream_has_no_end_and_an_unfinished_one_has() {
    let node = node().await;
    node.fault_for(Fault::Truncate { chunks: 3 }, FaultScope::next(1));
    let (answer, end) = chat(&node).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.chunks.len(), answer.is_complete, end),
        (3, false, End::Closed)
    );
    node.fault_for(Fault::EndWithoutDone { chunks: 3 }, FaultScope::next(1));
    let (answer, end) = chat(&node).await;
    let answer = answer.unwrap();
    assert_eq!(
        (answer.chunks.len(), answer.is_complete, end),
        (3, true, End::Open)
    );
    assert!(!answer.body().contains("\"done\":true"));
}

#[tokio::test]
async fn garbage_huge_lines_and_wrong_types_are_sent_as_told() {
    let node = node().await;
    node.fault_for(Fault::Garbage, FaultScope::next(1));
    assert!(chat(&node).await.0.is_none());
    node.fault_for(Fault::HugeLine { bytes: 100_000 }, FaultScope::next(1));
    assert!(chat(&node).await.0.unwrap().chunks[0].len() > 100_000);
    node.fault_for(
        Fault::WrongContentType {
            value: "text/html".into(),
        },
        FaultScope::next(1),
    );
    assert_eq!(
        chat(&node).await.0.unwrap().header("content-type"),
        Some("text/html")
    );
}

#[tokio::test]
async fn a_503_can_come_before_the_body_is_read() {
    let node = node().await;
    node.fault(Fault::StatusBeforeBody {
        code: 503,
        message: Some("full".into()),
    });
    let mut client = Client::connect(node.addr()).await.unwrap();
    client
        .send(b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{")
        .await;
    while !client.bytes.windows(4).any(|w| w == b"full") {
        client.read().await.unwrap();
    }
    assert_eq!(node.requests()[0].body_len, 0);
}

#[tokio::test]
async fn a_hanging_model_leaves_the_node_alive() {
    let node = node().await;
    node.fault_for(Fault::Hang, FaultScope::always().inference());
    let mut client = Client::connect(node.addr()).await.unwrap();
    client.send(&request("POST", "/api/chat", CHAT)).await;
    until("the request is in flight", || node.in_flight() == 1).await;
    assert_eq!(get(node.addr(), "/").await.body(), "Ollama is running");
    assert!(is_silent(&mut client).await);
    drop(client);
    until("the request is gone", || node.in_flight() == 0).await;
    assert_eq!(node.requests()[0].outcome, Outcome::Cancelled);
}

#[tokio::test]
async fn a_stalled_stream_stays_open() {
    let node = node().await;
    node.fault(Fault::StallMidStream { chunks: 2 });
    let mut client = Client::connect(node.addr()).await.unwrap();
    client.send(&request("POST", "/api/chat", CHAT)).await;
    while Answer::parse(&client.bytes, false, false).is_none_or(|a| a.chunks.len() < 2) {
        client.read().await.unwrap();
    }
    assert!(is_silent(&mut client).await);
}

#[tokio::test]
async fn one_path_can_be_slow() {
    let node = node().await;
    node.fault_for(
        Fault::Delay { millis: 100 },
        FaultScope::always().path("/api/ps"),
    );
    let begun = std::time::Instant::now();
    get(node.addr(), "/api/ps").await;
    assert!(begun.elapsed() >= Duration::from_millis(99));
}

#[tokio::test]
async fn a_node_that_refuses_comes_back_on_its_port() {
    let node = node().await;
    let mut idle = Client::connect(node.addr()).await.unwrap();
    node.fault(Fault::Refuse);
    assert!(
        idle.read().await.is_err(),
        "closed, or reset when it was not yet accepted"
    );
    while Client::connect(node.addr()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    node.clear_faults();
    node.listens().await;
    assert_eq!(get(node.addr(), "/").await.status(), 200);
}

#[tokio::test]
async fn in_the_dark_nothing_is_said_on_old_or_new_connections() {
    let node = node().await;
    let mut old = Client::connect(node.addr()).await.unwrap();
    old.send(&request("GET", "/", "")).await;
    assert_eq!(old.answer(false).await.0.unwrap().status(), 200);
    node.fault(Fault::Blackhole);
    let mut new = Client::connect(node.addr()).await.unwrap();
    for client in [&mut old, &mut new] {
        client.send(&request("GET", "/", "")).await;
        assert!(is_silent(client).await);
    }
    node.clear_faults();
    assert!(matches!(old.read().await, Err(End::Reset)));
    assert_eq!(get(node.addr(), "/").await.status(), 200);
}

#[tokio::test]
async fn a_stopped_node_breaks_streams_off_and_can_be_restarted() {
    let slow = ModelSpec::new("zebra").speed(f64::INFINITY, 50.0);
    let node = SimNode::start(NodeSpec::new().model(slow)).await.unwrap();
    let mut client = Client::connect(node.addr()).await.unwrap();
    client
        .send(&request("POST", "/api/chat", &CHAT.replace("20", "2000")))
        .await;
    client.read().await.unwrap();
    node.stop().await;
    while client.read().await.is_ok() {}
    assert!(
        !Answer::parse(&client.bytes, false, true)
            .unwrap()
            .is_complete
    );
    assert!(Client::connect(node.addr()).await.is_err());
    node.restart().await.unwrap();
    assert!(node.resident().is_empty());
    assert_eq!(get(node.addr(), "/api/version").await.status(), 200);
}

#[tokio::test]
async fn the_control_port_puts_faults_on_and_takes_them_off() {
    let nodes = std::sync::Arc::new(vec![node().await]);
    let any = "127.0.0.1:0".parse().unwrap();
    let (control, run) = aivonx_sim::control::serve(any, std::sync::Arc::clone(&nodes))
        .await
        .unwrap();
    let run = tokio::spawn(run);
    let order = r#"{"fault":"status","code":500,"scope":{"times":1,"path":"/api/chat"}}"#;
    assert_eq!(post(control, "/nodes/0/faults", order).await.status(), 200);
    assert_eq!(chat(&nodes[0]).await.0.unwrap().status(), 500);
    assert_eq!(chat(&nodes[0]).await.0.unwrap().status(), 200);
    assert_eq!(
        get(control, "/nodes").await.json()[0]["resident"][0],
        "zebra:latest"
    );
    assert_eq!(
        post(control, "/nodes/0/faults", r#"{"fault":"nonsense"}"#)
            .await
            .status(),
        400
    );
    run.abort();
}
