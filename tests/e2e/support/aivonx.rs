//! A running aivonx: the real binary with a fleet file of its own, ended with the test. When it is
//! dropped no request may be left in flight.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aivonx_sim::SimNode;
use serde_json::Value;

use super::PATIENCE;

/// How an aivonx is started.
#[derive(Clone)]
pub(crate) struct Setup {
    /// The text of its fleet file; `None` where the fleet comes over a bus.
    fleet: Option<String>,
    /// `proxy` or `serve`.
    role: &'static str,
    env: Vec<(String, String)>,
    arguments: Vec<&'static str>,
    /// Where `serve` keeps its data; `None`: in a folder that goes with the process.
    data: Option<std::path::PathBuf>,
    wait_ready: bool,
}

impl Setup {
    /// With this fleet file, and clocks that suit a test.
    pub(crate) fn fleet(yaml: impl Into<String>) -> Self {
        let quick = [
            ("PROBE__INTERVAL", "200ms"),
            ("PROBE__TIMEOUT", "300ms"),
            ("RESIDENCY__INTERVAL", "100ms"),
            ("INVENTORY__INTERVAL", "300ms"),
            ("USAGE__INTERVAL", "100ms"),
            ("TIMEOUTS__DRAIN", "20s"),
            ("SEED", "7"),
        ];
        let env = quick
            .iter()
            .map(|(key, value)| (format!("AIVONX_PROXY__{key}"), (*value).to_owned()))
            .collect();
        Self {
            fleet: Some(yaml.into()),
            role: "proxy",
            env,
            arguments: Vec::new(),
            data: None,
            wait_ready: true,
        }
    }

    /// In front of these nodes, named n0, n1, …
    pub(crate) fn nodes(nodes: &[&SimNode]) -> Self {
        Self::nodes_with(nodes, "", "")
    }

    /// With the fleet that is published over a Redis, and kept in this folder.
    pub(crate) fn bus(redis: &str, folder: &std::path::Path) -> Self {
        let mut setup = Self::fleet("");
        setup.fleet = None;
        setup
            .set("BUS__REDIS", redis)
            .set("BUS__FOLDER", folder.to_str().unwrap())
    }

    /// Both planes in one process, in a folder of their own.
    pub(crate) fn serve() -> Self {
        let mut setup = Self::fleet("");
        (setup.fleet, setup.role) = (None, "serve");
        setup
    }

    /// Keeps the data of `serve` in this folder, which another start finds again.
    pub(crate) fn data(mut self, folder: &std::path::Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// The same with more keys for each node and for the document.
    pub(crate) fn nodes_with(nodes: &[&SimNode], each: &str, document: &str) -> Self {
        Self::fleet(fleet_yaml(nodes, each, document))
    }

    /// Sets a key of the configuration, as `TIMEOUTS__CONNECT`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.env
            .push((format!("AIVONX_PROXY__{key}"), value.to_owned()));
        self
    }

    /// Adds an argument of the command line.
    pub(crate) fn argument(mut self, argument: &'static str) -> Self {
        self.arguments.push(argument);
        self
    }

    /// Sets a variable that is no key of the configuration.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Does not wait for the first round of probes.
    pub(crate) fn not_ready(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> Aivonx {
        tokio::task::spawn_blocking(move || Aivonx::start(self))
            .await
            .unwrap()
    }
}

/// The text of a fleet file.
pub(crate) fn fleet_yaml(nodes: &[&SimNode], each: &str, document: &str) -> String {
    let list: String = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| format!("  - {{name: n{index}, url: \"{}\"{each}}}\n", node.url()))
        .collect();
    format!("{document}\nnodes:\n{list}")
}

