//! Changes of what the nodes have: pull, delete, copy, create, push, blobs, unloading; on one node
//! and on several, with nodes that are away, full or die.

mod blobs;
mod changes;
mod leaving;
mod pull;
mod told;
mod unload;

use std::net::SocketAddr;

use aivonx_sim::{ModelSpec, NodeSpec, RegistrySpec, SimNode};
use serde_json::Value;

use crate::support::{Aivonx, Client, Response, Setup, get};

/// Bytes of the model `moa`.
const SIZE: u64 = 1_000_000_000;

/// A registry that has `moa`.
fn registry() -> RegistrySpec {
    RegistrySpec::serving([ModelSpec::new("moa").size(SIZE)])
}

/// A node that can pull `moa` at once and has `tiny`.
fn node() -> NodeSpec {
    NodeSpec::new()
        .model(ModelSpec::new("tiny"))
        .registry(registry())
}

/// A node on which `moa` takes a good second.
fn slow() -> NodeSpec {
    node().registry(registry().speed(50e6))
}

/// A node on which `moa` takes for ever.
fn endless() -> NodeSpec {
    node().registry(registry().speed(1e3))
}

async fn start(spec: NodeSpec) -> SimNode {
    SimNode::start(spec).await.unwrap()
}

/// A request with a JSON body.
fn request(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {addr}\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends it on a fresh connection.
async fn send(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let mut client = Client::connect(addr).await;
    client
        .send(request(addr, method, path, headers, body))
        .await;
    client.response_to(method).await.unwrap()
}

/// `POST`.
async fn ask(aivonx: &Aivonx, path: &str, body: &str) -> Response {
    send(aivonx.addr, "POST", path, "", body).await
}

/// `DELETE /api/delete`
async fn delete(aivonx: &Aivonx, model: &str) -> Response {
    let body = format!(r#"{{"model":"{model}"}}"#);
    send(aivonx.addr, "DELETE", "/api/delete", "", &body).await
}

/// The names that the fleet lists.
async fn listed(aivonx: &Aivonx) -> Vec<String> {
    let tags = get(aivonx.addr, "/api/tags").await.json();
    let models = tags["models"].as_array().unwrap().iter();
    let mut names: Vec<_> = models
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// The `status` of every line, a layer's as its numbers.
fn statuses(answer: &Response) -> Vec<String> {
    let line = |line: &Value| line["status"].as_str().unwrap_or("error").to_owned();
    answer.lines().iter().map(line).collect()
}

/// Inventories are polled so rarely that only a change itself can have been noticed.
fn no_polls(setup: Setup) -> Setup {
    setup.set("INVENTORY__INTERVAL", "1h")
}
