//! The road from a control plane: `aivonx proxy` over a private Redis, on which the test publishes as a
//! control plane would.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aivonx_shared::bus::redis::{RedisBus, RedisOptions};
use aivonx_shared::bus::{Bus, Outcome};
use aivonx_shared::published::Published;
use aivonx_shared::revision::Revision;
use aivonx_shared::sealed::{SealKey, seal};
use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use aivonx_test_servers::Redis;

use crate::support::{Aivonx, Client, Setup, chat, json_post, last_chat, post, until};

/// 32 bytes.
const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

fn spec() -> NodeSpec {
    NodeSpec::new()
        .num_parallel(8)
        .model(ModelSpec::new("tiny").speed(f64::INFINITY, 50.0))
}

async fn node() -> SimNode {
    SimNode::start(spec()).await.unwrap()
}

/// A document of these nodes; `each` are more keys of each node.
fn document(nodes: &[(&str, &SimNode)], each: &str) -> String {
    let mut list = String::new();
    for (name, node) in nodes {
        let comma = if list.is_empty() { "" } else { "," };
        let url = node.url();
        write!(
            list,
            "{comma}{{\"name\":\"{name}\",\"url\":\"{url}\",\"slots\":8{each}}}"
        )
        .unwrap();
    }
    format!("{{\"nodes\":[{list}]}}")
}

fn bus(redis: &Redis) -> RedisBus {
    RedisBus::new(&redis.url(), RedisOptions::default()).unwrap()
}

async fn publish(bus: &RedisBus, number: u64, document: &str) -> Outcome {
    let published = Published::new(Revision::new(1, number), document).unwrap();
    bus.publish_fleet(&published).await.unwrap()
}

