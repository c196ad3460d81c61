//! Streams: no line is cut, none is held back.

use std::net::SocketAddr;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};

use super::raw::{self, Answer};
use super::scrub::scrub;
use crate::support::Setup;

/// A stream in a dialect: the path and the rest of its body.
const STREAMS: [(&str, &str); 5] = [
    (
        "/api/chat",
        r#""messages":[{"role":"user","content":"Hi"}],"options":{"num_predict":5}"#,
    ),
    (
        "/api/generate",
        r#""prompt":"Hi","options":{"num_predict":5}"#,
    ),
    (
        "/v1/chat/completions",
        r#""messages":[{"role":"user","content":"Hi"}],"max_tokens":5"#,
    ),
    ("/v1/responses", r#""input":"Hi","max_output_tokens":5"#),
    (
        "/v1/messages",
        r#""messages":[{"role":"user","content":"Hi"}],"max_tokens":5"#,
    ),
];

/// Reads an answer; with each HTTP chunk, whether the node was still at work when it came.
async fn chunks(node: &SimNode, addr: SocketAddr, path: &str, rest: &str) -> (Vec<String>, usize) {
    let body = format!(r#"{{"model":"slow","stream":true,{rest}}}"#);
    let mut client = raw::Client::connect(addr).await.unwrap();
    client.send(&raw::request("POST", path, &body)).await;
    let mut early = 0;
    loop {
        let _ = client.read().await.unwrap();
        let answer = Answer::parse(&client.bytes, false, false).unwrap();
        if answer.is_complete {
            let texts = answer.texts().iter().map(|chunk| scrub(chunk)).collect();
            return (texts, early);
        }
        if node.in_flight() > 0 {
            early = answer.chunks.len();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_relayed_chunk_by_chunk_as_it_comes() {
    let spec = || {
        let model = ModelSpec::new("slow")
            .speed(f64::INFINITY, 8.0)
            .answer_tokens(5);
        NodeSpec::new().model(model).num_parallel(STREAMS.len())
    };
    let (alone, behind) = (
        SimNode::start(spec()).await.unwrap(),
        SimNode::start(spec()).await.unwrap(),
    );
    let aivonx = Setup::nodes(&[&behind]).start().await;
    for (path, rest) in STREAMS {
        let (want, got) = tokio::join!(
            chunks(&alone, alone.addr(), path, rest),
            chunks(&behind, aivonx.addr, path, rest)
        );
        // what came at once may ride together; nothing is cut, nothing waits
        assert_eq!(want.0.concat(), got.0.concat(), "{path}");
        assert!(
            got.0.iter().all(|chunk| chunk.ends_with('\n')),
            "{path}: {:?}",
            got.0
        );
        assert!(
            got.1 >= 3,
            "{path}: {} of {} chunks came while the node was at work",
            got.1,
            got.0.len()
        );
    }
}
