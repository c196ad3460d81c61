//! Two control planes on one Postgres that change one node at the same time.

use serde_json::{Value, json};

use super::estate;
use crate::support::{Estate, Traffic};

/// Changes by each control plane.
const EACH: usize = 25;

/// Sets labels of its own, one after the other, and takes no conflict for an answer.
async fn without_a_version(estate: &Estate, at: usize, path: &str) {
    for number in 0..EACH {
        let change = match at {
            0 => json!({ "weight": number + 2 }),
            _ => json!({ "labels": { "last": number.to_string() } }),
        };
        let answer = estate.api(at, "PATCH", path, change).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

/// Adds one to the slots, at the version that it read; gives how often another one was first.
async fn at_its_version(estate: &Estate, at: usize, path: &str) -> usize {
    let (mut left, mut conflicts) = (EACH, 0);
    while left > 0 {
        let present = estate.api(at, "GET", path, Value::Null).await.body;
        let line = format!("If-Match: \"{}\"\r\n", present["version"]);
        let change = json!({ "slots": present["slots"].as_i64().unwrap() + 1 });
        let answer = estate.try_api(at, "PATCH", path, &line, &change).await;
        match answer.map(|answer| answer.status) {
            Some(200) => left -= 1,
            Some(412) => conflicts += 1,
            other => panic!("{other:?}"),
        }
    }
    conflicts
}

/// Rows in the audit about changes of nodes.
async fn changes(estate: &Estate) -> usize {
    let count = "SELECT count(*) FROM audit WHERE action = 'update' AND kind = 'node'";
    estate.sql(count).await.parse().unwrap()
}

#[tokio::test]
async fn of_two_who_change_one_node_without_a_version_both_are_done() {
    let (_sim, estate, id) = estate(2, 2).await;
    let (path, before) = (format!("/api/proxy/nodes/{id}"), estate.revision().await);
    let traffic = Traffic::start(estate.planes[0].aivonx.addr);
    tokio::join!(
        without_a_version(&estate, 0, &path),
        without_a_version(&estate, 1, &path),
    );
    let node = estate.api(1, "GET", &path, Value::Null).await.body;
    assert_eq!(node["weight"], EACH + 1);
    assert_eq!(node["labels"]["last"], (EACH - 1).to_string());
    assert_eq!(
        changes(&estate).await,
        2 * EACH,
        "each has its row in the audit"
    );
    assert_eq!(estate.revision().await, before + (2 * EACH) as f64);
    for plane in 0..2 {
        estate.is_in_force(plane).await;
    }
    traffic.end().await;
}

#[tokio::test]
async fn of_two_who_change_one_node_at_its_version_none_overwrites_the_other() {
    let (_sim, estate, id) = estate(2, 2).await;
    let path = format!("/api/proxy/nodes/{id}");
    let slots = estate.api(0, "GET", &path, Value::Null).await.body["slots"].clone();
    let traffic = Traffic::start(estate.planes[1].aivonx.addr);
    let conflicts = tokio::join!(
        at_its_version(&estate, 0, &path),
        at_its_version(&estate, 1, &path),
    );
    assert!(conflicts.0 + conflicts.1 > 0, "they never raced");
    let node = estate.api(0, "GET", &path, Value::Null).await.body;
    assert_eq!(
        node["slots"],
        slots.as_i64().unwrap() + i64::try_from(2 * EACH).unwrap()
    );
    for plane in &estate.planes {
        let series = "aivonx_node_slots{model=\"tiny:latest\",node=\"gpu-1\"}";
        let slots = node["slots"].as_f64().unwrap();
        plane.aivonx.metric_is(series, slots).await;
    }
    traffic.end().await;
}