async fn serves(aivonx: &Aivonx, node: &str) {
    until(&format!("requests go to {node}"), || async {
        let answer = post(aivonx.addr, "/api/chat", &chat("tiny", 1, false)).await;
        answer.status == 200 && answer.node() == node
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_a_fleet_and_takes_each_change_that_is_newer() {
    let (redis, folder) = (Redis::new(), tempfile::tempdir().unwrap());
    let (a, b, bus) = (node().await, node().await, bus(&redis));
    let aivonx = Setup::bus(&redis.url(), folder.path())
        .not_ready()
        .start()
        .await;
    assert_eq!(aivonx.ops("/readyz"), (503, "no fleet yet\n".into()));
    assert_eq!(aivonx.ops("/healthz").0, 200);

    publish(&bus, 7, &document(&[("a", &a)], "")).await;
    serves(&aivonx, "a").await;
    until("it is ready", || async { aivonx.ops("/readyz").0 == 200 }).await;
    assert_eq!(aivonx.metric("aivonx_fleet_revision"), 7.0);
    assert_eq!(aivonx.metric("aivonx_bus_connected"), 1.0);

    publish(&bus, 9, &document(&[("b", &b)], "")).await;
    serves(&aivonx, "b").await;
    assert_eq!(
        publish(&bus, 8, &document(&[("a", &a)], "")).await,
        Outcome::Stale
    );

    // what is not valid leaves the one before in force, and is said
    publish(&bus, 10, "{\"nodes\":[{\"name\":\"a\"}]}").await;
    aivonx.metric_is("aivonx_fleet_invalid", 1.0).await;
    serves(&aivonx, "b").await;
    assert_eq!(aivonx.metric("aivonx_fleet_revision"), 9.0);
    until("the report says so", || async {
        let reports = bus.reports().await.unwrap();
        let report = &reports[0];
        report.refused && report.applied == Some(Revision::new(1, 9))
    })
    .await;
    publish(&bus, 11, &document(&[("a", &a)], "")).await;
    aivonx.metric_is("aivonx_fleet_invalid", 0.0).await;
    serves(&aivonx, "a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_away_it_starts_from_disk_and_an_older_document_never_replaces_that() {
    let (redis, folder) = (Redis::new(), tempfile::tempdir().unwrap());
    let (a, b) = (node().await, node().await);
    publish(&bus(&redis), 5, &document(&[("a", &a)], "")).await;
    let file = folder.path().join("fleet.json");
    {
        let aivonx = Setup::bus(&redis.url(), folder.path()).start().await;
        serves(&aivonx, "a").await;
        until("it is kept", || async { file.exists() }).await;
    }
    redis.stop();

    let aivonx = Setup::bus(&redis.url(), folder.path()).start().await;
    serves(&aivonx, "a").await;
    assert_eq!(aivonx.metric("aivonx_fleet_revision"), 5.0);
    assert_eq!(aivonx.metric("aivonx_bus_connected"), 0.0);

    // an old control plane fills the empty Redis first
    redis.start();
    let bus = bus(&redis);
    assert_eq!(
        publish(&bus, 4, &document(&[("b", &b)], "")).await,
        Outcome::Applied
    );
    aivonx.metric_is("aivonx_bus_connected", 1.0).await;
    until("it reports again", || async {
        bus.reports().await.is_ok_and(|reports| !reports.is_empty())
    })
    .await;
    assert_eq!(
        bus.reports().await.unwrap()[0].applied,
        Some(Revision::new(1, 5))
    );
    serves(&aivonx, "a").await;
    publish(&bus, 6, &document(&[("b", &b)], "")).await;
    serves(&aivonx, "b").await;
    drop(aivonx);

    // and what is damaged is passed over
    std::fs::write(&file, "{\"epoch\":1,\"number\":").unwrap();
    let aivonx = Setup::bus(&redis.url(), folder.path()).start().await;
    serves(&aivonx, "b").await;
    assert!(
        aivonx.log().contains("cannot be read and is passed over"),
        "{}",
        aivonx.log()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_redis_hangs_and_while_it_is_stopped_and_comes_back_empty() {
    let (redis, folder) = (Redis::new(), tempfile::tempdir().unwrap());
    let (a, b, bus) = (node().await, node().await, bus(&redis));
    publish(&bus, 1, &document(&[("a", &a)], "")).await;
    let aivonx = Setup::bus(&redis.url(), folder.path()).start().await;
    let (addr, enough) = (aivonx.addr, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let enough = Arc::clone(&enough);
            tokio::spawn(async move {
                let (mut client, mut count) = (Client::connect(addr).await, 0);
                while !enough.load(Ordering::Relaxed) {
                    client
                        .send(json_post(addr, "/api/chat", &chat("tiny", 1, false)))
                        .await;
                    let answer = client.response().await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    count += 1;
                }
                count
            })
        })
        .collect();

    redis.pause();
    aivonx.metric_is("aivonx_bus_connected", 0.0).await;
    redis.resume();
    aivonx.metric_is("aivonx_bus_connected", 1.0).await;
    redis.stop();
    aivonx.metric_is("aivonx_bus_connected", 0.0).await;
    redis.start();
    aivonx.metric_is("aivonx_bus_connected", 1.0).await;
    until("it can be published again", || async {
        bus.revision().await.is_ok()
    })
    .await;
    publish(&bus, 2, &document(&[("a", &a), ("b", &b)], "")).await;
    aivonx.metric_is("aivonx_fleet_revision", 2.0).await;
    aivonx.metric_is("aivonx_node_up{node=\"b\"}", 1.0).await;

    enough.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealed_secrets_reach_the_node_and_stay_sealed_on_disk() {
    let (redis, folder) = (Redis::new(), tempfile::tempdir().unwrap());
    let (a, bus) = (node().await, bus(&redis));
    let sealed = seal(&SealKey::parse(KEY).unwrap(), "hush-4711").unwrap();
    let document = document(
        &[("a", &a)],
        &format!(",\"bearer_token\":{{\"sealed\":\"{sealed}\"}}"),
    );
    publish(&bus, 1, &document).await;
    let aivonx = Setup::bus(&redis.url(), folder.path())
        .env("AIVONX_SECRET_KEY", KEY)
        .start()
        .await;
    serves(&aivonx, "a").await;
    assert_eq!(
        last_chat(&a).header("authorization"),
        Some("Bearer hush-4711")
    );
    let file = folder.path().join("fleet.json");
    until("it is kept", || async { file.exists() }).await;
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(kept.contains(&sealed) && !kept.contains("hush"), "{kept}");
    assert!(!aivonx.log().contains("hush"));

    // without the key such a document is not valid, and nothing of it is said
    let other = tempfile::tempdir().unwrap();
    let closed = Setup::bus(&redis.url(), other.path())
        .not_ready()
        .start()
        .await;
    closed.metric_is("aivonx_fleet_invalid", 1.0).await;
    assert!(closed.log().contains("set AIVONX_SECRET_KEY") && !closed.log().contains(&sealed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_beyond_loopback_is_a_warning_where_the_fleet_is_published() {
    let (redis, folder) = (Redis::new(), tempfile::tempdir().unwrap());
    let (a, bus) = (node().await, bus(&redis));
    publish(&bus, 1, &document(&[("a", &a)], "")).await;
    let aivonx = Setup::bus(&redis.url(), folder.path())
        .argument("--listen=0.0.0.0:0")
        .start()
        .await;
    until("it warns", || async {
        aivonx.log().contains("nobody there may use the fleet")
    })
    .await;
}

/// Two data planes over the same four nodes: over a steady load the most loaded node holds at most one
/// request more than the least loaded, on average.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_data_planes_load_the_nodes_alike() {
    const CLIENTS: usize = 16;
    let (redis, bus_folders) = (
        Redis::new(),
        [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()],
    );
    let spec = || {
        NodeSpec::new()
            .num_parallel(16)
            .model(ModelSpec::new("tiny").speed(f64::INFINITY, 20.0))
    };
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(SimNode::start(spec()).await.unwrap());
    }
    let named: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(&nodes).collect();
    publish(
        &bus(&redis),
        1,
        &document(&named, "").replace("\"slots\":8", "\"slots\":16"),
    )
    .await;
    let one = Setup::bus(&redis.url(), bus_folders[0].path())
        .start()
        .await;
    let two = Setup::bus(&redis.url(), bus_folders[1].path())
        .set("SEED", "8")
        .start()
        .await;
    crate::support::warm(&one, &nodes.iter().collect::<Vec<_>>(), "tiny").await;
    crate::support::warm(&two, &nodes.iter().collect::<Vec<_>>(), "tiny").await;

    let enough = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|index| {
            let (enough, addr) = (
                Arc::clone(&enough),
                if index % 2 == 0 { one.addr } else { two.addr },
            );
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                let mut round = 0;
                while !enough.load(Ordering::Relaxed) {
                    // 1 to 2 seconds each, so that they do not go in step
                    let tokens = 20 + ((index * 7 + round * 5) % 20) as u32;
                    client
                        .send(json_post(addr, "/api/chat", &chat("tiny", tokens, false)))
                        .await;
                    assert_eq!(client.response().await.status, 200);
                    round += 1;
                }
            })
        })
        .collect();

    let held = || nodes.iter().map(SimNode::in_flight).collect::<Vec<_>>();
    until("all clients are served", || async {
        held().iter().sum::<usize>() >= CLIENTS - 1
    })
    .await;
    let (mut sum, mut count, mut tick) = (0, 0, tokio::time::interval(Duration::from_millis(20)));
    while count < 400 {
        tick.tick().await;
        let held = held();
        sum += held.iter().max().unwrap() - held.iter().min().unwrap();
        count += 1;
    }
    enough.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let average = sum as f64 / f64::from(count);
    assert!(average <= 1.0, "the difference is {average} on average");
}
