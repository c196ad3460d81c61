//! A key that is taken out of the document while its streams run.

use aivonx_sim::{Fault, FaultScope, ModelSpec, NodeSpec, Outcome, RegistrySpec, SimNode};
use http::{HeaderValue, Method};

use super::{ask, bearer, key};
use crate::support::{Aivonx, Client, End, H2, Response, Setup, until};

/// The fleet file with these keys, and one that stays.
fn text(nodes: &[&SimNode], document: &str, keys: &str) -> String {
    let keys = format!("{keys}{}", key("stays", ""));
    crate::support::fleet_yaml(
        nodes,
        "",
        &format!("{document}\nanonymous: never\nkeys:\n{keys}"),
    )
}

/// A stream of the key that has begun.
async fn begun(aivonx: &Aivonx, path: &str, body: &str) -> (Client, Response) {
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{}X-Request-Id: cut-1\r\nContent-Length: {}\r\n\r\n{body}",
            bearer("goes"),
            body.len()
        ))
        .await;
    let mut answer = client.head().await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(client.chunk(&mut answer).await);
    (client, answer)
}

/// Takes the key out, after the document was changed once otherwise.
async fn take_out(aivonx: &Aivonx, nodes: &[&SimNode], document: &str, goes: &str) {
    let status = async |id: &str| {
        ask(aivonx.addr, &bearer(id), "GET", "/api/tags", "")
            .await
            .status
    };
    aivonx.write_fleet(&text(
        nodes,
        document,
        &format!("{goes}{}", key("more", "")),
    ));
    until("another key is in", || async {
        status("more").await == 200
    })
    .await;
    aivonx.write_fleet(&text(nodes, document, ""));
    until("the key is out", || async { status("goes").await == 401 }).await;
    assert_eq!(status("stays").await, 200);
}

fn chat() -> String {
    crate::support::chat("tiny", 50, true)
}

async fn slow_node() -> SimNode {
    let slow = ModelSpec::new("tiny").speed(f64::INFINITY, 20.0);
    let spec = NodeSpec::new().model(slow).num_parallel(2);
    SimNode::start(spec).await.unwrap()
}

/// Lets answers on this path say two things and then nothing more.
fn stall(node: &SimNode, path: &str) {
    let scope = FaultScope::always().path(path);
    node.fault_for(Fault::StallMidStream { chunks: 2 }, scope);
}

