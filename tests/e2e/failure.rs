//! What a client sees when nodes fail, and how the fleet learns of it.

use std::time::Duration;

use aivonx_sim::{Fault, FaultScope, ModelSpec, NodeSpec, Outcome, SimNode};
use serde_json::json;

use crate::support::{Client, End, Setup, chat, get, json_post, last_chat, post, until, warm};

async fn pair() -> (SimNode, SimNode) {
    let spec = || NodeSpec::new().model(ModelSpec::new("tiny"));
    (
        SimNode::start(spec()).await.unwrap(),
        SimNode::start(spec()).await.unwrap(),
    )
}

fn chats() -> FaultScope {
    FaultScope::always().path("/api/chat")
}

/// Asks until `node` was met `times` times on `/api/chat`, counting the answers by status.
async fn ask(aivonx: &crate::support::Aivonx, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(
            post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
                .await
                .status,
        );
    }
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_before_the_first_byte_reaches_the_client_while_another_node_is_well() {
    let (a, b) = pair().await;
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    let faults: Vec<(&str, Fault)> = vec![
        ("500", Fault::error_500()),
        ("503", Fault::busy_503()),
        (
            "502",
            Fault::Status {
                code: 502,
                message: Some("bad gateway".into()),
            },
        ),
        ("reset before the head", Fault::ResetMidStream { chunks: 0 }),
        ("reset in the body", Fault::ResetWhileReading { bytes: 10 }),
        ("garbage", Fault::Garbage),
        (
            "503 before the body",
            Fault::StatusBeforeBody {
                code: 503,
                message: Some("busy".into()),
            },
        ),
    ];
    for (name, fault) in faults {
        a.fault_for(fault, chats());
        let statuses = ask(&aivonx, 12).await;
        assert!(
            statuses.iter().all(|status| *status == 200),
            "{name}: {statuses:?}"
        );
        a.clear_faults();
        // the breaker lets it back in: trials go through real requests
        until(&format!("it answers again after {name}"), || async {
            let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
            assert_eq!(answer.status, 200);
            answer.node() == "n0"
        })
        .await;
    }
    assert!(aivonx.metric_sum("aivonx_retries_total", "") > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_moves_on_and_a_node_that_comes_back_gets_traffic() {
    let (a, b) = pair().await;
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    a.stop().await;
    assert!(ask(&aivonx, 10).await.iter().all(|status| *status == 200));
    aivonx.metric_is(r#"aivonx_node_up{node="n0"}"#, 0.0).await;
    a.restart().await.unwrap();
    aivonx.metric_is(r#"aivonx_node_up{node="n0"}"#, 1.0).await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    until("n0 serves", || async {
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
            .await
            .node()
            == "n0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_vanishes_is_found_by_its_probe_and_its_waiting_requests_move_at_once() {
    let slow =
        || NodeSpec::new().model(ModelSpec::new("tiny").load_time(Duration::from_secs(3600)));
    let quick = NodeSpec::new().model(ModelSpec::new("tiny"));
    let (a, b) = (
        SimNode::start(slow()).await.unwrap(),
        SimNode::start(quick).await.unwrap(),
    );
    b.fault(Fault::Refuse);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(json_post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)))
        .await;
    aivonx.metric_is(r#"aivonx_inflight{node="n0"}"#, 1.0).await;
    b.clear_faults();
    aivonx.metric_is(r#"aivonx_node_up{node="n1"}"#, 1.0).await;

    a.fault(Fault::Blackhole);

    let answer = client.response().await;
    assert_eq!(
        (
            answer.status,
            answer.node(),
            answer.header("x-aivonx-attempts")
        ),
        (200, "n1", Some("2"))
    );
    assert_eq!(
        aivonx.metric(r#"aivonx_retries_total{reason="node_down"}"#),
        1.0
    );
    aivonx.metric_is(r#"aivonx_node_up{node="n0"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_ends_in_an_error_of_its_dialect_and_is_never_joined_with_another() {
    let (a, b) = pair().await;
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    for node in [&a, &b] {
        node.fault_for(
            Fault::ResetMidStream { chunks: 3 },
            FaultScope::always().inference(),
        );
    }
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 50, true)).await;
    let lines = answer.lines();
    assert_eq!(answer.status, 200);
    assert_eq!(
        lines.len(),
        4,
        "three tokens and the error: {}",
        answer.text()
    );
    assert!(lines[3]["error"].as_str().unwrap().contains("broke off"));
    assert!(
        lines.iter().all(|line| line["done"] != true),
        "never a success"
    );
    let line = aivonx
        .access_line(answer.header("x-request-id").unwrap())
        .await;
    assert_eq!(line["outcome"], "broken");

    let openai = r#"{"model":"tiny","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let answer = post(aivonx.addr, "/v1/chat/completions", openai).await;
    assert!(!answer.text().contains("[DONE]"));
    let last = answer
        .text()
        .trim_end()
        .rsplit("data: ")
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&last).unwrap()["error"]["type"],
        "api_error"
    );

    let anthropic = r#"{"model":"tiny","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"x"}]}"#;
    let answer = post(aivonx.addr, "/v1/messages", anthropic).await;
    assert!(
        answer
            .text()
            .contains("event: error\ndata: {\"type\":\"error\"")
            && !answer.text().contains("message_stop")
    );

    for node in [&a, &b] {
        node.clear_faults();
        node.fault_for(Fault::Truncate { chunks: 0 }, chats());
    }
    until("an answer with a length is cut, not completed", || async {
        let mut client = Client::connect(aivonx.addr).await;
        client
            .send(json_post(
                aivonx.addr,
                "/api/chat",
                &chat("tiny", 50, false),
            ))
            .await;
        let answer = client.response_to("POST").await;
        answer.is_none_or(|answer| answer.end == End::Cut || answer.status >= 500)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_cancels_the_nodes_work_at_once() {
    let a = SimNode::start(
        NodeSpec::new().model(
            ModelSpec::new("tiny")
                .load_time(Duration::from_secs(1000))
                .speed(f64::INFINITY, 10.0),
        ),
    )
    .await
    .unwrap();
    let aivonx = Setup::nodes(&[&a]).start().await;
    let mut waiting = Client::connect(aivonx.addr).await;
    waiting
        .send(json_post(
            aivonx.addr,
            "/api/chat",
            &chat("tiny", 100, true),
        ))
        .await;
    until("the node works", || async { a.in_flight() == 1 }).await;
    drop(waiting);
    until("the node's work is cancelled", || async {
        a.in_flight() == 0
    })
    .await;
    assert!(matches!(last_chat(&a).outcome, Outcome::Cancelled));

    let b =
        SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny").speed(f64::INFINITY, 10.0)))
            .await
            .unwrap();
    let aivonx = Setup::nodes(&[&b]).start().await;
    let mut streaming = Client::connect(aivonx.addr).await;
    streaming
        .send(json_post(
            aivonx.addr,
            "/api/chat",
            &chat("tiny", 1000, true),
        ))
        .await;
    let mut head = streaming.head().await.unwrap();
    assert!(streaming.chunk(&mut head).await);
    streaming.reset();
    until("the stream is cancelled", || async { b.in_flight() == 0 }).await;
    let id = head.header("x-request-id").unwrap();
    assert_eq!(aivonx.access_line(id).await["outcome"], "client_gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_the_request_opens_no_breaker() {
    let (a, b) = pair().await;
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    let wrong = r#"{"model":"tiny","prompt":"x","options":{"num_ctx":"x"},"stream":false}"#;
    for _ in 0..20 {
        let answer = post(aivonx.addr, "/api/generate", wrong).await;
        assert_eq!(
            answer.json(),
            json!({"error": "option \"num_ctx\" must be of type integer"})
        );
        assert_eq!(answer.status, 500);
    }
    let seen: std::collections::HashSet<_> = {
        let mut nodes = std::collections::HashSet::new();
        for _ in 0..30 {
            let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
            assert_eq!(answer.status, 200);
            nodes.insert(answer.node().to_owned());
        }
        nodes
    };
    assert_eq!(seen.len(), 2, "both nodes still serve");
    let embed = post(aivonx.addr, "/api/embed", r#"{"model":"tiny","input":"x"}"#).await;
    assert_eq!(
        (embed.status, embed.header("x-aivonx-attempts")),
        (501, Some("1")),
        "a 501 is the same everywhere"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_500_counts_against_a_node_once_another_answered_the_same_request_well() {
    let (a, b) = pair().await;
    let aivonx = Setup::nodes(&[&a, &b])
        .set("BREAKER__BASE", "1h")
        .set("BREAKER__MAX", "1h")
        .start()
        .await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    a.fault_for(
        Fault::Status {
            code: 500,
            message: Some("who knows".into()),
        },
        chats(),
    );
    for _ in 0..30 {
        assert_eq!(
            post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
                .await
                .status,
            200
        );
    }
    assert_eq!(
        a.count("/api/chat"),
        3,
        "after three in a row it is left alone"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_crashes_alone_is_left_alone_for_a_growing_while() {
    let a = SimNode::start(
        NodeSpec::new()
            .model(ModelSpec::new("tiny"))
            .model(ModelSpec::new("other")),
    )
    .await
    .unwrap();
    let aivonx = Setup::nodes(&[&a])
        .set("BREAKER__BASE", "1h")
        .set("BREAKER__MAX", "1h")
        .start()
        .await;
    a.fault_for(Fault::error_500(), FaultScope::always().model("tiny"));
    for _ in 0..3 {
        assert_eq!(
            post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
                .await
                .status,
            500
        );
    }
    let refused = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(refused.status, 503);
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 3000
    );
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("failing")
    );
    let other = post(aivonx.addr, "/api/chat", &chat("other", 1, false)).await;
    assert_eq!(
        other.status, 200,
        "the breaker is the model's, not the node's"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_phase_has_its_own_timeout() {
    let a = SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny")))
        .await
        .unwrap();
    let aivonx = Setup::nodes(&[&a])
        .set("TIMEOUTS__FIRST_BYTE", "300ms")
        .set("TIMEOUTS__ANSWER", "1h")
        .set("TIMEOUTS__IDLE", "300ms")
        .set("BREAKER__FAILURES", "100")
        .start()
        .await;
    a.fault_for(Fault::Hang, FaultScope::next(1).path("/api/chat"));
    let late = post(aivonx.addr, "/api/chat", &chat("tiny", 5, true)).await;
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(late.json()["error"].as_str().unwrap().contains("n0"));

    a.fault_for(
        Fault::StallMidStream { chunks: 2 },
        FaultScope::next(1).path("/api/chat"),
    );
    let stalled = post(aivonx.addr, "/api/chat", &chat("tiny", 50, true)).await;
    assert_eq!(stalled.lines().len(), 3, "{}", stalled.text());
    assert!(stalled.lines()[2]["error"].is_string());

    // with `stream: false` the first byte is the last: the short patience is not for it
    a.fault_for(
        Fault::Delay { millis: 1500 },
        FaultScope::next(1).path("/api/chat"),
    );
    let whole = post(aivonx.addr, "/api/chat", &chat("tiny", 5, false)).await;
    assert_eq!(whole.status, 200, "{}", whole.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_ps_is_no_ill_health() {
    let a = SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny")))
        .await
        .unwrap();
    let aivonx = Setup::nodes(&[&a])
        .set("RESIDENCY__TIMEOUT", "100ms")
        .start()
        .await;
    a.fault_for(Fault::Hang, FaultScope::always().path("/api/ps"));
    until("a read of ps failed", || async {
        aivonx.log().contains("/api/ps")
    })
    .await;
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="n0"}"#), 1.0);
    assert_eq!(
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_inventory_is_read_again_and_another_holder_asked() {
    let (a, b) = pair().await;
    let aivonx = Setup::nodes(&[&a, &b])
        .set("INVENTORY__INTERVAL", "1h")
        .start()
        .await;
    let mut client = Client::connect(a.addr()).await;
    let body = r#"{"model":"tiny"}"#;
    client
        .send(format!(
            "DELETE /api/delete HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            a.addr(),
            body.len()
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    for _ in 0..10 {
        let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        assert_eq!((answer.status, answer.node()), (200, "n1"));
    }
    until("the inventory was read again", || async {
        let before = a.count("/api/chat");
        for _ in 0..5 {
            post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        }
        a.count("/api/chat") == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_a_node_does_not_know_is_asked_of_another() {
    let (a, b) = pair().await;
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let answer = post(aivonx.addr, "/v1/systemone", r#"{"model":"tiny"}"#).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (404, "404 page not found")
    );
    assert_eq!(answer.header("x-aivonx-attempts"), Some("2"));
    assert_eq!((a.count("/v1/systemone"), b.count("/v1/systemone")), (1, 1));
    assert_eq!(
        aivonx.metric(r#"aivonx_retries_total{reason="node_too_old"}"#),
        1.0
    );
    for node in ["n0", "n1"] {
        assert_eq!(
            aivonx.metric(&format!("aivonx_node_up{{node=\"{node}\"}}")),
            1.0
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_node_left_the_answer_says_so_in_every_dialect() {
    let a = SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny")))
        .await
        .unwrap();
    let aivonx = Setup::nodes(&[&a]).start().await;
    a.fault(Fault::Refuse);
    aivonx.metric_is(r#"aivonx_node_up{node="n0"}"#, 0.0).await;
    let native = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(
        (native.status, native.json()),
        (
            503,
            json!({"error": "no healthy node has model 'tiny:latest'"})
        )
    );
    assert!(native.header("retry-after").is_some());
    let openai = post(
        aivonx.addr,
        "/v1/chat/completions",
        r#"{"model":"tiny","messages":[]}"#,
    )
    .await;
    assert_eq!(
        (openai.status, &openai.json()["error"]["type"]),
        (503, &json!("api_error"))
    );
    let anthropic = post(
        aivonx.addr,
        "/v1/messages",
        r#"{"model":"tiny","messages":[],"max_tokens":1}"#,
    )
    .await;
    assert_eq!(
        (anthropic.status, &anthropic.json()["error"]["type"]),
        (503, &json!("overloaded_error"))
    );
    // what is wrong in itself is said as Ollama says it
    assert_eq!(
        post(aivonx.addr, "/api/chat", "").await.json(),
        json!({"error": "missing request body"})
    );
    assert_eq!(
        post(aivonx.addr, "/api/chat", r#"{"model":"#).await.json(),
        json!({"error": "unexpected EOF"})
    );
    assert_eq!(
        post(aivonx.addr, "/api/chat", r#"{"model":"a//b"}"#)
            .await
            .json(),
        json!({"error": "invalid model name"})
    );
    assert_eq!(
        get(aivonx.addr, "/api/tags").await.json(),
        json!({"models": []})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_runner_is_left_alone_though_its_node_answers() {
    let (a, b) = pair().await;
    let aivonx = Setup::nodes_with(&[&a, &b], ", slots: 1000", "")
        .set("BREAKER__STUCK_AFTER", "300ms")
        .set("BREAKER__STUCK_FACTOR", "2")
        .set("BREAKER__BASE", "1h")
        .set("BREAKER__MAX", "1h")
        .start()
        .await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    until("both have a history", || async {
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        a.count("/api/chat") > 0 && b.count("/api/chat") > 0
    })
    .await;
    a.fault_for(Fault::Hang, chats());
    let held = std::sync::Mutex::new(Vec::new());
    until("n0 holds a request", || async {
        let mut client = Client::connect(aivonx.addr).await;
        client
            .send(json_post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)))
            .await;
        held.lock().unwrap().push(client);
        a.in_flight() > 0
    })
    .await;
    until("its breaker opens", || async {
        aivonx.log().contains("shows no byte")
    })
    .await;
    let before = a.count("/api/chat");
    for _ in 0..10 {
        assert_eq!(
            post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
                .await
                .node(),
            "n1"
        );
    }
    assert_eq!(a.count("/api/chat"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_node_that_breaks_before_a_byte_is_a_502_with_an_error() {
    let a = SimNode::start(
        NodeSpec::new()
            .model(ModelSpec::new("tiny"))
            .model(ModelSpec::embedding("vec")),
    )
    .await
    .unwrap();
    let aivonx = Setup::nodes(&[&a])
        .set("BREAKER__FAILURES", "100")
        .start()
        .await;
    for (path, body) in [
        ("/api/generate", r#"{"model":"tiny","prompt":"Hi"}"#),
        (
            "/api/chat",
            r#"{"model":"tiny","messages":[{"role":"user","content":"Hi"}]}"#,
        ),
        ("/api/embed", r#"{"model":"vec","input":"Hi"}"#),
        ("/api/embeddings", r#"{"model":"vec","prompt":"Hi"}"#),
    ] {
        for fault in [
            Fault::ResetMidStream { chunks: 0 },
            Fault::Garbage,
            Fault::ResetWhileReading { bytes: 10 },
        ] {
            a.fault_for(fault.clone(), FaultScope::always().path(path));
            let answer = post(aivonx.addr, path, body).await;
            a.clear_faults();
            assert_eq!(answer.status, 502, "{path} {fault:?}: {}", answer.text());
            let error = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(
                error.starts_with("node n0 failed: "),
                "{path} {fault:?}: {error}"
            );
        }
    }
}
