//! `aivonx login`, `node`, `user`, `key` and the rest: the real binary against a running control plane.

mod fleet;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::{node, on_both};
use crate::support::{Kind, Setup, Stack, Tls, chat, get, until};

const ROOT: &str = "correct horse battery\n";

on_both!(
    a_nodes_life,
    a_users_life,
    a_keys_life,
    settings_and_the_document
);

/// Somebody at a terminal, with a folder of their own.
struct Person {
    home: tempfile::TempDir,
    server: String,
    environment: Vec<(&'static str, String)>,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The cells of the line of a table that begins or goes on with a name; none without one.
    fn row(&self, name: &str) -> Vec<&str> {
        let mut rows = self
            .out
            .lines()
            .map(|line| line.split_whitespace().collect());
        rows.find(|row: &Vec<_>| row.contains(&name))
            .unwrap_or_default()
    }
}

impl Person {
    fn at(server: impl Into<String>) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            server: server.into(),
            environment: Vec::new(),
        }
    }

    /// Somebody who is logged in as `root`.
    async fn root(stack: &Stack) -> Self {
        let person = Self::at(format!("http://{}", stack.aivonx.addr));
        let said = person.say(&["login"], ROOT).await;
        assert_eq!(said.code, 0, "{said:?}");
        person
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("aivonx/credentials.json")
    }

    /// Runs a command, with something on its standard input.
    async fn say(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_aivonx"))
            .args(arguments)
            .env_remove("AIVONX_TOKEN")
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("AIVONX_SERVER", &self.server)
            // nothing of it is to be used
            .env("http_proxy", "http://127.0.0.1:1")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // it may end without having read
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same for one that works.
    async fn does(&self, arguments: &[&str]) -> Said {
        let said = self.say(arguments, "").await;
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said
    }
}

async fn a_nodes_life(kind: Kind) {
    let (sim, stack) = (node().await, Stack::start(kind).await);
    let root = Person::root(&stack).await;
    let none = root.does(&["node", "list"]).await;
    assert_eq!(none.out, "");
    assert!(none.err.contains("there are no nodes"), "{none:?}");
    assert_eq!(
        root.does(&["node", "list", "--json"]).await.json(),
        json!([])
    );

    let url = sim.url();
    let labels = ["--label", "zone=a", "--label", "rack=1"];
    let add = [
        &["node", "add", "gpu one", &url, "--slots", "2"][..],
        &labels,
    ]
    .concat();
    let added = root.does(&add).await;
    assert!(added.out.contains("Labels:"), "{added:?}");
    let shown = root
        .does(&["node", "show", "gpu-one", "--json"])
        .await
        .json();
    assert_eq!(
        (&shown["name"], &shown["slots"], &shown["labels"]["zone"]),
        (&json!("gpu one"), &json!(2), &json!("a")),
        "{shown}"
    );
    until("it is up in the list", || async {
        root.does(&["node", "ls"]).await.out.contains("  up  ")
    })
    .await;
    let list = root.does(&["node", "list"]).await;
    let head: Vec<_> = list
        .out
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        head,
        [
            "ID",
            "NAME",
            "URL",
            "STATE",
            "HEALTH",
            "IN-FLIGHT",
            "WEIGHT",
            "SLOTS",
            "OLLAMA"
        ]
    );
    assert_eq!(
        list.row("one")[3..6],
        [url.as_str(), "enabled", "up"],
        "{list:?}"
    );

    let set = ["node", "set", "gpu one", "--name", "gpu-1", "--weight", "3"];
    root.does(&[&set[..], &["--label", "rack-"]].concat()).await;
    let shown = root.does(&["node", "show", "1", "--json"]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    let shown = shown.json();
    assert_eq!(
        (&shown["name"], &shown["weight"], &shown["labels"]),
        (&json!("gpu-1"), &json!(3), &json!({"zone": "a"}))
    );
    let ask = || async {
        let body = chat("tiny", 1, false);
        crate::support::post(stack.aivonx.addr, "/api/chat", &body)
            .await
            .status
    };
    until("it serves", || async { ask().await == 200 }).await;
    for (action, state, status) in [
        ("drain", "draining", 503),
        ("undrain", "enabled", 200),
        ("disable", "disabled", 503),
        ("enable", "enabled", 200),
    ] {
        let said = root.does(&["node", action, "gpu-1"]).await;
        assert_eq!(said.row("gpu-1")[3], state, "{said:?}");
        until(action, || async { ask().await == status }).await;
    }

    let unsure = root.say(&["node", "remove", "gpu-1"], "").await;
    assert!(
        unsure.code == 2 && unsure.err.contains("--yes"),
        "{unsure:?}"
    );
    root.does(&["node", "remove", "gpu-1", "--yes"]).await;
    let gone = root.say(&["node", "show", "gpu-1"], "").await;
    assert!(
        gone.code == 1 && gone.err.contains("there is no node gpu-1"),
        "{gone:?}"
    );
    let wrong = root
        .say(&["node", "add", "x", "ftp://h", "--weight", "0"], "")
        .await;
    assert_eq!(wrong.code, 1);
    for line in ["Some fields are not valid\n", "\n  url: "] {
        assert!(wrong.err.contains(line), "{line:?} in {wrong:?}");
    }
}

