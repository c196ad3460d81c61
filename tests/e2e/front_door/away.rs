//! A control plane that is down, hangs or breaks off: told plainly, and nothing to inference.

use std::net::SocketAddr;

use super::{BROWSER, Control, house, node, open, send};
use crate::support::{Client, End, Setup, chat, post, until};

const AWAY: &str = r#"aivonx_rejections_total{reason="control_plane_away"}"#;

/// An address where nobody listens.
async fn nowhere() -> SocketAddr {
    let mut control = Control::start().await;
    control.stop().await;
    control.addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_is_down_is_told_in_json_or_as_a_page() {
    let sim = node().await;
    let aivonx = open(Setup::nodes(&[&sim]), nowhere().await).start().await;
    let lines = "X-Request-Id: away\r\n";
    let answer = send(aivonx.addr, "PUT", "/api/proxy/config", lines, "{\"a\": 1}").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.text().trim(),
        r#"{"error":"the control plane does not answer"}"#
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        aivonx.access_line("away").await["outcome"],
        "control_plane_away"
    );
    for path in ["/", "/ui/manage"] {
        let page = send(aivonx.addr, "GET", path, BROWSER, "").await;
        assert_eq!(page.status, 503);
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(page.text().contains("The control plane does not answer."));
    }
    assert_eq!(send(aivonx.addr, "HEAD", "/ui", "", "").await.status, 503);
    assert_eq!(aivonx.metric(AWAY), 4.0);
    let warnings = aivonx
        .log()
        .matches("the control plane does not answer")
        .count();
    assert_eq!(warnings, 1, "{}", aivonx.log());
    let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_without_an_address_is_a_control_plane_that_does_not_answer() {
    let sim = node().await;
    let setup = open(Setup::nodes(&[&sim]), nowhere().await);
    let aivonx = setup
        .set("FRONT_DOOR__TO", "http://nobody.invalid:1")
        .start()
        .await;
    let answer = send(aivonx.addr, "GET", "/ui", "", "").await;
    assert_eq!((answer.status, aivonx.metric(AWAY)), (503, 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_there_again_as_soon_as_it_answers() {
    let (_sim, mut control, aivonx) = house().await;
    assert_eq!(send(aivonx.addr, "GET", "/ui", "", "").await.status, 200);
    control.stop().await;
    // the connection that was kept was closed with it
    for _ in 0..3 {
        assert_eq!(send(aivonx.addr, "GET", "/ui", "", "").await.status, 503);
    }
    let again = tokio::net::TcpListener::bind(control.addr).await.unwrap();
    let answer = tokio::spawn(async move {
        let (mut stream, _) = again.accept().await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nagain";
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
            .await
            .unwrap();
        // read to the end, so that nothing is reset
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    });
    assert_eq!(
        send(aivonx.addr, "GET", "/ui", "", "").await.text(),
        "again"
    );
    until("the log says so", || async {
        aivonx.log().contains("the control plane answers again")
    })
    .await;
    answer.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_is_cut_and_one_of_its_own_is_passed_on() {
    let (_sim, _control, aivonx) = house().await;
    let cut = send(aivonx.addr, "GET", "/ui/cut", "X-Request-Id: cut\r\n", "").await;
    assert_eq!(
        (cut.status, cut.end, cut.text().as_str()),
        (200, End::Cut, "cut")
    );
    assert_eq!(aivonx.access_line("cut").await["outcome"], "broken");
    let own = send(aivonx.addr, "GET", "/ui/503", "", "").await;
    assert_eq!((own.status, own.header("x-own")), (503, Some("yes")));
    assert_eq!(own.header("retry-after"), None);
    assert_eq!(aivonx.metric(AWAY), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inference_flows_while_the_control_plane_hangs() {
    let (sim, control, aivonx) = house().await;
    let mut waiting = Vec::new();
    for _ in 0..512 {
        let mut client = Client::connect(aivonx.addr).await;
        client
            .send("GET /ui/hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        waiting.push(client);
    }
    until("all of them hang", || async { control.seen().len() == 512 }).await;
    let busy = send(aivonx.addr, "GET", "/ui", BROWSER, "").await;
    assert_eq!(busy.status, 503);
    assert_eq!(
        busy.json()["error"],
        "too many requests for the control plane at once; try again"
    );
    for _ in 0..20 {
        let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, true)).await;
        assert_eq!((answer.status, answer.end), (200, End::Complete));
    }
    assert_eq!(sim.count("/api/chat"), 20);
    drop(waiting);
    until("their places are free", || async {
        send(aivonx.addr, "GET", "/ui", "", "").await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_address_of_its_name_is_tried_and_then_kept() {
    let (sim, control, folder) = (
        node().await,
        Control::start().await,
        tempfile::tempdir().unwrap(),
    );
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.2 control\n127.0.0.1 control\n").unwrap();
    let aivonx = open(Setup::nodes(&[&sim]), control.addr)
        .set(
            "FRONT_DOOR__TO",
            &format!("http://control:{}", control.addr.port()),
        )
        .set("HOSTS_FILE", &hosts.display().to_string())
        .start()
        .await;
    for (id, attempts) in [("first", 2), ("second", 1)] {
        let lines = format!("X-Request-Id: {id}\r\n");
        let answer = send(aivonx.addr, "PUT", "/api/proxy/config", &lines, "body").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "body"));
        assert_eq!(aivonx.access_line(id).await["attempts"], attempts);
    }
    assert_eq!(control.seen().len(), 2);
    assert!(!aivonx.log().contains("does not answer"));
}
