//! The front door: what is relayed to the control plane and how, what is kept from it, and that
//! inference does not care how it fares.

mod away;
mod claims;
mod control;
mod paths;
mod streams;

use std::net::SocketAddr;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};

use crate::support::{Aivonx, Client, Response, Setup};
use control::Control;

/// What both planes hold.
const TOKEN: &str = "the-token-that-both-planes-hold";
/// What browsers ask for.
const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";

async fn node() -> SimNode {
    SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny")))
        .await
        .unwrap()
}

/// With a front door that leads to a control plane at this address.
fn open(setup: Setup, control: SocketAddr) -> Setup {
    setup
        .set("FRONT_DOOR__TO", &format!("http://{control}"))
        .set("FRONT_DOOR__TOKEN", TOKEN)
}

/// A node, a control plane, and an aivonx in front of both.
async fn house() -> (SimNode, Control, Aivonx) {
    let (sim, control) = (node().await, Control::start().await);
    let aivonx = open(Setup::nodes(&[&sim]), control.addr).start().await;
    (sim, control, aivonx)
}

/// Sends a request with these header lines on a connection of its own.
async fn send(addr: SocketAddr, method: &str, target: &str, lines: &str, body: &str) -> Response {
    let mut client = Client::connect(addr).await;
    let length = match body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    client
        .send(format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}{length}\r\n{body}"
        ))
        .await;
    client.response_to(method).await.expect("no answer")
}
