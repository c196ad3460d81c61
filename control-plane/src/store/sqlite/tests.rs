use diesel_async::SimpleAsyncConnection;
use serde_json::json;

use super::*;
use crate::domain::{AddressRules, NewNode, NodeDraft, NodeRules, draft};
use crate::store::{Change, DatabaseUrl, Db, Pools as AnyPools};

fn node(name: &str) -> NewNode {
    let rules = NodeRules {
        addresses: &AddressRules::default(),
        seal: &|_| None,
    };
    let labels = json!({"filler": "x".repeat(255)});
    let body = json!({"name": name, "address": "h", "labels": labels});
    draft::<NodeDraft>(body, &[])
        .unwrap()
        .create(rules)
        .unwrap()
}

/// Bounds the file's pages for the writer: to SQLite a full disk, as `SQLITE_FULL` tells it.
async fn bound(db: &Db, pages: u32) {
    let AnyPools::Sqlite(pools) = db.pools() else {
        panic!("a SQLite database");
    };
    let mut conn = pools.writer.get().await.unwrap();
    let pragma = format!("PRAGMA max_page_count = {pages}");
    conn.batch_execute(&pragma).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("a.db"));
    let db = Db::open(&url).await.unwrap();
    let change = Change::by_system("test");
    bound(&db, 1).await; // as few as the file has
    let mut made = 0;
    let error = loop {
        match db.create_node(&change, node(&format!("n{made}"))).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 1000, "the disk is never full");
    };
    assert_eq!(error, StoreError::Full);
    let fleet = db.fleet().await.unwrap();
    assert_eq!(
        (fleet.nodes.len(), fleet.revision.number),
        (made, made as u64)
    );

    bound(&db, 100_000).await; // someone made room
    db.create_node(&change, node("after")).await.unwrap();
    let fleet = db.fleet().await.unwrap();
    assert_eq!(fleet.revision.number, made as u64 + 1);
}

#[tokio::test]
async fn who_waits_too_long_for_the_file_is_told_that_it_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("a.db"));
    let db = Db::open(&url).await.unwrap();
    let AnyPools::Sqlite(pools) = db.pools() else {
        panic!("a SQLite database");
    };
    let mut writer = pools.writer.get().await.unwrap();
    writer
        .batch_execute("PRAGMA busy_timeout = 10")
        .await
        .unwrap();
    drop(writer);
    let mut other = connect(&folder.path().join("a.db").to_string_lossy(), "").unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let change = Change::by_system("test");
    let busy = db.create_node(&change, node("a")).await;
    assert_eq!(busy, Err(StoreError::Busy));
    assert!(db.fleet().await.is_ok(), "readers do not wait for writers");
    other.batch_execute("ROLLBACK").unwrap();
    db.create_node(&change, node("a")).await.unwrap();
}
