//! A road that swallows what is sent over it: no connection ends, nothing answers.

use serde_json::{Value, json};

use super::estate;
use crate::support::{Estate, Traffic, until};

const SLOTS: &str = "aivonx_node_slots{model=\"tiny:latest\",node=\"gpu-1\"}";

async fn set_slots(estate: &Estate, at: usize, id: i64, slots: u32) {
    let path = format!("/api/proxy/nodes/{id}");
    let changed = estate
        .api(at, "PATCH", &path, json!({ "slots": slots }))
        .await;
    assert_eq!(changed.status, 200, "{}", changed.body);
}

/// How many data planes are shown, and how many of them as silent.
async fn shown(estate: &Estate, at: usize) -> (usize, usize) {
    let planes = estate
        .api(at, "GET", "/api/proxy/planes", Value::Null)
        .await;
    let planes = planes.body.as_array().cloned();
    let planes = planes.unwrap_or_default();
    let stale = planes.iter().filter(|plane| plane["stale"] == true);
    (planes.len(), stale.count())
}

#[tokio::test]
async fn a_data_plane_cut_off_from_redis_serves_is_shown_as_stale_and_catches_up() {
    let (_sim, estate, id) = estate(1, 2).await;
    let [near, far] = [&estate.planes[0], &estate.planes[1]];
    let traffic = [near, far].map(|plane| Traffic::start(plane.aivonx.addr));
    until("both are shown", || async {
        shown(&estate, 0).await == (2, 0)
    })
    .await;
    for slots in [7, 9] {
        far.redis.cut();
        set_slots(&estate, 0, id, slots).await;
        near.aivonx.metric_is(SLOTS, f64::from(slots)).await;
        until("the silent one is told apart", || async {
            shown(&estate, 0).await == (2, 1)
        })
        .await;
        assert_ne!(far.aivonx.metric(SLOTS), f64::from(slots));
        far.aivonx.metric_is("aivonx_bus_connected", 0.0).await;
        traffic[1].flows().await;
        far.redis.heal();
        far.aivonx.metric_is(SLOTS, f64::from(slots)).await;
        until("both are shown again", || async {
            shown(&estate, 0).await == (2, 0)
        })
        .await;
        if slots == 7 {
            // and a road that is refused outright
            far.redis.refuse();
            far.aivonx.metric_is("aivonx_bus_connected", 0.0).await;
            far.redis.heal();
            far.aivonx.metric_is("aivonx_bus_connected", 1.0).await;
        }
    }
    for traffic in traffic {
        traffic.end().await;
    }
}

#[tokio::test]
async fn a_control_plane_cut_off_from_redis_keeps_changes_and_another_one_publishes_them() {
    let (_sim, estate, id) = estate(2, 1).await;
    let traffic = Traffic::start(estate.planes[0].aivonx.addr);
    let plane = &estate.planes[0].aivonx;
    estate.controls[0].redis.cut();
    set_slots(&estate, 0, id, 7).await;
    plane.metric_is(SLOTS, 7.0).await;

    // with both cut off it waits for the first that is back
    estate.controls[1].redis.cut();
    set_slots(&estate, 1, id, 9).await;
    traffic.flows().await;
    assert_eq!(plane.metric(SLOTS), 7.0);
    estate.controls[0].redis.heal();
    plane.metric_is(SLOTS, 9.0).await;
    until("its data plane is seen again", || async {
        shown(&estate, 0).await == (1, 0)
    })
    .await;
    estate.controls[1].redis.heal();
    until("also by the other", || async {
        shown(&estate, 1).await == (1, 0)
    })
    .await;
    traffic.end().await;
}

#[tokio::test]
async fn a_control_plane_cut_off_from_postgres_says_so_and_works_again_without_a_restart() {
    let (_sim, estate, id) = estate(2, 1).await;
    let traffic = Traffic::start(estate.planes[0].aivonx.addr);
    let (plane, path) = (&estate.planes[0].aivonx, format!("/api/proxy/nodes/{id}"));
    estate.controls[0].postgres.cut();
    let ask = |_| tokio::spawn(estate.try_api(0, "GET", &path, "", &Value::Null));
    let asked: Vec<_> = (0..12).map(ask).collect(); // more than it has connections
    for answer in asked {
        let answer = answer.await.unwrap().unwrap();
        assert_eq!(answer.status, 503, "{}", answer.body);
    }
    set_slots(&estate, 1, id, 7).await;
    plane.metric_is(SLOTS, 7.0).await;
    traffic.flows().await;
    estate.controls[0].postgres.heal();
    until("it works again", || async {
        estate.api(0, "GET", &path, Value::Null).await.status == 200
    })
    .await;
    set_slots(&estate, 0, id, 9).await;
    plane.metric_is(SLOTS, 9.0).await;
    traffic.end().await;
}

#[tokio::test]
async fn a_change_cut_off_before_its_commit_holds_nobody_up_for_long() {
    let (_sim, estate, id) = estate(2, 1).await;
    let traffic = Traffic::start(estate.planes[0].aivonx.addr);
    let (plane, path) = (&estate.planes[0].aivonx, format!("/api/proxy/nodes/{id}"));
    // all of it is done in the database, which holds the lock of all changes and hears no more
    estate.controls[0].postgres.cut_at("UPDATE \"nodes\"");
    let lost = json!({ "slots": 5 });
    let (lost, ()) = tokio::join!(estate.api(0, "PATCH", &path, lost), async {
        until("it is cut off", || async {
            estate.controls[0].postgres.is_cut()
        })
        .await;
        until("others can write", || async {
            let change = json!({ "slots": 7 });
            estate.api(1, "PATCH", &path, change).await.status == 200
        })
        .await;
    });
    assert_eq!(lost.status, 503, "{}", lost.body);
    estate.is_in_force(0).await;
    assert_eq!(plane.metric(SLOTS), 7.0, "nothing of what was refused");
    estate.controls[0].postgres.heal();
    until("it works again", || async {
        estate.api(0, "GET", &path, Value::Null).await.status == 200
    })
    .await;
    traffic.end().await;
}
