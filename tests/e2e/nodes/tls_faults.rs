//! What an operator reads when TLS to a node fails: the table of docs/operations.md, row by row.

use aivonx_sim::SimNode;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;

use super::tiny;
use crate::support::front::{Authority, Front, server_config};
use crate::support::{Aivonx, Setup, chat, post, until};

fn for_this_machine() -> CertificateParams {
    CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap()
}

/// A server whose certificate was good until a day, or will be from one on.
fn out_of_time(authority: &Authority, from: i32, to: i32) -> ServerConfig {
    let mut params = for_this_machine();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    authority.server_with(&params)
}

/// A server that shows an authority's own certificate, and that certificate.
fn authority_as_server() -> (ServerConfig, String) {
    let mut params = for_this_machine();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (server_config(&certificate, &key), certificate.pem())
}

/// The line of the log that says why a node is down.
async fn why_down(aivonx: &Aivonx, name: &str) -> String {
    let marks = ["\"node is down\"".to_owned(), format!("\"{name}\"")];
    let find = || {
        let log = aivonx.log();
        let mut lines = log.lines();
        lines
            .find(|line| marks.iter().all(|mark| line.contains(mark)))
            .map(str::to_owned)
    };
    until(&format!("{name} is down"), || async { find().is_some() }).await;
    find().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_what_is_wrong_with_a_certificate() {
    let authority = Authority::new();
    let node = SimNode::start(tiny()).await.unwrap();
    let (own, own_pem) = authority_as_server();
    let servers = [
        ("expired", out_of_time(&authority, 2001, 2002)),
        ("early", out_of_time(&authority, 2900, 2901)),
        ("other", authority.server("gpu-7.example")),
        ("own", own),
    ];
    let mut fronts = Vec::new();
    let mut fleet = vec!["nodes:\n".to_owned()];
    for (name, server) in servers {
        let front = Front::start(server, node.addr()).await;
        let pem = if name == "own" {
            own_pem.clone()
        } else {
            authority.pem()
        };
        fleet.push(format!(
            "  - {{name: {name}, url: \"{}\", tls: {{ca: {pem:?}}}}}\n",
            front.url()
        ));
        fronts.push(front);
    }
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_addr = plain.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            // what web servers say to a handshake
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (name, addr) in [
        ("plain", plain_addr),
        ("silent", silent.local_addr().unwrap()),
    ] {
        fleet.push(format!("  - {{name: {name}, url: \"https://{addr}\"}}\n"));
    }
    let aivonx = Setup::fleet(fleet.concat()).start().await;
    for (name, words) in [
        ("expired", "certificate expired"),
        ("early", "not valid yet"),
        ("other", "gpu-7.example"),
        ("own", "CaUsedAsEndEntity"),
        ("plain", "InvalidContentType"),
        ("silent", "in time"),
    ] {
        let line = why_down(&aivonx, name).await;
        assert!(line.contains(words), "{words} in {line}");
    }
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_systems_authorities_are_those_that_the_environment_names() {
    let authority = Authority::new();
    let node = SimNode::start(tiny()).await.unwrap();
    let front = Front::start(authority.server("127.0.0.1"), node.addr()).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = authority.write_to(folder.path(), "system.pem");
    let fleet = format!("nodes: [{{name: a, url: \"{}\"}}]", front.url());
    let aivonx = Setup::fleet(fleet)
        .env("SSL_CERT_FILE", ca.to_str().unwrap())
        .start()
        .await;
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_authorities_can_still_reach_nodes_that_need_none_of_them() {
    let authority = Authority::new();
    let node = SimNode::start(tiny()).await.unwrap();
    let front = Front::start(authority.server("127.0.0.1"), node.addr()).await;
    let fleet = format!(
        "nodes:\n  - {{name: own, url: \"{0}\", tls: {{ca: {1:?}}}}}\n  - {{name: any, url: \"{0}\", insecure_tls: true}}\n  - {{name: system, url: \"{0}\"}}\n",
        front.url(),
        authority.pem()
    );
    let folder = tempfile::tempdir().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing.pem");
    std::fs::write(&nothing, "").unwrap();
    let aivonx = Setup::fleet(fleet)
        .env("SSL_CERT_FILE", nothing.to_str().unwrap())
        .env("SSL_CERT_DIR", empty.path().to_str().unwrap())
        .start()
        .await;
    let up = |name: &str| aivonx.metric(&format!("aivonx_node_up{{node=\"{name}\"}}"));
    assert_eq!(
        (up("own"), up("any"), up("system")),
        (1.0, 1.0, 0.0),
        "{}",
        aivonx.log()
    );
}
