//! Heads that are no HTTP, too long, or ask for absurd things; Host and Origin.

use super::{House, MIB, statuses, wire};
use crate::support::{Client, chat, get, json_post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_heads_are_refused_within_bounded_memory() {
    let house = House::with(&[]).await;
    house.still_serves().await;
    let before = house.aivonx.rss();
    let one = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
        "a".repeat(3 << 19)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n",
        "X: y\r\n".repeat(200_000)
    );
    let path = format!(
        "GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "a".repeat(3 << 19)
    );
    let endless = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}",
        "a".repeat(4 << 20)
    );
    for bytes in [one, many, path, endless] {
        let answer = wire(house.addr(), bytes.as_bytes()).await;
        // a reset may overtake the answer: the client was still sending
        assert!(
            matches!(statuses(&answer)[..], [] | [400 | 431]),
            "{}: {answer}",
            &bytes[..40]
        );
        house.still_serves().await;
    }
    let grown = house.aivonx.rss().saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} bytes more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_instead_of_http_ends_the_connection() {
    let house = House::with(&[]).await;
    let garbage: [&[u8]; 10] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03random\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"\xff\xfe\xfd\xfc\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n: no name\r\n\r\n",
    ];
    for bytes in garbage {
        let answer = wire(house.addr(), bytes).await;
        assert!(
            matches!(statuses(&answer)[..], [] | [400 | 505]),
            "{bytes:?}: {answer}"
        );
    }
    house.still_serves().await;
    assert_eq!(house.relayed().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absurd_methods_and_paths_are_answered_as_by_the_node() {
    let house = House::with(&[]).await;
    let long = format!("GET /{}", "a/".repeat(20_000));
    for line in [
        "BREW /api/chat",
        "TRACE /api/chat",
        "PUT /api/tags",
        "PATCH /",
        "PROPFIND /nosuch",
        "get /api/version",
        &long,
        "GET /api/vers%69on",
        "GET /%61pi/tag%73/",
        "GET /api/%2e%2e/api/version",
        "GET /api%2Fversion",
        "GET /%",
        "GET /%zz",
        "GET /api/version%",
        "GET /%00",
        "GET /%ff%fe",
        "GET /api/version?%zz=%",
        "GET /api/version;a=b",
        "GET ///",
        "GET /./",
        "GET /..%2f..%2fetc/passwd",
        "GET /api/../../../../etc/passwd",
        "GET /api//version",
        "GET /API/version",
        "GET http://localhost/api/version",
        "GET http://localhost",
        "OPTIONS /api/nosuch",
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let short = &line[..line.len().min(60)];
        let direct = wire(house.sim.addr(), bytes.as_bytes()).await;
        let through = wire(house.addr(), bytes.as_bytes()).await;
        if statuses(&direct) != statuses(&through) {
            eprintln!("XX {short} {direct} {through}");
            continue;
        }
        let header = |wire: &str, name: &str| {
            let mut lines = wire.lines().take_while(|line| !line.is_empty());
            lines.find_map(|line| Some(line.strip_prefix(name)?.to_owned()))
        };
        for name in ["Location: ", "Allow: ", "Content-Type: "] {
            if header(&direct, name) != header(&through, name) {
                eprintln!("XX {short}: {name} {direct} {through}");
            }
        }
    }
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_no_forward_proxy() {
    let house = House::with(&[]).await;
    for head in [
        "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
        "GET http://example.com/api/version HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "GET http://example.com/api/version HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET https://example.com/api/tags HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "GET http://user@localhost/api/version HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let answer = statuses(&wire(house.addr(), head.as_bytes()).await);
        assert!(
            matches!(answer[..], [400 | 403 | 404 | 405]),
            "{head}: {answer:?}"
        );
    }
    house.still_serves().await;
    assert_eq!(house.relayed().len(), 1);
}

async fn http_1_0(stream: bool) {
    let house = House::with(&[]).await;
    let body = chat("tiny", 3, stream);
    let head = format!(
        "POST /api/chat HTTP/1.0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = Client::connect(house.addr()).await;
    client.send(head + &body).await;
    let answer = client.response().await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
    assert_eq!(answer.lines().last().unwrap()["done"], true);
    assert!(client.is_closed().await);
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_is_answered_and_its_connection_ends() {
    http_1_0(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_gets_no_chunks() {
    http_1_0(true).await;
}

/// Pingora could answer what was sent ahead, but would then no longer see that a client leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_pipelined_requests_the_first_is_answered_and_no_other_is_carried_out() {
    let house = House::with(&[]).await;
    let get = "GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = json_post(house.addr(), "/api/chat", &chat("tiny", 2, false));
    for (all, relayed) in [
        ([get, &post].concat(), 0),
        ([&post, get].concat(), 1),
        ([&*post, &post].concat(), 2),
    ] {
        let answers = wire(house.addr(), all.as_bytes()).await;
        assert_eq!(statuses(&answers), [200], "{all}");
        assert_eq!(house.relayed().len(), relayed, "{all}");
    }
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_and_origin_of_a_web_page_get_an_empty_403_and_reach_no_node() {
    let house = House::with(&[]).await;
    let body = chat("tiny", 2, false);
    let rebound = [
        ("rebound.example.com", None),
        (
            "rebound.example.com:8000",
            Some("http://rebound.example.com:8000"),
        ),
        ("localhost.example.com", None),
        ("8.8.8.8", None),
        ("localhost", Some("https://chat.example.com")),
        ("localhost", Some("null")),
        ("localhost", Some("http://localhost.example.com")),
    ];
    for (host, origin) in rebound {
        for line in [
            "POST /api/chat",
            "POST /v1/chat/completions",
            "GET /api/tags",
            "OPTIONS /api/chat",
        ] {
            let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
            let head = format!(
                "{line} HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: {}\r\n\r\n",
                body.len()
            );
            let mut client = Client::connect(house.addr()).await;
            client.send(head + &body).await;
            let answer = client.response().await;
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (403, ""),
                "{host} {origin} {line}"
            );
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert!(house.relayed().is_empty());
    // an application on this machine is let in, and may read the answer
    let mut client = Client::connect(house.addr()).await;
    let head =
        "GET /api/version HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\n\r\n";
    client.send(head).await;
    let answer = client.response().await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("http://localhost:3000")
    );
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_may_be_empty_but_not_absent() {
    let house = House::with(&[]).await;
    for (head, want) in [
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET http://localhost/ HTTP/1.1\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            400,
        ),
    ] {
        let direct = statuses(&wire(house.sim.addr(), head.as_bytes()).await);
        let through = statuses(&wire(house.addr(), head.as_bytes()).await);
        assert_eq!(through, [want], "{head}; the node says {direct:?}");
    }
    assert_eq!(get(house.addr(), "/").await.status, 200);
    house.still_serves().await;
}
