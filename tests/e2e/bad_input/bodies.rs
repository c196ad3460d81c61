//! Bodies that are broken, deep, huge or compressed to nothing.

use std::fmt::Write as _;

use aivonx_sim::Outcome;

use super::{DIALECTS, House, MIB, in_its_dialect, judged_alike};
use crate::support::{Client, End, post, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_bodies_are_answered_as_by_the_node() {
    let house = House::with(&[]).await;
    let deep = |levels: usize| {
        format!(
            r#"{{"model":"tiny","x":{}{}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    let bodies = [
        String::new(),
        " \n".into(),
        "{".into(),
        "}".into(),
        "nul".into(),
        "null".into(),
        "[]".into(),
        "5".into(),
        "\"tiny\"".into(),
        r#"{"model":"tiny""#.into(),
        r#"{"model":"tiny",}"#.into(),
        r#"{"model":"tiny"]"#.into(),
        r#"{model:"tiny"}"#.into(),
        "{'model':'tiny'}".into(),
        r#"{"model":"ti"#.into(),
        r#"{"model":"\x"}"#.into(),
        "{\"model\":\"ti\nny\"}".into(),
        r#"{"model":5}"#.into(),
        r#"{"model":true}"#.into(),
        r#"{"model":{"name":"tiny"}}"#.into(),
        r#"{"model":["tiny"]}"#.into(),
        r#"{"model":null}"#.into(),
        "{}".into(),
        r#"{"messages":[]}"#.into(),
        r#"{"model":"tiny","stream":"yes"}"#.into(),
        r#"{"model":"tiny","messages":"Hi"}"#.into(),
        r#"{"model":"tiny","messages":[1]}"#.into(),
        r#"{"model":"tiny","options":7}"#.into(),
        r#"{"model":"tiny","max_tokens":"many","messages":[]}"#.into(),
        r#"{"model":"tiny","max_tokens":1e999}"#.into(),
        deep(100),
        deep(10_001),
        "[".repeat(100_000),
        format!(r#"{{"model":"tiny","x":{}"#, r#"{"a":"#.repeat(20_000)),
    ];
    for (path, _) in DIALECTS {
        for body in &bodies {
            let short = &body[..body.len().min(60)];
            let direct = post(house.sim.addr(), path, body).await;
            let through = post(house.addr(), path, body).await;
            judged_alike(path, short, &direct, &through);
        }
    }
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_streams_through_in_bounded_memory() {
    let house = House::with(&[("BODY__BUFFER", "1MiB")]).await;
    house.still_serves().await;
    let before = house.aivonx.rss();
    let mut client = Client::connect(house.addr()).await;
    let head = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n";
    client
        .send(format!("{head}{{\"model\":\"tiny\",\"x\":\""))
        .await;
    let piece = vec![b'a'; MIB as usize];
    let mut most = 0;
    for _ in 0..200 {
        client.send(&piece).await;
        most = most.max(house.aivonx.rss().saturating_sub(before));
    }
    assert!(most < 64 * MIB, "{most} bytes more");
    until("the node has most of it", || async {
        house.sim.in_flight() > 0 || !house.relayed().is_empty()
    })
    .await;
    drop(client);
    until("the node gives it up", || async {
        house
            .relayed()
            .last()
            .is_some_and(|request| request.outcome == Outcome::Cancelled)
    })
    .await;
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_without_a_model_is_refused_after_the_memory_for_one() {
    let house = House::with(&[("BODY__BUFFER", "1MiB"), ("TIMEOUTS__CLIENT", "500ms")]).await;
    house.still_serves().await;
    let before = house.aivonx.rss();
    let filler = "a".repeat(3 << 20);
    for (path, _) in DIALECTS {
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        let length = format!("{head}Content-Length: 1073741824\r\n\r\n{{\"x\":\"{filler}");
        let chunked =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n40000000\r\n{{\"x\":\"{filler}");
        let blank = format!(
            "{head}Content-Length: 1073741824\r\n\r\n{}",
            " ".repeat(3 << 20)
        );
        for bytes in [length, chunked, blank] {
            let mut client = Client::connect(house.addr()).await;
            client.send(bytes).await;
            let answer = client.response().await;
            assert_eq!(
                (answer.status, answer.end),
                (413, End::Complete),
                "{answer:?}"
            );
            in_its_dialect(path, &answer.json());
        }
    }
    let grown = house.aivonx.rss().saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} bytes more");
    assert_eq!(house.relayed().len(), 1, "nothing of it reached the node");
    house.still_serves().await;
}

/// A zstd frame: blocks as they are, and runs of 128 KiB of one byte, which take four.
fn zstd(start: &[u8], runs: usize, end: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68]; // no checksum, no size; a window of 8 MiB
    let mut block = |kind: u32, size: usize, last: bool, bytes: &[u8]| {
        let header = u32::from(last) | kind << 1 | (size as u32) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.extend_from_slice(bytes);
    };
    block(0, start.len(), false, start);
    for _ in 0..runs {
        block(1, 128 << 10, false, b"a");
    }
    block(0, end.len(), true, end);
    frame
}

fn compressed(path: &str, body: &[u8]) -> Vec<u8> {
    let mut head = String::new();
    write!(
        head,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: zstd\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    [head.as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_bodies_take_no_memory_and_are_judged_by_the_node() {
    let house = House::with(&[]).await;
    house.still_serves().await;
    let before = house.aivonx.rss();
    let good = br#"{"model":"tiny","messages":[{"role":"user","content":"Hi"}],"max_tokens":2}"#;
    let frames = [
        ("good", zstd(good, 0, b"")),
        (
            "bomb, model first",
            zstd(br#"{"model":"tiny","x":""#, 200, br#""}"#),
        ),
        (
            "bomb, model last",
            zstd(br#"{"x":""#, 200, br#"","model":"tiny"}"#),
        ),
        (
            "half a gibibyte",
            zstd(br#"{"model":"tiny","x":""#, 4096, br#""}"#),
        ),
        ("no frame", b"{\"model\":\"tiny\"}".to_vec()),
        ("cut", zstd(good, 9, b"")[..60].to_vec()),
        (
            "reserved block",
            zstd(b"", 0, b"")[..6]
                .iter()
                .copied()
                .chain([7, 0, 0])
                .collect(),
        ),
        ("empty", Vec::new()),
        ("garbage in it", zstd(b"\xff\xfe\0", 0, b"")),
    ];
    for path in ["/v1/chat/completions", "/v1/messages", "/api/chat"] {
        for (name, frame) in &frames {
            let bytes = compressed(path, frame);
            let mut direct = Client::connect(house.sim.addr()).await;
            direct.send(&bytes).await;
            let direct = direct.response().await;
            let mut through = Client::connect(house.addr()).await;
            through.send(&bytes).await;
            let through = through.response().await;
            judged_alike(path, name, &direct, &through);
        }
    }
    let grown = house.aivonx.rss().saturating_sub(before);
    assert!(grown < 48 * MIB, "{grown} bytes more");
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_forms_are_judged_by_the_node() {
    let house = House::with(&[]).await;
    let form = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ntiny\r\n--x--\r\n";
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=y",
        "multipart/form-data; boundary=x",
        "application/json",
        "",
    ] {
        for body in [form, &form[..40], "", "--x--", "{\"model\":\"tiny\"}"] {
            let head = format!(
                "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let bytes = head + body;
            let mut direct = Client::connect(house.sim.addr()).await;
            direct.send(&bytes).await;
            let direct = direct.response().await;
            let mut through = Client::connect(house.addr()).await;
            through.send(&bytes).await;
            let through = through.response().await;
            assert_eq!(direct.status, through.status, "{bytes}");
            assert_eq!(direct.text(), through.text(), "{bytes}");
        }
    }
    house.still_serves().await;
}
