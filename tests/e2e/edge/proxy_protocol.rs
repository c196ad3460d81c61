//! PROXY headers: who may send them, both versions, plain and TLS, and what becomes of strangers'.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{quick, wire_text, with_tls};
use crate::support::{Client, Setup, Tls, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A header of version 2 for 192.0.2.`last`.
fn v2(last: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    bytes.extend([192, 0, 2, last, 10, 0, 0, 1, 0x10, 0x00, 0x1f, 0x40]);
    bytes
}

fn v1(last: u8) -> Vec<u8> {
    format!("PROXY TCP4 192.0.2.{last} 10.0.0.1 4096 8000\r\n").into_bytes()
}

fn trusting(setup: Setup) -> Setup {
    setup
        .set("PROXY_PROTOCOL", "true")
        .set("TRUSTED_PROXIES", "[127.0.0.1]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_peer_may_name_its_client_in_both_versions_or_not() {
    let sim = quick().await;
    let aivonx = trusting(Setup::nodes(&[&sim])).start().await;
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec();
    for header in [
        v1(1),
        v2(1),
        b"PROXY UNKNOWN\r\n".to_vec(),
        local,
        Vec::new(),
    ] {
        let mut client = Client::connect(aivonx.addr).await;
        // in three pieces, so that the header is cut
        let all = [&header, GET.as_bytes()].concat();
        for piece in [&all[..5], &all[5..13], &all[13..]] {
            client.send(piece).await;
        }
        assert_eq!(client.response().await.status, 200, "{header:?}");
        client.send(GET).await;
        assert_eq!(
            client.response().await.status,
            200,
            "it is sent once a connection"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_address_is_the_named_one() {
    let sim = quick().await;
    let setup = trusting(Setup::nodes(&[&sim])).set("LIMITS__CONNECTIONS_PER_CLIENT", "2");
    let aivonx = setup.start().await;
    let mut held = Vec::new();
    for header in [v1(1), v2(1)] {
        let mut client = Client::connect(aivonx.addr).await;
        client.send([&header, GET.as_bytes()].concat()).await;
        assert_eq!(client.response().await.status, 200);
        held.push(client);
    }
    for header in [v1(1), v2(1)] {
        let answer = wire_text(aivonx.addr, &[&header, GET.as_bytes()].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert!(answer.contains("Retry-After: 1\r\n"), "{answer}");
    }
    // another client of the same balancer, and the balancer itself
    for header in [v1(2), Vec::new()] {
        let mut client = Client::connect(aivonx.addr).await;
        client.send([&header, GET.as_bytes()].concat()).await;
        assert_eq!(client.response().await.status, 200);
    }
    drop(held);
    until("its places are free again", || async {
        let mut client = Client::connect(aivonx.addr).await;
        client.send([&v2(1), GET.as_bytes()].concat()).await;
        client.response().await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_header_is_refused_and_nothing_behind_it_is_served() {
    let sim = quick().await;
    for (keys, what) in [
        (&[("PROXY_PROTOCOL", "true")][..], "trusts nobody"),
        (&[("TRUSTED_PROXIES", "[127.0.0.1]")], "not switched on"),
        (
            &[
                ("PROXY_PROTOCOL", "true"),
                ("TRUSTED_PROXIES", "[10.0.0.0/8]"),
            ],
            "trusts others",
        ),
    ] {
        let setup = keys
            .iter()
            .fold(Setup::nodes(&[&sim]), |setup, (key, value)| {
                setup.set(key, value)
            });
        let aivonx = setup.start().await;
        for header in [v1(1), v2(1)] {
            let answer = wire_text(aivonx.addr, &[&header, GET.as_bytes()].concat()).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{what}: {answer}");
            assert!(!answer.contains("Ollama is running"), "{what}: {answer}");
        }
        until("no connection is left", || async {
            aivonx.metric("aivonx_connections") == 0.0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_comes_before_tls() {
    let (sim, folder, tls) = (quick().await, tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let setup = with_tls(trusting(Setup::nodes(&[&sim])), folder.path())
        .set("LIMITS__CONNECTIONS_PER_CLIENT", "2");
    let aivonx = setup.start().await;
    let addr = aivonx.tls.unwrap();
    let mut held = Vec::new();
    for header in [v1(1), v2(1), v1(2), Vec::new()] {
        let mut stream = tls.connect_after(&header, addr, &[]).await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    // one too many is closed: it cannot be told in plain text
    assert!(tls.connect_after(&v2(1), addr, &[]).await.is_err());
    let reason = r#"aivonx_rejections_total{reason="connections_per_client"}"#;
    assert_eq!(aivonx.metric(reason), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_or_endless_header_is_refused() {
    let sim = quick().await;
    let setup = trusting(Setup::nodes(&[&sim])).set("LIMITS__HEAD_TIMEOUT", "300ms");
    let aivonx = setup.start().await;
    for (header, status) in [
        (&b"PROXY TCP4 nonsense\r\n"[..], "400"),
        (&[b"PROXY TCP4 ", &[b'1'; 200][..]].concat(), "400"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "400"),
        (b"PROXY TCP4 192.0.2.1", "408"),
    ] {
        let answer = wire_text(aivonx.addr, header).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{header:?}: {answer}"
        );
    }
}
