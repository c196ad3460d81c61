//! A control plane that is killed in the middle of its work.

use serde_json::{Value, json};

use super::estate;
use crate::support::{Estate, Traffic, until};

/// After how many changes it is killed, each time; four write at once.
const KILLS: [f64; 4] = [5.0, 13.0, 8.0, 21.0];

/// Registers nodes until the control plane is gone; gives the names that were acknowledged.
async fn write(estate: &Estate, name: String) -> Vec<String> {
    let (mut done, mut number) = (Vec::new(), 0);
    loop {
        number += 1;
        let name = format!("{name}-{number}");
        // it takes no requests: nobody listens there
        let draft = json!({ "name": name, "url": "http://127.0.0.1:9", "enabled": false });
        let path = "/api/proxy/nodes";
        match estate.try_api(0, "POST", path, "", &draft).await {
            Some(answer) => {
                assert_eq!(answer.status, 201, "{}", answer.body);
                done.push(name);
            }
            None => return done,
        }
    }
}

/// Names of a query's rows.
async fn names(estate: &Estate, sql: &'static str) -> Vec<String> {
    let rows = estate.sql(sql).await;
    rows.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_whole_however_often_it_is_killed_in_the_middle_of_writes() {
    let (_sim, mut estate, _) = estate(1, 1).await;
    let traffic = Traffic::start(estate.planes[0].aivonx.addr);
    let (mut acknowledged, mut revision) = (Vec::new(), estate.revision().await);
    for (round, enough) in KILLS.into_iter().enumerate() {
        let began = estate.revision().await;
        let writer = |writer| write(&estate, format!("r{round}-w{writer}"));
        let kill = async {
            until("some were written", || async {
                estate.revision().await >= began + enough
            })
            .await;
            estate.controls[0].signal_kill();
        };
        let (a, b, c, d, ()) = tokio::join!(writer(0), writer(1), writer(2), writer(3), kill);
        estate.controls[0].kill();
        acknowledged.extend([a, b, c, d].into_iter().flatten());
        let now = estate.revision().await;
        assert!(now >= revision, "the revision went back");
        revision = now;
        tokio::task::block_in_place(|| estate.controls[0].start_again());
        estate.is_in_force(0).await;
    }
    let kept = names(&estate, "SELECT name FROM nodes ORDER BY name").await;
    let audited = names(
        &estate,
        "SELECT object_name FROM audit WHERE action = 'create' AND kind = 'node' ORDER BY object_name",
    ).await;
    assert_eq!(kept, audited, "no half changes");
    for name in &acknowledged {
        assert!(kept.contains(name), "{name} was acknowledged and is lost");
    }
    assert_eq!(
        estate.revision().await,
        kept.len() as f64,
        "each change has its revision"
    );
    traffic.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_stored_and_not_published_comes_into_force_after_the_next_start() {
    let (_sim, mut estate, id) = estate(1, 1).await;
    let traffic = Traffic::start(estate.planes[0].aivonx.addr);
    // the road ends with the publish: it is committed, and nobody hears of it
    estate.controls[0].redis.cut_at("EVAL");
    let path = format!("/api/proxy/nodes/{id}");
    let changed = estate.api(0, "PATCH", &path, json!({ "slots": 7 })).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    until("it is about to be published", || async {
        estate.controls[0].redis.is_cut()
    })
    .await;
    estate.controls[0].kill();
    let applied = estate.planes[0].aivonx.metric("aivonx_fleet_revision");
    assert!(
        applied < estate.revision().await,
        "it was published already"
    );
    traffic.flows().await;

    estate.controls[0].redis.heal();
    tokio::task::block_in_place(|| estate.controls[0].start_again());
    estate.is_in_force(0).await;
    let series = "aivonx_node_slots{model=\"tiny:latest\",node=\"gpu-1\"}";
    estate.planes[0].aivonx.metric_is(series, 7.0).await;
    let node = estate.api(0, "GET", &path, Value::Null).await;
    assert_eq!(node.body["slots"], 7);
    traffic.end().await;
}
