//! A small HTTP port by which a running binary's nodes are broken and asked about.
//!
//! `POST /nodes/0/faults` with `{"fault": "status", "code": 500, "scope": {"times": 3}}`,
//! `DELETE /nodes/0/faults`, `POST /nodes/0/kill?model=x`, `POST /nodes/0/stop`,
//! `POST /nodes/0/restart`, `POST /nodes/0/account` with `"signed_in"`, `"signed_out"` or
//! `"unreachable"`, `GET /nodes/0` and `GET /nodes`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cloud::Account;
use crate::fault::{Fault, FaultScope};
use crate::http::body::BodyReader;
use crate::http::conn::Conn;
use crate::http::head::{Head, read_head};
use crate::sim_node::SimNode;

#[derive(Debug, Deserialize)]
struct Order {
    #[serde(flatten)]
    fault: Fault,
    #[serde(default)]
    scope: FaultScope,
}

/// Serves the control port until the task is dropped. Gives the address it listens on first.
pub async fn serve(
    addr: SocketAddr,
    nodes: Arc<Vec<SimNode>>,
) -> io::Result<(SocketAddr, impl Future<Output = ()> + Send)> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let run = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let nodes = Arc::clone(&nodes);
            tokio::spawn(async move {
                let conn = Conn::new(stream, 0);
                while let Ok(head) = read_head(&conn).await {
                    let mut body = Vec::new();
                    let mut reader = BodyReader::new(&conn, &head);
                    while let Ok(Some(piece)) = reader.next().await {
                        body.extend_from_slice(&piece);
                    }
                    let (status, answer) = obey(&nodes, &head, &body).await;
                    let text = format!("{answer}\n");
                    let answer = format!(
                        "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
                        text.len()
                    );
                    if conn.send(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    };
    Ok((addr, run))
}

async fn obey(nodes: &[SimNode], head: &Head, body: &[u8]) -> (u16, Value) {
    let mut parts = head.path.trim_matches('/').split('/');
    if parts.next() != Some("nodes") {
        return (404, json!({"error": "try /nodes"}));
    }
    let Some(index) = parts.next() else {
        return (200, nodes.iter().map(describe).collect());
    };
    let Some(node) = index.parse::<usize>().ok().and_then(|i| nodes.get(i)) else {
        return (404, json!({"error": "no such node"}));
    };
    match (head.method.as_str(), parts.next().unwrap_or_default()) {
        ("GET", "") => {}
        ("POST", "faults") => match serde_json::from_slice::<Order>(body) {
            Ok(order) => node.fault_for(order.fault, order.scope),
            Err(e) => return (400, json!({"error": e.to_string()})),
        },
        ("DELETE", "faults") => node.clear_faults(),
        ("POST", "account") => match serde_json::from_slice::<Account>(body) {
            Ok(account) => node.set_account(account),
            Err(e) => return (400, json!({"error": e.to_string()})),
        },
        ("POST", "kill") => {
            let model = head.target.split_once("model=").map_or("", |(_, m)| m);
            node.kill_runner(model);
        }
        ("POST", "stop") => node.stop().await,
        ("POST", "restart") => {
            if let Err(e) = node.restart().await {
                return (500, json!({"error": e.to_string()}));
            }
        }
        _ => {
            return (
                404,
                json!({"error": "faults, account, kill, stop, restart"}),
            );
        }
    }
    (200, describe(node))
}

fn describe(node: &SimNode) -> Value {
    json!({
        "url": node.url(),
        "in_flight": node.in_flight(),
        "connections": node.connections(),
        "resident": node.resident(),
        "installed": node.installed(),
    })
}
