//! Migrations: once however often, and never backwards.

use std::os::unix::fs::PermissionsExt;

use aivonx_control_plane::store::{DatabaseUrl, Db, StoreError};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use crate::world::{World, change, node, on_both, server};

on_both!(
    migrating_again_does_nothing,
    a_database_of_a_later_version_is_refused,
);

/// A migration that no version has.
const LATER: &str = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";

async fn migrating_again_does_nothing(world: World) {
    world.db.create_node(&change(), node("a")).await.unwrap();
    let before = world.db.fleet().await.unwrap();
    assert_eq!(Db::migrate(&world.url).await, Ok(Vec::new()));
    assert_eq!(world.another().await.fleet().await.unwrap(), before);
}

async fn a_database_of_a_later_version_is_refused(world: World) {
    match &world.url {
        DatabaseUrl::Postgres(at) => {
            let name = at.url().rsplit('/').next().unwrap().to_owned();
            server().sql(&name, LATER).unwrap();
        }
        DatabaseUrl::Sqlite(file) => {
            let mut conn = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
            conn.batch_execute(LATER).unwrap();
        }
        DatabaseUrl::Memory => unreachable!("the tests' databases are files and servers"),
    }
    let newer = StoreError::Newer {
        found: "99990101000000".to_owned(),
    };
    assert_eq!(Db::migrate(&world.url).await, Err(newer.clone()));
    assert_eq!(Db::open(&world.url).await.unwrap_err(), newer);
}

async fn migrate_from_many(url: DatabaseUrl) {
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { Db::migrate(&url).await })
        })
        .collect();
    let mut ran = Vec::new();
    for task in tasks {
        ran.extend(task.await.unwrap().unwrap());
    }
    let mut each = ran.clone();
    each.sort();
    each.dedup();
    assert!(
        !ran.is_empty() && each == ran,
        "each migration runs once, in its order: {ran:?}"
    );
    Db::open(&url).await.unwrap().ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_migrate_one_postgres_at_once_do_it_once() {
    let server = server();
    let url = server.database().unwrap().parse().unwrap();
    migrate_from_many(url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_migrate_one_file_at_once_do_it_once() {
    let folder = tempfile::tempdir().unwrap();
    migrate_from_many(DatabaseUrl::Sqlite(folder.path().join("a.db"))).await;
}

#[tokio::test]
async fn the_file_is_its_owners_alone_with_all_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.db");
    let db = Db::open(&DatabaseUrl::Sqlite(file.clone())).await.unwrap();
    db.create_node(&change(), node("a")).await.unwrap();
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        seen.push(entry.file_name().into_string().unwrap());
    }
    seen.sort();
    assert_eq!(seen, ["a.db", "a.db-shm", "a.db-wal"]);
}

#[tokio::test]
async fn a_database_in_memory_is_one_for_all_who_share_it() {
    let db = Db::open(&"sqlite::memory:".parse().unwrap()).await.unwrap();
    let other = db.clone();
    let (one, two) = (change(), change());
    let done = tokio::join!(
        db.create_node(&one, node("a")),
        other.create_node(&two, node("b")),
    );
    assert!(done.0.is_ok() && done.1.is_ok());
    assert_eq!(db.fleet().await.unwrap().nodes.len(), 2);
}
