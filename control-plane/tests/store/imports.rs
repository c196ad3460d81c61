//! Imports: all or nothing, and newer than everything before.

use aivonx_control_plane::domain::{Role, SettingsPatch};
use aivonx_control_plane::store::{Import, ImportNode, Imported, NodeFilter, Page, StoreError};
use serde_json::json;

use crate::world::{World, at, change, digest, hidden, key, node, on_both, user};

on_both!(
    nodes_keep_their_ids_and_ages_and_new_ones_come_after,
    what_is_there_becomes_what_is_imported,
    an_import_is_taken_over_whole_or_not_at_all,
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
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(
        (db.fleet().await.unwrap(), world.audit().await.len()),
        before
    );
}
