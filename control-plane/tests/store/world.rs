//! What tests stand on: a database of their own, and short ways to say what goes in.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aivonx_control_plane::domain::{
    AddressRules, ApiKeyDraft, Hidden, NewApiKey, NewNode, NewUser, NodeDraft, NodeRules, Role,
    draft,
};
use aivonx_control_plane::store::{
    Actor, AuditFilter, AuditRow, Change, DatabaseUrl, Db, Page, Time,
};
use aivonx_test_servers::Postgres;
use serde_json::Value;
use tempfile::TempDir;

/// Runs each test on both databases.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test($crate::world::World::sqlite().await).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test($crate::world::World::postgres().await).await;
                }
            )*
        }
    };
}
pub(crate) use on_both;

/// A database and what keeps it alive.
pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) url: DatabaseUrl,
    _folder: Option<TempDir>,
    _server: Option<Arc<Postgres>>,
}

/// One server for all tests that run at a time; the last of them ends it.
static SERVER: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

pub(crate) fn server() -> Arc<Postgres> {
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Postgres::new().unwrap());
    *shared = Arc::downgrade(&server);
    server
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("data/aivonx.db"));
        Self {
            db: Db::open(&url).await.unwrap(),
            url,
            _folder: Some(folder),
            _server: None,
        }
    }

    pub(crate) async fn postgres() -> Self {
        let (server, url) = tokio::task::spawn_blocking(|| {
            let server = server();
            let url = server.database().unwrap();
            (server, url)
        })
        .await
        .unwrap();
        let url = url.parse().unwrap();
        Self {
            db: Db::open(&url).await.unwrap(),
            url,
            _folder: None,
            _server: Some(server),
        }
    }

    /// Another control plane on the same database.
    pub(crate) async fn another(&self) -> Db {
        Db::open(&self.url).await.unwrap()
    }

    pub(crate) async fn audit(&self) -> Vec<AuditRow> {
        let all = self.db.audit(AuditFilter::default(), Page::ALL).await;
        all.unwrap().rows
    }
}

/// So many seconds after an instant of the tests' own clock.
pub(crate) fn at(seconds: i64) -> Time {
    chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0)
        .unwrap()
        .into()
}

pub(crate) fn change_at(seconds: i64) -> Change {
    Change {
        actor: Actor {
            user_id: Some(7),
            name: "ops".to_owned(),
        },
        address: Some(IpAddr::from([192, 0, 2, 1])),
        now: at(seconds),
    }
}

pub(crate) fn change() -> Change {
    change_at(0)
}

pub(crate) fn hidden(text: &str) -> Hidden {
    Hidden::new(text)
}

pub(crate) fn node_from(body: Value) -> NewNode {
    let rules = AddressRules::default();
    let rules = NodeRules {
        addresses: &rules,
        seal: &|text| Some(format!("v1.{}", text.len())),
    };
    draft::<NodeDraft>(body, &[])
        .unwrap()
        .create(rules)
        .unwrap()
}

pub(crate) fn node(name: &str) -> NewNode {
    node_from(serde_json::json!({"name": name, "address": "10.0.0.1", "port": 11434}))
}

pub(crate) fn key(key_id: &str) -> NewApiKey {
    let body = serde_json::json!({"key_id": key_id});
    draft::<ApiKeyDraft>(body, &[]).unwrap().create().unwrap()
}

/// A digest that no other letter gives.
pub(crate) fn digest(letter: char) -> Hidden {
    Hidden::new(letter.to_string().repeat(64))
}

pub(crate) fn user(name: &str, role: Role) -> NewUser {
    NewUser {
        name: name.to_owned(),
        email: String::new(),
        role,
        is_active: true,
        must_change_password: false,
    }
}
