//! Clients that are slow, never read, or leave: their request ends soon, and the node's work with it.

use std::time::Duration;

use aivonx_sim::{ModelSpec, NodeSpec, Outcome};

use super::{DIALECTS, House, in_its_dialect};
use crate::support::{Client, chat, json_post, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_half_way_is_given_up() {
    let house = House::with(&[("TIMEOUTS__CLIENT", "300ms")]).await;
    for (path, rest) in DIALECTS {
        let part = format!(r#"{{"model":"tiny",{rest}"#);
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        let length = format!("{head}Content-Length: 5000\r\n\r\n{part}");
        let nothing = format!("{head}Content-Length: 5000\r\n\r\n");
        let long = format!("{head}Content-Length: 500000\r\n\r\n{part}");
        let chunked = format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{part}\r\n",
            part.len()
        );
        let cut = format!("{head}Transfer-Encoding: chunked\r\n\r\nfff\r\n{part}");
        for bytes in [length, nothing, long, chunked, cut] {
            let mut client = Client::connect(house.addr()).await;
            client.send(&bytes).await;
            let answer = client.response().await;
            assert_eq!(answer.status, 408, "{bytes}: {answer:?}");
            in_its_dialect(path, &answer.json());
            assert!(client.is_closed().await, "{bytes}");
        }
    }
    assert!(house.relayed().is_empty());
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_that_stops_while_it_streams_is_given_up_at_the_node_too() {
    let keys = [("TIMEOUTS__CLIENT", "300ms"), ("BODY__BUFFER", "64KiB")];
    let house = House::with(&keys).await;
    let mut client = Client::connect(house.addr()).await;
    let start = r#"{"model":"tiny","messages":[{"role":"user","content":""#;
    let head = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n";
    client
        .send(format!("{head}{start}{}", "a".repeat(500_000)))
        .await;
    until("the node gives it up", || async {
        house
            .relayed()
            .first()
            .is_some_and(|request| request.outcome == Outcome::Cancelled)
    })
    .await;
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_given_up() {
    let chatty = ModelSpec::new("chatty").answer_tokens(10_000_000);
    let house = House::before(
        NodeSpec::new().model(chatty),
        &[("TIMEOUTS__CLIENT", "500ms")],
    )
    .await;
    let before = house.aivonx.rss();
    for path in ["/api/generate", "/v1/completions"] {
        let body = r#"{"model":"chatty","prompt":"Go on","stream":true}"#;
        let mut client = Client::connect(house.addr()).await;
        client.send(json_post(house.addr(), path, body)).await;
        until("the node is at work", || async {
            house.sim.in_flight() == 1
        })
        .await;
        until("the node gives it up", || async {
            house.sim.in_flight() == 0
        })
        .await;
        let last = house.relayed().pop().unwrap();
        assert_eq!(last.outcome, Outcome::Cancelled, "{path}");
        assert!(house.aivonx.rss().saturating_sub(before) < 32 * super::MIB);
        drop(client);
    }
    house.still_serves().await;
}

/// When a client leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    InHead,
    InBody,
    InLongBody,
    Waiting,
    InStream,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_leave_at_any_time() {
    let node = NodeSpec::new()
        .model(ModelSpec::new("cold").load_time(Duration::from_secs(600)))
        .model(
            ModelSpec::new("slow")
                .speed(f64::INFINITY, 20.0)
                .answer_tokens(100_000),
        );
    let house = House::before(node, &[("BODY__BUFFER", "64KiB")]).await;
    for phase in [
        Phase::InHead,
        Phase::InBody,
        Phase::InLongBody,
        Phase::Waiting,
        Phase::InStream,
    ] {
        for resets in [true, false] {
            for stream in [true, false] {
                leave(&house, phase, resets, stream).await;
            }
        }
    }
    house.still_serves().await;
}

async fn leave(house: &House, phase: Phase, resets: bool, stream: bool) {
    let seen = house.relayed().len();
    let mut client = Client::connect(house.addr()).await;
    let model = if phase == Phase::InStream {
        "slow"
    } else {
        "cold"
    };
    let whole = json_post(house.addr(), "/api/chat", &chat(model, 100_000, stream));
    let long = whole.replace("Content-Length: ", "Content-Length: 9000000");
    match phase {
        Phase::InHead => client.send(&whole[..20]).await,
        Phase::InBody => client.send(&whole[..whole.len() - 9]).await,
        Phase::InLongBody => client.send(long + &" ".repeat(100_000)).await,
        Phase::Waiting => client.send(whole).await,
        Phase::InStream => {
            client.send(whole).await;
            if stream {
                let mut head = client.head().await.unwrap();
                assert!(client.chunk(&mut head).await);
            }
        }
    }
    let at_node = !matches!(phase, Phase::InHead | Phase::InBody);
    if at_node {
        until("the node has it", || async { house.relayed().len() > seen }).await;
    }
    if resets {
        client.reset();
    } else {
        drop(client);
    }
    house.is_idle().await;
    let relayed = house.relayed();
    assert_eq!(relayed.len(), seen + usize::from(at_node), "{phase:?}");
    if at_node {
        until("the node gives it up", || async {
            house.relayed().last().unwrap().outcome == Outcome::Cancelled
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sent_more_ahead_may_leave_too() {
    let node = NodeSpec::new().model(ModelSpec::new("cold").load_time(Duration::from_secs(600)));
    let house = House::before(node, &[]).await;
    let whole = json_post(house.addr(), "/api/chat", &chat("cold", 5, true));
    for more in ["\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        for at_once in [true, false] {
            let seen = house.relayed().len();
            let mut client = Client::connect(house.addr()).await;
            if at_once {
                client.send(format!("{whole}{more}")).await;
            } else {
                client.send(&whole).await;
            }
            until("the node has it", || async { house.relayed().len() > seen }).await;
            if !at_once {
                client.send(more).await;
            }
            drop(client);
            house.is_idle().await;
        }
    }
    house.still_serves().await;
}
