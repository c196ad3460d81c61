//! Bodies and answers as they come: events, uploads and their limit.

use nix::sys::signal::Signal;

use super::{Control, house, node, open, send};
use crate::support::{Client, H2, Setup, until};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_before_the_next_one_is_sent() {
    let (_sim, control, aivonx) = house().await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send("GET /ui/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let mut answer = client.head().await.unwrap();
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let h2 = H2::plain(aivonx.addr).await;
    let mut other = h2
        .open(h2.head(http::Method::GET, "/ui/events"), &[])
        .await
        .unwrap();
    for number in 0..3 {
        let event = format!("data: {number}\n\n");
        assert!(client.chunk(&mut answer).await && other.chunk().await);
        assert!(answer.text().ends_with(&event), "{}", answer.text());
        assert!(other.head.text().ends_with(&event));
        control.next_event.notify_waiters();
    }
    client.reset();
    other.reset();
    let outcome = r#""outcome":"client_gone""#;
    until("both are known to have left", || async {
        aivonx.access_lines().matches(outcome).count() == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_leaves_does_not_wait_for_events() {
    let (sim, control) = (node().await, Control::start().await);
    let setup = open(Setup::nodes(&[&sim]), control.addr).set("TIMEOUTS__DRAIN", "600s");
    let mut aivonx = setup.start().await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send("GET /ui/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let mut answer = client.head().await.unwrap();
    assert!(client.chunk(&mut answer).await);
    aivonx.signal(Signal::SIGTERM);
    assert_eq!(aivonx.ends().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_up_to_the_limit_arrives_whole_and_a_longer_one_is_refused() {
    let (_sim, control, aivonx) = house().await;
    let most = "x".repeat(16 * MIB);
    let answer = send(aivonx.addr, "POST", "/api/proxy/import", "", &most).await;
    assert_eq!((answer.status, answer.body.len()), (200, 16 * MIB));

    let mut client = Client::connect(aivonx.addr).await;
    let head = |framing: &str| {
        format!("POST /api/proxy/import HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n")
    };
    let chunked = head("Transfer-Encoding: chunked");
    client.send(&chunked).await;
    for _ in 0..16 {
        client
            .send(format!("{MIB:x}\r\n{}\r\n", "x".repeat(MIB)))
            .await;
    }
    client.send("0\r\n\r\n").await;
    let answer = client.response().await;
    assert_eq!((answer.status, answer.body.len()), (200, 16 * MIB));
    let count = control.seen().len();

    // said by its length, asked before it is sent, and found out on the way
    let longer = format!("Content-Length: {}", 16 * MIB + 1);
    for framing in [&longer, &format!("{longer}\r\nExpect: 100-continue")] {
        let mut client = Client::connect(aivonx.addr).await;
        client.send(head(framing)).await;
        let answer = client.response().await;
        assert_eq!(answer.status, 413, "{framing}");
        assert!(
            answer.json()["error"]
                .as_str()
                .unwrap()
                .contains("16777216")
        );
    }
    let mut client = Client::connect(aivonx.addr).await;
    client.send(&chunked).await;
    for _ in 0..16 {
        client
            .send(format!("{MIB:x}\r\n{}\r\n", "x".repeat(MIB)))
            .await;
    }
    client.send("1\r\nx\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 413);
    let h2 = H2::plain(aivonx.addr).await;
    let head = h2.head(http::Method::POST, "/api/proxy/import");
    let pieces = vec!["x".repeat(MIB); 17];
    let pieces: Vec<_> = pieces.iter().map(String::as_bytes).collect();
    assert_eq!(h2.send(head, &pieces).await.status, 413);
    assert_eq!(control.seen().len(), count, "none arrived whole");
    let reason = r#"aivonx_rejections_total{reason="body_limit"}"#;
    assert_eq!(aivonx.metric(reason), 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let (_sim, control, aivonx) = house().await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send("PUT /api/proxy/config HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await.unwrap().status, 100);
    client.send("body").await;
    assert_eq!(client.response().await.text(), "body");
    assert!(control.last().all("expect").is_empty());
    client
        .send("GET /ui HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    assert_eq!(
        client.response().await.status,
        200,
        "the connection goes on"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_not_passed_on() {
    let (_sim, control, aivonx) = house().await;
    let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n";
    let answer = send(aivonx.addr, "GET", "/ui", lines, "").await;
    assert_eq!(answer.status, 200);
    assert!(control.last().all("upgrade").is_empty());
}
