//! What the control plane is told of a client, and that no client can say it for itself.

use super::{Control, TOKEN, house, node, open, send};
use crate::support::{Client, Setup, chat, last_chat};

/// What a client might try.
const FORGED: &str = "X-Aivonx-Front-Door: the-token-that-both-planes-hold\r\nx-aivonx-client: 192.0.2.9\r\nX-AIVONX-CLIENT: ::1\r\nx-aivonx-scheme: https\r\nx-aivonx-else: 1\r\nConnection: x-aivonx-client, keep-alive\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_claims_are_replaced_on_the_way_to_the_control_plane() {
    let (_sim, control, aivonx) = house().await;
    assert_eq!(
        send(aivonx.addr, "GET", "/ui", FORGED, "").await.status,
        200
    );
    let seen = control.last();
    assert_eq!(seen.one("x-aivonx-front-door"), TOKEN);
    assert_eq!(seen.one("x-aivonx-client"), "127.0.0.1");
    assert_eq!(seen.one("x-aivonx-scheme"), "http");
    assert_eq!(seen.names("x-aivonx-").len(), 3);
    assert_ne!(seen.one("x-request-id"), "");
    assert!(seen.names("connection").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_never_reach_a_node() {
    let sim = node().await;
    let control = Control::start().await;
    for setup in [
        Setup::nodes(&[&sim]),
        open(Setup::nodes(&[&sim]), control.addr),
    ] {
        let aivonx = setup.start().await;
        // without what is dropped for another reason, that `Connection` names it
        let forged = FORGED.replace("Connection: x-aivonx-client, keep-alive\r\n", "");
        let answer = send(
            aivonx.addr,
            "POST",
            "/api/chat",
            &forged,
            &chat("tiny", 1, false),
        )
        .await;
        assert_eq!(answer.status, 200);
        let seen = last_chat(&sim);
        for name in ["x-aivonx-front-door", "x-aivonx-client", "x-aivonx-scheme"] {
            assert_eq!(seen.header(name), None, "{name}");
        }
    }
    assert_eq!(control.seen().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_and_cookies_pass_both_ways_and_are_never_logged() {
    let (_sim, control, aivonx) = house().await;
    let lines = "Authorization: Bearer secret-of-an-admin\r\nCookie: session=secret-cookie; csrf=1\r\nOrigin: http://localhost\r\nX-Request-Id: cookies\r\n";
    let answer = send(aivonx.addr, "GET", "/ui/cookies", lines, "").await;
    let seen = control.last();
    assert_eq!(seen.one("authorization"), "Bearer secret-of-an-admin");
    assert_eq!(seen.one("cookie"), "session=secret-cookie; csrf=1");
    assert_eq!(seen.one("origin"), "http://localhost");
    let named = |name: &str| {
        let headers = answer.headers.iter();
        let found = headers.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(named("set-cookie"), ["session=1; HttpOnly", "csrf=2"]);
    assert!(named("x-hop").is_empty() && named("keep-alive").is_empty());
    assert_eq!(named("connection"), ["keep-alive"]);
    assert!(named("access-control-allow-origin").is_empty());
    aivonx.access_line("cookies").await;
    let told = aivonx.access_lines() + &aivonx.log();
    for secret in [TOKEN, "secret-of-an-admin", "secret-cookie"] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_behind_a_stranger_is_never_told_as_this_machine() {
    let (_sim, control, aivonx) = house().await;
    let told = async |lines: &str| {
        let lines = format!("{lines}X-Forwarded-Proto: https\r\n");
        assert_eq!(
            send(aivonx.addr, "GET", "/ui", &lines, "").await.status,
            200
        );
        let seen = control.last();
        for name in ["x-forwarded-", "forwarded", "via", "x-real-ip"] {
            assert!(seen.names(name).is_empty(), "{name}");
        }
        (
            seen.one("x-aivonx-client").to_owned(),
            seen.one("x-aivonx-scheme").to_owned(),
        )
    };
    let unknown = ("unknown".to_owned(), "http".to_owned());
    assert_eq!(told("X-Forwarded-For: 127.0.0.1\r\n").await, unknown);
    assert_eq!(told("X-Forwarded-For: 192.0.2.7\r\n").await, unknown);
    assert_eq!(told("Via: 1.1 somebody\r\n").await, unknown);
    assert_eq!(told("X-Real-IP: 127.0.0.1\r\n").await, unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_and_a_proxy_header_name_the_client() {
    let (sim, control) = (node().await, Control::start().await);
    let aivonx = open(Setup::nodes(&[&sim]), control.addr)
        .set("TRUSTED_PROXIES", "[127.0.0.1]")
        .set("PROXY_PROTOCOL", "true")
        .start()
        .await;
    for (lines, client, scheme) in [
        ("", "unknown", "http"),
        (
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n",
            "192.0.2.7",
            "https",
        ),
        ("X-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7", "http"),
        ("X-Forwarded-For: 127.0.0.1\r\n", "127.0.0.1", "http"),
        (
            "X-Forwarded-For: 192.0.2.7, nonsense\r\n",
            "unknown",
            "http",
        ),
    ] {
        assert_eq!(send(aivonx.addr, "GET", "/ui", lines, "").await.status, 200);
        let seen = control.last();
        assert_eq!(seen.one("x-aivonx-client"), client, "{lines}");
        assert_eq!(seen.one("x-aivonx-scheme"), scheme, "{lines}");
    }
    let mut client = Client::connect(aivonx.addr).await;
    let header = "PROXY TCP4 192.0.2.8 10.0.0.1 4096 8000\r\n";
    let lines = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n";
    client
        .send(format!(
            "{header}GET /ui HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = control.last();
    assert_eq!(seen.one("x-aivonx-client"), "192.0.2.8");
    assert_eq!(seen.one("x-aivonx-scheme"), "http");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_a_stranger_is_relayed_but_is_not_this_machine() {
    let (_sim, control, aivonx) = house().await;
    let told = async |head: &str| {
        let mut client = Client::connect(aivonx.addr).await;
        client.send(format!("GET /ui HTTP/1.1\r\n{head}\r\n")).await;
        assert_eq!(client.response().await.status, 200, "{head}");
        control.last().one("x-aivonx-client").to_owned()
    };
    assert_eq!(told("Host: 127.0.0.1:8000\r\n").await, "127.0.0.1");
    assert_eq!(told("Host: rebound.example\r\n").await, "unknown");
    assert_eq!(
        told("Host: localhost\r\nOrigin: https://evil.example\r\n").await,
        "unknown"
    );
    assert_eq!(
        told("Host: localhost\r\nOrigin: http://localhost\r\n").await,
        "127.0.0.1"
    );
    let count = control.seen().len();
    let mut old = Client::connect(aivonx.addr).await;
    old.send("GET /ui HTTP/1.0\r\nOrigin: https://evil.example\r\n\r\n")
        .await;
    assert_eq!(old.response().await.status, 403);
    assert_eq!(control.seen().len(), count);
}
