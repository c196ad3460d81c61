//! A private Redis server: on loopback, on a free port, without persistence. It comes back empty.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to come up or go.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(10);
/// Tries to find a port that stays free until the server has it.
const TRIES: usize = 5;

/// A Redis server that ends when it is dropped.
pub struct Redis {
    folder: TempDir,
    port: u16,
    /// Whether it speaks TLS and nothing else.
    secured: bool,
    /// The process, where it runs. Guards starting and stopping.
    child: Mutex<Option<Child>>,
}

impl Redis {
    /// Starts a server; panics where `redis-server` is not installed.
    #[expect(clippy::new_without_default, reason = "it starts a process")]
    pub fn new() -> Self {
        Self::make(None)
    }

    /// Starts a server that speaks TLS alone, with this certificate and its key (PEM).
    pub fn secured(certificate: &str, key: &str) -> Self {
        Self::make(Some((certificate, key)))
    }

    fn make(pair: Option<(&str, &str)>) -> Self {
        for _ in 0..TRIES {
            let server = Self {
                folder: tempfile::tempdir().expect("a temporary folder"),
                port: free_port(),
                secured: pair.is_some(),
                child: Mutex::default(),
            };
            if let Some((certificate, key)) = pair {
                let write = |name, text| std::fs::write(server.folder.path().join(name), text);
                write("server.crt", certificate).expect("a temporary file");
                write("server.key", key).expect("a temporary file");
            }
            if server.try_start() {
                return server;
            }
        }
        panic!("redis-server does not come up");
    }

    /// Where it is, as `redis://127.0.0.1:6379`; `rediss://` where it speaks TLS.
    pub fn url(&self) -> String {
        let scheme = if self.secured { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it at once, as a crash would: what it held is gone.
    pub fn stop(&self) {
        if let Some(mut child) = self.child().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, empty.
    pub fn start(&self) {
        if self.child().is_none() {
            assert!(self.try_start(), "redis-server does not come up again");
        }
    }

    /// Freezes it: connections stay, and nothing answers.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Ends the pause.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a server answers on the port that is this one.
    fn try_start(&self) -> bool {
        let port = self.port.to_string();
        let mut command = Command::new("redis-server");
        command.current_dir(self.folder.path());
        command.args(["--bind", "127.0.0.1", "--protected-mode", "yes"]);
        if self.secured {
            command.args(["--port", "0", "--tls-port", &port]);
            command.args([
                "--tls-cert-file",
                "server.crt",
                "--tls-key-file",
                "server.key",
            ]);
            command.args([
                "--tls-ca-cert-file",
                "server.crt",
                "--tls-auth-clients",
                "no",
            ]);
        } else {
            command.args(["--port", &port]);
        }
        let mut child = command
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server must be installed (script/bootstrap)");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false; // the port was taken
            }
            if self.answers() {
                *self.child() = Some(child);
                return true;
            }
            std::thread::sleep(TICK);
        }
        let _ = child.kill();
        let _ = child.wait();
        false
    }

    fn answers(&self) -> bool {
        let ask = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            if self.secured {
                return Ok(true); // it listens once it is ready
            }
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"PING\r\n")?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer)?;
            Ok::<_, std::io::Error>(answer == *b"+PONG\r\n")
        };
        ask().unwrap_or(false)
    }

    fn signal(&self, signal: &str) {
        if let Some(child) = self.child().as_ref() {
            let sent = Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status();
            assert!(sent.is_ok_and(|sent| sent.success()), "kill {signal}");
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}
