//! HTTP/2 on the plain port: the same answers as over HTTP/1.1, streams that end and break as they
//! should, and clients that want too much.

use aivonx_sim::{Fault, FaultScope};
use http::Method;

use super::{node, quick, wire};
use crate::support::{Aivonx, End, H2, Setup, chat, last_chat, post, until};

/// What is the same over both, times and ids aside.
fn scrubbed(text: &str) -> String {
    let fields = ["created_at", "created", "id", "request_id"];
    let lines = text.lines().map(|line| {
        let (start, json) = match line.strip_prefix("data: ") {
            Some(json) => ("data: ", json),
            None => ("", line),
        };
        let Ok(mut value) = serde_json::from_str::<serde_json::Value>(json) else {
            return line.to_owned();
        };
        scrub(&mut value, &fields);
        format!("{start}{value}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn scrub(value: &mut serde_json::Value, fields: &[&str]) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if fields.contains(&key.as_str()) || key.ends_with("_duration") {
                    *value = serde_json::Value::Null;
                }
                scrub(value, fields);
            }
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(|value| scrub(value, fields)),
        _ => {}
    }
}

async fn before(sim: &aivonx_sim::SimNode) -> Aivonx {
    Setup::nodes_with(&[sim], ", slots: 400", "").start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_the_same_over_http_2_as_over_http_1() {
    let sim = quick().await;
    let aivonx = before(&sim).await;
    let h2 = H2::plain(aivonx.addr).await;
    let messages = r#""messages":[{"role":"user","content":"Hi"}]"#;
    let long = format!(
        r#""messages":[{{"role":"user","content":"{}"}}]"#,
        "x".repeat(300_000)
    );
    for (path, body) in [
        ("/api/chat", chat("tiny", 5, true)),
        ("/api/chat", chat("tiny", 5, false)),
        (
            "/api/generate",
            r#"{"model":"tiny","prompt":"a","options":{"num_predict":4}}"#.into(),
        ),
        (
            "/v1/chat/completions",
            format!(r#"{{{messages},"stream":true,"max_tokens":5,"model":"tiny"}}"#),
        ),
        (
            "/v1/chat/completions",
            format!(r#"{{{messages},"max_tokens":5,"model":"tiny"}}"#),
        ),
        (
            "/v1/messages",
            format!(r#"{{{messages},"stream":true,"max_tokens":5,"model":"tiny"}}"#),
        ),
        (
            "/v1/messages",
            format!(r#"{{{long},"max_tokens":5,"model":"tiny"}}"#),
        ),
        ("/api/chat", chat("nosuch", 5, true)),
        ("/v1/chat/completions", r#"{"model":"nosuch"}"#.into()),
        ("/v1/messages", "{".into()),
        ("/api/show", r#"{"model":"tiny"}"#.into()),
        ("/api/nosuch", "{}".into()),
    ] {
        let one = post(aivonx.addr, path, &body).await;
        let mut head = h2.head(Method::POST, path);
        head.headers_mut()
            .insert("content-length", body.len().into());
        let two = h2.send(head, &[body.as_bytes()]).await;
        let what = format!("{path} {}", &body[..body.len().min(80)]);
        assert_eq!((two.status, two.end), (one.status, End::Complete), "{what}");
        assert_eq!(
            two.header("content-type"),
            one.header("content-type"),
            "{what}"
        );
        assert_eq!(two.node(), one.node(), "{what}");
        assert_eq!(scrubbed(&two.text()), scrubbed(&one.text()), "{what}");
        for name in ["connection", "transfer-encoding", "keep-alive"] {
            assert_eq!(two.header(name), None, "{what}");
        }
    }
    let line = aivonx
        .access_line(h2.get("/api/version").await.header("x-request-id").unwrap())
        .await;
    assert_eq!(
        (line["status"].clone(), line["outcome"].clone()),
        (200.into(), "ok".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_heads_without_a_body_end_well() {
    let sim = quick().await;
    let aivonx = before(&sim).await;
    let h2 = H2::plain(aivonx.addr).await;
    for (method, path, status) in [
        (Method::GET, "/", 200),
        (Method::HEAD, "/", 200),
        (Method::HEAD, "/api/tags", 200),
        (Method::GET, "/v1/models", 200),
        (Method::GET, "/nosuch", 404),
        (Method::HEAD, "/nosuch", 404),
        (Method::DELETE, "/api/tags", 405),
        (Method::POST, "/api/chat", 400),
    ] {
        let answer = h2.send(h2.head(method.clone(), path), &[]).await;
        assert_eq!(
            (answer.status, answer.end),
            (status, End::Complete),
            "{method} {path}"
        );
        assert_eq!(
            answer.body.is_empty(),
            method == Method::HEAD,
            "{method} {path}"
        );
    }
    let mut preflight = h2.head(Method::OPTIONS, "/api/chat");
    let origin = "http://localhost:3000".parse().unwrap();
    preflight.headers_mut().insert("origin", origin);
    let answer = h2.send(preflight, &[]).await;
    assert_eq!((answer.status, answer.end), (204, End::Complete));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_without_a_length_arrives_whole_however_it_is_cut() {
    let sim = quick().await;
    let aivonx = before(&sim).await;
    let h2 = H2::plain(aivonx.addr).await;
    for size in [10, 60_000, 70_000, 2_000_000] {
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":"{}"}}],"stream":false,"options":{{"num_predict":1}},"model":"tiny"}}"#,
            "x".repeat(size)
        );
        let (start, end) = body.as_bytes().split_at(body.len() / 2);
        let before = sim.count("/api/chat");
        // the end in a frame of its own
        let answer = h2
            .send(h2.head(Method::POST, "/api/chat"), &[start, end, b""])
            .await;
        assert_eq!(
            (answer.status, answer.end),
            (200, End::Complete),
            "{size}: {}",
            answer.text()
        );
        assert_eq!(sim.count("/api/chat"), before + 1);
        assert_eq!(last_chat(&sim).body_len, body.len() as u64, "{size}");
        // the end with the last bytes
        let answer = h2
            .send(h2.head(Method::POST, "/api/chat"), &[start, end])
            .await;
        assert_eq!(
            (answer.status, answer.end),
            (200, End::Complete),
            "{size}: {}",
            answer.text()
        );
        assert_eq!(sim.count("/api/chat"), before + 2);
        assert_eq!(last_chat(&sim).body_len, body.len() as u64, "{size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_share_a_connection() {
    let sim = node().await;
    let aivonx = before(&sim).await;
    let h2 = H2::plain(aivonx.addr).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let h2 = h2.clone();
        tasks.spawn(async move { h2.post("/api/chat", &chat("tiny", 20, true)).await });
    }
    while let Some(answer) = tasks.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert_eq!(answer.lines().last().unwrap()["done"], true);
    }
    assert_eq!(aivonx.metric("aivonx_connections"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_never_ends_well() {
    let sim = node().await;
    let aivonx = before(&sim).await;
    let h2 = H2::plain(aivonx.addr).await;
    for fault in [
        Fault::ResetMidStream { chunks: 3 },
        Fault::Truncate { chunks: 3 },
    ] {
        for (path, body, last) in [
            ("/api/chat", chat("tiny", 50, true), r#"{"error":"#),
            (
                "/v1/chat/completions",
                r#"{"model":"tiny","stream":true,"messages":[]}"#.to_owned(),
                r#"data: {"error":"#,
            ),
            ("/api/chat", chat("tiny", 50, false), ""),
        ] {
            sim.fault_for(fault.clone(), FaultScope::always().path(path));
            let answer = h2.post(path, &body).await;
            sim.clear_faults();
            let text = answer.text();
            let told = !last.is_empty()
                && text
                    .trim_end()
                    .lines()
                    .last()
                    .is_some_and(|line| line.starts_with(last));
            assert!(
                told || answer.end == End::Cut || answer.status == 502,
                "{fault:?} {path}: {answer:?}"
            );
            assert!(
                !text.contains(r#""done":true"#) && !text.contains("[DONE]"),
                "{text}"
            );
        }
    }
    assert_eq!(h2.get("/").await.status, 200, "the connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_stream_cancels_its_request_and_no_other() {
    let sim = node().await;
    let aivonx = before(&sim).await;
    let h2 = H2::plain(aivonx.addr).await;
    let body = chat("tiny", 10_000, true);
    let post = || h2.head(Method::POST, "/api/chat");
    let mut one = h2.open(post(), &[body.as_bytes()]).await.unwrap();
    let two = h2
        .open(post(), &[chat("tiny", 30, true).as_bytes()])
        .await
        .unwrap();
    assert!(one.chunk().await);
    let id = one.head.header("x-request-id").unwrap().to_owned();

    one.reset();

    until("the node is rid of it", || async { sim.in_flight() <= 1 }).await;
    assert_eq!(aivonx.access_line(&id).await["outcome"], "client_gone");
    let two = two.rest().await;
    assert_eq!((two.status, two.end), (200, End::Complete));
    assert_eq!(two.lines().last().unwrap()["done"], true);
    until("its place is free", || async {
        aivonx.metric_sum("aivonx_inflight", "") == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_only_opens_and_resets_loses_its_connection() {
    let sim = quick().await;
    let aivonx = before(&sim).await;
    let mut h2 = H2::plain(aivonx.addr).await;
    let head = || h2.head(Method::POST, "/api/chat");
    let mut opened = 0;
    while opened < 20_000 && h2.open_and_reset(head()).await {
        opened += 1;
    }
    h2.ends().await;
    assert!(opened < 20_000, "it goes on for ever");
    assert_eq!(sim.count("/api/chat"), 0, "no request was sent to a node");
    // the next one is served
    assert_eq!(H2::plain(aivonx.addr).await.get("/").await.status, 200);
}

/// As above, but so that each stream becomes a request of the proxy's before it is reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_broken_off_by_the_hundred_end_their_connection() {
    let sim = quick().await;
    let aivonx = before(&sim).await;
    let mut h2 = H2::plain(aivonx.addr).await;
    for _ in 0..20 {
        let mut streams = Vec::new();
        for _ in 0..50 {
            streams.extend(h2.begin(h2.unfinished("/api/chat")).await.ok());
        }
        // answered after the heads before it were read
        let _ = h2.open(h2.head(Method::GET, "/"), &[]).await;
        drop(streams);
    }
    h2.ends().await;
    let reason = r#"aivonx_rejections_total{reason="rapid_reset"}"#;
    aivonx.metric_is(reason, 1.0).await;
    assert_eq!(sim.count("/api/chat"), 0);
    assert_eq!(H2::plain(aivonx.addr).await.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_lists_beyond_the_limit_are_answered_431() {
    let sim = quick().await;
    let aivonx = before(&sim).await;
    let h2 = H2::plain(aivonx.addr).await;
    let mut head = h2.head(Method::GET, "/");
    for number in 0..70 {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        head.headers_mut()
            .insert(name, "v".repeat(1000).parse().unwrap());
    }
    let answer = h2.send(head, &[]).await;
    assert_eq!((answer.status, answer.end), (431, End::Complete));
    assert_eq!(H2::plain(aivonx.addr).await.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_after_the_preface_ends_the_connection() {
    let sim = quick().await;
    let aivonx = before(&sim).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        &[0xff; 64],
    ] {
        let answer = wire(aivonx.addr, &[preface, garbage].concat()).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    }
    assert_eq!(H2::plain(aivonx.addr).await.get("/").await.status, 200);
}
