//! Limits on heads, bodies and connections: what is over them is answered, and costs little.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{quick, wire, wire_text, with_tls};
use crate::support::{Client, H2, PATIENCE, Setup, Tls, chat, get, json_post, post, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_limited_in_size() {
    let sim = quick().await;
    let aivonx = Setup::nodes(&[&sim])
        .set("LIMITS__HEAD", "8 KiB")
        .start()
        .await;
    let head = |bytes| {
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "a".repeat(bytes)
        )
    };
    let answer = wire_text(aivonx.addr, head(9000).as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"),
        "{answer}"
    );
    // on a connection that served before, too
    let mut client = Client::connect(aivonx.addr).await;
    client.send(head(7000)).await;
    assert_eq!(client.response().await.status, 200);
    client.send(head(9000)).await;
    assert_eq!(client.response().await.status, 431);
    assert!(client.is_closed().await);
    // what comes with a head is not counted as one
    let body = chat(&"x".repeat(20_000), 1, false);
    assert_eq!(post(aivonx.addr, "/api/chat", &body).await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let sim = quick().await;
    let setup = Setup::nodes(&[&sim]).set("LIMITS__HEAD_TIMEOUT", "300ms");
    let aivonx = setup.start().await;
    for start in [
        "G",
        "GET / HTTP/1.1\r\nHost: localhost\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM",
    ] {
        let answer = wire_text(aivonx.addr, start.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{start}: {answer}"
        );
    }
    // neither later on a connection, however often a byte comes
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    client.send("GET / HTTP/1.1\r\nX: ").await;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
    let answer = loop {
        tokio::select! {
            answer = client.head() => break answer.unwrap(),
            _ = tick.tick() => {}
        }
        client.send("a").await;
    };
    assert_eq!(answer.status, 408);
    until("no connection is left", || async {
        aivonx.metric("aivonx_connections") == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_head_over_http_2_that_does_not_end_is_not_waited_for() {
    let (sim, folder, tls) = (quick().await, tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let setup = Setup::nodes(&[&sim]).set("LIMITS__HEAD_TIMEOUT", "300ms");
    let aivonx = with_tls(setup, folder.path()).start().await;
    let (plain, secure) = (aivonx.addr, aivonx.tls.unwrap());
    // SETTINGS, then HEADERS that neither end the list nor the stream, and a piece of what follows
    let half = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\0\0\0\0\x01\x82";
    wire(plain, half).await;
    for start in [&half[..], &half[..9], b""] {
        let mut stream = tls.connect(secure, &["h2"]).await.unwrap();
        stream.write_all(start).await.unwrap();
        let mut all = Vec::new();
        // how it ends is the client's affair
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all))
            .await
            .expect("the connection stays open");
    }
    aivonx
        .metric_is(r#"aivonx_rejections_total{reason="head_timeout"}"#, 4.0)
        .await;
    until("no connection is left", || async {
        aivonx.metric("aivonx_connections") == 0.0
    })
    .await;
    // one that has brought a request may rest
    for is_secure in [false, true] {
        let h2 = if is_secure {
            H2::tls(secure, &tls).await
        } else {
            H2::plain(plain).await
        };
        assert_eq!(h2.get("/").await.status, 200);
        wire(plain, half).await; // until the time of a later one has passed
        assert_eq!(h2.get("/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_limited_in_size_with_and_without_a_length() {
    let sim = quick().await;
    let aivonx = Setup::nodes(&[&sim])
        .set("LIMITS__BODY", "100 KiB")
        .start()
        .await;
    let long = chat(&"x".repeat(200_000), 1, false);
    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
        let answer = post(aivonx.addr, path, &long).await;
        assert_eq!(answer.status, 413, "{path}");
        let error = answer.json()["error"].clone();
        let message = error
            .as_str()
            .or_else(|| error["message"].as_str())
            .unwrap();
        assert_eq!(
            message,
            "request body too large: at most 102400 bytes are taken here"
        );
        let answer = H2::plain(aivonx.addr).await.post(path, &long).await;
        assert_eq!(answer.status, 413, "{path} over HTTP/2");
    }
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
            long.len()
        ))
        .await;
    assert_eq!(client.response().await.status, 413);
    // the client is told before it sends
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n")
        .await;
    assert_eq!(client.head().await.unwrap().status, 413);
    assert_eq!(sim.count("/api/chat"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_must_come_at_a_rate_over_either_protocol() {
    let sim = quick().await;
    let aivonx = Setup::nodes(&[&sim])
        .set("TIMEOUTS__CLIENT", "500ms")
        .set("LIMITS__BODY_RATE", "1 MiB")
        .start()
        .await;
    // a byte now and then keeps no connection open
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        .await;
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
    let answer = loop {
        tokio::select! {
            answer = client.head() => break answer.unwrap(),
            _ = tick.tick() => {}
        }
        client.send(" ").await;
    };
    assert_eq!(answer.status, 408);
    // nor does nothing at all, over HTTP/2, where Pingora itself would wait for ever
    let h2 = H2::plain(aivonx.addr).await;
    let answer = h2.open(h2.unfinished("/api/chat"), &[]).await;
    assert_eq!(answer.unwrap().rest().await.status, 408);
    // and a prompt one is none of it
    assert_eq!(
        post(aivonx.addr, "/api/chat", &chat("tiny", 1, false))
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_limited_over_all() {
    let sim = quick().await;
    let aivonx = Setup::nodes(&[&sim])
        .set("LIMITS__CONNECTIONS", "2")
        .start()
        .await;
    let request = json_post(aivonx.addr, "/api/chat", &chat("tiny", 1, false));
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(aivonx.addr).await;
        client.send(&request).await;
        assert_eq!(client.response().await.status, 200);
        held.push(client);
    }
    let answer = wire_text(aivonx.addr, b"").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{answer}"
    );
    assert_eq!(aivonx.metric("aivonx_connections"), 2.0);
    held.pop();
    until("there is room again", || async {
        get(aivonx.addr, "/").await.status == 200
    })
    .await;
}