/// Replaces a file whole: nobody ever reads half of it.
pub(crate) fn replace(path: &std::path::Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// A running aivonx.
pub(crate) struct Aivonx {
    child: Child,
    folder: tempfile::TempDir,
    pub(crate) addr: SocketAddr,
    pub(crate) ops: SocketAddr,
    /// The TLS listener, where there is one.
    pub(crate) tls: Option<SocketAddr>,
    lines: Arc<Mutex<Vec<Value>>>,
    log: Arc<Mutex<String>>,
    ended: bool,
}

impl Aivonx {
    fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_aivonx"));
        command.arg(setup.role);
        if setup.role == "serve" {
            command.args(["--control-listen", "127.0.0.1:0", "--data"]);
            // the machine may have an Ollama of its own
            command.env("AIVONX_CONTROL_PLANE__LOCAL_OLLAMA", "none");
            command.arg(setup.data.unwrap_or_else(|| folder.path().join("data")));
        }
        if !setup
            .arguments
            .iter()
            .any(|argument| argument.starts_with("--listen="))
        {
            command.arg("--listen=127.0.0.1:0");
        }
        command.args(["--ops-listen", "127.0.0.1:0"]);
        if let Some(text) = &setup.fleet {
            let fleet = folder.path().join("fleet.yaml");
            std::fs::write(&fleet, text).unwrap();
            command.arg("--fleet").arg(fleet);
        }
        let mut child = command
            .args(setup.arguments)
            .envs(setup.env)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log_writer = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|read| read > 0) {
                log_writer
                    .lock()
                    .unwrap()
                    .push_str(&std::mem::take(&mut line));
            }
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        let listening: Value = serde_json::from_str(&first)
            .unwrap_or_else(|_| panic!("it did not start: {first}\n{}", log.lock().unwrap()));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let writer = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                writer
                    .lock()
                    .unwrap()
                    .push(serde_json::from_str(&line).unwrap());
            }
        });
        let address = |key: &str| listening[key].as_str().unwrap().parse().unwrap();
        let aivonx = Self {
            child,
            folder,
            addr: address("proxy"),
            ops: address("ops"),
            tls: listening["tls"].as_str().map(|tls| tls.parse().unwrap()),
            lines,
            log,
            ended: false,
        };
        if setup.wait_ready {
            aivonx.wait("it is ready", || aivonx.ops("/readyz").0 == 200);
        }
        aivonx
    }

    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "not in time: {what}\n{}",
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// `GET` on the operations listener: status and body.
    pub(crate) fn ops(&self, path: &str) -> (u16, String) {
        ops(self.ops, path)
    }

    /// The value of one series of `/metrics`, 0 where it is not there.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.ops("/metrics").1;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// The sum over all series of a family whose labels hold `part`.
    pub(crate) fn metric_sum(&self, family: &str, part: &str) -> f64 {
        let text = self.ops("/metrics").1;
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("{family}{{")) && line.contains(part));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until a series has a value.
    pub(crate) async fn metric_is(&self, series: &str, value: f64) {
        super::until(&format!("{series} is {value}"), || async {
            self.metric(series) == value
        })
        .await;
    }

    /// The access line of a request, once it is written.
    pub(crate) async fn access_line(&self, id: &str) -> Value {
        let find = || {
            self.lines
                .lock()
                .unwrap()
                .iter()
                .find(|line| line["id"] == id)
                .cloned()
        };
        super::until(&format!("an access line of {id}"), || async {
            find().is_some()
        })
        .await;
        find().unwrap()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Replaces the fleet file, as an editor would: whole.
    pub(crate) fn write_fleet(&self, yaml: &str) {
        replace(&self.folder.path().join("fleet.yaml"), yaml);
    }

    /// Every access line so far, as text.
    pub(crate) fn access_lines(&self) -> String {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Bounds the files that it writes, bytes: past that a disk is full. `None` makes room again.
    pub(crate) fn bound_files(&self, most: Option<u64>) {
        let most = most.map_or("unlimited".to_owned(), |most| most.to_string());
        let bound = Command::new("prlimit")
            .args(["--pid", &self.child.id().to_string()])
            .arg(format!("--fsize={most}:unlimited"))
            .status();
        assert!(bound.unwrap().success(), "prlimit");
    }

    /// Resident memory, bytes.
    pub(crate) fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }

    /// Kills it, as a machine that loses its power does.
    pub(crate) fn kill(&mut self) {
        self.ended = true;
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended; its exit code.
    pub(crate) async fn ends(&mut self) -> Option<i32> {
        self.ended = true;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn in_flight(&self) -> f64 {
        self.metric_sum("aivonx_inflight", "")
    }
}

/// `GET` on an operations listener: status and body.
pub(crate) fn ops(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (
        head.get(9..12)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0),
        body.to_owned(),
    )
}

impl Drop for Aivonx {
    fn drop(&mut self) {
        if !self.ended && !std::thread::panicking() {
            self.wait("nothing is in flight", || self.in_flight() == 0.0);
            assert_eq!(
                self.metric("aivonx_request_body_bytes"),
                0.0,
                "memory of bodies leaked"
            );
            assert!(!self.log().contains("panicked"), "{}", self.log());
        } else if std::thread::panicking() {
            eprintln!("log of aivonx:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
