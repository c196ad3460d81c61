//! Many streams on few nodes.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use serde_json::Value;

use crate::support::client::{Client, get, request};
use crate::support::until;

fn ask(tokens: usize) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"a","messages":[{{"role":"user","content":"x"}}],"options":{{"num_predict":{tokens}}}}}"#
    );
    request("POST", "/api/chat", &body)
}

#[tokio::test]
async fn hundreds_of_streams_run_side_by_side() {
    let slow = ModelSpec::new("a").speed(f64::INFINITY, 1.0);
    let spec = NodeSpec {
        remember: 0,
        ..NodeSpec::new().model(slow).num_parallel(100)
    };
    let mut sims = Vec::new();
    for _ in 0..3 {
        sims.push(SimNode::start(spec.clone()).await.unwrap());
    }
    let mut clients = Vec::new();
    for i in 0..300 {
        let mut client = Client::connect(sims[i % 3].addr()).await.unwrap();
        client.send(&ask(100_000)).await;
        clients.push(client);
    }
    for client in &mut clients {
        client.read().await.unwrap();
    }
    let running: usize = sims.iter().map(SimNode::in_flight).sum();
    assert_eq!(running, 300);
    drop(clients);
    until("all are gone", || sims.iter().all(|s| s.in_flight() == 0)).await;
}

/// The program with its nodes, ended when dropped.
struct Program {
    child: Child,
    nodes: Vec<SocketAddr>,
    control: SocketAddr,
}

impl Program {
    fn start(nodes: usize, model: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ollama-sim"))
            .args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            .args(["--nodes", &nodes.to_string(), "--model", model])
            .args(["--num-parallel", "10000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said: Vec<Value> = lines
            .take(nodes + 1)
            .map(|l| serde_json::from_str(&l.unwrap()).unwrap())
            .collect();
        let addr = |v: &Value, key: &str| v[key].as_str().unwrap().parse().unwrap();
        Self {
            child,
            nodes: said[..nodes].iter().map(|v| addr(v, "addr")).collect(),
            control: addr(&said[nodes], "control"),
        }
    }

    async fn in_flight(&self) -> u64 {
        let nodes = get(self.control, "/nodes").await.json();
        let nodes = nodes.as_array().unwrap().iter();
        nodes.map(|n| n["in_flight"].as_u64().unwrap()).sum()
    }

    /// Resident bytes of the process, where the system tells.
    fn memory(&self) -> usize {
        let path = format!("/proc/{}/statm", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let pages = text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok());
        pages.unwrap_or_default() * 4096
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "needs 10,000 file descriptors and a release build: run by name"]
async fn ten_thousand_streams_run_side_by_side() {
    let program = Program::start(10, "a:1:0:1");
    let before = program.memory();
    let mut clients = Vec::new();
    for i in 0..10_000 {
        let mut client = Client::connect(program.nodes[i % 10]).await.unwrap();
        client.send(&ask(100_000)).await;
        clients.push(client);
    }
    for client in &mut clients {
        client.read().await.unwrap();
        client.bytes = Vec::new();
    }
    assert_eq!(program.in_flight().await, 10_000);
    println!("{} bytes a stream", (program.memory() - before) / 10_000);
    drop(clients);
    let deadline = Instant::now() + Duration::from_secs(10);
    while program.in_flight().await > 0 {
        assert!(Instant::now() < deadline, "streams are left over");
    }
}

#[tokio::test]
#[ignore = "a measurement: run by name on a release build"]
async fn tokens_a_second() {
    let program = Program::start(1, "a:1:0:0");
    let begun = Instant::now();
    let streams = (0..64).map(|_| {
        let addr = program.nodes[0];
        tokio::spawn(async move {
            let mut client = Client::connect(addr).await.unwrap();
            client.send(&ask(5_000)).await;
            while !client.bytes.ends_with(b"0\r\n\r\n") {
                client.read().await.unwrap();
            }
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        stream.await.unwrap();
    }
    println!(
        "{:.0} chunks a second",
        64.0 * 5_000.0 / begun.elapsed().as_secs_f64()
    );
}
