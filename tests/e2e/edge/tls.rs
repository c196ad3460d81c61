//! TLS: both protocols by ALPN, certificates that change under open streams, and the wrong protocol on
//! either port.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{node, quick, wire, wire_text, with_tls};
use crate::support::{End, H2, PATIENCE, Setup, Tls, chat, get, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_protocols_are_spoken_over_tls() {
    let (sim, folder, tls) = (quick().await, tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let aivonx = with_tls(Setup::nodes(&[&sim]), folder.path()).start().await;
    let addr = aivonx.tls.unwrap();

    let h2 = H2::tls(addr, &tls).await;
    for stream in [true, false] {
        let answer = h2.post("/api/chat", &chat("tiny", 3, stream)).await;
        assert_eq!((answer.status, answer.end), (200, End::Complete));
    }
    for alpn in [&["http/1.1"][..], &[]] {
        let mut h1 = tls.connect(addr, alpn).await.unwrap();
        let request = "GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for _ in 0..2 {
            h1.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            h1.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            let mut rest = vec![0; 4096];
            assert!(h1.read(&mut rest).await.unwrap() > 0);
        }
    }
    assert_eq!(
        get(aivonx.addr, "/").await.status,
        200,
        "the plain port stays"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_shown_within_seconds_and_no_stream_is_cut() {
    let (sim, folder) = (node().await, tempfile::tempdir().unwrap());
    let (old, new) = (Tls::make(), Tls::make());
    old.write(folder.path());
    let aivonx = with_tls(Setup::nodes(&[&sim]), folder.path()).start().await;
    let addr = aivonx.tls.unwrap();
    let h2 = H2::tls(addr, &old).await;
    let body = chat("tiny", 150, true);
    let mut stream = h2
        .open(h2.head(Method::POST, "/api/chat"), &[body.as_bytes()])
        .await
        .unwrap();
    assert!(stream.chunk().await);

    // one that does not fit its key changes nothing, and the log says which file is wrong
    std::fs::copy(
        folder.path().join("cert.pem"),
        folder.path().join("kept.pem"),
    )
    .unwrap();
    new.write(folder.path());
    std::fs::copy(
        folder.path().join("kept.pem"),
        folder.path().join("cert.pem"),
    )
    .unwrap();
    until("the log tells", || async {
        aivonx.log().contains("certificate is not taken")
    })
    .await;
    assert!(
        aivonx.log().contains("key.pem: is not the key of"),
        "{}",
        aivonx.log()
    );
    assert!(!aivonx.log().contains("PRIVATE KEY"));
    assert!(old.connect(addr, &["h2"]).await.is_ok());

    new.write(folder.path());
    until("the new one is shown", || async {
        new.connect(addr, &["h2"]).await.is_ok()
    })
    .await;
    assert!(old.connect(addr, &["h2"]).await.is_err());
    let answer = stream.rest().await;
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(answer.lines().last().unwrap()["done"], true);
    assert_eq!(h2.get("/").await.status, 200, "the old connection goes on");
}

/// New connections of both protocols, one after another until told to stop, each with one request: how
/// many were shown the old certificate, and how many the new.
async fn steadily(
    addr: SocketAddr,
    old: Arc<Tls>,
    new: Arc<Tls>,
    shown: watch::Sender<(u32, u32)>,
) -> (u32, u32) {
    let (mut before, mut after) = (0, 0);
    while !shown.is_closed() {
        let alpn = if (before + after) % 2 == 0 {
            "h2"
        } else {
            "http/1.1"
        };
        let mut stream = old.or(&new, addr, &[alpn]).await.unwrap();
        if new.is_shown(&stream) {
            after += 1;
        } else {
            assert_eq!(after, 0, "the old one is back");
            before += 1;
        }
        if alpn == "h2" {
            let answer = H2::within(stream).await.get("/api/version").await;
            assert_eq!((answer.status, answer.end), (200, End::Complete));
        } else {
            let request = "GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
        }
        shown.send_replace((before, after));
    }
    (before, after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_new_connection_is_dropped_while_the_certificate_changes() {
    let (sim, folder) = (quick().await, tempfile::tempdir().unwrap());
    let (old, new) = (Arc::new(Tls::make()), Arc::new(Tls::make()));
    old.write(folder.path());
    let aivonx = with_tls(Setup::nodes(&[&sim]), folder.path()).start().await;
    let addr = aivonx.tls.unwrap();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (told, seen) = watch::channel((0, 0));
        let (old, new) = (Arc::clone(&old), Arc::clone(&new));
        let client = tokio::spawn(steadily(addr, old, new, told));
        clients.push((client, seen));
    }
    for (_, seen) in &mut clients {
        let begun = seen.wait_for(|(before, _)| *before >= 10);
        timeout(PATIENCE, begun).await.unwrap().unwrap();
    }
    new.write(folder.path());
    for (client, mut seen) in clients {
        timeout(PATIENCE, seen.wait_for(|(_, after)| *after >= 10))
            .await
            .expect("the new one is shown")
            .unwrap();
        drop(seen);
        let (before, after) = client.await.unwrap();
        assert!(before >= 10 && after >= 10, "{before} and {after}");
    }
    let refused = r#"aivonx_rejections_total{reason="tls_handshake"}"#;
    assert_eq!(aivonx.metric(refused), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_protocol_gets_a_clear_answer_on_either_port() {
    let (sim, folder, tls) = (quick().await, tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let aivonx = with_tls(Setup::nodes(&[&sim]), folder.path()).start().await;
    let addr = aivonx.tls.unwrap();
    for hello in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0",
    ] {
        let answer = wire_text(addr, hello).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(
            answer.ends_with("client sent an HTTP request to an HTTPS port"),
            "{answer}"
        );
    }
    let answer = wire_text(aivonx.addr, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("client sent a TLS handshake to a plain HTTP port"),
        "{answer}"
    );
    // a handshake that is none: an alert, or the end
    for hello in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x16garbage that goes on and on",
    ] {
        let answer = wire(addr, hello).await;
        assert!(matches!(answer.first(), None | Some(0x15)), "{answer:?}");
    }
    aivonx
        .metric_is(r#"aivonx_rejections_total{reason="plain_on_tls"}"#, 3.0)
        .await;
    aivonx
        .metric_is(r#"aivonx_rejections_total{reason="tls_on_plain"}"#, 1.0)
        .await;
    aivonx
        .metric_is(r#"aivonx_rejections_total{reason="tls_handshake"}"#, 2.0)
        .await;
    until("no connection is left", || async {
        aivonx.metric("aivonx_connections") == 0.0
    })
    .await;
    assert_eq!(H2::tls(addr, &tls).await.get("/").await.status, 200);
    let log = aivonx.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// Runs `check-config` with these files; what it says.
fn check(folder: &Path, certificate: &str, key: &str) -> (Option<i32>, String) {
    let fleet = folder.join("fleet.yaml");
    std::fs::write(&fleet, "nodes: []\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_aivonx"))
        .args(["check-config", "--fleet"])
        .arg(&fleet)
        .env("AIVONX_PROXY__TLS__CERTIFICATE", folder.join(certificate))
        .env("AIVONX_PROXY__TLS__KEY", folder.join(key))
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_bad_pair_is_told_before_the_start_and_by_file() {
    let folder = tempfile::tempdir().unwrap();
    Tls::make().write(folder.path());
    std::fs::rename(
        folder.path().join("key.pem"),
        folder.path().join("other.pem"),
    )
    .unwrap();
    Tls::make().write(folder.path());
    std::fs::write(folder.path().join("empty.pem"), "").unwrap();
    assert_eq!(check(folder.path(), "cert.pem", "key.pem").0, Some(0));
    for (certificate, key, says) in [
        ("nosuch.pem", "key.pem", "nosuch.pem: No such file"),
        ("cert.pem", "nosuch.pem", "nosuch.pem: No such file"),
        ("empty.pem", "key.pem", "empty.pem: holds no certificate"),
        ("cert.pem", "empty.pem", "empty.pem: holds no private key"),
        ("key.pem", "key.pem", "key.pem: holds no certificate"),
        ("cert.pem", "other.pem", "other.pem: is not the key of"),
    ] {
        let (code, text) = check(folder.path(), certificate, key);
        assert_eq!(code, Some(78), "{certificate} {key}");
        assert!(text.contains(says), "{certificate} {key}: {text}");
    }
}