async fn a_users_life(kind: Kind) {
    let stack = Stack::start(kind).await;
    let root = Person::root(&stack).await;
    let add = ["user", "add", "vera", "--must-change-password"];
    let added = root.say(&add, "a long enough one\n").await;
    assert_eq!(added.code, 0, "{added:?}");
    assert!(!added.out.contains("long enough") && !added.err.contains("long enough"));
    let list = root.does(&["user", "list"]).await;
    assert_eq!(
        list.row("vera")[1..4],
        ["vera", "viewer", "yes"],
        "{list:?}"
    );
    let weak = root.say(&["user", "add", "omar"], "short\n").await;
    assert!(
        weak.code == 1 && weak.err.contains("\n  password: "),
        "{weak:?}"
    );

    let vera = Person::at(&root.server);
    let login = ["login", "--user", "vera"];
    let entered = vera
        .say(&login, "a long enough one\nanother long one\n")
        .await;
    assert_eq!(entered.code, 0, "{entered:?}");
    let old = vera.say(&login, "a long enough one\n").await;
    assert!(old.code == 1 && old.err.contains("Log in first"), "{old:?}");
    let add = ["node", "add", "a", "http://127.0.0.1:1"];
    let refused = vera.say(&add, "").await;
    assert!(
        refused.code == 1 && refused.err.contains("Not allowed"),
        "{refused:?}"
    );
    root.does(&[
        "user",
        "set",
        "Vera",
        "--role",
        "operator",
        "--email",
        "v@example.org",
    ])
    .await;
    // a login does no more than its user could when it was made
    assert_eq!(vera.say(&login, "another long one\n").await.code, 0);
    vera.does(&add).await;
    root.does(&["user", "set", "vera", "--active", "false"])
        .await;
    let out = vera.say(&["node", "list"], "").await;
    assert!(out.code == 1 && out.err.contains("aivonx login"), "{out:?}");
    root.does(&["user", "rm", "vera", "-y"]).await;
    let users = root.does(&["user", "list", "--json"]).await.json();
    assert_eq!(users.as_array().unwrap().len(), 1, "{users}");
}

async fn a_keys_life(kind: Kind) {
    let (sim, stack) = (node().await, Stack::start(kind).await);
    stack.register("gpu-1", &sim).await;
    let root = Person::root(&stack).await;
    let closed = json!({"anonymous": "never"});
    let closed = stack.api("PATCH", "/api/proxy/settings", closed).await;
    assert_eq!(closed.status, 200, "{}", closed.text());
    let create = [
        "key",
        "create",
        "ci",
        "--models",
        "tiny",
        "--expires",
        "30d",
    ];
    let made = root
        .does(&[&create[..], &["--note", "the build"]].concat())
        .await;
    let key = made.out.trim().to_owned();
    assert_eq!(made.out, format!("{key}\n"), "it stands alone");
    assert!(!made.err.contains(&key));
    let ask = |key: String| {
        let stack = &stack;
        async move {
            let lines =
                format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
            let body = chat("tiny", 1, false);
            stack.send("POST", "/api/chat", &lines, &body).await.status
        }
    };
    until("it opens", || async { ask(key.clone()).await == 200 }).await;
    let list = root.does(&["key", "list"]).await;
    assert_eq!(list.row("ci")[1..4], ["ci", "infer", "tiny"], "{list:?}");
    assert!(!list.out.contains(&key));
    let rotated = root.does(&["key", "rotate", "ci", "--yes", "--json"]).await;
    let other = rotated.json()["key"].as_str().unwrap().to_owned();
    until("the old one is out", || async {
        ask(key.clone()).await == 401
    })
    .await;
    assert_eq!(ask(other.clone()).await, 200);
    root.does(&["key", "remove", "ci", "--yes"]).await;
    until("it is revoked", || async {
        ask(other.clone()).await == 401
    })
    .await;
    assert!(root.does(&["key", "list"]).await.err.contains("no keys"));
}

async fn settings_and_the_document(kind: Kind) {
    let stack = Stack::start(kind).await;
    let root = Person::root(&stack).await;
    let get = ["config", "get", "strategy"];
    assert_eq!(root.does(&get).await.out, "least_active\n");
    let set = ["config", "set", "strategy"];
    root.does(&[&set[..], &["lowest_latency"]].concat()).await;
    assert_eq!(root.does(&get).await.out, "lowest_latency\n");
    let bad = root.say(&[&set[..], &["fastest"]].concat(), "").await;
    assert!(
        bad.code == 1 && bad.err.contains("\n  strategy: "),
        "{bad:?}"
    );
    let file = root.home.path().join("fleet.json");
    root.does(&["fleet", "export", file.to_str().unwrap()])
        .await;
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written["strategy"], "lowest_latency");
    let shown = root.does(&["fleet", "export", "--json"]).await;
    assert_eq!(shown.json(), written);
}

