//! Who may use the data plane: keys, anonymous callers, their addresses, their limits and models.

mod cloud;
mod keys;
mod limits;
mod matrix;
mod models;
mod over_http2;
mod pinned;
mod revoked;
mod store;
mod unloading;

use std::fmt::Write as _;
use std::net::SocketAddr;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use sha2::{Digest, Sha256};

use crate::support::{Client, Response};

/// A node with these models.
async fn node(models: &[&str]) -> SimNode {
    let spec = models.iter().fold(NodeSpec::new(), |spec, name| {
        spec.model(ModelSpec::new(name))
    });
    SimNode::start(spec).await.unwrap()
}

/// The digest of a key, as a fleet document holds it.
fn sha256(key: &str) -> String {
    Sha256::digest(key)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}

/// One key of a fleet document; its text is its id with `secret-` in front.
fn key(id: &str, more: &str) -> String {
    let digest = sha256(&format!("secret-{id}"));
    format!("  - {{id: {id}, sha256: {digest}{more}}}\n")
}

/// The header that presents a key.
fn bearer(id: &str) -> String {
    format!("Authorization: Bearer secret-{id}\r\n")
}

/// A request with these header lines on a fresh connection.
async fn ask(addr: SocketAddr, headers: &str, method: &str, path: &str, body: &str) -> Response {
    let mut client = Client::connect(addr).await;
    ask_on(&mut client, headers, method, path, body).await
}

/// The same on a connection that is there.
async fn ask_on(
    client: &mut Client,
    headers: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Response {
    let length = body.len();
    client
        .send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    client.response_to(method).await.expect("an answer")
}

/// A chat as short as can be.
fn chat(model: &str) -> String {
    crate::support::chat(model, 3, false)
}
