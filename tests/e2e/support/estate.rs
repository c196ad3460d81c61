//! Several control planes and data planes over one Postgres and one Redis, each on a road of its own that
//! can be cut.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Child;
use std::sync::Arc;

use aivonx_test_servers::{Postgres, Redis};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::relay::Relay;
use super::stack::{ROOT, control_environment, data_plane, start_control};
use super::{Aivonx, until};

/// The database's name.
const DATABASE: &str = "test_0";

/// Control planes and data planes.
pub(crate) struct Estate {
    /// Dropped before the servers that they use.
    pub(crate) planes: Vec<DataPlane>,
    pub(crate) controls: Vec<ControlPlane>,
    /// `root`'s access token, good at each control plane.
    token: String,
    postgres: Arc<Postgres>,
    _redis: Redis,
}

/// A data plane and its road to Redis.
pub(crate) struct DataPlane {
    pub(crate) aivonx: Aivonx,
    pub(crate) redis: Relay,
    _folder: tempfile::TempDir,
}

/// A control plane and its roads.
pub(crate) struct ControlPlane {
    child: Option<Child>,
    pub(crate) addr: SocketAddr,
    environment: Vec<(String, String)>,
    pub(crate) postgres: Relay,
    pub(crate) redis: Relay,
}

/// What a control plane answered, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Estate {
    /// Starts them all, and logs in.
    pub(crate) async fn start(controls: usize, planes: usize) -> Self {
        let servers = || (Postgres::new().unwrap(), Redis::new());
        let (postgres, redis) = tokio::task::spawn_blocking(servers).await.unwrap();
        postgres.database().unwrap();
        let (to_postgres, to_redis) = (postgres.port(), redis.port());
        let controls = tokio::task::spawn_blocking(move || {
            let control = |_| ControlPlane::start(to_postgres, to_redis);
            (0..controls).map(control).collect::<Vec<_>>()
        });
        let mut estate = Self {
            planes: Vec::new(),
            controls: controls.await.unwrap(),
            token: String::new(),
            postgres: Arc::new(postgres),
            _redis: redis,
        };
        for index in 0..planes {
            let control = &estate.controls[index % estate.controls.len()];
            let plane = DataPlane::start(to_redis, control.addr).await;
            estate.planes.push(plane);
        }
        let login = json!({ "username": "root", "password": ROOT });
        let answer = estate.api(0, "POST", "/api/account/login", login).await;
        answer.body["access"]
            .as_str()
            .unwrap()
            .clone_into(&mut estate.token);
        estate
    }

    /// One node, registered and known to every data plane; gives its id.
    pub(crate) async fn register(&self, node: &aivonx_sim::SimNode) -> i64 {
        let draft = json!({ "name": "gpu-1", "url": node.url() });
        let made = self.api(0, "POST", "/api/proxy/nodes", draft).await;
        assert_eq!(made.status, 201, "{}", made.body);
        for plane in &self.planes {
            until("its models are known", || async {
                let tags = super::get(plane.aivonx.addr, "/api/tags").await;
                tags.status == 200 && tags.text().contains("tiny")
            })
            .await;
        }
        made.body["id"].as_i64().unwrap()
    }

    /// Asks a control plane as `root`, directly.
    pub(crate) async fn api(&self, at: usize, method: &str, path: &str, body: Value) -> Answer {
        let answer = self.try_api(at, method, path, "", &body).await;
        answer.expect("no whole answer")
    }

    /// The same with more header lines; `None` where no whole answer came.
    pub(crate) fn try_api(
        &self,
        at: usize,
        method: &str,
        path: &str,
        lines: &str,
        body: &Value,
    ) -> impl Future<Output = Option<Answer>> + Send + use<> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}");
        if !self.token.is_empty() {
            let _ = write!(head, "Authorization: Bearer {}\r\n", self.token);
        }
        ask(self.controls[at].addr, head, body.clone())
    }

    /// The number of the revision in the database.
    pub(crate) async fn revision(&self) -> f64 {
        let number = self.sql("SELECT number FROM revision").await;
        number.parse().unwrap()
    }

    /// Runs SQL beside all control planes.
    pub(crate) async fn sql(&self, sql: &'static str) -> String {
        let postgres = Arc::clone(&self.postgres);
        let asked = tokio::task::spawn_blocking(move || postgres.sql(DATABASE, sql));
        asked.await.unwrap().unwrap()
    }

    /// Waits until a data plane has the store's revision in force.
    pub(crate) async fn is_in_force(&self, plane: usize) {
        until("the store's revision is in force", || async {
            self.planes[plane].aivonx.metric("aivonx_fleet_revision") == self.revision().await
        })
        .await;
    }
}

impl DataPlane {
    async fn start(to_redis: u16, control: SocketAddr) -> Self {
        let (redis, folder) = (Relay::to(to_redis), tempfile::tempdir().unwrap());
        let (url, control) = (format!("redis://{}", redis.addr), control.to_string());
        let setup = data_plane(&url, folder.path(), &control);
        let aivonx = setup.not_ready().start().await;
        Self {
            aivonx,
            redis,
            _folder: folder,
        }
    }
}

impl ControlPlane {
    fn start(to_postgres: u16, to_redis: u16) -> Self {
        let (postgres, redis) = (Relay::to(to_postgres), Relay::to(to_redis));
        let database = format!("postgres://postgres@{}/{DATABASE}", postgres.addr);
        let mut control = Self {
            child: None,
            addr: ([127, 0, 0, 1], 0).into(),
            environment: control_environment(database, format!("redis://{}", redis.addr)),
            postgres,
            redis,
        };
        control.start_again();
        control
    }

    /// Starts it where it was, in the same environment.
    pub(crate) fn start_again(&mut self) {
        let (child, listening) = start_control(&self.environment, &self.addr.to_string());
        self.addr = listening["control"].as_str().unwrap().parse().unwrap();
        self.child = Some(child);
    }

    /// Has it killed, without a wait for its end.
    pub(crate) fn signal_kill(&self) {
        let pid = self.child.as_ref().unwrap().id().cast_signed();
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    /// Kills it, as a machine that loses its power does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Asks on a connection of its own, which may break off.
async fn ask(addr: SocketAddr, head: String, body: Value) -> Option<Answer> {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let kind = "Content-Type: application/json\r\nConnection: close\r\n";
    let length = body.len();
    let text = format!("{head}{kind}Content-Length: {length}\r\n\r\n{body}");
    let mut stream = TcpStream::connect(addr).await.ok()?;
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    let read = tokio::time::timeout(super::PATIENCE, read).await;
    read.expect("no answer in time").ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some(Answer {
        status: head.get(9..12)?.parse().ok()?,
        body: match body {
            "" => Value::Null,
            body => serde_json::from_str(body).ok()?,
        },
    })
}
