//! Blobs, and the create that uses them: both stay on one node.

use aivonx_sim::SimNode;
use sha2::{Digest, Sha256};

use super::{SIZE, ask, node, send, start};
use crate::support::{Client, End, Setup};

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// The nodes that have seen a path.
fn who(nodes: &[&SimNode], path: &str) -> Vec<usize> {
    let seen = nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.count(path) > 0);
    seen.map(|(index, _)| index).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_blobs_of_one_caller_and_its_create_meet_on_one_node() {
    let (a, b, c) = (
        start(node()).await,
        start(node()).await,
        start(node()).await,
    );
    let nodes = [&a, &b, &c];
    let aivonx = Setup::nodes(&nodes).start().await;
    let mut files = Vec::new();
    for number in 0..4 {
        let blob = format!("weights {number}");
        let digest = digest(blob.as_bytes());
        let path = format!("/api/blobs/{digest}");
        assert_eq!(send(aivonx.addr, "HEAD", &path, "", "").await.status, 404);
        let post = send(aivonx.addr, "POST", &path, "", &blob).await;
        assert_eq!((post.status, post.text().as_str()), (201, ""));
        let head = send(aivonx.addr, "HEAD", &path, "", "").await;
        assert_eq!((head.status, head.node()), (200, post.node()));
        assert_eq!(who(&nodes, &path).len(), 1);
        files.push(format!("\"{number}.gguf\":\"{digest}\""));
    }
    let body = format!(
        r#"{{"model":"mine","files":{{{}}},"stream":false}}"#,
        files.join(",")
    );
    let made = ask(&aivonx, "/api/create", &body).await;
    assert_eq!(
        (made.status, made.text().as_str()),
        (200, r#"{"status":"success"}"#)
    );
    assert_eq!(who(&nodes, "/api/create").len(), 1);
    let chat = crate::support::chat("mine", 1, false);
    let chat = send(aivonx.addr, "POST", "/api/chat", "", &chat).await;
    assert_eq!(
        (chat.status, chat.node()),
        (200, made.node()),
        "known at once"
    );

    // the same caller, on a node of its choice
    let other = ["n0", "n1", "n2"]
        .into_iter()
        .find(|name| *name != made.node())
        .unwrap();
    let pin = format!("x-aivonx-node: {other}\r\n");
    let pinned = send(
        aivonx.addr,
        "POST",
        &format!("/api/blobs/{}", digest(b"x")),
        &pin,
        "x",
    )
    .await;
    assert_eq!((pinned.status, pinned.node()), (201, other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_that_lies_or_is_none_is_the_nodes_to_refuse() {
    let (a, b) = (start(node()).await, start(node()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let lie = format!("/api/blobs/{}", digest(b"what it is not"));
    let refused = send(aivonx.addr, "POST", &lie, "", "what it is").await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .starts_with("digest mismatch, expected")
    );
    assert_eq!(send(aivonx.addr, "HEAD", &lie, "", "").await.status, 404);
    let none = send(aivonx.addr, "POST", "/api/blobs/sha256:zz", "", "x").await;
    assert_eq!(
        (none.status, none.json()["error"].as_str()),
        (400, Some("invalid digest format"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_in_the_nodes_words() {
    let full = start(node().disk(SIZE)).await;
    let aivonx = Setup::nodes(&[&full]).start().await;
    let answer = send(
        aivonx.addr,
        "POST",
        &format!("/api/blobs/{}", digest(b"x")),
        "",
        "x",
    )
    .await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("no space left on device"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_streams_through_with_a_length_or_in_chunks() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 192;
    let (a, b) = (start(node()).await, start(node()).await);
    // far less memory than the blob is long
    let aivonx = Setup::nodes(&[&a, &b])
        .set("BODY__BUFFER", "64 KiB")
        .set("BODY__BUFFER_TOTAL", "64 KiB")
        // a node that makes digests of 200 MB on a busy machine is late and not down
        .set("PROBE__TIMEOUT", "20s")
        .start()
        .await;
    let piece = vec![7u8; PIECE];
    for chunked in [false, true] {
        let mut hash = Sha256::new();
        for _ in 0..PIECES {
            hash.update(&piece);
        }
        hash.update([u8::from(chunked)]);
        let hex: String = hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let framing = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!(
                "Content-Length: {}\r\nExpect: 100-continue",
                PIECE * PIECES + 1
            )
        };
        let before = aivonx.rss();
        let mut client = Client::connect(aivonx.addr).await;
        client
            .send(format!(
                "POST /api/blobs/sha256:{hex} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n"
            ))
            .await;
        for _ in 0..PIECES {
            if chunked {
                client.send(format!("{PIECE:x}\r\n")).await;
            }
            client.send(&piece).await;
            if chunked {
                client.send("\r\n").await;
            }
        }
        let grown = aivonx.rss().saturating_sub(before);
        client
            .send(if chunked {
                &b"1\r\n\x01\r\n0\r\n\r\n"[..]
            } else {
                &b"\0"[..]
            })
            .await;
        let answer = client.response().await;
        assert_eq!(
            (answer.status, answer.end),
            (201, End::Complete),
            "{}",
            answer.text()
        );
        assert!(
            grown < 48 << 20,
            "{grown} bytes more with {} sent",
            PIECE * PIECES
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_a_blob_leaves_nothing_behind() {
    let a = start(node()).await;
    let aivonx = Setup::nodes(&[&a]).start().await;
    let mut client = Client::connect(aivonx.addr).await;
    let path = format!("/api/blobs/{}", digest(b"never whole"));
    client
        .send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n{}",
            "x".repeat(200_000)
        ))
        .await;
    aivonx.metric_is(r#"aivonx_inflight{node="n0"}"#, 1.0).await;
    client.reset();
    aivonx.metric_is(r#"aivonx_inflight{node="n0"}"#, 0.0).await;
    assert_eq!(send(aivonx.addr, "HEAD", &path, "", "").await.status, 404);
}
