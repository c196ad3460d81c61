//! Reload, drain, bad configuration, and what operators see.

use std::process::Command;
use std::time::Duration;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use nix::sys::signal::Signal;

use crate::support::{Client, End, Setup, chat, get, json_post, post, until};

fn streaming() -> NodeSpec {
    NodeSpec::new()
        .num_parallel(8)
        .model(ModelSpec::new("tiny").speed(f64::INFINITY, 50.0))
}

fn yaml(nodes: &[(&str, &SimNode)]) -> String {
    let list: String = nodes
        .iter()
        .map(|(name, node)| format!("  - {{name: {name}, url: \"{}\", slots: 8}}\n", node.url()))
        .collect();
    format!("nodes:\n{list}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_fleet_file_is_in_force_within_a_second_and_drops_no_stream() {
    let (a, b) = (
        SimNode::start(streaming()).await.unwrap(),
        SimNode::start(streaming()).await.unwrap(),
    );
    let aivonx = Setup::fleet(yaml(&[("a", &a)])).start().await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(json_post(aivonx.addr, "/api/chat", &chat("tiny", 60, true)))
        .await;
    let mut stream = client.head().await.unwrap();
    assert_eq!(stream.node(), "a");

    aivonx.write_fleet(&yaml(&[("b", &b)]));

    until("requests go to b", || async {
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
            .await
            .node()
            == "b"
    })
    .await;
    while client.chunk(&mut stream).await {}
    assert_eq!(
        (stream.end, stream.lines().last().unwrap()["done"].clone()),
        (End::Complete, true.into()),
        "a's stream ran on to its end"
    );
    assert_eq!(aivonx.metric("aivonx_fleet_revision"), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_fleet_file_keeps_the_old_one_and_says_why() {
    let a = SimNode::start(streaming()).await.unwrap();
    let aivonx = Setup::fleet(yaml(&[("a", &a)])).start().await;
    aivonx.write_fleet("nodes:\n  - {name: a, url: nonsense}\n  - {name: a}\n");
    aivonx.metric_is("aivonx_fleet_invalid", 1.0).await;
    assert!(
        aivonx
            .log()
            .contains("line 2: nodes[0].url: must begin with http"),
        "{}",
        aivonx.log()
    );
    assert_eq!(
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
            .await
            .status,
        200
    );
    aivonx.write_fleet(&yaml(&[("again", &a)]));
    aivonx.metric_is("aivonx_fleet_invalid", 0.0).await;
    until("the good one is in force", || async {
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
            .await
            .node()
            == "again"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_and_disabled_nodes_take_nothing_new_and_health_does_not_change_that() {
    let (a, b, c) = (
        SimNode::start(streaming()).await.unwrap(),
        SimNode::start(streaming()).await.unwrap(),
        SimNode::start(streaming()).await.unwrap(),
    );
    let text = format!(
        "nodes:\n  - {{name: a, url: \"{}\", draining: true}}\n  - {{name: b, url: \"{}\", enabled: false}}\n  - {{name: c, url: \"{}\"}}\n",
        a.url(),
        b.url(),
        c.url()
    );
    let aivonx = Setup::fleet(text).start().await;
    for _ in 0..10 {
        assert_eq!(
            post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
                .await
                .node(),
            "c"
        );
    }
    assert_eq!(
        aivonx.metric(r#"aivonx_node_up{node="a"}"#),
        1.0,
        "draining is no ill health"
    );
    assert_eq!(b.requests().len(), 0, "a disabled node is not even probed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_open_requests_finish_and_leaves_at_once_after() {
    let a = SimNode::start(streaming()).await.unwrap();
    let mut aivonx = Setup::fleet(yaml(&[("a", &a)])).start().await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(json_post(aivonx.addr, "/api/chat", &chat("tiny", 40, true)))
        .await;
    let mut stream = client.head().await.unwrap();

    aivonx.signal(Signal::SIGTERM);

    until("no new connection is taken", || async {
        tokio::net::TcpStream::connect(aivonx.addr).await.is_err()
    })
    .await;
    while client.chunk(&mut stream).await {}
    assert_eq!(
        (stream.end, stream.lines().last().unwrap()["done"].clone()),
        (End::Complete, true.into())
    );
    let id = stream.header("x-request-id").unwrap().to_owned();
    assert_eq!(aivonx.ends().await, Some(0));
    assert_eq!(
        aivonx.access_line(&id).await["outcome"],
        "ok",
        "its access line was written before the end"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_waits_no_longer_than_its_limit() {
    let a = SimNode::start(NodeSpec::new().model(ModelSpec::new("tiny").speed(f64::INFINITY, 1.0)))
        .await
        .unwrap();
    let mut aivonx = Setup::fleet(yaml(&[("a", &a)]))
        .set("TIMEOUTS__DRAIN", "1s")
        .start()
        .await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(json_post(
            aivonx.addr,
            "/api/chat",
            &chat("tiny", 10_000, true),
        ))
        .await;
    assert!(client.head().await.is_some());
    aivonx.signal(Signal::SIGTERM);
    assert_eq!(aivonx.ends().await, Some(0));
    let log = aivonx.log();
    let line = log
        .lines()
        .find(|line| line.contains("the drain takes too long"))
        .unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("\"requests.open\":1"), "{line}");
    until("the node's work is cancelled", || async {
        a.in_flight() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_after_the_first_round_of_probes() {
    let a = SimNode::start(streaming()).await.unwrap();
    let text = format!(
        "{}  - {{name: away, url: \"http://127.0.0.1:1\"}}\n",
        yaml(&[("a", &a)])
    );
    let aivonx = Setup::fleet(text).not_ready().start().await;
    assert_eq!(aivonx.ops("/healthz").0, 200);
    until("it is ready though a node is away", || async {
        aivonx.ops("/readyz").0 == 200
    })
    .await;
    assert!(aivonx.ops("/readyz").1.contains("1 of 2 nodes are up"));
    assert_eq!(aivonx.ops("/nosuch").0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_is_the_lowest_in_service_or_the_one_configured() {
    let (old, new) = (
        SimNode::start(streaming().version("0.5.12")).await.unwrap(),
        SimNode::start(streaming().version("0.33.0")).await.unwrap(),
    );
    let aivonx = Setup::nodes(&[&old, &new]).start().await;
    assert_eq!(
        get(aivonx.addr, "/api/version").await.json()["version"],
        "0.5.12"
    );
    old.stop().await;
    until("the old one is out", || async {
        get(aivonx.addr, "/api/version").await.json()["version"] == "0.33.0"
    })
    .await;
    let fixed = Setup::nodes(&[&new]).set("VERSION", "0.1.2").start().await;
    assert_eq!(
        get(fixed.addr, "/api/version").await.json()["version"],
        "0.1.2"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_nodes_come_and_go_under_load() {
    let nodes = [
        SimNode::start(streaming()).await.unwrap(),
        SimNode::start(streaming()).await.unwrap(),
        SimNode::start(streaming()).await.unwrap(),
    ];
    let aivonx = Setup::nodes_with(&[&nodes[0], &nodes[1], &nodes[2]], ", slots: 8", "")
        .start()
        .await;
    let addr = aivonx.addr;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                for _ in 0..60 {
                    client
                        .send(json_post(addr, "/api/chat", &chat("tiny", 1, false)))
                        .await;
                    let answer = client.response().await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            })
        })
        .collect();
    for round in 0..4 {
        let node = &nodes[round % 2];
        node.fault(aivonx_sim::Fault::Refuse);
        aivonx
            .metric_is(&format!("aivonx_node_up{{node=\"n{}\"}}", round % 2), 0.0)
            .await;
        node.clear_faults();
        aivonx
            .metric_is(&format!("aivonx_node_up{{node=\"n{}\"}}", round % 2), 1.0)
            .await;
    }
    for client in clients {
        client.await.unwrap();
    }
}

fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_aivonx"))
        .args(args)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_bad_configuration_exits_78_with_every_problem_key_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let config = file(
        "aivonx.yaml",
        "proxy:\n  threads: many\n  timeouts: {connect: 0s}\n  colour: red\n",
    );
    let fleet = file(
        "fleet.yaml",
        "nodes:\n  - {name: \"a b\", url: \"http://h:1\"}\n  - {name: b, url: \"h:1\"}\n",
    );
    for role in ["check-config", "proxy"] {
        let (code, output) = run(&[role, "--config", &config, "--fleet", &fleet]);
        assert_eq!(code, Some(78), "{output}");
        for problem in [
            "line 2: proxy.threads",
            "line 3: proxy.timeouts.connect",
            "line 4: proxy.colour: unknown key",
        ] {
            assert!(output.contains(problem), "{problem} in {output}");
        }
    }
    let (code, output) = run(&["check-config", "--fleet", &fleet]);
    assert_eq!(code, Some(78));
    assert!(
        output.contains("line 2: nodes[0].name") && output.contains("line 3: nodes[1].url"),
        "{output}"
    );
    let good = file("good.yaml", "nodes: [{name: a, url: \"http://h:1\"}]\n");
    assert_eq!(
        run(&["check-config", "--fleet", &good]),
        (Some(0), "ok: 1 node\n".into())
    );
    let (code, output) = run(&["proxy", "--fleet", &good, "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(78));
    assert!(output.contains("anonymous: always"), "{output}");
    assert_eq!(
        run(&["check-config", "--fleet", "/nowhere/fleet.yaml"]).0,
        Some(78)
    );
    let control = file(
        "control.yaml",
        "control_plane:\n  listen: here\n  colour: red\n",
    );
    for role in ["serve", "control-plane", "migrate", "check-config"] {
        let (code, output) = run(&[role, "--config", &control]);
        assert_eq!(code, Some(78), "{role}: {output}");
        for problem in [
            "line 2: control_plane.listen",
            "line 3: control_plane.colour",
        ] {
            assert!(output.contains(problem), "{role}: {problem} in {output}");
        }
    }
    let servers = file(
        "servers.yaml",
        "control_plane:\n  database: postgres://u:hush@h/d?sslmode=maybe\n  redis: http://u:hush@h\n",
    );
    let (code, output) = run(&["check-config", "--config", &servers]);
    assert_eq!(code, Some(78), "{output}");
    for problem in ["the database's address has", "control_plane.redis"] {
        assert!(output.contains(problem), "{problem} in {output}");
    }
    assert!(!output.contains("hush"), "{output}");
    let alone = file(
        "alone.yaml",
        "control_plane: {listen: \"127.0.0.1:9001\"}\n",
    );
    let (code, output) = run(&["check-config", "--config", &alone]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("`aivonx proxy` does"), "{output}");
    let (code, output) = run(&["control-plane"]);
    assert!(
        code == Some(78) && output.contains("which database?"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_an_error_at_once() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let fleet = folder.path().join("fleet.yaml");
    std::fs::write(&fleet, "nodes: []").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let began = std::time::Instant::now();
    let (code, output) = run(&[
        "proxy",
        "--fleet",
        fleet.to_str().unwrap(),
        "--listen",
        &address,
    ]);
    assert_eq!(code, Some(1), "{output}");
    assert!(
        output.contains(&format!("cannot listen on {address}")),
        "{output}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "not after Pingora's half minute"
    );
}
