//! A database that goes away and comes back.

use std::time::{Duration, Instant};

use aivonx_control_plane::store::{Db, StoreError};
use aivonx_test_servers::Postgres;

use crate::world::{change, node, server};

/// Asks until the database answers again.
async fn wait_for(db: &Db) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = db.ping().await {
        assert!(Instant::now() < deadline, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_stops_is_unavailable_and_serves_again_without_a_restart_of_ours() {
    let server = Postgres::new().unwrap();
    let url = server.database().unwrap().parse().unwrap();
    let db = Db::open(&url).await.unwrap();
    let (made, first) = db.create_node(&change(), node("a")).await.unwrap();
    for crashes in [false, true] {
        if crashes {
            server.crash().unwrap();
        } else {
            server.stop().unwrap();
        }
        for _ in 0..2 {
            assert_eq!(db.ping().await, Err(StoreError::Unavailable));
            let lost = db.create_node(&change(), node("lost")).await;
            assert_eq!(lost, Err(StoreError::Unavailable));
        }
        assert_eq!(Db::open(&url).await.unwrap_err(), StoreError::Unavailable);
        server.start().unwrap();
        wait_for(&db).await;
        assert_eq!(db.node(made.id).await.unwrap(), made);
    }
    let (_, second) = db.create_node(&change(), node("b")).await.unwrap();
    assert_eq!(second.number, first.number + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_ends_between_two_calls_are_not_noticed() {
    let server = Postgres::new().unwrap();
    let url = server.database().unwrap();
    let db = Db::open(&url.parse().unwrap()).await.unwrap();
    db.create_node(&change(), node("a")).await.unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE 'test_%'";
    server.sql("postgres", end).unwrap();
    db.create_node(&change(), node("b")).await.unwrap();
    assert_eq!(db.fleet().await.unwrap().nodes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_for_the_revision_is_told_that_it_is_busy() {
    let server = server();
    let url = server.database().unwrap();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let db = Db::open(&url.parse().unwrap()).await.unwrap();
    let running = server.clone(); // `server` lives to the end of the test
    let holder = tokio::task::spawn_blocking(move || {
        let hold = "BEGIN; UPDATE revision SET number = number; SELECT pg_sleep(8); ROLLBACK";
        running.sql(&name, hold).unwrap();
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut number = 0;
    loop {
        // the holder may not hold it yet
        number += 1;
        match db.create_node(&change(), node(&format!("n{number}"))).await {
            Ok(_) => assert!(Instant::now() < deadline, "nobody held the lock"),
            Err(error) => {
                assert_eq!(error, StoreError::Busy);
                break;
            }
        }
    }
    assert!(db.fleet().await.is_ok(), "readers do not wait for writers");
    holder.await.unwrap();
    db.create_node(&change(), node("after")).await.unwrap();
}
