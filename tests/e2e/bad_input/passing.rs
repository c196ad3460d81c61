//! What of a client's head comes to a node: no path that climbs, no upgrade, no key in a wrong place.

use aivonx_sim::{Fault, FaultScope, NodeSpec};

use super::{DIALECTS, House, statuses, wire};
use crate::support::{Client, Response, chat};

/// A chat with these lines in its head, on a connection of its own.
async fn ask(house: &House, target: &str, lines: &str, body: &str) -> Response {
    let mut client = Client::connect(house.addr()).await;
    let length = body.len();
    client
        .send(format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    client.response().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_climbs_reaches_no_node_however_it_is_spelt() {
    let house = House::with(&[]).await;
    for (path, want) in [
        ("/v1/%ff/..%2f..%2fapi%2fpull", 307),
        ("/v1/%252e%252e/api/pull", 404),
        ("/v1/..\\..\\api\\pull", 404),
        ("/v1/%252e%252e%252fapi%252fpull", 404),
        ("/v1/..%252f..%252fapi%252fpull", 404),
        ("/v1/..%5c..%5capi%5cpull", 404),
        ("/v1/..;/api/pull", 404),
        ("/v1/%ff", 404),
        ("/v1/x%00", 404),
        ("/api/blobs/%252e%252e%252fme", 404),
        ("/api/blobs/..%5cme", 404),
    ] {
        let answer = ask(&house, path, "", r#"{"model":"tiny"}"#).await;
        assert_eq!(answer.status, want, "{path}: {answer:?}");
        if want == 307 {
            assert_eq!(answer.header("location"), Some("/api/pull"));
        }
    }
    // raw bytes that are no text
    let raw = b"POST /v1/\xff/..%2f..%2fapi%2fpull HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let answer = wire(house.addr(), raw).await;
    assert!(
        matches!(statuses(&answer)[..], [307 | 400 | 404]),
        "{answer}"
    );
    let raw = b"POST /v1/\xff HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let answer = wire(house.addr(), raw).await;
    assert!(matches!(statuses(&answer)[..], [400 | 404]), "{answer}");
    assert!(house.relayed().is_empty(), "{:?}", house.relayed());
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_digests_may_be_escaped_as_clients_do() {
    let house = House::with(&[]).await;
    let mut client = Client::connect(house.addr()).await;
    for (path, want) in [
        ("/v1/models/tiny%3Alatest", 200),
        ("/v1/models/library%2Ftiny", 200),
        ("/v1/models/ns%2Fname%252e", 404),
    ] {
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, want, "{path}");
    }
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for path in [
        format!("/api/blobs/sha256:{digest}"),
        format!("/api/blobs/sha256%3A{digest}"),
    ] {
        let answer = ask(&house, &path, "", "").await;
        assert!(matches!(answer.status, 200 | 201), "{path}: {answer:?}");
    }
    house.is_idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_gets_a_node_to_change_the_protocol() {
    let house = House::with(&[]).await;
    let body = chat("tiny", 1, false);
    for lines in [
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: x-named\r\nX-Named: a\r\nUpgrade: websocket\r\n",
    ] {
        let answer = ask(&house, "/api/chat", lines, &body).await;
        assert_eq!(answer.status, 200, "{lines}");
        let seen = house.relayed().pop().unwrap();
        for name in ["upgrade", "http2-settings", "x-named"] {
            assert_eq!(seen.header(name), None, "{lines}");
        }
        let connection = seen.header("connection").unwrap_or("keep-alive");
        assert!(
            connection.eq_ignore_ascii_case("keep-alive"),
            "{connection}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_changes_the_protocol_has_failed() {
    let house = House::with(&[("BREAKER__FAILURES", "100")]).await;
    let switching = Fault::Status {
        code: 101,
        message: Some(String::new()),
    };
    let scope = FaultScope::always().path("/api/chat");
    house.sim.fault_for(switching, scope);
    for lines in ["", "Connection: Upgrade\r\nUpgrade: websocket\r\n"] {
        let answer = ask(&house, "/api/chat", lines, &chat("tiny", 1, true)).await;
        assert_eq!(answer.status, 502, "{lines}: {answer:?}");
        let error = answer.json()["error"].to_string();
        assert!(error.contains("n0"), "{error}");
    }
    house.sim.clear_faults();
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_in_a_wrong_place_does_not_reach_a_node() {
    let house = House::before(NodeSpec::new(), &[]).await;
    let names = [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "X-Api-Key",
        "Api-Key",
        "ApiKey",
        "X-Goog-Api-Key",
        "X-Auth-Token",
        "X-Auth-Key",
        "X-Access-Token",
    ];
    let lines: String = names.map(|name| format!("{name}: secret\r\n")).concat();
    for (path, more) in DIALECTS {
        let target = format!("{path}?key=secret&api_key=secret&beta=true&ts=secret");
        let body = format!(r#"{{"model":"tiny",{more}}}"#);
        let answer = ask(&house, &target, &lines, &body).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let seen = house.relayed().pop().unwrap();
        assert_eq!(seen.path, path);
        assert!(!seen.target.contains("secret"), "{}", seen.target);
        let leaks = seen.headers.iter().any(|(_, value)| value == "secret");
        assert!(!leaks, "{:?}", seen.headers);
        // with a cloud model a node hands the query on: there it means something
        let keeps = path == "/v1/messages";
        assert_eq!(
            seen.target.ends_with("?beta=true"),
            keeps,
            "{}",
            seen.target
        );
    }
    ask(
        &house,
        "/api/nosuch?key=secret",
        &lines,
        r#"{"model":"tiny"}"#,
    )
    .await;
    let seen = house.relayed().pop().unwrap();
    assert_eq!(seen.target, "/api/nosuch");
}
