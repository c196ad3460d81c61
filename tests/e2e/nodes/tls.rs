//! Nodes behind https: who is believed, and what is said when nobody is.

use aivonx_sim::SimNode;

use super::{run, tiny};
use crate::support::front::{Authority, Front};
use crate::support::{Setup, chat, get, last_chat, post, replace, until};

/// A node behind TLS with a certificate of this name.
async fn behind_tls(authority: &Authority, name: &str) -> (SimNode, Front) {
    let node = SimNode::start(tiny()).await.unwrap();
    let front = Front::start(authority.server(name), node.addr()).await;
    (node, front)
}

fn one_node(front: &Front, keys: &str) -> String {
    format!("nodes: [{{name: a, url: \"{}\", {keys}}}]\n", front.url())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_behind_its_own_authority_serves() {
    let authority = Authority::new();
    let (node, front) = behind_tls(&authority, "127.0.0.1").await;
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write_to(folder.path(), "ca.pem");
    let keys = format!("tls: {{ca_file: \"{}\"}}", ca.display());
    let aivonx = Setup::fleet(one_node(&front, &keys)).start().await;

    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 3, true)).await;

    assert_eq!((answer.status, answer.node()), (200, "a"));
    assert_eq!(answer.lines().last().unwrap()["done"], true);
    assert_eq!(
        last_chat(&node).header("host"),
        Some(front.addr.to_string().as_str())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_did_not_vouch_keeps_the_node_out_and_the_log_says_why() {
    let (right, wrong) = (Authority::new(), Authority::new());
    let (node, front) = behind_tls(&right, "127.0.0.1").await;
    let folder = tempfile::tempdir().unwrap();
    let ca = wrong.write_to(folder.path(), "ca.pem");
    let keys = format!("tls: {{ca_file: \"{}\"}}", ca.display());
    let aivonx = Setup::fleet(one_node(&front, &keys)).start().await;

    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;

    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="a"}"#), 0.0);
    assert!(
        aivonx
            .log()
            .contains("invalid peer certificate: UnknownIssuer"),
        "{}",
        aivonx.log()
    );
    assert_eq!(node.requests().len(), 0, "not a byte before it is believed");

    replace(&ca, &right.pem());
    aivonx.metric_is(r#"aivonx_node_up{node="a"}"#, 1.0).await;
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 200, "the file was read anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_authority_of_its_own_the_systems_are_asked() {
    let (_node, front) = behind_tls(&Authority::new(), "127.0.0.1").await;
    let aivonx = Setup::fleet(one_node(&front, "weight: 1")).start().await;
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="a"}"#), 0.0);
    assert!(
        aivonx.log().contains("invalid peer certificate"),
        "{}",
        aivonx.log()
    );

    aivonx.write_fleet(&one_node(&front, "insecure_tls: true"));
    aivonx.metric_is(r#"aivonx_node_up{node="a"}"#, 1.0).await;
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 200);
    assert!(
        aivonx
            .log()
            .contains("any certificate of these nodes is believed"),
        "it is said each time"
    );

    aivonx.write_fleet(&one_node(&front, "insecure_tls: false"));
    aivonx.metric_is(r#"aivonx_node_up{node="a"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_in_the_certificate_may_be_another_than_the_urls() {
    let authority = Authority::new();
    let (_node, front) = behind_tls(&authority, "ollama.internal").await;
    let ca = format!("{:?}", authority.pem());
    let aivonx = Setup::fleet(one_node(&front, &format!("tls: {{ca: {ca}}}")))
        .start()
        .await;
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="a"}"#), 0.0);
    assert!(
        aivonx.log().contains("not valid for name"),
        "{}",
        aivonx.log()
    );

    let keys = format!("tls: {{ca: {ca}, server_name: ollama.internal}}");
    aivonx.write_fleet(&one_node(&front, &keys));
    aivonx.metric_is(r#"aivonx_node_up{node="a"}"#, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_not_shared_between_nodes_that_trust_differently() {
    let (right, wrong) = (Authority::new(), Authority::new());
    let (node, front) = behind_tls(&right, "127.0.0.1").await;
    let fleet = format!(
        "nodes:\n  - {{name: right, url: \"{0}\", tls: {{ca: {1:?}}}}}\n  - {{name: wrong, url: \"{0}\", tls: {{ca: {2:?}}}}}\n",
        front.url(),
        right.pem(),
        wrong.pem()
    );
    let aivonx = Setup::fleet(fleet).start().await;
    for _ in 0..10 {
        let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        assert_eq!((answer.status, answer.node()), (200, "right"));
    }
    // many probes later, with idle connections of the other lying about
    let probes = node.count("/");
    until("it was probed often", || async {
        node.count("/") > probes + 10
    })
    .await;
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="right"}"#), 1.0);
    assert_eq!(aivonx.metric(r#"aivonx_node_up{node="wrong"}"#), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_certificate_turns_bad_fails_requests_without_details() {
    let authority = Authority::new();
    let (_node, front) = behind_tls(&authority, "127.0.0.1").await;
    let ca = format!("{:?}", authority.pem());
    // never probed again within the test: the request itself meets the certificate
    let aivonx = Setup::fleet(one_node(&front, &format!("tls: {{ca: {ca}}}")))
        .set("PROBE__INTERVAL", "1h")
        .start()
        .await;
    let other = Authority::new();
    let addr = front.addr;
    drop(front);
    until("the port is free", || async {
        std::net::TcpListener::bind(addr).is_ok()
    })
    .await;
    let node = SimNode::start(tiny()).await.unwrap();
    let _impostor = Front::start_on(other.server("127.0.0.1"), node.addr(), addr).await;

    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;

    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(
        answer.json()["error"],
        "node a failed: no TLS with it",
        "no addresses, no certificates"
    );
    assert_eq!(node.requests().len(), 0);
}

#[test]
fn check_config_reads_certificates_and_says_what_is_wrong_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.yaml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        run(&["check-config", "--fleet", file.to_str().unwrap()])
    };
    Authority::new().write_to(folder.path(), "ca.pem");
    let good = "nodes: [{name: a, url: \"https://h\", tls: {ca_file: ca.pem}}]";
    assert_eq!(check(good), (Some(0), "ok: 1 node\n".into()));

    std::fs::write(folder.path().join("key.pem"), "nonsense").unwrap();
    let bad = "nodes:\n  - name: a\n    url: http://h\n    insecure_tls: true\n  - name: b\n    url: https://h\n    tls:\n      ca_file: key.pem\n  - name: c\n    url: https://h\n    tls: {ca_file: gone.pem}\n";
    let (code, text) = check(bad);
    assert_eq!(code, Some(78));
    for words in [
        "line 4: nodes[0].insecure_tls: is for an https:// url",
        "line 8: nodes[1].tls.ca_file: holds no certificate",
        "line 11: nodes[2].tls.ca_file: cannot read",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_the_whole_fleet_work_over_tls_too() {
    let authority = Authority::new();
    let (_node, front) = behind_tls(&authority, "127.0.0.1").await;
    let keys = format!("tls: {{ca: {:?}}}", authority.pem());
    let aivonx = Setup::fleet(one_node(&front, &keys)).start().await;
    let tags = get(aivonx.addr, "/api/tags").await.json();
    assert_eq!(tags["models"][0]["name"], "tiny:latest");
}
