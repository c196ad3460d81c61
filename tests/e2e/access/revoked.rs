//! A key that is taken out of the document while its streams run.

use aivonx_sim::{Fault, ModelSpec, NodeSpec, SimNode};

use super::{ask, bearer, key};
use crate::support::{Aivonx, Client, End, Response, Setup, until};

/// The fleet file, with or without the key.
fn text(node: &SimNode, on_revoke: &str, keys: &str) -> String {
    format!(
        "on_revoke: {on_revoke}\nanonymous: never\nkeys:\n{keys}{}nodes: [{{name: a, url: \"{}\"}}]",
        key("stays", ""),
        node.url()
    )
}

/// A stream of the key that has begun.
async fn begun(aivonx: &Aivonx) -> (Client, Response) {
    let mut client = Client::connect(aivonx.addr).await;
    let body = crate::support::chat("tiny", 50, true);
    client
        .send(format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\n{}X-Request-Id: cut-1\r\nContent-Length: {}\r\n\r\n{body}",
            bearer("goes"),
            body.len()
        ))
        .await;
    let mut answer = client.head().await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(client.chunk(&mut answer).await);
    (client, answer)
}

async fn revoke(on_revoke: &str, fault: Option<Fault>) -> (SimNode, Aivonx, Client, Response) {
    let slow = ModelSpec::new("tiny").speed(f64::INFINITY, 20.0);
    let node = SimNode::start(NodeSpec::new().model(slow)).await.unwrap();
    let aivonx = Setup::fleet(text(&node, on_revoke, &key("goes", "")))
        .start()
        .await;
    if let Some(fault) = fault {
        node.fault(fault);
    }
    let (client, answer) = begun(&aivonx).await;
    aivonx.write_fleet(&text(&node, on_revoke, ""));
    until("the key is out", || async {
        ask(aivonx.addr, &bearer("goes"), "GET", "/api/tags", "")
            .await
            .status
            == 401
    })
    .await;
    (node, aivonx, client, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_an_error_where_the_document_says_so() {
    let stalls = Some(Fault::StallMidStream { chunks: 2 });
    let (_node, aivonx, mut client, mut answer) = revoke("end", stalls).await;
    // the node says nothing more: the stream ends all the same
    while client.chunk(&mut answer).await {}
    let last = answer.lines().pop().unwrap();
    assert_eq!(
        last["error"],
        "the API key was revoked",
        "{}",
        answer.text()
    );
    assert_eq!(aivonx.access_line("cut-1").await["outcome"], "key_revoked");
    assert_eq!(
        ask(aivonx.addr, &bearer("stays"), "GET", "/api/tags", "")
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_runs_to_its_end_where_the_document_says_so() {
    let (_node, aivonx, mut client, mut answer) = revoke("finish", None).await;
    while client.chunk(&mut answer).await {}
    assert_eq!(answer.end, End::Complete);
    assert_eq!(answer.lines().pop().unwrap()["done"], true);
    assert_eq!(aivonx.access_line("cut-1").await["outcome"], "ok");
}
