//! Requests that two servers may cut differently: what is smuggled behind one is never answered
//! and never reaches a node.

use super::{DIALECTS, House, in_its_dialect, statuses, wire};
use crate::support::Client;

const SMUGGLED: &str = "POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n{\"model\":\"smuggled\"}";

/// `POST /api/show` with these header lines and this body.
fn request(headers: &str, body: &str) -> String {
    format!("POST /api/show HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}")
}

/// The pairs, each with a second request behind what one of two readers takes for the end.
fn pairs() -> Vec<(&'static str, String)> {
    let length = SMUGGLED.len();
    let after_chunks = format!("0\r\n\r\n{SMUGGLED}");
    let long = after_chunks.len();
    let in_chunk = format!("{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
    let after_braces = format!("{{}}{SMUGGLED}");
    let te = |line: &str| {
        request(
            &format!("Content-Length: {long}\r\n{line}\r\n"),
            &after_chunks,
        )
    };
    vec![
        ("length, chunks", te("Transfer-Encoding: chunked")),
        (
            "chunks, length",
            request(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                &in_chunk,
            ),
        ),
        (
            "two lengths",
            request(
                &format!("Content-Length: 2\r\nContent-Length: {}\r\n", length + 2),
                &after_braces,
            ),
        ),
        (
            "two lengths in one",
            request(
                &format!("Content-Length: 2, {}\r\n", length + 2),
                &after_braces,
            ),
        ),
        (
            "chunked, identity",
            te("Transfer-Encoding: chunked, identity"),
        ),
        (
            "identity, chunked",
            te("Transfer-Encoding: identity, chunked"),
        ),
        (
            "two codings",
            te("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        ),
        ("space before the colon", te("Transfer-Encoding : chunked")),
        ("vertical tab", te("Transfer-Encoding: \x0bchunked")),
        ("no such coding", te("Transfer-Encoding: xchunked")),
        ("quoted", te("Transfer-Encoding: \"chunked\"")),
        ("folded", te("Transfer-Encoding:\r\n chunked")),
        ("bare LF before it", te("X: y\nTransfer-Encoding: chunked")),
        ("bare CR before it", te("X: y\rTransfer-Encoding: chunked")),
        ("NUL in it", te("Transfer-Encoding: chun\0ked")),
        (
            "length with a sign",
            request("Content-Length: +2\r\n", &after_braces),
        ),
        (
            "negative length",
            request("Content-Length: -1\r\n", &after_braces),
        ),
        (
            "hexadecimal length",
            request("Content-Length: 0x2\r\n", &after_braces),
        ),
        (
            "length beyond 64 bits",
            request("Content-Length: 18446744073709551618\r\n", &after_braces),
        ),
        (
            "chunks in HTTP/1.0",
            te("Transfer-Encoding: chunked").replace(
                "HTTP/1.1\r\nHost: localhost\r\nC",
                "HTTP/1.0\r\nHost: localhost\r\nC",
            ),
        ),
        (
            "chunk size beyond 64 bits",
            request(
                "Transfer-Encoding: chunked\r\n",
                &format!("10000000000000002\r\n{{}}\r\n{after_chunks}"),
            ),
        ),
        (
            "chunk size with a sign",
            request(
                "Transfer-Encoding: chunked\r\n",
                &format!("-2\r\n{{}}\r\n{after_chunks}"),
            ),
        ),
        (
            "chunk without its end",
            request(
                "Transfer-Encoding: chunked\r\n",
                &format!("2\r\n{{}}x{after_chunks}"),
            ),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_smuggled_behind_a_request() {
    let house = House::with(&[("TIMEOUTS__CLIENT", "500ms")]).await;
    for (name, bytes) in pairs() {
        let answers = statuses(&wire(house.addr(), bytes.as_bytes()).await);
        assert!(answers.len() <= 1, "{name}: {answers:?}");
        assert!(
            answers
                .iter()
                .all(|status| [400, 408, 501].contains(status)),
            "{name}: {answers:?}"
        );
        house.saw_nothing_smuggled(name);
    }
    house.still_serves().await;
    house.saw_nothing_smuggled("after all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_looks_like_a_request_is_a_body() {
    let house = House::with(&[]).await;
    for (method, path, want) in [
        ("GET", "/api/version", 200),
        ("GET", "/nosuch", 404),
        ("POST", "/api/show", 400),
        ("DELETE", "/api/delete", 400),
        ("POST", "//api/show", 307),
    ] {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        let length = format!("{head}Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len());
        let chunked = format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
            SMUGGLED.len()
        );
        for bytes in [length, chunked] {
            let answers = statuses(&wire(house.addr(), bytes.as_bytes()).await);
            assert_eq!(answers, [want], "{bytes}");
        }
    }
    house.still_serves().await;
    house.saw_nothing_smuggled("after all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_length_twice_and_bare_line_feeds_are_taken_as_ollama_takes_them() {
    let house = House::with(&[]).await;
    let body = r#"{"model":"tiny"}"#;
    let twice = request("Content-Length: 16\r\nContent-Length: 16\r\n", body);
    let feeds = format!("POST /api/show HTTP/1.1\nHost: localhost\nContent-Length: 16\n\n{body}");
    for bytes in [twice, feeds] {
        let direct = statuses(&wire(house.sim.addr(), bytes.as_bytes()).await);
        let through = statuses(&wire(house.addr(), bytes.as_bytes()).await);
        assert_eq!((direct, through), (vec![200], vec![200]), "{bytes}");
    }
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_chunks_are_told_in_each_dialect_and_end_the_connection() {
    let house = House::with(&[]).await;
    for (path, _) in DIALECTS {
        for chunks in [
            "x\r\n{}\r\n",
            "-2\r\n{}\r\n",
            "2\r\n{}x0\r\n\r\n",
            "10000000000000002\r\n{}",
        ] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            let mut client = Client::connect(house.addr()).await;
            client.send(format!("{head}{chunks}{SMUGGLED}")).await;
            let answer = client.response().await;
            assert_eq!(answer.status, 400, "{chunks}: {answer:?}");
            in_its_dialect(path, &answer.json());
            assert!(client.is_closed().await, "{chunks}");
        }
    }
    assert!(house.relayed().is_empty());
    house.still_serves().await;
}