#[tokio::test]
async fn a_login_is_kept_for_its_owner_and_ends_with_the_logout() {
    let stack = Stack::start(Kind::Alone).await;
    let root = Person::root(&stack).await;
    let mode = std::fs::metadata(root.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(root.file()).unwrap();
    let kept: Value = serde_json::from_str(&text).unwrap();
    let token = kept["servers"][&root.server]["token"].as_str().unwrap();
    assert!(token.starts_with("avp_"), "{token}");
    // only the token lasts of a login
    let sessions = stack.api("GET", "/api/account/sessions", Value::Null).await;
    assert_eq!(
        sessions.json().as_array().unwrap().len(),
        1,
        "the test's own"
    );
    root.say(&["login"], ROOT).await;
    let tokens = stack.api("GET", "/api/account/tokens", Value::Null).await;
    assert_eq!(
        tokens.json().as_array().unwrap().len(),
        1,
        "the old one is revoked"
    );

    let mut other = Person::at(&root.server);
    assert_eq!(other.say(&["node", "list"], "").await.code, 1);
    let kept: Value = serde_json::from_slice(&std::fs::read(root.file()).unwrap()).unwrap();
    let token = kept["servers"][&root.server]["token"].as_str().unwrap();
    other.environment = vec![("AIVONX_TOKEN", token.to_owned())];
    other.does(&["node", "list"]).await;

    root.does(&["logout"]).await;
    let out = other.say(&["node", "list"], "").await;
    assert!(out.code == 1 && out.err.contains("AIVONX_TOKEN"), "{out:?}");
    assert!(!out.err.contains(token), "{out:?}");
    assert!(root.does(&["logout"]).await.err.contains("no login"));
    let wrong = root.say(&["login"], "a wrong password\n").await;
    assert!(
        wrong.code == 1 && wrong.err.contains("Invalid credentials"),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn what_is_in_the_way_has_a_code_of_its_own() {
    let sim = node().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for (server, code, said) in [
        (away, 69, "does not answer"),
        (sim.url(), 1, "front door"),
        ("127.0.0.1:8000".to_owned(), 2, "must be an address"),
    ] {
        let said_of_it = Person::at(&server).say(&["node", "list"], "").await;
        assert_eq!(said_of_it.code, code, "{server}: {said_of_it:?}");
        assert!(said_of_it.err.contains(said), "{server}: {said_of_it:?}");
        assert_eq!(said_of_it.out, "");
    }
    let nobody = Person::at("http://127.0.0.1:1");
    for arguments in [
        &["node"][..],
        &["node", "add", "a"],
        &["key", "create", "a", "--scope", "root"],
        &["user", "add", "a", "--password", "p"],
        &["completions", "tcsh"],
    ] {
        let said = nobody.say(arguments, "").await;
        assert_eq!(said.code, 2, "{arguments:?}: {said:?}");
    }
    let missing = [
        "node",
        "list",
        "--server",
        "https://127.0.0.1:1",
        "--ca",
        "/no/ca",
    ];
    assert_eq!(nobody.say(&missing, "").await.code, 66);
}

#[tokio::test]
async fn https_is_believed_by_its_authority_alone() {
    let (folder, tls) = (tempfile::tempdir().unwrap(), Tls::make());
    tls.write(folder.path());
    let file = |name| folder.path().join(name).display().to_string();
    let aivonx = Setup::serve()
        .env("ROOT_PASSWORD", ROOT.trim())
        .set("TLS__LISTEN", "127.0.0.1:0")
        .set("TLS__CERTIFICATE", &file("cert.pem"))
        .set("TLS__KEY", &file("key.pem"))
        .start()
        .await;
    let port = aivonx.tls.unwrap().port();
    let mut person = Person::at(format!("https://localhost:{port}"));
    let stranger = person.say(&["login"], ROOT).await;
    assert!(
        stranger.code == 69 && stranger.err.contains("--ca FILE"),
        "{stranger:?}"
    );
    person.environment = vec![("AIVONX_CA", file("cert.pem"))];
    assert_eq!(person.say(&["login"], ROOT).await.code, 0);
    person.does(&["node", "list"]).await;
    assert_eq!(get(aivonx.addr, "/api/health").await.status, 200);
}

#[tokio::test]
async fn shells_can_read_their_completions() {
    let person = Person::at("http://127.0.0.1:1");
    for shell in ["bash", "zsh", "fish"] {
        let script = person.does(&["completions", shell]).await.out;
        assert!(script.contains("undrain"), "{shell}");
        if shell != "bash" {
            continue;
        }
        let file = person.home.path().join("aivonx.bash");
        std::fs::write(&file, script).unwrap();
        let checked = std::process::Command::new("bash")
            .arg("-n")
            .arg(&file)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
        assert!(checked.stderr.is_empty(), "{checked:?}");
    }
}
