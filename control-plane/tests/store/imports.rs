//! Imports: all or nothing, and newer than everything before.

use aivonx_control_plane::domain::{
    AddressRules, Difference, ImportRules, Role, SettingsPatch, WholeFleet,
};
use aivonx_control_plane::store::{
    ApiKeyFilter, Import, ImportNode, Imported, NodeFilter, Page, StoreError,
};
use aivonx_shared::sealed::SealKey;
use serde_json::json;

use crate::world::{World, at, change, digest, hidden, key, node, on_both, user};

on_both!(
    nodes_keep_their_ids_and_ages_and_new_ones_come_after,
    what_is_there_becomes_what_is_imported,
    an_import_is_taken_over_whole_or_not_at_all,
    a_disabled_key_stays_where_no_document_names_it,
    what_was_a_networks_id_may_become_a_keys,
    a_fleet_laid_beside_its_own_document_is_the_same,
);

fn one(id: Option<i64>, name: &str) -> ImportNode {
    ImportNode {
        id,
        created_at: id.map(|_| at(-1000)),
        node: node(name),
    }
}

async fn nodes_keep_their_ids_and_ages_and_new_ones_come_after(world: World) {
    let db = &world.db;
    let before = db.revision().await.unwrap();
    let import = Import {
        nodes: vec![
            one(Some(41), "a"),
            one(Some(7), "b"),
            one(Some(7), "c"),
            one(None, "d"),
        ],
        users: vec![(user("root", Role::Admin), hidden("pbkdf2"))],
        settings: SettingsPatch::strategy("lowest_latency").unwrap(),
        ..Import::default()
    };
    let (done, revision) = db.import(&change(), import).await.unwrap();
    assert_eq!(
        done,
        Imported {
            created: 5,
            updated: 0,
            deleted: 0
        }
    );
    assert!(revision.epoch > before.epoch);
    assert_eq!(db.node(41).await.unwrap().created_at, at(-1000));
    assert_eq!(db.node(7).await.unwrap().name, "b");
    assert_eq!(
        db.user_by_name("root")
            .await
            .unwrap()
            .password_hash
            .reveal(),
        "pbkdf2"
    );
    assert_eq!(
        db.settings().await.unwrap().settings.strategy(),
        "lowest_latency"
    );
    let (next, _) = db.create_node(&change(), node("e")).await.unwrap();
    assert!(next.id > 41, "{}", next.id);
}

async fn what_is_there_becomes_what_is_imported(world: World) {
    let db = &world.db;
    for name in ["a", "b"] {
        db.create_node(&change(), node(name)).await.unwrap();
    }
    db.create_api_key(&change(), key("k"), digest('a'))
        .await
        .unwrap();
    db.create_api_key(&change(), key("gone"), digest('b'))
        .await
        .unwrap();
    let mut heavier = one(Some(99), "b");
    heavier.node.weight = 5;
    let import = Import {
        nodes: vec![heavier, one(None, "c")],
        keys: vec![(key("k"), digest('c'))],
        replace: true,
        expected: Some(db.revision().await.unwrap()),
        ..Import::default()
    };
    let (done, _) = db.import(&change(), import.clone()).await.unwrap();
    assert_eq!(
        done,
        Imported {
            created: 1,
            updated: 2,
            deleted: 2
        }
    );
    let nodes = db
        .nodes(NodeFilter::default(), Page::ALL)
        .await
        .unwrap()
        .rows;
    let seen: Vec<_> = nodes
        .iter()
        .map(|node| (node.name.as_str(), node.weight))
        .collect();
    assert_eq!(seen, [("b", 5), ("c", 1)]);
    let again = db.import(&change(), import.clone()).await;
    assert!(
        matches!(again, Err(StoreError::Conflict { .. })),
        "{again:?}"
    );
    let again = db
        .import(
            &change(),
            Import {
                expected: None,
                ..import
            },
        )
        .await
        .unwrap();
    assert_eq!(again.0, Imported::default());
}

