//! Both planes, as an operator has them: in one process, or as programs of their own with Postgres and Redis
//! between them. The same tests run on both.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use aivonx_test_servers::{Postgres, Redis};
use serde_json::{Value, json};

use super::front::Authority;
use super::{Aivonx, Client, Response, Setup};

/// The password of `root`.
pub(crate) const ROOT: &str = "correct horse battery";
/// What both planes hold.
const DOOR: &str = "the-token-that-both-planes-hold";
/// By which the control plane asks data planes.
const OPERATIONS: &str = "another-token-that-both-hold";

/// How the planes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `aivonx serve`: SQLite, a bus in memory.
    Alone,
    /// `aivonx control-plane` and `aivonx proxy`: Postgres, Redis.
    Many,
}

/// Both planes, and a login of `root`.
pub(crate) struct Stack {
    pub(crate) aivonx: Aivonx,
    /// `root`'s access token.
    pub(crate) token: String,
    pub(crate) apart: Option<Apart>,
    /// How the data plane is started.
    setup: Setup,
    /// Where it keeps what outlives it.
    folder: tempfile::TempDir,
}

/// What runs beside the data plane.
pub(crate) struct Apart {
    control: Option<Child>,
    /// Where it listens.
    at: String,
    /// Where the control plane's operations listener is.
    pub(crate) control_ops: SocketAddr,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
}

/// A Postgres and a Redis that take nobody over TCP without TLS, and the file of the authority that signed for
/// 127.0.0.1.
pub(crate) struct Secured {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) authority: PathBuf,
}

impl Secured {
    /// Starts both; the authority's file is in this folder.
    pub(crate) fn start(folder: &Path) -> Self {
        let authority = Authority::new();
        let (certificate, key) = authority.pair("127.0.0.1");
        Self {
            postgres: Postgres::secured(&certificate, &key).unwrap(),
            redis: Redis::secured(&certificate, &key),
            authority: authority.write_to(folder, "authority.pem"),
        }
    }
}

/// A control plane beside the one behind the front door.
pub(crate) struct AnotherControl {
    child: Child,
    /// Where it listens.
    pub(crate) at: SocketAddr,
}

impl Drop for AnotherControl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stack {
    /// Starts them and logs in.
    pub(crate) async fn start(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let (setup, apart) = match kind {
            Kind::Alone => {
                let setup = Setup::serve().env("ROOT_PASSWORD", ROOT);
                (setup.data(&state), None)
            }
            Kind::Many => {
                let start = move || Apart::start(&state);
                let (setup, apart) = tokio::task::spawn_blocking(start).await.unwrap();
                (setup, Some(apart))
            }
        };
        let aivonx = setup.clone().start().await;
        let token = log_in(&aivonx, "root", ROOT).await;
        Self {
            aivonx,
            token,
            apart,
            setup,
            folder,
        }
    }

    /// Both planes apart, with TLS to a Postgres and a Redis that take nothing else.
    pub(crate) async fn secured() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (state, files) = (folder.path().join("state"), folder.path().to_owned());
        let start = move || Apart::secured(&state, &files);
        let (setup, apart) = tokio::task::spawn_blocking(start).await.unwrap();
        let aivonx = setup.clone().start().await;
        let token = log_in(&aivonx, "root", ROOT).await;
        Self {
            aivonx,
            token,
            apart: Some(apart),
            setup,
            folder,
        }
    }

    /// Both planes in one process, started as `setup` says, and a login of `root` with this password.
    pub(crate) async fn alone(setup: Setup, root: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = setup.data(&folder.path().join("state"));
        let aivonx = setup.clone().start().await;
        let token = log_in(&aivonx, "root", root).await;
        Self {
            aivonx,
            token,
            apart: None,
            setup,
            folder,
        }
    }

    /// Starts the data plane again, once it has ended, with what it kept.
    pub(crate) async fn start_again(&mut self) {
        self.aivonx = self.setup.clone().start().await;
    }

    /// Another data plane beside the first, with a folder of its own.
    pub(crate) async fn another_plane(&self) -> Aivonx {
        let folder = self.folder.path().join("another-state");
        let setup = self.setup.clone();
        let setup = setup.set("BUS__FOLDER", folder.to_str().unwrap());
        setup.start().await
    }

    /// Where the data plane keeps what outlives it; `serve` keeps the data of both planes there.
    pub(crate) fn state(&self) -> std::path::PathBuf {
        let state = self.folder.path().join("state");
        match &self.apart {
            Some(_) => state,
            None => state.join("data-plane"),
        }
    }

    /// Asks the API as `root`.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Value) -> Response {
        self.api_as(&self.token, method, path, body).await
    }

    /// Asks the API with a token; without one where it is empty.
    pub(crate) async fn api_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Response {
        let mut lines = String::new();
        if !token.is_empty() {
            let _ = write!(lines, "Authorization: Bearer {token}\r\n");
        }
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        if !body.is_empty() {
            lines.push_str("Content-Type: application/json\r\n");
        }
        self.send(method, path, &lines, &body).await
    }

    /// Sends a request with these header lines on a connection of its own.
    pub(crate) async fn send(&self, method: &str, path: &str, lines: &str, body: &str) -> Response {
        Self::send_to(self.aivonx.addr, method, path, lines, body).await
    }

    /// Asks the API of a control plane where it listens, not through a front door, as `root`.
    pub(crate) async fn api_at(
        &self,
        at: SocketAddr,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Response {
        let lines = format!(
            "Authorization: Bearer {}\r\nContent-Type: application/json\r\n",
            self.token
        );
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        Self::send_to(at, method, path, &lines, &body).await
    }

    async fn send_to(
        at: SocketAddr,
        method: &str,
        path: &str,
        lines: &str,
        body: &str,
    ) -> Response {
        let mut client = Client::connect(at).await;
        let length = body.len();
        client
            .send(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
            ))
            .await;
        client.response_to(method).await.expect("no answer")
    }

    /// Registers a simulated node; gives its id.
    pub(crate) async fn register(&self, name: &str, node: &aivonx_sim::SimNode) -> i64 {
        let draft = json!({ "name": name, "url": node.url() });
        let made = self.api("POST", "/api/proxy/nodes", draft).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["id"].as_i64().unwrap()
    }
}

