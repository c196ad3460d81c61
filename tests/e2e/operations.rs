//! What a control plane asks of a data plane at its operations listener: to probe nodes now, and to pull a
//! model at one node.

mod access;
mod probes;
mod pulls;

use aivonx_sim::{ModelSpec, NodeSpec, Outcome, RegistrySpec, SimNode};
use serde_json::Value;

use crate::support::{Aivonx, Client, Response, Setup, until};

/// What both planes hold.
const TOKEN: &str = "what-both-planes-hold";
/// Bytes of the model `moa`.
const SIZE: u64 = 1_000_000_000;

/// A node that has `tiny` and can pull `moa`, at this speed of one connection.
async fn node(bytes_per_second: f64) -> SimNode {
    let registry = RegistrySpec::serving([ModelSpec::new("moa").size(SIZE)]);
    let spec = NodeSpec::new()
        .model(ModelSpec::new("tiny"))
        .registry(registry.speed(bytes_per_second));
    SimNode::start(spec).await.unwrap()
}

/// On which `moa` takes for ever.
async fn endless() -> SimNode {
    node(1e3).await
}

/// With the token, and inventories that are read so rarely that only an order can have had it done.
fn held(setup: Setup) -> Setup {
    setup
        .set("OPERATIONS_TOKEN", TOKEN)
        .set("INVENTORY__INTERVAL", "1h")
}

/// Asks the operations listener with these header lines.
async fn send(aivonx: &Aivonx, method: &str, path: &str, lines: &str, body: &str) -> Response {
    let mut client = Client::connect(aivonx.ops).await;
    let length = body.len();
    client
        .send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    client.response_to(method).await.expect("no answer")
}

/// Asks it with the token.
async fn ask(aivonx: &Aivonx, method: &str, path: &str, body: &str) -> Response {
    let lines = format!("Authorization: Bearer {TOKEN}\r\n");
    send(aivonx, method, path, &lines, body).await
}

/// Probes these nodes; what was found by name.
async fn probe(aivonx: &Aivonx, nodes: &str) -> Value {
    let answer = ask(aivonx, "POST", "/probe", &format!("{{\"nodes\":{nodes}}}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["nodes"].clone()
}

/// Orders a pull; how far it is.
async fn pull(aivonx: &Aivonx, id: &str, model: &str, node: &str) -> Value {
    let order = format!(r#"{{"model":"{model}","node":"{node}"}}"#);
    let answer = ask(aivonx, "PUT", &format!("/pulls/{id}"), &order).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// How far a pull is.
async fn seen(aivonx: &Aivonx, id: &str) -> Value {
    let answer = ask(aivonx, "GET", &format!("/pulls/{id}"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Ends a pull; how it ended.
async fn end(aivonx: &Aivonx, id: &str) -> Value {
    let answer = ask(aivonx, "DELETE", &format!("/pulls/{id}"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Waits until a pull has ended; how.
async fn ended(aivonx: &Aivonx, id: &str) -> Value {
    until("the pull ends", || async {
        seen(aivonx, id).await["state"] != "running"
    })
    .await;
    seen(aivonx, id).await
}

/// Waits until a pull is on its way at its node.
async fn begun(aivonx: &Aivonx, id: &str) {
    until("bytes are known", || async {
        seen(aivonx, id).await["total"].as_u64().unwrap() > 0
    })
    .await;
}

/// Whether the first pull at a node was given up from outside.
fn was_left(node: &SimNode) -> bool {
    let seen = node.requests();
    let pull = seen.iter().find(|request| request.path == "/api/pull");
    pull.is_some_and(|pull| pull.outcome == Outcome::Cancelled)
}

/// Waits until nothing is in flight.
async fn is_idle(aivonx: &Aivonx) {
    until("nothing is in flight", || async {
        aivonx.metric_sum("aivonx_inflight", "") == 0.0
            && aivonx.metric_sum("aivonx_store_jobs", "") == 0.0
    })
    .await;
}
