//! Bad input: whatever a client sends, its cost is bounded, it is answered as Ollama or a careful
//! proxy would answer, nothing of it reaches a node that should not, and the next one is served.

mod bodies;
mod clients;
mod framing;
mod heads;
mod names;
mod node_id;
mod passing;

use std::net::SocketAddr;

use aivonx_sim::{ModelSpec, NodeSpec, SeenRequest, SimNode};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Aivonx, PATIENCE, Response, Setup, chat, post, until};

const MIB: u64 = 1 << 20;

/// A path of each dialect, with what its body needs beside the model.
const DIALECTS: [(&str, &str); 3] = [
    (
        "/api/chat",
        r#""messages":[{"role":"user","content":"Hi"}],"stream":false"#,
    ),
    (
        "/v1/chat/completions",
        r#""messages":[{"role":"user","content":"Hi"}]"#,
    ),
    (
        "/v1/messages",
        r#""messages":[{"role":"user","content":"Hi"}],"max_tokens":5"#,
    ),
];

/// An aivonx before one node.
struct House {
    aivonx: Aivonx,
    sim: SimNode,
}

impl House {
    /// With these keys of the configuration.
    async fn with(keys: &[(&str, &str)]) -> Self {
        Self::before(NodeSpec::new(), keys).await
    }

    /// Before such a node, which also holds `tiny`.
    async fn before(node: NodeSpec, keys: &[(&str, &str)]) -> Self {
        let tiny = ModelSpec::new("tiny").context_length(1 << 40);
        let sim = SimNode::start(node.model(tiny)).await.unwrap();
        // the node shares this process: while it unpacks a bomb its probes may wait
        let setup = Setup::nodes(&[&sim]).set("PROBE__UNHEALTHY_AFTER", "100");
        let setup = keys
            .iter()
            .fold(setup, |setup, (key, value)| setup.set(key, value));
        Self {
            aivonx: setup.start().await,
            sim,
        }
    }

    fn addr(&self) -> SocketAddr {
        self.aivonx.addr
    }

    /// What came to the node through the proxy.
    fn relayed(&self) -> Vec<SeenRequest> {
        let mut seen = self.sim.requests();
        seen.retain(|request| request.header("x-request-id").is_some()); // probes have none
        seen
    }

    /// Asserts that none of what came to the node is a request smuggled in another.
    fn saw_nothing_smuggled(&self, case: &str) {
        let relayed = self.relayed();
        assert!(
            relayed.iter().all(|request| request.model != "smuggled"),
            "{case}: {relayed:?}"
        );
    }

    /// Waits until nothing is being worked on, here and at the node.
    async fn is_idle(&self) {
        let at_work =
            || self.sim.in_flight() as f64 + self.aivonx.metric_sum("aivonx_inflight", "");
        until("nothing is in flight", || async { at_work() == 0.0 }).await;
    }

    /// After all that: a good request is served as ever.
    async fn still_serves(&self) {
        self.is_idle().await;
        let answer = post(self.addr(), "/api/chat", &chat("tiny", 2, false)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["done"], true);
    }
}

/// The message of an error in any dialect.
fn message(body: &Value) -> String {
    let error = body["error"]["message"].as_str().or(body["error"].as_str());
    error.unwrap_or_else(|| panic!("{body}")).to_owned()
}

/// Asserts that an error is in the shape of its path.
fn in_its_dialect(path: &str, body: &Value) {
    match path {
        "/v1/messages" => assert_eq!(body["type"], "error", "{body}"),
        path if path.starts_with("/v1/") => {
            assert_eq!(body["error"]["param"], Value::Null, "{body}");
        }
        _ => assert!(body["error"].is_string(), "{body}"),
    }
}

/// Asserts that bad input gets the node's own verdict through the proxy: its status and, unless that
/// is 200, its message in the shape of the path.
fn judged_alike(path: &str, case: &str, direct: &Response, through: &Response) {
    assert_eq!(
        direct.status, through.status,
        "{path} {case}: {direct:?} {through:?}"
    );
    if direct.status != 200 {
        let (direct, through) = (direct.json(), through.json());
        assert_eq!(message(&direct), message(&through), "{path} {case}");
        in_its_dialect(path, &through);
    }
}

/// Sends raw bytes and reads what comes: the first answer, and what follows it once no more is sent.
async fn wire(addr: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let _ = stream.write_all(bytes).await; // it may be refused before it is all sent
        let mut got = vec![0; 1 << 16];
        let read = stream.read(&mut got).await.unwrap_or(0);
        got.truncate(read);
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut got).await; // a reset ends it as well
        String::from_utf8_lossy(&got).into_owned()
    };
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .expect("the connection is left open")
}

/// The statuses of the answers in what was read.
fn statuses(wire: &str) -> Vec<u16> {
    let heads = wire.split("HTTP/1.").skip(1);
    heads
        .filter_map(|head| head.get(2..5)?.parse().ok())
        .collect()
}
