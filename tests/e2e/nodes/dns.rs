//! Names that change: aivonx follows, without flapping and without losing a stream.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use aivonx_sim::{Fault, SimNode};

use super::tiny;
use crate::support::{
    Aivonx, Client, End, Setup, chat, get, json_post, last_chat, post, replace, until, warm,
};

/// The file that stands in for DNS.
struct Names {
    folder: tempfile::TempDir,
}

impl Names {
    fn new(addresses: &[&str]) -> Self {
        let names = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        names.are(addresses);
        names
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// From now on `gpus.internal` stands for these.
    fn are(&self, addresses: &[&str]) {
        let lines: String = addresses
            .iter()
            .map(|address| format!("{address} gpus.internal\n"))
            .collect();
        replace(&self.path(), &lines);
    }

    /// Nothing can be resolved any more.
    fn are_out(&self) {
        std::fs::remove_file(self.path()).unwrap();
    }

    async fn start(&self, fleet: String) -> Aivonx {
        Setup::fleet(fleet)
            .set("HOSTS_FILE", self.path().to_str().unwrap())
            .start()
            .await
    }
}

/// Nodes on 127.0.0.1, 127.0.0.2, … and one port.
async fn on_one_port<const N: usize>() -> [SimNode; N] {
    'next: loop {
        let first = SimNode::start(tiny()).await.unwrap();
        let mut nodes = vec![first];
        for last in 2..=N {
            let ip = IpAddr::from([127, 0, 0, last as u8]);
            let address = SocketAddr::new(ip, nodes[0].addr().port());
            match SimNode::start_on(tiny(), address).await {
                Ok(node) => nodes.push(node),
                Err(_) => continue 'next, // taken there: another port
            }
        }
        return nodes.try_into().unwrap();
    }
}

fn one(node: &SimNode, keys: &str) -> String {
    format!(
        "nodes: [{{name: gpu, url: \"http://gpus.internal:{}\", slots: 8{keys}}}]\n",
        node.addr().port()
    )
}

