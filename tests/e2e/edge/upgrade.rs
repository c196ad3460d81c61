//! The hand-over to a new process: nobody is refused, nothing is cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::{node, with_tls};
use crate::support::{Client, End, H2, Setup, Tls, chat, get, json_post, post, until};

const STREAMS: usize = 200;

fn setup(sim: &aivonx_sim::SimNode, folder: &std::path::Path) -> Setup {
    let socket = folder.join("upgrade.sock").display().to_string();
    // what two hundred streams and probes take on a machine that is busy with other things
    Setup::nodes_with(&[sim], ", slots: 1000", "")
        .set("UPGRADE_SOCKET", &socket)
        .set("TIMEOUTS__DRAIN", "120s")
        .set("PROBE__TIMEOUT", "20s")
}

/// What an answer of the steady ones should be: its status, its end and whether it is whole.
const GOOD: (u16, End, bool) = (200, End::Complete, true);
type Answers = Vec<(u16, End, bool)>;

/// Two hundred requests a second on connections of their own, until told to stop: what aivonx answers
/// itself, in turn with what a node answers, as a stream and whole. The answers of either kind.
async fn steadily(addr: SocketAddr, stop: Arc<AtomicBool>) -> (Answers, Answers) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    let (mut local, mut relayed) = (JoinSet::new(), JoinSet::new());
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        tick.tick().await;
        if number % 2 == 0 {
            local.spawn(async move {
                let answer = get(addr, "/api/version").await;
                (answer.status, answer.end, true)
            });
            continue;
        }
        let body = chat("tiny", 1, number % 4 == 1);
        relayed.spawn(async move {
            let answer = post(addr, "/api/chat", &body).await;
            let is_whole = answer
                .lines()
                .last()
                .is_some_and(|line| line["done"] == true);
            (answer.status, answer.end, is_whole)
        });
    }
    (local.join_all().await, relayed.join_all().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_open_streams_and_steady_requests_nothing_is_refused_and_nothing_cut() {
    let (sim, folder, tls) = (node().await, tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let setup = || with_tls(setup(&sim, folder.path()), folder.path());
    let mut old = setup().start().await;
    let addr = old.addr;
    // two hundred streams of several seconds, a quarter over HTTP/2 and some of these over TLS
    let body = chat("tiny", 300, true);
    let secure = H2::tls(old.tls.unwrap(), &tls).await;
    let h2 = H2::plain(addr).await;
    let mut streams = JoinSet::new();
    let begun = Arc::new(AtomicUsize::new(0));
    for number in 0..STREAMS {
        let h2 = if number % 16 == 0 { &secure } else { &h2 };
        let (h2, begun, body) = (h2.clone(), Arc::clone(&begun), body.clone());
        streams.spawn(async move {
            if number % 4 == 0 {
                let head = h2.head(http::Method::POST, "/api/chat");
                let stream = h2.open(head, &[body.as_bytes()]).await.unwrap();
                begun.fetch_add(1, Ordering::Relaxed);
                return stream.rest().await;
            }
            let mut client = Client::connect(addr).await;
            client.send(json_post(addr, "/api/chat", &body)).await;
            let mut answer = client.head().await.unwrap();
            begun.fetch_add(1, Ordering::Relaxed);
            while client.chunk(&mut answer).await {}
            answer
        });
    }
    until("all streams have begun", || async {
        begun.load(Ordering::Relaxed) == STREAMS
    })
    .await;
    // and two hundred new requests a second, of which the node answers every second one
    let stop = Arc::new(AtomicBool::new(false));
    let steady = tokio::spawn(steadily(addr, Arc::clone(&stop)));
    // one connection that is used now and then
    let mut kept = Client::connect(addr).await;
    let request = "GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n";
    kept.send(request).await;
    assert_eq!(kept.response().await.status, 200);

    let new = tokio::spawn(setup().argument("--upgrade").start());
    old.signal(Signal::SIGQUIT);
    let new = new.await.unwrap();
    let (were, are) = ((addr, old.ops, old.tls), (new.addr, new.ops, new.tls));
    assert_eq!(are, were, "the same sockets");

    until("the old one drains", || async {
        old.log().contains("draining")
    })
    .await;
    kept.send(request).await;
    let answer = kept.response().await;
    assert_eq!(answer.status, 200, "an idle connection is served once more");
    assert_eq!(answer.header("connection"), Some("close"));
    while let Some(answer) = streams.join_next().await {
        let answer = answer.unwrap();
        assert!(
            (answer.status, answer.end) == (200, End::Complete),
            "{} {:?}, {:?}: …{}\nlines of the old one that tell of more than a 200:\n{}",
            answer.status,
            answer.end,
            answer.headers,
            answer.text().lines().last().unwrap_or_default(),
            unusual(&old.access_lines())
        );
        assert_eq!(answer.lines().last().unwrap()["done"], true);
    }
    assert_eq!(old.ends().await, Some(0));
    stop.store(true, Ordering::Relaxed);
    let (local, relayed) = steady.await.unwrap();
    assert!(local.len() + relayed.len() > 200, "{}", local.len());
    assert!(relayed.len() > 100, "{}", relayed.len());
    let wrong = [local, relayed].concat();
    let wrong: Vec<_> = wrong.iter().filter(|answer| **answer != GOOD).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(get(addr, "/").await.status, 200);
    assert!(!folder.path().join("upgrade.sock").exists());
}

/// Access lines of requests that did not go as they should.
fn unusual(lines: &str) -> String {
    let is_usual = |line: &&str| line.contains("\"outcome\":\"ok\"");
    let unusual = lines.lines().filter(|line| !is_usual(line));
    unusual.take(20).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_does_not_get_there_leaves_the_old_one_serving() {
    let (sim, folder) = (node().await, tempfile::tempdir().unwrap());
    let old = setup(&sim, folder.path()).start().await;
    // somebody who takes the sockets and goes away
    let path = folder.path().join("upgrade.sock");
    let place = tokio::net::UnixListener::bind(&path).unwrap();
    old.signal(Signal::SIGQUIT);
    drop(place.accept().await.unwrap());
    until("the log tells", || async {
        old.log().contains("this process goes on")
    })
    .await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(get(old.addr, "/").await.status, 200);
    // a second try
    let new = tokio::spawn(setup(&sim, folder.path()).argument("--upgrade").start());
    let mut old = old;
    old.signal(Signal::SIGQUIT);
    let new = new.await.unwrap();
    assert_eq!(old.ends().await, Some(0));
    assert_eq!(get(new.addr, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_under_way_does_not_keep_sigterm_from_ending_it() {
    let (sim, folder) = (node().await, tempfile::tempdir().unwrap());
    let mut old = setup(&sim, folder.path()).start().await;
    old.signal(Signal::SIGQUIT); // nobody comes
    old.signal(Signal::SIGTERM);
    until("no new connection is taken", || async {
        tokio::net::TcpStream::connect(old.addr).await.is_err()
    })
    .await;
    assert_eq!(old.ends().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_listener_is_handed_over_with_its_streams() {
    let (sim, folder, tls) = (node().await, tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let mut old = with_tls(setup(&sim, folder.path()), folder.path())
        .start()
        .await;
    let addr = old.tls.unwrap();
    let before = H2::tls(addr, &tls).await;
    let body = chat("tiny", 150, true);
    let head = before.head(http::Method::POST, "/api/chat");
    let stream = before.open(head, &[body.as_bytes()]).await.unwrap();

    let successor = with_tls(setup(&sim, folder.path()), folder.path());
    let new = tokio::spawn(successor.argument("--upgrade").start());
    old.signal(Signal::SIGQUIT);
    let new = new.await.unwrap();
    assert_eq!(
        (new.tls, new.addr),
        (Some(addr), old.addr),
        "the same sockets"
    );
    drop(connected_anew(addr, &tls).await);
    let answer = stream.rest().await;
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(answer.lines().last().unwrap()["done"], true);
    assert_eq!(old.ends().await, Some(0));
    let after = H2::tls(addr, &tls).await;
    assert_eq!(after.get("/api/version").await.status, 200);
}

/// A connection that answers a first request. Until the old process drains it may still take one, and ends it
/// with a GOAWAY before the client has sent anything: clients then connect anew (RFC 9113, section 6.8).
async fn connected_anew(addr: SocketAddr, tls: &Tls) -> H2 {
    loop {
        let h2 = H2::tls(addr, tls).await;
        let head = h2.head(http::Method::GET, "/api/version");
        match h2.open(head, &[]).await {
            Ok(answer) => {
                assert_eq!(answer.rest().await.status, 200);
                return h2;
            }
            Err(error) => {
                let is_parting = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
                assert!(is_parting, "{error}");
            }
        }
    }
}
