//! Keys of the data plane.

use aivonx_control_plane::domain::SettingsPatch;
use aivonx_control_plane::store::{ApiKeyFilter, Page, StoreError};
use serde_json::json;

use crate::world::{World, change, change_at, digest, key, on_both};

on_both!(
    a_key_is_made_changed_rotated_and_revoked,
    ids_and_digests_are_unique_and_no_networks,
    keys_are_listed_and_filtered,
);

async fn a_key_is_made_changed_rotated_and_revoked(world: World) {
    let db = &world.db;
    let (made, first) = db
        .create_api_key(&change(), key("webui"), digest('a'))
        .await
        .unwrap();
    assert_eq!((made.created_by.as_str(), made.version), ("ops", 1));
    assert_eq!(made.spec(), key("webui"));
    let mut wanted = made.spec();
    wanted.rate = Some("60/m".to_owned());
    wanted.expires_at = Some(crate::world::at(100).utc());
    let (changed, second) = db
        .update_api_key(&change(), made.id, Some(1), wanted.clone())
        .await
        .unwrap();
    assert_eq!(
        (changed.spec(), changed.sha256.clone()),
        (wanted, digest('a'))
    );
    let (rotated, third) = db
        .rotate_api_key(&change_at(3), made.id, Some(2), digest('b'))
        .await
        .unwrap();
    assert_eq!(
        (rotated.version, rotated.sha256.reveal()),
        (3, "b".repeat(64).as_str())
    );
    let stale = db
        .rotate_api_key(&change(), made.id, Some(2), digest('c'))
        .await;
    assert_eq!(stale, Err(StoreError::Conflict { current: 3 }));
    let fourth = db.delete_api_key(&change(), made.id, None).await.unwrap();
    assert!(first < second && second < third && third < fourth);
    assert_eq!(db.api_key(made.id).await, Err(StoreError::NotFound));
    let audit = world.audit().await;
    let seen: Vec<_> = audit.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(seen, ["delete", "rotate", "update", "create"]);
    let text = serde_json::to_string(&audit).unwrap();
    assert!(!text.contains("aaaa") && !text.contains("bbbb"), "{text}");
}

async fn ids_and_digests_are_unique_and_no_networks(world: World) {
    let db = &world.db;
    db.create_api_key(&change(), key("a"), digest('a'))
        .await
        .unwrap();
    let (b, _) = db
        .create_api_key(&change(), key("b"), digest('b'))
        .await
        .unwrap();
    let again = db.create_api_key(&change(), key("a"), digest('c')).await;
    assert_eq!(
        again.unwrap_err(),
        StoreError::Duplicate { field: "key_id" }
    );
    let again = db.create_api_key(&change(), key("c"), digest('a')).await;
    assert_eq!(
        again.unwrap_err(),
        StoreError::Duplicate { field: "sha256" }
    );
    let again = db.rotate_api_key(&change(), b.id, None, digest('a')).await;
    assert_eq!(
        again.unwrap_err(),
        StoreError::Duplicate { field: "sha256" }
    );

    let networks = json!({"anonymous": [{"cidr": "10.0.0.0/8", "id": "office"}]});
    let patch = SettingsPatch::parse(networks, &[]).unwrap();
    db.set_settings(&change(), None, patch).await.unwrap();
    let taken = db
        .create_api_key(&change(), key("office"), digest('c'))
        .await;
    assert_eq!(
        taken.unwrap_err(),
        StoreError::Duplicate { field: "key_id" }
    );
    let taken = db
        .update_api_key(&change(), b.id, None, key("office"))
        .await;
    assert_eq!(
        taken.unwrap_err(),
        StoreError::Duplicate { field: "key_id" }
    );
    let networks = json!({"anonymous": [{"cidr": "10.0.0.0/8", "id": "a"}]});
    let patch = SettingsPatch::parse(networks, &[]).unwrap();
    let error = db.set_settings(&change(), None, patch).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Invalid(invalid) if invalid.fields.contains_key("anonymous"))
    );
}

async fn keys_are_listed_and_filtered(world: World) {
    let db = &world.db;
    for (id, letter) in [("team-a", 'a'), ("team-b", 'b'), ("other", 'c')] {
        let mut new = key(id);
        new.enabled = id != "team-b";
        db.create_api_key(&change(), new, digest(letter))
            .await
            .unwrap();
    }
    let list = async |filter: ApiKeyFilter, page: Page| {
        let rows = db.api_keys(filter, page).await.unwrap();
        let ids: Vec<_> = rows.rows.into_iter().map(|key| key.key_id).collect();
        (rows.count, ids.join(" "))
    };
    let all = ApiKeyFilter::default;
    assert_eq!(
        list(
            all(),
            Page {
                limit: 2,
                offset: 0
            }
        )
        .await,
        (3, "team-a team-b".to_owned())
    );
    let filter = ApiKeyFilter {
        descending: true,
        ..all()
    };
    assert_eq!(
        list(
            filter,
            Page {
                limit: 1,
                offset: 0
            }
        )
        .await,
        (3, "other".to_owned())
    );
    let filter = ApiKeyFilter {
        key_id: Some("team-".to_owned()),
        enabled: Some(true),
        ..all()
    };
    assert_eq!(list(filter, Page::ALL).await, (1, "team-a".to_owned()));
}
