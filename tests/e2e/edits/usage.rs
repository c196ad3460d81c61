//! Counts of streams: asked for where the client did not, counted, and never seen by it.

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{last, start};
use crate::bodies::digest;
use crate::support::{Aivonx, Response, Setup, post, until};

const CHAT: (&str, &str) = (
    "/v1/chat/completions",
    r#""messages":[{"role":"user","content":"Hi"}],"max_tokens":5"#,
);
const COMPLETION: (&str, &str) = ("/v1/completions", r#""prompt":"Hi","max_tokens":5"#);
const ASKS: &str = r#","stream_options":{"include_usage":true}"#;

async fn node() -> SimNode {
    let spec = NodeSpec::new()
        .model(ModelSpec::new("tiny").answer_tokens(5))
        .seed(3);
    SimNode::start(spec).await.unwrap()
}

fn body(rest: &str, options: &str) -> String {
    format!(r#"{{"model":"tiny","stream":true,{rest}{options}}}"#)
}

/// A stream with what differs between two of them set aside: the id's number and the time.
fn scrubbed(answer: &Response) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let events: Vec<_> = answer
        .text()
        .split("\n\n")
        .map(|event| {
            let Some(json) = event.strip_prefix("data: {") else {
                return event.to_owned();
            };
            let mut value: serde_json::Value = serde_json::from_str(&format!("{{{json}")).unwrap();
            let created = value["created"].clone();
            let id = value["id"].clone();
            value["created"] = 0.into();
            assert!(id.is_string());
            // in the node's own order and spelling
            event
                .replace(&id.to_string(), "\"id\"")
                .replace(&created.to_string(), "0")
        })
        .collect();
    events.join("\n\n")
}

fn tokens(aivonx: &Aivonx, kind: &str) -> f64 {
    aivonx.metric_sum("aivonx_tokens_total", &format!("kind=\"{kind}\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_counts_is_counted_and_looks_as_the_node_s_own() {
    let (alone, behind) = (node().await, node().await);
    let aivonx = start(&[&behind], "").await;
    for (path, rest) in [CHAT, COMPLETION] {
        for options in [
            "",
            r#","stream_options":null"#,
            r#","stream_options":{}"#,
            r#","stream_options":{"include_usage":false}"#,
            r#","stream_options":{"include_usage":true},"stream_options":{"include_usage":false}"#,
        ] {
            let before = tokens(&aivonx, "output");
            let want = post(alone.addr(), path, &body(rest, options)).await;
            let got = post(aivonx.addr, path, &body(rest, options)).await;
            assert_eq!(scrubbed(&got), scrubbed(&want), "{path} {options}");
            assert!(!got.text().contains("usage"), "{path} {options}");
            let asked = body(rest, &format!("{options}{ASKS}"));
            assert_eq!(last(&behind, path).body_sha256, digest(asked.as_bytes()));
            let line = aivonx
                .access_line(got.header("x-request-id").unwrap())
                .await;
            assert_eq!(line["tokens_output"], 5, "{line}");
            assert_eq!(line["bytes_out"], got.body.len(), "{line}");
            assert_eq!(tokens(&aivonx, "output"), before + 5.0);
        }
    }
    assert!(tokens(&aivonx, "prompt") > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_asks_for_counts_gets_them() {
    let (alone, behind) = (node().await, node().await);
    let aivonx = start(&[&behind], "").await;
    for (path, rest) in [CHAT, COMPLETION] {
        let asked = body(rest, ASKS);
        let want = post(alone.addr(), path, &asked).await;
        let got = post(aivonx.addr, path, &asked).await;
        assert_eq!(scrubbed(&got), scrubbed(&want));
        assert!(got.text().contains("\"usage\":"));
        assert_eq!(last(&behind, path).body_sha256, digest(asked.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_for_where_the_document_says_so_or_nothing_streams() {
    let behind = node().await;
    let aivonx = start(&[&behind], "").await;
    let off = start(&[&behind], "usage: {inject: false}").await;
    for (path, rest) in [CHAT, COMPLETION] {
        let whole = body(rest, "").replace("true", "false");
        let broken = body(rest, ",");
        for (aivonx, body) in [(&aivonx, whole), (&aivonx, broken), (&off, body(rest, ""))] {
            let answer = post(aivonx.addr, path, &body).await;
            assert_eq!(
                last(&behind, path).body_sha256,
                digest(body.as_bytes()),
                "{path} {body}: {}",
                answer.text()
            );
        }
    }
    let missing = post(
        aivonx.addr,
        CHAT.0,
        &body(CHAT.1, "").replace("tiny", "nosuch"),
    )
    .await;
    assert_eq!(missing.status, 404, "{}", missing.text());
}

/// A node behind a line that carries a few bytes at a time.
async fn dribbling(node: &SimNode) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, target) = (listener.local_addr().unwrap(), node.addr());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(target).await.unwrap();
            client.set_nodelay(true).unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 4096];
                while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                    for piece in buffer[..read].chunks(7) {
                        if to_client.write_all(piece).await.is_err() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_the_stream_is_cut_on_its_way_the_client_sees_the_same() {
    let (alone, behind) = (node().await, node().await);
    let line = dribbling(&behind).await;
    let aivonx = Setup::fleet(format!("nodes: [{{name: far, url: \"http://{line}\"}}]"))
        .start()
        .await;
    for (path, rest) in [CHAT, COMPLETION] {
        let want = post(alone.addr(), path, &body(rest, "")).await;
        let got = post(aivonx.addr, path, &body(rest, "")).await;
        assert_eq!(scrubbed(&got), scrubbed(&want), "{path}");
        assert!(
            got.chunks.iter().all(|size| *size > 7),
            "lines come whole: {:?}",
            got.chunks
        );
    }
    until("both are counted", || async {
        tokens(&aivonx, "output") == 10.0
    })
    .await;
}