/// Asks until the node at this place answers.
async fn is_served_by(aivonx: &Aivonx, node: &SimNode) {
    let before = node.count("/api/chat");
    until("requests go there", || async {
        let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        node.count("/api/chat") > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_moves_takes_new_requests_along_and_no_stream_breaks() {
    let [old, new] = on_one_port().await;
    let names = Names::new(&["127.0.0.1"]);
    let aivonx = names.start(one(&old, "")).await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(json_post(aivonx.addr, "/api/chat", &chat("tiny", 60, true)))
        .await;
    let mut stream = client.head().await.unwrap();

    names.are(&["127.0.0.2"]);

    is_served_by(&aivonx, &new).await;
    assert_eq!(old.in_flight(), 1, "the stream runs on");
    let chats = old.count("/api/chat");
    for _ in 0..5 {
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    }
    assert_eq!(old.count("/api/chat"), chats, "nothing new goes to the old");
    while client.chunk(&mut stream).await {}
    assert_eq!(
        (stream.end, stream.lines().last().unwrap()["done"].clone()),
        (End::Complete, true.into())
    );
    assert!(aivonx.log().contains("node has moved"), "{}", aivonx.log());
    assert_eq!(
        aivonx.metric("aivonx_fleet_revision"),
        1.0,
        "it is one node all along"
    );
    let host = format!("gpus.internal:{}", old.addr().port());
    assert_eq!(last_chat(&new).header("host"), Some(host.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_addresses_are_not_changed_between() {
    let [first, second] = on_one_port().await;
    let names = Names::new(&["127.0.0.1"]);
    let aivonx = names.start(one(&first, "")).await;
    for answer in [
        ["127.0.0.2", "127.0.0.1"],
        ["127.0.0.1", "127.0.0.2"],
        ["127.0.0.2", "127.0.0.1"],
    ] {
        names.are(&answer);
        let probes = first.count("/");
        until("it was looked up again", || async {
            first.count("/") > probes + 2
        })
        .await;
    }
    assert_eq!(second.requests().len(), 0);

    first.stop().await;
    until("the other address is used", || async {
        // the first request to meet the refusal fails: there is no other node
        let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        answer.status == 200
    })
    .await;
    assert!(second.count("/api/chat") > 0);
    first.restart().await.unwrap();
    let probes = second.count("/");
    until("it was probed for a while", || async {
        second.count("/") > probes + 3
    })
    .await;
    let chats = first.count("/api/chat");
    post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(first.count("/api/chat"), chats, "what works is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_both_families_are_tried() {
    let [node] = on_one_port().await;
    // nobody listens on ::1 at this port, or it is not even an address here
    let names = Names::new(&["::1", "127.0.0.1"]);
    let aivonx = names.start(one(&node, "")).await;
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="gpu"}"#), 1.0);
    is_served_by(&aivonx, &node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_says_nothing_does_not_keep_the_node_out() {
    let [silent, second, third] = on_one_port().await;
    silent.fault(Fault::Blackhole);
    second.stop().await;
    let names = Names::new(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let aivonx = names.start(one(&silent, "")).await;
    assert_eq!(
        aivonx.metric(r#"aivonx_node_up{node="gpu"}"#),
        1.0,
        "found by its first probe"
    );
    is_served_by(&aivonx, &third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_dns_the_last_address_serves_until_it_fails() {
    let [node] = on_one_port().await;
    let names = Names::new(&["127.0.0.1"]);
    let aivonx = names.start(one(&node, "")).await;
    names.are_out();
    let probes = node.count("/");
    until("it is probed without an answer of DNS", || async {
        node.count("/") > probes + 3
    })
    .await;
    is_served_by(&aivonx, &node).await;
    node.stop().await;
    aivonx.metric_is(r#"aivonx_node_up{node="gpu"}"#, 0.0).await;
    assert!(
        aivonx.log().contains("its name cannot be resolved"),
        "{}",
        aivonx.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_system_knows_the_names_that_the_own_file_does_not() {
    let node = SimNode::start(tiny()).await.unwrap();
    let names = Names::new(&["127.0.0.9"]);
    let url = format!("http://localhost:{}", node.addr().port());
    let aivonx = names
        .start(format!("nodes: [{{name: gpu, url: \"{url}\"}}]\n"))
        .await;
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="gpu"}"#), 1.0);
    is_served_by(&aivonx, &node).await;
}

/// The names of the nodes, as the metrics have them.
fn nodes(aivonx: &Aivonx) -> Vec<String> {
    let text = aivonx.ops("/metrics").1;
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("aivonx_node_up{node=\"")?;
        Some(rest.split('"').next()?.to_owned())
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_address_of_a_discovered_name_is_a_node() {
    let [a, b, c] = on_one_port().await;
    let names = Names::new(&["127.0.0.1", "127.0.0.2"]);
    let aivonx = names.start(one(&a, ", discover: dns")).await;
    assert!(
        aivonx.ops("/readyz").1.contains("2 of 2 nodes are up"),
        "ready means that everybody is known"
    );
    assert_eq!(nodes(&aivonx), ["gpu-127-0-0-1", "gpu-127-0-0-2"]);
    warm(&aivonx, &[&a, &b], "tiny").await;
    is_served_by(&aivonx, &a).await;
    is_served_by(&aivonx, &b).await;
    let host = format!("gpus.internal:{}", a.addr().port());
    assert_eq!(last_chat(&b).header("host"), Some(host.as_str()));

    let mut client = Client::connect(aivonx.addr).await;
    let mut stream = loop {
        client
            .send(json_post(aivonx.addr, "/api/chat", &chat("tiny", 60, true)))
            .await;
        let mut stream = client.head().await.unwrap();
        if stream.node() == "gpu-127-0-0-1" {
            break stream;
        }
        while client.chunk(&mut stream).await {}
    };
    names.are(&["127.0.0.3", "127.0.0.2"]);
    until("the third is in and the first is out", || async {
        nodes(&aivonx) == ["gpu-127-0-0-2", "gpu-127-0-0-3"]
    })
    .await;
    warm(&aivonx, &[&b, &c], "tiny").await;
    is_served_by(&aivonx, &c).await;
    while client.chunk(&mut stream).await {}
    assert_eq!(stream.end, End::Complete, "what was there ran on");
    assert_eq!(
        aivonx.metric(r#"aivonx_node_up{node="gpu-127-0-0-2"}"#),
        1.0,
        "who stays keeps what is known of it"
    );

    names.are_out();
    let probes = (b.count("/"), c.count("/"));
    until("both are probed on", || async {
        b.count("/") > probes.0 + 3 && c.count("/") > probes.1 + 3
    })
    .await;
    assert_eq!(nodes(&aivonx), ["gpu-127-0-0-2", "gpu-127-0-0-3"]);
    assert!(
        aivonx.log().contains("the last ones stay for a while"),
        "{}",
        aivonx.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_entry_says_holds_for_each_of_its_nodes_and_changes_with_it() {
    let [a, b] = on_one_port().await;
    let names = Names::new(&["127.0.0.1", "127.0.0.2"]);
    let draining = ", discover: dns, draining: true, bearer_token: tok";
    let aivonx = names.start(one(&a, draining)).await;
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 503, "all of them drain");
    aivonx.write_fleet(&one(&a, ", discover: dns, bearer_token: tok"));
    until("they take requests", || async {
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
            .await
            .status
            == 200
    })
    .await;
    warm(&aivonx, &[&a, &b], "tiny").await;
    is_served_by(&aivonx, &a).await;
    is_served_by(&aivonx, &b).await;
    assert_eq!(last_chat(&b).header("authorization"), Some("Bearer tok"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_of_one_name_the_written_one_stays_and_the_log_says_so() {
    let [a, b] = on_one_port().await;
    let names = Names::new(&["127.0.0.1", "127.0.0.2"]);
    let fleet = format!(
        "nodes:\n  - {{name: gpu, url: \"http://gpus.internal:{}\", discover: dns}}\n  - {{name: gpu-127-0-0-2, url: \"{}\"}}\n",
        a.addr().port(),
        a.url()
    );
    let aivonx = names.start(fleet).await;
    assert_eq!(nodes(&aivonx), ["gpu-127-0-0-1", "gpu-127-0-0-2"]);
    assert_eq!(b.requests().len(), 0);
    assert!(
        aivonx.log().contains("left out: others have these names"),
        "{}",
        aivonx.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_discovered_name_without_addresses_is_an_empty_fleet_and_not_an_error() {
    let [node] = on_one_port().await;
    let names = Names::new(&["127.0.0.1"]);
    names.are_out();
    let aivonx = names.start(one(&node, ", discover: dns")).await;
    assert_eq!(
        get(aivonx.addr, "/api/tags").await.json()["models"],
        serde_json::json!([])
    );
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    names.are(&["127.0.0.1"]);
    until("it is found", || async { nodes(&aivonx).len() == 1 }).await;
    aivonx
        .metric_is(r#"aivonx_node_up{node="gpu-127-0-0-1"}"#, 1.0)
        .await;
    is_served_by(&aivonx, &node).await;
}
