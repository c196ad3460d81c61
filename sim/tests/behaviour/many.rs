//! Many streams on few nodes.

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};

use crate::support::client::{Client, request};
use crate::support::until;

/// Opens streams on several nodes of this process, sees all of them talk, and lets go of them.
async fn open_streams(streams: usize, nodes: usize) {
    let slow = ModelSpec::new("a").speed(f64::INFINITY, 1.0);
    let spec = NodeSpec {
        remember: 0,
        ..NodeSpec::new().model(slow).num_parallel(streams)
    };
    let mut sims = Vec::new();
    for _ in 0..nodes {
        sims.push(SimNode::start(spec.clone()).await.unwrap());
    }
    let ask = request(
        "POST",
        "/api/chat",
        r#"{"model":"a","messages":[{"role":"user","content":"x"}],"options":{"num_predict":100000}}"#,
    );
    let before = resident_bytes();
    let mut clients = Vec::new();
    for i in 0..streams {
        let mut client = Client::connect(sims[i % nodes].addr()).await.unwrap();
        client.send(&ask).await;
        clients.push(client);
    }
    for client in &mut clients {
        client.read().await.unwrap();
        client.bytes = Vec::new();
    }
    let all: usize = sims.iter().map(SimNode::in_flight).sum();
    assert_eq!(all, streams);
    println!(
        "{} bytes a stream, client included",
        (resident_bytes() - before) / streams
    );
    drop(clients);
    until("all are gone", || sims.iter().all(|s| s.in_flight() == 0)).await;
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ')
        .nth(1)
        .and_then(|n| n.parse::<usize>().ok())
        .unwrap_or_default()
        * 4096
}

#[tokio::test]
async fn hundreds_of_streams_run_side_by_side() {
    open_streams(300, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs 20,000 file descriptors and a release build: run by name"]
async fn ten_thousand_streams_run_side_by_side() {
    open_streams(10_000, 10).await;
}
