//! A node that sends its callers elsewhere: whoever may register nodes must not reach by one of them what
//! only this machine reaches.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::on_both;
use crate::support::{Kind, Stack, chat, post, until};

on_both!(nobody_follows_a_node_elsewhere);

/// Somebody who counts its callers, and tells each of them to go to `elsewhere`, if it is given.
async fn host(elsewhere: Option<SocketAddr>) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, calls) = (listener.local_addr().unwrap(), Arc::<AtomicU32>::default());
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let answer = elsewhere.map(|to| {
                format!(
                    "HTTP/1.1 302 Found\r\nLocation: http://{to}/latest/meta-data/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            });
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                if let Some(answer) = answer {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (address, calls)
}

async fn nobody_follows_a_node_elsewhere(kind: Kind) {
    let stack = Stack::start(kind).await;
    let (secret, reached) = host(None).await;
    let (node, asked) = host(Some(secret)).await;
    let draft = json!({"name": "liar", "url": format!("http://{node}")});
    let made = stack.api("POST", "/api/proxy/nodes", draft).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_i64().unwrap();
    until("it was probed several times", || async {
        asked.load(Ordering::Relaxed) > 5
    })
    .await;

    let probe = format!("/api/proxy/nodes/{id}/probe");
    let probed = stack.api("POST", &probe, json!({})).await;
    assert_eq!(probed.status, 200, "{}", probed.text());
    let draft = json!({"model": "tiny", "node_id": id, "stream": true});
    let pulled = stack.api("POST", "/api/proxy/pull", draft).await;
    assert_eq!(pulled.status, 200, "{}", pulled.text());
    let job = format!("/api/proxy/jobs/{}", pulled.json()["job_id"]);
    let before = asked.load(Ordering::Relaxed);
    until("the pull asked it", || async {
        asked.load(Ordering::Relaxed) > before + 2
    })
    .await;
    stack.api("POST", &format!("{job}/cancel"), json!({})).await;
    let answer = post(stack.aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_ne!(answer.status, 200, "{}", answer.text());
    assert_eq!(reached.load(Ordering::Relaxed), 0, "somebody went there");
}
