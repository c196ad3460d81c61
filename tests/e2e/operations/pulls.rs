//! Pulls at one node.

use aivonx_sim::{Fault, FaultScope};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{SIZE, ask, begun, end, ended, endless, held, is_idle, node, pull, seen, was_left};
use crate::support::{Client, Setup, chat, post, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_goes_on_by_itself_and_tells_how_far_it_is() {
    let (a, b) = (node(50e6).await, node(50e6).await);
    let aivonx = held(Setup::nodes(&[&a, &b])).start().await;

    let first = pull(&aivonx, "job-1", "moa", "n1").await;
    assert_eq!(first["state"], "running");
    let mut told = Vec::new();
    while told
        .last()
        .is_none_or(|seen: &Value| seen["state"] == "running")
    {
        told.push(seen(&aivonx, "job-1").await);
    }

    let completed: Vec<_> = told
        .iter()
        .map(|seen| seen["completed"].as_u64().unwrap())
        .collect();
    assert!(completed.is_sorted(), "{completed:?}");
    let on_the_way = told.iter().find(|seen| {
        let (completed, total) = (seen["completed"].as_u64(), seen["total"].as_u64());
        completed > Some(0) && completed < total && total > Some(SIZE / 2)
    });
    let on_the_way = on_the_way.unwrap_or_else(|| panic!("{told:?}"));
    assert!(
        on_the_way["message"]
            .as_str()
            .unwrap()
            .starts_with("pulling "),
        "{on_the_way}"
    );
    let last = told.last().unwrap();
    assert_eq!(
        (&last["state"], &last["message"]),
        (&json!("success"), &json!("success"))
    );
    assert_eq!(last["completed"], last["total"]);
    assert!(b.installed().contains(&"moa:latest".to_owned()));
    assert_eq!(a.count("/api/pull"), 0, "at one node only");
    let asked = post(aivonx.addr, "/api/chat", &chat("moa", 1, false)).await;
    assert_eq!(
        (asked.status, asked.node()),
        (200, "n1"),
        "it is known before it is told"
    );
    is_idle(&aivonx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_begins_one_pull_however_often_it_comes() {
    let a = endless().await;
    let aivonx = held(Setup::nodes(&[&a])).start().await;
    let (one, other) = tokio::join!(
        pull(&aivonx, "x", "moa", "n0"),
        pull(&aivonx, "x", "moa", "n0")
    );
    assert_eq!(
        (&one["state"], &other["state"]),
        (&json!("running"), &json!("running"))
    );
    begun(&aivonx, "x").await;
    let again = pull(&aivonx, "x", "moa", "n0").await;
    assert!(again["total"].as_u64().unwrap() > 0, "{again}");
    assert_eq!(a.count("/api/pull"), 1);

    let cancelled = end(&aivonx, "x").await;
    assert_eq!(
        pull(&aivonx, "x", "moa", "n0").await,
        cancelled,
        "how it ended stays known"
    );
    assert_eq!(a.count("/api/pull"), 1);
    is_idle(&aivonx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_ended_ends_at_its_node() {
    let a = endless().await;
    let aivonx = held(Setup::nodes(&[&a])).start().await;
    pull(&aivonx, "x", "moa", "n0").await;
    begun(&aivonx, "x").await;
    assert!(!was_left(&a));

    let cancelled = end(&aivonx, "x").await;
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(
        aivonx.metric(r#"aivonx_inflight{node="n0"}"#),
        0.0,
        "before it is told"
    );
    is_idle(&aivonx).await;
    until("the node has noticed", || async { was_left(&a) }).await;
    assert!(!a.installed().contains(&"moa:latest".to_owned()));
    assert_eq!(
        end(&aivonx, "x").await,
        cancelled,
        "once more changes nothing"
    );
    assert_eq!(seen(&aivonx, "x").await, cancelled);
    for method in ["GET", "DELETE"] {
        let unknown = ask(&aivonx, method, "/pulls/y", "").await;
        assert_eq!(unknown.status, 404);
        assert_eq!(unknown.json()["error"], "no pull of this id is known here");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_at_a_node_is_told_in_its_words() {
    let a = node(50e6).await;
    let aivonx = held(Setup::nodes(&[&a])).start().await;
    pull(&aivonx, "none", "nosuch", "n0").await;
    let none = ended(&aivonx, "none").await;
    assert_eq!(none["state"], "error", "an error within the stream is one");
    assert_eq!(none["message"], "pull model manifest: file does not exist");

    let busy = Fault::Status {
        code: 503,
        message: Some("busy".into()),
    };
    a.fault_for(busy, FaultScope::next(1).path("/api/pull"));
    pull(&aivonx, "busy", "moa", "n0").await;
    let busy = ended(&aivonx, "busy").await;
    assert_eq!(
        (&busy["state"], &busy["message"]),
        (&json!("error"), &json!("busy"))
    );

    for (id, fault) in [
        ("reset", Fault::ResetMidStream { chunks: 4 }),
        ("cut", Fault::Truncate { chunks: 4 }),
        ("short", Fault::EndWithoutDone { chunks: 4 }),
    ] {
        a.fault_for(fault, FaultScope::next(1).path("/api/pull"));
        pull(&aivonx, id, "moa", "n0").await;
        let broken = ended(&aivonx, id).await;
        assert_eq!(broken["state"], "error", "{broken}");
        assert!(!broken["message"].as_str().unwrap().is_empty(), "{broken}");
    }
    is_idle(&aivonx).await;

    a.stop().await;
    aivonx.metric_is(r#"aivonx_node_up{node="n0"}"#, 0.0).await;
    pull(&aivonx, "down", "moa", "n0").await;
    let down = ended(&aivonx, "down").await;
    assert_eq!(down["message"], "node n0 is down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_ends_its_pull() {
    let (a, b) = (endless().await, endless().await);
    let aivonx = held(Setup::nodes(&[&a, &b])).start().await;
    for (id, node) in [("gone", "n0"), ("silent", "n1")] {
        pull(&aivonx, id, "moa", node).await;
        begun(&aivonx, id).await;
    }
    a.stop().await;
    b.fault(Fault::Blackhole);
    for id in ["gone", "silent"] {
        let died = ended(&aivonx, id).await;
        assert_eq!(died["state"], "error", "{died}");
        assert!(died["completed"].as_u64().unwrap() < died["total"].as_u64().unwrap());
    }
    b.clear_faults();
    is_idle(&aivonx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_of_clients_and_of_a_control_plane_take_turns() {
    let (a, b) = (endless().await, endless().await);
    let setup = Setup::nodes_with(&[&a, &b], "", "pull: {at_once: 1}");
    let aivonx = held(setup).start().await;
    let mut client = Client::connect(aivonx.addr).await;
    let body = r#"{"model":"moa"}"#;
    client
        .send(format!(
            "POST /api/pull HTTP/1.1\r\nHost: localhost\r\nx-aivonx-node: n0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    until("the client's pull goes on", || async {
        a.count("/api/pull") == 1
    })
    .await;

    pull(&aivonx, "x", "moa", "n1").await;
    until("it waits", || async {
        seen(&aivonx, "x").await["message"] == "waiting for other pulls to end"
    })
    .await;
    pull(&aivonx, "y", "moa", "n1").await;
    assert_eq!(
        end(&aivonx, "y").await["state"],
        "cancelled",
        "while it waits"
    );
    assert_eq!(b.count("/api/pull"), 0);
    drop(client);
    begun(&aivonx, "x").await;
    end(&aivonx, "x").await;
    is_idle(&aivonx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_that_ends_waits_for_no_pull() {
    let a = endless().await;
    let mut aivonx = held(Setup::nodes(&[&a])).start().await;
    pull(&aivonx, "x", "moa", "n0").await;
    begun(&aivonx, "x").await;
    aivonx.signal(Signal::SIGTERM);
    assert_eq!(aivonx.ends().await, Some(0));
    until("the node was left", || async { was_left(&a) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_reached_with_its_credentials_and_told_what_was_ordered() {
    let a = node(1e9).await;
    let setup = Setup::nodes_with(&[&a], ", bearer_token: what-the-node-wants", "");
    let aivonx = held(setup).start().await;
    let order = r#"{"model":"moa","node":"n0","insecure":true}"#;
    assert_eq!(ask(&aivonx, "PUT", "/pulls/job-7", order).await.status, 200);
    assert_eq!(ended(&aivonx, "job-7").await["state"], "success");

    let seen = a.requests();
    let pull = seen.iter().find(|request| request.path == "/api/pull");
    let pull = pull.unwrap();
    let body = Sha256::digest(r#"{"model":"moa","insecure":true,"stream":true}"#);
    assert_eq!(pull.body_sha256, format!("{body:x}"));
    assert_eq!(
        pull.header("authorization"),
        Some("Bearer what-the-node-wants")
    );
    assert_eq!(pull.header("x-request-id"), Some("job-7"));
    assert!(!aivonx.log().contains("what-the-node-wants"));
}
