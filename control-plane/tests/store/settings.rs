//! Settings of the fleet.

use aivonx_control_plane::domain::SettingsPatch;
use aivonx_control_plane::store::StoreError;
use serde_json::{Value, json};

use crate::world::{World, at, change_at, on_both};

on_both!(settings_grow_in_version_and_fall_back_to_their_defaults);

fn patch(body: Value) -> SettingsPatch {
    SettingsPatch::parse(body, &[]).unwrap()
}

async fn settings_grow_in_version_and_fall_back_to_their_defaults(world: World) {
    let db = &world.db;
    let empty = db.settings().await.unwrap();
    assert_eq!(
        (empty.version, empty.updated_at, empty.settings.strategy()),
        (0, None, "least_active")
    );
    let body = json!({"strategy": "lowest_latency", "pull": {"at_once": 2}});
    let (set, first) = db
        .set_settings(&change_at(1), Some(0), patch(body.clone()))
        .await
        .unwrap();
    assert_eq!(
        (set.version, set.updated_at, set.settings.strategy()),
        (1, Some(at(1)), "lowest_latency")
    );
    assert_eq!(db.settings().await.unwrap(), set);

    let stale = db
        .set_settings(&change_at(2), Some(0), patch(json!({"cloud": "allow"})))
        .await;
    assert_eq!(stale.unwrap_err(), StoreError::Conflict { current: 1 });
    let same = db
        .set_settings(&change_at(2), None, patch(body))
        .await
        .unwrap();
    assert_eq!(same, (set, first));

    let (back, second) = db
        .set_settings(&change_at(3), Some(1), patch(json!({"strategy": null})))
        .await
        .unwrap();
    assert_eq!(
        (back.version, back.settings.strategy()),
        (2, "least_active")
    );
    assert_eq!(back.settings.get("pull"), Some(&json!({"at_once": 2})));
    assert!(second > first);
    let audit = world.audit().await;
    assert_eq!(audit.len(), 2);
    assert_eq!(
        audit[0].before,
        Some(json!({"pull": {"at_once": 2}, "strategy": "lowest_latency"}))
    );
    assert_eq!(audit[0].after, Some(json!({"pull": {"at_once": 2}})));
}