async fn an_import_is_taken_over_whole_or_not_at_all(world: World) {
    let db = &world.db;
    db.create_node(&change(), node("a")).await.unwrap();
    let before = (db.fleet().await.unwrap(), world.audit().await.len());
    let networks = json!({"anonymous": [{"cidr": "10.0.0.0/8", "id": "k"}]});
    let import = Import {
        nodes: vec![one(None, "b")],
        keys: vec![(key("k"), digest('a'))],
        settings: SettingsPatch::parse(networks, &[]).unwrap(),
        replace: true,
        ..Import::default()
    };
    let error = db.import(&change(), import).await.unwrap_err();
    assert_eq!(error, StoreError::Duplicate { field: "key_id" });
    assert_eq!(
        (db.fleet().await.unwrap(), world.audit().await.len()),
        before
    );
}

async fn a_disabled_key_stays_where_no_document_names_it(world: World) {
    let db = &world.db;
    for (id, letter) in [("off", 'a'), ("on", 'b')] {
        let mut new = key(id);
        new.enabled = id == "on";
        db.create_api_key(&change(), new, digest(letter))
            .await
            .unwrap();
    }
    let import = Import {
        replace: true,
        ..Import::default()
    };
    let (done, _) = db.import(&change(), import).await.unwrap();
    assert_eq!(done.deleted, 1);
    let left = db
        .api_keys(ApiKeyFilter::default(), Page::ALL)
        .await
        .unwrap();
    assert_eq!(left.rows[0].key_id, "off");
    assert_eq!(left.count, 1);
}

async fn what_was_a_networks_id_may_become_a_keys(world: World) {
    let db = &world.db;
    let networks = json!({"anonymous": [{"cidr": "10.0.0.0/8", "id": "office"}]});
    let patch = SettingsPatch::parse(networks, &[]).unwrap();
    db.set_settings(&change(), None, patch).await.unwrap();
    let import = Import {
        keys: vec![(key("office"), digest('a'))],
        settings: SettingsPatch::whole(&WholeFleet::default().settings),
        replace: true,
        ..Import::default()
    };
    db.import(&change(), import).await.unwrap();
    assert_eq!(db.fleet().await.unwrap().keys[0].key_id, "office");
}

async fn a_fleet_laid_beside_its_own_document_is_the_same(world: World) {
    let db = &world.db;
    db.create_node(&change(), node("GPU (rack 2)"))
        .await
        .unwrap();
    db.create_node(&change(), node("GPU-rack-2")).await.unwrap();
    let mut new = key("k");
    (new.expires_at, new.rate) = (Some(at(0).utc()), Some("60/m".to_owned()));
    db.create_api_key(&change(), new, digest('a'))
        .await
        .unwrap();
    let settings = json!({"strategy": "lowest_latency", "keep_alive": [{"max": "1h"}]});
    let patch = SettingsPatch::parse(settings, &[]).unwrap();
    db.set_settings(&change(), None, patch).await.unwrap();

    let fleet = db.fleet().await.unwrap();
    let rules = ImportRules {
        addresses: &AddressRules::default(),
        key: &SealKey::parse(&"07".repeat(32)).unwrap(),
    };
    let wanted = fleet
        .whole()
        .with_document(&fleet.document(), rules)
        .unwrap();
    assert_eq!(
        Difference::between(&fleet.whole(), &wanted),
        Difference::default()
    );
    let import = Import {
        nodes: wanted
            .nodes
            .iter()
            .map(|node| ImportNode {
                id: None,
                created_at: None,
                node: node.clone(),
            })
            .collect(),
        keys: wanted.keys.clone(),
        settings: wanted.settings_patch(),
        replace: true,
        ..Import::default()
    };
    let (done, _) = db.import(&change(), import).await.unwrap();
    assert_eq!(done, Imported::default());
    assert_eq!(db.fleet().await.unwrap().document(), fleet.document());
}
