//! Clients that leave a pull, and drains.

use nix::sys::signal::Signal;

use super::{endless, slow, start};
use crate::support::{Aivonx, Client, End, Response, Setup, json_post, until};

const JOBS: &str = r#"aivonx_store_jobs{route="/api/pull"}"#;

/// A pull whose first line has come.
async fn begin(aivonx: &Aivonx, body: &str) -> (Client, Response) {
    let mut client = Client::connect(aivonx.addr).await;
    client.send(json_post(aivonx.addr, "/api/pull", body)).await;
    let mut answer = client.head().await.unwrap();
    assert!(client.chunk(&mut answer).await);
    (client, answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_its_pull_on_every_node() {
    let (a, b) = (start(endless()).await, start(endless()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let (client, answer) = begin(&aivonx, r#"{"model":"moa"}"#).await;
    until("both pull", || async {
        aivonx.metric_sum("aivonx_inflight", "") == 2.0
    })
    .await;
    drop(client);
    aivonx.metric_is(JOBS, 0.0).await;
    for node in [&a, &b] {
        until("the node's pull was cancelled", || async {
            let seen = node.requests();
            let pull = seen.iter().find(|request| request.path == "/api/pull");
            pull.is_some_and(|pull| pull.outcome == aivonx_sim::Outcome::Cancelled)
        })
        .await;
    }
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(aivonx.access_line(id).await["outcome"], "client_gone");
    assert!(aivonx.log().contains("its client left"), "{}", aivonx.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_document_says_so_a_pull_goes_on_without_its_client() {
    for nodes in 1..=2 {
        let all = [start(slow()).await, start(slow()).await];
        let some: Vec<_> = all.iter().take(nodes).collect();
        let aivonx = Setup::nodes_with(&some, "", "pull: {when_client_leaves: continue}")
            .start()
            .await;
        let (client, _) = begin(&aivonx, r#"{"model":"moa"}"#).await;
        drop(client);
        for node in some {
            until("it is there", || async {
                node.installed().contains(&"moa:latest".to_owned())
            })
            .await;
        }
        aivonx.metric_is(JOBS, 0.0).await;
        until("its end is logged", || async {
            aivonx.log().contains("store job ended")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_a_pull_and_ends_one_without_a_client() {
    let (a, b) = (start(endless()).await, start(slow()).await);
    let mut aivonx = Setup::nodes_with(&[&a, &b], "", "pull: {when_client_leaves: continue}")
        .start()
        .await;
    let (left, _) = begin(&aivonx, r#"{"model":"moa"}"#).await;
    drop(left);
    until("it goes on alone", || async {
        aivonx.log().contains("it goes on")
    })
    .await;
    aivonx.signal(Signal::SIGTERM);
    assert_eq!(
        aivonx.ends().await,
        Some(0),
        "an endless pull holds up nobody"
    );
    assert!(
        aivonx.log().contains("this process drains"),
        "{}",
        aivonx.log()
    );
    until("the node's pull was cancelled", || async {
        let seen = a.requests();
        seen.iter()
            .any(|request| request.outcome == aivonx_sim::Outcome::Cancelled)
    })
    .await;

    let (a, b) = (start(slow()).await, start(slow()).await);
    let mut aivonx = Setup::nodes(&[&a, &b]).start().await;
    let (mut client, mut answer) = begin(&aivonx, r#"{"model":"moa"}"#).await;
    aivonx.signal(Signal::SIGTERM);
    while client.chunk(&mut answer).await {}
    assert_eq!(answer.end, End::Complete);
    assert_eq!(answer.lines().pop().unwrap()["status"], "success");
    assert_eq!(aivonx.ends().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_holds_up_no_node() {
    let (a, b) = (start(slow()).await, start(slow()).await);
    let aivonx = Setup::nodes(&[&a, &b]).start().await;
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(json_post(aivonx.addr, "/api/pull", r#"{"model":"moa"}"#))
        .await;
    for node in [&a, &b] {
        until("it is there", || async {
            node.installed().contains(&"moa:latest".to_owned())
        })
        .await;
    }
    let answer = client.response().await;
    assert_eq!(answer.lines().pop().unwrap()["status"], "success");
}
