//! Moving in from the predecessor: its database is read, and aivonx goes on from there with its nodes, its users'
//! passwords and inference as the operator chose.

use std::process::{Command, Output};

use aivonx_sim::SimNode;
use aivonx_test_servers::Postgres;
use serde_json::{Value, json};

use super::node;
use crate::support::{Setup, Stack, chat, log_in, until};

const FIXTURE: &str = include_str!("../../fixtures/predecessor.sql");
const ROOT: &str = "old password of root";

/// The predecessor's database with a node that answers, and the address of the one to move into.
struct Move {
    postgres: Postgres,
    source: String,
    target: String,
    sim: SimNode,
    folder: tempfile::TempDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Sqlite,
    Postgres,
}

impl Move {
    async fn new(into: Target) -> Self {
        let sim = node().await;
        let folder = tempfile::tempdir().unwrap();
        let row = format!(
            "INSERT INTO proxy_node (id, name, address, port, active, available_models, created_at) \
             VALUES (41, 'GPU 1', '127.0.0.1', {}, true, '[]', now())",
            sim.addr().port()
        );
        let made = tokio::task::spawn_blocking(move || {
            let postgres = Postgres::new().unwrap();
            let (source, target) = (postgres.database().unwrap(), postgres.database().unwrap());
            let name = source.rsplit('/').next().unwrap();
            postgres.sql(name, FIXTURE).unwrap();
            postgres.sql(name, &row).unwrap();
            (postgres, source, target)
        });
        let (postgres, source, target) = made.await.unwrap();
        let target = match into {
            Target::Sqlite => format!("sqlite:{}/aivonx.db", folder.path().display()),
            Target::Postgres => target,
        };
        Self {
            postgres,
            source,
            target,
            sim,
            folder,
        }
    }

    /// Runs `aivonx import-predecessor`; gives its exit code and what it printed.
    async fn import(&self, source: &str, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aivonx"));
        command.args(["import-predecessor", source]).args(arguments);
        command.env("AIVONX_CONTROL_PLANE__DATABASE", &self.target);
        let ran = tokio::task::spawn_blocking(move || command.output().unwrap());
        let Output {
            status,
            stdout,
            stderr,
        } = ran.await.unwrap();
        let printed = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
        (status.code(), printed)
    }

    async fn start(&self) -> Stack {
        let setup = Setup::serve().env("AIVONX_CONTROL_PLANE__DATABASE", &self.target);
        Stack::alone(setup, ROOT).await
    }

    /// Whether the database holds this text.
    fn holds(&self, text: &str) -> bool {
        if self.target.starts_with("sqlite:") {
            return ["aivonx.db", "aivonx.db-wal"].iter().any(|file| {
                let bytes = std::fs::read(self.folder.path().join(file)).unwrap_or_default();
                bytes
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            });
        }
        let name = self.target.rsplit('/').next().unwrap();
        let hashes = self
            .postgres
            .sql(name, "SELECT password_hash FROM users")
            .unwrap();
        hashes.contains(text)
    }
}

/// A chat by somebody on another machine, without a key.
async fn chat_of_a_stranger(stack: &Stack) -> u16 {
    let lines = "X-Forwarded-For: 192.0.2.1\r\nContent-Type: application/json\r\n";
    stack
        .send("POST", "/api/chat", lines, &chat("tiny", 1, false))
        .await
        .status
}

async fn moves_in(into: Target, inference: &str, of_a_stranger: u16) {
    let house = Move::new(into).await;
    let (code, told) = house
        .import(&house.source, &["--inference", inference])
        .await;
    assert_eq!(code, Some(0), "{told}");
    for line in [
        "+ GPU 1: http://127.0.0.1:",
        "+ CPU (2): http://192.0.2.8:8080",
        "- node 9 \"far\": port",
        "+ root: admin",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("pbkdf2"), "{told}");
    assert!(!house.holds("$argon2id$"), "nobody has logged in");

    let stack = house.start().await;
    assert!(
        !stack.aivonx.log().contains("first start"),
        "{}",
        stack.aivonx.log()
    );
    until("the hash is made anew", || async {
        house.holds("$argon2id$")
    })
    .await;
    log_in(&stack.aivonx, "root", ROOT).await;
    let vera = log_in(&stack.aivonx, "vera", "vera from before").await;
    let me = stack
        .api_as(&vera, "GET", "/api/account/me", Value::Null)
        .await;
    assert_eq!(me.json()["role"], "operator");
    for (name, password) in [
        ("gone", "vera from before"),
        ("nopass", ""),
        ("nopass", "!"),
    ] {
        let login = json!({"username": name, "password": password});
        let refused = stack.api_as("", "POST", "/api/account/login", login).await;
        assert_eq!(refused.status, 401, "{name}");
    }
    let read = stack
        .api("GET", "/api/proxy/nodes/41", Value::Null)
        .await
        .json();
    assert_eq!(
        (&read["name"], &read["slug"], &read["active"]),
        (&json!("GPU 1"), &json!("GPU-1"), &json!(true))
    );
    let config = stack
        .api("GET", "/api/proxy/config", Value::Null)
        .await
        .json();
    assert_eq!(config["strategy"], "lowest_latency");
    until("the node that is there serves", || async {
        let lines = "Content-Type: application/json\r\n";
        let answer = stack
            .send("POST", "/api/chat", lines, &chat("tiny", 1, false))
            .await;
        answer.status == 200 && answer.node() == "GPU-1"
    })
    .await;
    assert!(!house.sim.requests().is_empty());
    assert_eq!(chat_of_a_stranger(&stack).await, of_a_stranger);

    let (code, again) = house
        .import(&house.source, &["--inference", inference])
        .await;
    assert_eq!(code, Some(0), "{again}");
    assert!(
        again.contains("nothing new to take") && again.contains("\"root\": is here already"),
        "{again}"
    );
}

#[tokio::test]
async fn into_sqlite_with_inference_as_it_was() {
    moves_in(Target::Sqlite, "open", 200).await;
}

#[tokio::test]
async fn into_postgres_with_keys() {
    moves_in(Target::Postgres, "keys", 401).await;
}

#[tokio::test]
async fn without_a_word_on_inference_or_a_predecessor_nothing_is_made() {
    let house = Move::new(Target::Sqlite).await;
    let file = house.folder.path().join("aivonx.db");
    let elsewhere = format!("{}/postgres", house.source.rsplit_once('/').unwrap().0);
    for (source, arguments, words) in [
        (&house.source, &[][..], "--inference keys"),
        (
            &elsewhere,
            &["--inference", "open"][..],
            "no table `proxy_node`",
        ),
        (
            &"postgres://u:hunter2@127.0.0.1:1/d".to_owned(),
            &["--inference", "open"][..],
            "Connection refused",
        ),
    ] {
        let (code, told) = house.import(source, arguments).await;
        assert_eq!(code, Some(78), "{told}");
        assert!(told.contains(words) && !told.contains("hunter2"), "{told}");
    }
    let (code, told) = house
        .import(&house.source, &["--inference", "open", "--dry-run"])
        .await;
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("+ GPU 1") && told.contains("nothing was taken"),
        "{told}"
    );
    assert!(!file.exists());
}
