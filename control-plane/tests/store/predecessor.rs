//! Moving in from the predecessor's database, into either of ours.

use aivonx_control_plane::domain::{AddressRules, Role};
use aivonx_control_plane::predecessor::{Inference, Options, import};
use aivonx_control_plane::store::{AuditFilter, Page, UserFilter};
use aivonx_test_servers::Postgres;
use serde_json::json;

use crate::world::{World, change, hidden, node, on_both, server, user};

const FIXTURE: &str = include_str!("../../../tests/fixtures/predecessor.sql");

on_both!(
    everything_is_taken_once_and_what_is_here_stays,
    a_dry_run_takes_nothing,
    another_database_is_told_apart,
);

fn options(inference: Inference) -> Options {
    Options {
        inference,
        addresses: AddressRules::default(),
        root_password: None,
        dry_run: false,
    }
}

fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// A database of the predecessor's, and the server it is on.
async fn filled(sql: &'static str) -> (std::sync::Arc<Postgres>, String) {
    let made = tokio::task::spawn_blocking(move || {
        let server = server();
        let url = server.database().unwrap();
        server.sql(name_of(&url), sql).unwrap();
        (server, url)
    });
    made.await.unwrap()
}

#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn everything_is_taken_once_and_what_is_here_stays(world: World) {
    let (_server, source) = filled(FIXTURE).await;
    let db = &world.db;
    let root = user("Root", Role::Viewer);
    db.create_user(&change(), user("boss", Role::Admin), hidden("!"))
        .await
        .unwrap();
    db.create_user(&change(), root, hidden("ours"))
        .await
        .unwrap();
    let (own, _) = db.create_node(&change(), node("CPU")).await.unwrap();

    let report = import(&source, &world.url, &options(Inference::Open))
        .await
        .unwrap();
    assert!(
        report.revision.is_some() && report.made_up.is_none(),
        "{report}"
    );
    let fleet = db.fleet().await.unwrap();
    let seen: Vec<_> = fleet
        .nodes
        .iter()
        .map(|node| (node.id, node.name.as_str(), node.url.as_str(), node.enabled))
        .collect();
    assert_eq!(
        seen,
        [
            (own.id, "CPU", "http://10.0.0.1:11434", true),
            (7, "CPU (2)", "http://192.0.2.7:11434", true),
            (8, "CPU (3)", "http://192.0.2.8:8080", true),
        ],
        "{report}"
    );
    assert_eq!(
        fleet.nodes[1].created_at.to_string(),
        "2025-12-26T07:00:00.123456Z"
    );
    assert_eq!(fleet.settings.strategy(), "lowest_latency");
    assert_eq!(fleet.settings.get("anonymous"), Some(&json!("always")));
    let users = db
        .users(UserFilter::default(), Page::ALL)
        .await
        .unwrap()
        .rows;
    let seen: Vec<_> = users
        .iter()
        .map(|user| (user.name.as_str(), user.role, user.is_active))
        .collect();
    assert_eq!(
        seen,
        [
            ("boss", Role::Admin, true),
            ("Root", Role::Viewer, true),
            ("vera", Role::Operator, true),
            ("nopass", Role::Viewer, true),
            ("gone", Role::Viewer, false),
        ]
    );
    assert_eq!(users[1].password_hash.reveal(), "ours");
    let by = AuditFilter {
        actor: Some("import-predecessor".to_owned()),
        ..AuditFilter::default()
    };
    let audit = db.audit(by, Page::ALL).await.unwrap();
    assert_eq!(
        audit.count,
        2 + 3 + 1 + 1,
        "nodes, users, settings, the epoch"
    );
    assert!(!format!("{:?}", audit.rows).contains("pbkdf2"));

    let again = import(&source, &world.url, &options(Inference::Open))
        .await
        .unwrap();
    assert_eq!(again.revision, None, "{again}");
    assert_eq!(db.fleet().await.unwrap(), fleet);
}

async fn a_dry_run_takes_nothing(world: World) {
    let (_server, source) = filled(FIXTURE).await;
    let before = world.db.fleet().await.unwrap();
    let options = Options {
        dry_run: true,
        ..options(Inference::Keys)
    };
    let report = import(&source, &world.url, &options).await.unwrap();
    assert_eq!(
        (report.nodes.taken.len(), report.nodes.left.len()),
        (2, 1),
        "{report}"
    );
    assert_eq!(report.users.taken.len(), 4, "{report}");
    assert!(report.to_string().ends_with("dry run: nothing was taken"));
    assert_eq!(world.db.fleet().await.unwrap(), before);
    assert_eq!(
        world
            .db
            .users(UserFilter::default(), Page::ALL)
            .await
            .unwrap()
            .count,
        0
    );
}

async fn another_database_is_told_apart(world: World) {
    let (server, source) = filled(FIXTURE).await;
    let name = name_of(&source).to_owned();
    let (_, empty) = filled("SELECT 1").await;
    let (_, older) =
        filled("CREATE TABLE proxy_node (id int, name text); CREATE TABLE auth_user (id int)")
            .await;
    let (_, closed) = filled(FIXTURE).await;
    let stranger = format!("stranger_{name}");
    let sql = format!(
        "CREATE ROLE {stranger} LOGIN PASSWORD 'hunter2'; GRANT SELECT ON proxy_node, proxy_proxyconfig TO {stranger}"
    );
    let at = name_of(&closed).to_owned();
    let (making, port) = (std::sync::Arc::clone(&server), server.port());
    tokio::task::spawn_blocking(move || making.sql(&at, &sql).unwrap())
        .await
        .unwrap();
    let as_stranger = closed.replace("postgres@", &format!("{stranger}:hunter2@"));
    for (url, words) in [
        (empty.as_str(), "no table `proxy_node`"),
        (&older, "has no column `address`"),
        (&as_stranger, "may not read `auth_user`"),
        (
            &format!("postgres://u:hunter2@127.0.0.1:{port}/nosuch"),
            "cannot connect",
        ),
        ("postgres://u:hunter2@127.0.0.1:1/x", "cannot connect"),
        ("postgres://u:hun/ter2@h:x/d", "percent-encoded"),
        ("sqlite:/tmp/hunter2", "it is a Postgres"),
        ("hunter2", "it is a Postgres"),
    ] {
        let error = import(url, &world.url, &options(Inference::Open))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{url}: {error}");
        assert!(
            !error.contains("hunter2") && !error.contains("ter2"),
            "{error}"
        );
    }
    assert_eq!(world.db.fleet().await.unwrap().nodes, []);
}