async fn revoke(on_revoke: &str, stalls: bool, path: &str) -> (Aivonx, Client, Response) {
    let node = slow_node().await;
    let document = format!("on_revoke: {on_revoke}");
    let goes = key("goes", "");
    let aivonx = Setup::fleet(text(&[&node], &document, &goes)).start().await;
    if stalls {
        stall(&node, path);
    }
    let (mut client, mut answer) = begun(&aivonx, path, &chat()).await;
    take_out(&aivonx, &[&node], &document, &goes).await;
    while client.chunk(&mut answer).await {}
    (aivonx, client, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_an_error_where_the_document_says_so() {
    // the node says nothing more: the stream ends all the same
    let (aivonx, _client, answer) = revoke("end", true, "/api/chat").await;
    let last = answer.lines().pop().unwrap();
    assert_eq!(
        last["error"],
        "the API key was revoked",
        "{}",
        answer.text()
    );
    assert_eq!(aivonx.access_line("cut-1").await["outcome"], "key_revoked");

    let (aivonx, _client, answer) = revoke("end", true, "/v1/chat/completions").await;
    let text = answer.text();
    let last = text.trim_end().rsplit("data: ").next().unwrap();
    let last: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["message"], "the API key was revoked");
    assert!(!text.contains("[DONE]"), "{text}");
    assert_eq!(aivonx.access_line("cut-1").await["outcome"], "key_revoked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_runs_to_its_end_where_the_document_says_so() {
    let (aivonx, _client, answer) = revoke("finish", false, "/api/chat").await;
    assert_eq!(answer.end, End::Complete);
    assert_eq!(answer.lines().pop().unwrap()["done"], true);
    assert_eq!(aivonx.access_line("cut-1").await["outcome"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_over_http_2_end_as_well() {
    let node = slow_node().await;
    let goes = key("goes", "");
    let aivonx = Setup::fleet(text(&[&node], "on_revoke: end", &goes))
        .start()
        .await;
    for path in ["/api/chat", "/v1/chat/completions"] {
        stall(&node, path);
    }
    let h2 = H2::plain(aivonx.addr).await;
    let mut open = Vec::new();
    for path in ["/api/chat", "/v1/chat/completions"] {
        let mut head = h2.head(Method::POST, path);
        let value = HeaderValue::from_static("Bearer secret-goes");
        head.headers_mut().append("authorization", value);
        let mut stream = h2.open(head, &[chat().as_bytes()]).await.unwrap();
        assert_eq!(stream.head.status, 200);
        assert!(stream.chunk().await);
        open.push(stream);
    }
    take_out(&aivonx, &[&node], "on_revoke: end", &goes).await;
    for stream in open {
        let text = stream.rest().await.text();
        assert!(text.contains("the API key was revoked"), "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
    }
}

/// Two nodes on which a pull takes for ever.
async fn endless() -> [SimNode; 2] {
    let spec = || {
        let registry = RegistrySpec::serving([ModelSpec::new("moa").size(1_000_000_000)]);
        NodeSpec::new().registry(registry.speed(1e3))
    };
    [
        SimNode::start(spec()).await.unwrap(),
        SimNode::start(spec()).await.unwrap(),
    ]
}

async fn is_cancelled(node: &SimNode) {
    until("the node's pull was cancelled", || async {
        let seen = node.requests();
        let pull = seen.iter().find(|request| request.path == "/api/pull");
        pull.is_some_and(|pull| pull.outcome == Outcome::Cancelled)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_of_several_nodes_ends_whether_its_client_is_there_or_not() {
    let goes = key("goes", ", scopes: [infer, manage]");
    for stays in [true, false] {
        let [a, b] = endless().await;
        let nodes = [&a, &b];
        let document = "on_revoke: end\npull: {when_client_leaves: continue}";
        let aivonx = Setup::fleet(text(&nodes, document, &goes)).start().await;
        let (client, mut answer) = begun(&aivonx, "/api/pull", r#"{"model":"moa"}"#).await;
        until("both pull", || async {
            aivonx.metric_sum("aivonx_inflight", "") == 2.0
        })
        .await;
        let mut client = Some(client);
        if !stays {
            client = None;
            until("it goes on alone", || async {
                aivonx.log().contains("it goes on")
            })
            .await;
        }
        take_out(&aivonx, &nodes, document, &goes).await;
        for node in nodes {
            is_cancelled(node).await;
        }
        aivonx
            .metric_is(r#"aivonx_store_jobs{route="/api/pull"}"#, 0.0)
            .await;
        assert!(
            aivonx.log().contains("its key was taken out"),
            "{}",
            aivonx.log()
        );
        if let Some(client) = &mut client {
            while client.chunk(&mut answer).await {}
            assert_eq!(answer.end, End::Complete);
            let last = answer.lines().pop().unwrap();
            assert_eq!(last["error"], "the API key was revoked");
            assert_eq!(aivonx.access_line("cut-1").await["outcome"], "key_revoked");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_shows_no_progress_is_answered_401_and_one_that_may_finish_goes_on() {
    let goes = key("goes", ", scopes: [infer, manage]");
    for (document, ends) in [("on_revoke: end", true), ("on_revoke: finish", false)] {
        let [a, b] = endless().await;
        let nodes = [&a, &b];
        let aivonx = Setup::fleet(text(&nodes, document, &goes)).start().await;
        let mut client = Client::connect(aivonx.addr).await;
        let body = r#"{"model":"moa","stream":false}"#;
        client
            .send(format!(
                "POST /api/pull HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: {}\r\n\r\n{body}",
                bearer("goes"),
                body.len()
            ))
            .await;
        until("both pull", || async {
            aivonx.metric_sum("aivonx_inflight", "") == 2.0
        })
        .await;
        take_out(&aivonx, &nodes, document, &goes).await;
        if ends {
            let answer = client.response().await;
            assert_eq!(answer.status, 401, "{}", answer.text());
            assert_eq!(answer.json()["error"], "the API key was revoked");
        } else {
            assert_eq!(aivonx.metric_sum("aivonx_inflight", ""), 2.0);
            drop(client);
            for node in nodes {
                is_cancelled(node).await;
            }
        }
    }
}
