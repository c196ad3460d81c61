//! Nodes: made, found, changed, taken out.

use aivonx_control_plane::store::{NodeFilter, NodeSort, Page, StoreError};
use serde_json::json;

use crate::world::{World, at, change, change_at, node, node_from, on_both};

on_both!(
    a_node_is_made_changed_and_taken_out_and_the_audit_tells_it,
    names_are_unique_and_slugs_made_so,
    lists_are_filtered,
    lists_are_filtered_by_label,
    lists_are_sorted_and_cut,
    a_change_for_another_version_is_refused,
    what_changes_nothing_leaves_no_trace,
    what_fails_leaves_no_trace,
    ids_are_never_given_twice,
);

async fn a_node_is_made_changed_and_taken_out_and_the_audit_tells_it(world: World) {
    let db = &world.db;
    let before = db.revision().await.unwrap();
    let new = node_from(json!({
        "name": "GPU (rack 2)", "url": "https://gpu.example/team", "weight": 3, "slots": 2,
        "labels": {"gpu": "a100"}, "models": {"include": ["llama*"], "exclude": ["*:70b"]},
        "bearer_token": "s3cret", "headers": {"X-Team": "s3cret-too"}, "discover": "dns",
    }));
    let (made, first) = db.create_node(&change(), new.clone()).await.unwrap();
    assert_eq!((made.slug.as_str(), made.version), ("GPU-rack-2", 1));
    assert_eq!(made.spec(), new);
    assert_eq!(made.created_at, at(0));
    assert_eq!(db.node(made.id).await.unwrap(), made);
    assert_eq!(
        (first.epoch, first.number),
        (before.epoch, before.number + 1)
    );

    let mut wanted = made.spec();
    wanted.draining = true;
    let (changed, second) = db
        .update_node(&change_at(5), made.id, Some(1), wanted.clone())
        .await
        .unwrap();
    assert_eq!((changed.version, changed.spec()), (2, wanted));
    assert_eq!((changed.created_at, changed.updated_at), (at(0), at(5)));
    let third = db
        .delete_node(&change_at(9), made.id, Some(2))
        .await
        .unwrap();
    assert!(first < second && second < third);
    assert_eq!(db.node(made.id).await, Err(StoreError::NotFound));
    assert_eq!(db.revision().await.unwrap(), third);

    let audit = world.audit().await;
    let seen: Vec<_> = audit.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(seen, ["delete", "update", "create"]);
    let update = &audit[1];
    assert_eq!((update.actor_id, update.actor.as_str()), (Some(7), "ops"));
    assert_eq!((update.address.as_str(), update.at), ("192.0.2.1", at(5)));
    assert_eq!(
        (update.kind.as_str(), update.object_name.as_str()),
        ("node", "GPU (rack 2)")
    );
    let (was, is) = (
        update.before.as_ref().unwrap(),
        update.after.as_ref().unwrap(),
    );
    assert_eq!(
        (&was["draining"], &is["draining"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        (&is["bearer_token"], &is["headers"]),
        (&json!("***"), &json!({"x-team": "***"}))
    );
    assert!(audit[0].after.is_none() && audit[2].before.is_none());
}

async fn names_are_unique_and_slugs_made_so(world: World) {
    let db = &world.db;
    let make = async |name: &str| {
        db.create_node(&change(), node(name))
            .await
            .map(|made| made.0)
    };
    let first = make("CPU node").await.unwrap();
    let second = make("CPU/node").await.unwrap();
    let third = make("CPU-node").await.unwrap();
    let slugs = [&first, &second, &third].map(|node| node.slug.as_str());
    assert_eq!(slugs, ["CPU-node", "CPU-node-2", "CPU-node-3"]);
    let duplicate = StoreError::Duplicate { field: "name" };
    assert_eq!(make("CPU node").await, Err(duplicate.clone()));

    let mut taken = third.spec();
    "CPU node".clone_into(&mut taken.name);
    let renamed = db.update_node(&change(), third.id, None, taken).await;
    assert_eq!(renamed, Err(duplicate));

    // its own slug is no other's, and it keeps the number
    let mut same = second.spec();
    same.weight = 9;
    let (kept, _) = db
        .update_node(&change(), second.id, None, same)
        .await
        .unwrap();
    assert_eq!(kept.slug, "CPU-node-2");
}

/// Four nodes, and their names as a filter finds them.
async fn four(world: &World) {
    for (index, (name, enabled, labels)) in [
        ("beta", true, json!({"gpu": "a100"})),
        ("Alpha_1", false, json!({"gpu": "h100"})),
        ("gamma", true, json!({})),
        ("ÄLPHA%", true, json!({"gpu": "a100", "rack": "2"})),
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({"name": name, "address": "h", "enabled": enabled, "labels": labels});
        let change = change_at(i64::try_from(index).unwrap());
        world
            .db
            .create_node(&change, node_from(body))
            .await
            .unwrap();
    }
}

async fn found(world: &World, filter: NodeFilter, page: Page) -> (i64, String) {
    let rows = world.db.nodes(filter, page).await.unwrap();
    let names: Vec<_> = rows.rows.into_iter().map(|node| node.name).collect();
    (rows.count, names.join(" "))
}

fn seen(count: i64, names: &str) -> (i64, String) {
    (count, names.to_owned())
}

async fn lists_are_filtered(world: World) {
    four(&world).await;
    let all = NodeFilter::default;
    let enabled = NodeFilter {
        enabled: Some(true),
        ..all()
    };
    assert_eq!(
        found(&world, enabled, Page::ALL).await,
        seen(3, "beta gamma ÄLPHA%")
    );
    let draining = NodeFilter {
        draining: Some(true),
        ..all()
    };
    assert_eq!(found(&world, draining, Page::ALL).await, seen(0, ""));
    for (text, names) in [
        ("LPHA", "Alpha_1 ÄLPHA%"),
        ("ä", "ÄLPHA%"),
        ("%", "ÄLPHA%"),
        ("a_", "Alpha_1"),
        ("\\", ""),
    ] {
        let named = NodeFilter {
            name: Some(text.to_owned()),
            ..all()
        };
        assert_eq!(found(&world, named, Page::ALL).await.1, names, "{text}");
    }
}

async fn lists_are_filtered_by_label(world: World) {
    four(&world).await;
    let label = |key: &str, value: Option<&str>| NodeFilter {
        label: Some((key.to_owned(), value.map(str::to_owned))),
        ..NodeFilter::default()
    };
    let second = Page {
        limit: 1,
        offset: 1,
    };
    assert_eq!(
        found(&world, label("gpu", None), second).await,
        seen(3, "Alpha_1")
    );
    let a100 = label("gpu", Some("a100"));
    assert_eq!(found(&world, a100, Page::ALL).await, seen(2, "beta ÄLPHA%"));
    assert_eq!(
        found(&world, label("gpu", Some("a")), Page::ALL).await,
        seen(0, "")
    );
}

async fn lists_are_sorted_and_cut(world: World) {
    four(&world).await;
    let all = NodeFilter::default;
    assert_eq!(
        found(&world, all(), Page::ALL).await,
        seen(4, "beta Alpha_1 gamma ÄLPHA%")
    );
    let middle = Page {
        limit: 2,
        offset: 1,
    };
    assert_eq!(found(&world, all(), middle).await, seen(4, "Alpha_1 gamma"));
    let sorted = NodeFilter {
        sort: NodeSort::Name,
        ..all()
    };
    let names = found(&world, sorted.clone(), Page::ALL).await.1;
    assert_eq!(names, "Alpha_1 beta gamma ÄLPHA%");
    let reversed = NodeFilter {
        descending: true,
        ..sorted
    };
    let names = found(&world, reversed, Page::ALL).await.1;
    assert_eq!(names, "ÄLPHA% gamma beta Alpha_1");
    let newest = NodeFilter {
        sort: NodeSort::CreatedAt,
        descending: true,
        ..all()
    };
    let first = Page {
        limit: 1,
        offset: 0,
    };
    assert_eq!(found(&world, newest, first).await, seen(4, "ÄLPHA%"));
}

async fn a_change_for_another_version_is_refused(world: World) {
    let db = &world.db;
    let (made, revision) = db.create_node(&change(), node("a")).await.unwrap();
    let mut wanted = made.spec();
    wanted.weight = 5;
    let conflict = StoreError::Conflict { current: 1 };
    let update = db.update_node(&change(), made.id, Some(2), wanted).await;
    assert_eq!(update, Err(conflict.clone()));
    assert_eq!(
        db.delete_node(&change(), made.id, Some(7)).await,
        Err(conflict)
    );
    assert_eq!(
        db.delete_node(&change(), made.id + 1, None).await,
        Err(StoreError::NotFound)
    );
    assert_eq!(db.revision().await.unwrap(), revision);
    assert_eq!(world.audit().await.len(), 1);
}

async fn what_changes_nothing_leaves_no_trace(world: World) {
    let db = &world.db;
    let (made, revision) = db.create_node(&change(), node("a")).await.unwrap();
    let same = db
        .update_node(&change_at(9), made.id, Some(1), made.spec())
        .await;
    assert_eq!(same, Ok((made, revision)));
    assert_eq!(world.audit().await.len(), 1);
}

async fn what_fails_leaves_no_trace(world: World) {
    let db = &world.db;
    db.create_node(&change(), node("a")).await.unwrap();
    let before = (db.fleet().await.unwrap(), world.audit().await);
    for _ in 0..3 {
        db.create_node(&change(), node("a")).await.unwrap_err();
    }
    assert_eq!((db.fleet().await.unwrap(), world.audit().await), before);
}

async fn ids_are_never_given_twice(world: World) {
    let db = &world.db;
    let (first, _) = db.create_node(&change(), node("a")).await.unwrap();
    db.delete_node(&change(), first.id, None).await.unwrap();
    let (second, _) = db.create_node(&change(), node("a")).await.unwrap();
    assert!(second.id > first.id);
}