/// An access token for a name and a password.
pub(crate) async fn log_in(aivonx: &Aivonx, name: &str, password: &str) -> String {
    let body = json!({ "username": name, "password": password }).to_string();
    let mut client = Client::connect(aivonx.addr).await;
    client
        .send(super::json_post(aivonx.addr, "/api/account/login", &body))
        .await;
    let answer = client.response().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["access"].as_str().unwrap().to_owned()
}

impl Apart {
    fn start(state: &Path) -> (Setup, Self) {
        let (postgres, redis) = (Postgres::new().unwrap(), Redis::new());
        let environment = control_environment(postgres.database().unwrap(), redis.url());
        let setup = |redis: &Redis, control: &str| data_plane(&redis.url(), state, control);
        Self::of(postgres, redis, environment, setup)
    }

    fn secured(state: &Path, files: &Path) -> (Setup, Self) {
        let Secured {
            postgres,
            redis,
            authority,
        } = Secured::start(files);
        let ca = authority.to_str().unwrap();
        let database = postgres.database().unwrap();
        let database = format!("{database}?sslmode=verify-full&sslrootcert={ca}");
        let mut environment = control_environment(database, redis.url());
        let redis_ca = "AIVONX_CONTROL_PLANE__REDIS_CA_FILE";
        environment.push((redis_ca.to_owned(), ca.to_owned()));
        let setup = |redis: &Redis, control: &str| {
            data_plane(&redis.url(), state, control).set("BUS__CA_FILE", ca)
        };
        Self::of(postgres, redis, environment, setup)
    }

    fn of(
        postgres: Postgres,
        redis: Redis,
        environment: Vec<(String, String)>,
        setup: impl FnOnce(&Redis, &str) -> Setup,
    ) -> (Setup, Self) {
        let mut apart = Self {
            control: None,
            at: String::new(),
            control_ops: ([127, 0, 0, 1], 0).into(),
            environment,
            postgres,
            redis,
        };
        let control = apart.start_control("127.0.0.1:0");
        let setup = setup(&apart.redis, &control);
        (setup, apart)
    }

    /// Starts a control plane; gives where it listens.
    pub(crate) fn start_control(&mut self, listen: &str) -> String {
        let (child, listening) = start_control(&self.environment, listen);
        self.control = Some(child);
        listening["control"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.at);
        self.control_ops = listening["ops"].as_str().unwrap().parse().unwrap();
        self.at.clone()
    }

    /// Another control plane beside the first.
    pub(crate) fn another_control(&self) -> AnotherControl {
        let (child, listening) = start_control(&self.environment, "127.0.0.1:0");
        let at = listening["control"].as_str().unwrap().parse().unwrap();
        AnotherControl { child, at }
    }

    /// Starts one where the last one was.
    pub(crate) fn restart_control(&mut self) {
        let at = self.at.clone();
        self.start_control(&at);
    }

    /// Kills the control plane, as a machine that loses its power does.
    pub(crate) fn kill_control(&mut self) {
        if let Some(mut child) = self.control.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// What a control plane is told by its environment.
pub(super) fn control_environment(database: String, redis: String) -> Vec<(String, String)> {
    let environment = [
        ("AIVONX_CONTROL_PLANE__DATABASE", database),
        ("AIVONX_CONTROL_PLANE__FRONT_DOOR_TOKEN", DOOR.to_owned()),
        (
            "AIVONX_CONTROL_PLANE__OPERATIONS_TOKEN",
            OPERATIONS.to_owned(),
        ),
        ("AIVONX_SECRET_KEY", "07".repeat(32)),
        ("REDIS_URL", redis),
        ("ROOT_PASSWORD", ROOT.to_owned()),
    ];
    environment
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
}

/// A data plane of such control planes, with its front door to this one.
pub(super) fn data_plane(redis: &str, folder: &Path, control: &str) -> Setup {
    Setup::bus(redis, folder)
        .env("AIVONX_SECRET_KEY", &"07".repeat(32))
        .set("FRONT_DOOR__TO", &format!("http://{control}"))
        .set("FRONT_DOOR__TOKEN", DOOR)
        .set("OPERATIONS_TOKEN", OPERATIONS)
}

/// Starts a control plane; gives the process and the line that says where it listens.
pub(super) fn start_control(environment: &[(String, String)], listen: &str) -> (Child, Value) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_aivonx"))
        .args(["control-plane", "--listen", listen])
        .args(["--ops-listen", "127.0.0.1:0"])
        .envs(environment.iter().cloned())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let listening = serde_json::from_str(&line).expect("the control plane did not start");
    (child, listening)
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.kill_control();
    }
}
