//! Copy, delete, create and push.

use aivonx_sim::{Fault, FaultScope, ModelSpec, NodeSpec};
use serde_json::json;

use super::{ask, delete, listed, no_polls, node, send, start};
use crate::support::{Setup, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_and_delete_reach_every_holder_and_are_known_at_once() {
    let (a, b, c) = (
        start(node()).await,
        start(node()).await,
        start(NodeSpec::new()).await,
    );
    let aivonx = no_polls(Setup::nodes(&[&a, &b, &c])).start().await;
    let copy = ask(
        &aivonx,
        "/api/copy",
        r#"{"source":"tiny","destination":"mine"}"#,
    )
    .await;
    assert_eq!((copy.status, copy.text().as_str()), (200, ""));
    assert_eq!(listed(&aivonx).await, ["mine:latest", "tiny:latest"]);
    for node in [&a, &b] {
        assert_eq!(node.installed().len(), 2);
    }
    assert_eq!(c.count("/api/copy"), 0);

    let deleted = delete(&aivonx, "mine").await;
    assert_eq!((deleted.status, deleted.text().as_str()), (200, ""));
    assert_eq!(listed(&aivonx).await, ["tiny:latest"]);
    assert_eq!((a.installed().len(), b.installed().len()), (1, 1));
    let again = delete(&aivonx, "mine").await;
    assert_eq!(
        (again.status, again.json()["error"].as_str()),
        (404, Some("model 'mine' not found"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_leaves_a_copy_behind_says_where() {
    let (a, b, c) = (
        start(node()).await,
        start(node()).await,
        start(node()).await,
    );
    let aivonx = no_polls(Setup::nodes(&[&a, &b, &c])).start().await;
    // c lost it to somebody else: nothing is left to do there
    send(c.addr(), "DELETE", "/api/delete", "", r#"{"model":"tiny"}"#).await;
    b.stop().await;
    aivonx.metric_is(r#"aivonx_node_up{node="n1"}"#, 0.0).await;
    let partial = delete(&aivonx, "tiny").await;
    assert_eq!(partial.status, 502);
    assert_eq!(
        partial.json(),
        json!({
            "error": "model 'tiny' is still on n1: it is down",
            "nodes": [
                {"node": "n0", "status": "success"},
                {"node": "n1", "error": "it is down"},
                {"node": "n2", "error": "model 'tiny' not found"},
            ],
        })
    );
    let away = delete(&aivonx, "tiny").await;
    assert_eq!(
        (away.status, away.json()["error"].as_str()),
        (503, Some("node n1 is down"))
    );
    b.restart().await.unwrap();
    aivonx.metric_is(r#"aivonx_node_up{node="n1"}"#, 1.0).await;
    assert_eq!(delete(&aivonx, "tiny").await.status, 200);
    assert!(b.installed().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_reaches_draining_nodes_and_one_that_was_never_seen_to_hold_it() {
    let (a, b, c) = (
        start(node()).await,
        start(node()).await,
        start(node()).await,
    );
    let fleet = format!(
        "nodes:\n  - {{name: a, url: \"{}\", draining: true}}\n  - {{name: b, url: \"{}\"}}\n  - {{name: c, url: \"{}\"}}\n",
        a.url(),
        b.url(),
        c.url()
    );
    let aivonx = no_polls(Setup::fleet(fleet)).start().await;
    assert_eq!(delete(&aivonx, "tiny").await.status, 200);
    assert!(a.installed().is_empty() && b.installed().is_empty());
    // pulled beside the proxy, and not polled yet
    let pull = send(
        c.addr(),
        "POST",
        "/api/pull",
        "",
        r#"{"model":"moa","stream":false}"#,
    )
    .await;
    assert_eq!(pull.status, 200);
    assert_eq!(delete(&aivonx, "moa").await.status, 200);
    assert!(c.installed().is_empty());
    let pinned = send(
        aivonx.addr,
        "POST",
        "/api/pull",
        "x-aivonx-node: a\r\n",
        r#"{"model":"moa"}"#,
    )
    .await;
    assert_eq!(pinned.status, 200, "who names a draining node means it");
    assert_eq!(a.installed(), ["moa:latest"]);
    let pinned = send(
        aivonx.addr,
        "DELETE",
        "/api/delete",
        "x-aivonx-node: a\r\n",
        r#"{"model":"moa"}"#,
    )
    .await;
    assert_eq!((pinned.status, pinned.node()), (200, "a"));
    assert!(a.installed().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_from_a_model_is_made_on_every_holder_else_where_a_pull_would_go() {
    let (a, b, c) = (
        start(node()).await,
        start(node()).await,
        start(node()).await,
    );
    send(c.addr(), "DELETE", "/api/delete", "", r#"{"model":"tiny"}"#).await;
    let aivonx = no_polls(Setup::nodes(&[&a, &b, &c])).start().await;
    let made = ask(
        &aivonx,
        "/api/create",
        r#"{"model":"mine","from":"tiny","system":"Be brief."}"#,
    )
    .await;
    assert_eq!(made.status, 200);
    let lines = made.lines();
    assert_eq!(lines.last().unwrap()["status"], "success");
    let said: Vec<_> = lines
        .iter()
        .map(|line| line["status"].as_str().unwrap())
        .collect();
    assert!(
        said.iter()
            .any(|status| status.starts_with("using existing layer"))
    );
    let writing = said.iter().filter(|status| **status == "writing manifest");
    assert_eq!(writing.count(), 1, "{said:?}");
    assert_eq!(
        (
            a.installed().len(),
            b.installed().len(),
            c.installed().len()
        ),
        (2, 2, 0)
    );
    let once = ask(
        &aivonx,
        "/api/create",
        r#"{"model":"ours","from":"moa","stream":false}"#,
    )
    .await;
    assert_eq!(
        (once.status, once.json()["status"].as_str()),
        (200, Some("success"))
    );
    for node in [&a, &b, &c] {
        assert!(
            node.installed().contains(&"ours:latest".to_owned()),
            "nodes pull what they lack"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_goes_from_one_holder_and_its_refusal_is_the_nodes() {
    let (a, b) = (
        start(NodeSpec::new()).await,
        start(NodeSpec::new().model(ModelSpec::new("tiny"))).await,
    );
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let refused = ask(&aivonx, "/api/push", r#"{"name":"tiny","stream":false}"#).await;
    assert_eq!((refused.status, refused.node()), (500, "n1"));
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .contains("no such host")
    );
    assert_eq!(
        (a.count("/api/push"), b.count("/api/push")),
        (0, 1),
        "asked once"
    );
    let streamed = ask(&aivonx, "/api/push", r#"{"model":"tiny"}"#).await;
    assert_eq!(streamed.lines()[0]["status"], "retrieving manifest");
    assert!(streamed.lines()[1]["error"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_may_have_begun_is_not_sent_to_it_again() {
    let a = start(node()).await;
    let aivonx = Setup::nodes(&[&a]).start().await;
    for (method, path, body) in [
        ("POST", "/api/create", r#"{"model":"mine","from":"tiny"}"#),
        ("DELETE", "/api/delete", r#"{"model":"tiny"}"#),
    ] {
        a.fault_for(
            Fault::ResetMidStream { chunks: 0 },
            FaultScope::always().path(path),
        );
        let before = a.count(path);
        let answer = send(aivonx.addr, method, path, "", body).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(a.count(path), before + 1);
        a.clear_faults();
        until("its breaker lets it back in", || async {
            ask(&aivonx, "/api/show", r#"{"model":"tiny"}"#)
                .await
                .status
                != 503
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_request_for_inference_goes_to_that_node_alone() {
    let (a, b) = (start(node()).await, start(NodeSpec::new()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let chat = crate::support::chat("tiny", 1, false);
    let pin = |name: &str| format!("x-aivonx-node: {name}\r\n");
    let there = send(aivonx.addr, "POST", "/api/chat", &pin("n0"), &chat).await;
    assert_eq!((there.status, there.node()), (200, "n0"));
    let lacks = send(aivonx.addr, "POST", "/api/chat", &pin("n1"), &chat).await;
    assert_eq!(
        (lacks.status, lacks.node()),
        (404, "n1"),
        "the node says that it has no such model"
    );
    assert_eq!(
        send(aivonx.addr, "POST", "/api/chat", &pin("n2"), &chat)
            .await
            .status,
        404
    );
    let v1 = send(
        aivonx.addr,
        "POST",
        "/v1/chat/completions",
        &pin("n2"),
        &chat,
    )
    .await;
    assert_eq!(
        v1.json()["error"]["message"],
        "node 'n2' is not in the fleet"
    );
    b.stop().await;
    aivonx.metric_is(r#"aivonx_node_up{node="n1"}"#, 0.0).await;
    let down = send(aivonx.addr, "POST", "/api/chat", &pin("n1"), &chat).await;
    assert_eq!(
        (down.status, down.json()["error"].as_str()),
        (503, Some("node n1 is down"))
    );
}
