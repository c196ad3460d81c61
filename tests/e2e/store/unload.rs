//! Unloading a model wherever it is resident.

use aivonx_sim::{Fault, FaultScope};

use super::{ask, node, start};
use crate::support::{Setup, get, until, warm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unloading_goes_to_every_node_where_the_model_is_resident() {
    let (a, b, c) = (
        start(node()).await,
        start(node()).await,
        start(node()).await,
    );
    let aivonx = Setup::nodes(&[&a, &b, &c]).start().await;
    for (path, body) in [
        ("/api/generate", r#"{"model":"tiny","keep_alive":0}"#),
        (
            "/api/generate",
            r#"{"model":"tiny:latest","prompt":"","keep_alive":"0s","stream":false}"#,
        ),
        (
            "/api/chat",
            r#"{"model":"tiny","messages":[],"keep_alive":0}"#,
        ),
    ] {
        warm(&aivonx, &[&a, &b], "tiny").await;
        let seen = c.count(path);
        let answer = ask(&aivonx, path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let end = answer.json();
        assert_eq!(
            (end["done"].as_bool(), end["done_reason"].as_str()),
            (Some(true), Some("unload"))
        );
        assert!(end["created_at"].is_string());
        let field = if path == "/api/chat" {
            "message"
        } else {
            "response"
        };
        assert!(end.get(field).is_some(), "{end}");
        for node in [&a, &b] {
            until("it is unloaded", || async { node.resident().is_empty() }).await;
        }
        assert_eq!(c.count(path), seen, "it had nothing loaded");
        until("nobody has it loaded", || async {
            get(aivonx.addr, "/api/ps").await.json()["models"]
                .as_array()
                .unwrap()
                .is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_node_has_it_the_request_goes_there_even_if_it_is_busy() {
    let (a, b) = (start(node()).await, start(node()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    for _ in 0..4 {
        warm(&aivonx, &[&b], "tiny").await;
        let answer = ask(
            &aivonx,
            "/api/generate",
            r#"{"model":"tiny","keep_alive":0}"#,
        )
        .await;
        assert_eq!((answer.status, answer.node()), (200, "n1"));
        until("nobody has it loaded", || async {
            get(aivonx.addr, "/api/ps").await.json()["models"]
                .as_array()
                .unwrap()
                .is_empty()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_keeps_it_loaded_is_named() {
    let (a, b) = (start(node()).await, start(node()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    let fault = Fault::Status {
        code: 500,
        message: Some("stuck".into()),
    };
    b.fault_for(fault, FaultScope::always().path("/api/generate"));
    let answer = ask(
        &aivonx,
        "/api/generate",
        r#"{"model":"tiny","keep_alive":0}"#,
    )
    .await;
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.json()["error"],
        "model 'tiny' is still loaded on n1: stuck"
    );
    until("the other unloaded it", || async {
        a.resident().is_empty()
    })
    .await;
}
