//! A private Postgres server: a cluster of its own in a temporary folder, on loopback and a Unix socket.
//! It keeps nothing safe (no fsync), which makes it quick.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// The superuser of the cluster; there is no other.
const USER: &str = "postgres";
/// Tried before giving up: between finding a free port and taking it, another may take it.
const TRIES: u32 = 5;

/// A Postgres server that ends when it is dropped. Whoever connects from this machine is let in.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    account: Option<Account>,
    databases: AtomicU32,
    /// Whether it speaks TLS to everybody who comes over TCP.
    secured: bool,
}

/// Postgres refuses to run as root: the account that it runs as then.
#[derive(Debug, Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Makes a cluster and starts it, in a second or two.
    pub fn new() -> io::Result<Self> {
        Self::make(None)
    }

    /// The same, of a server that takes nobody over TCP without TLS, with this certificate and its key (PEM).
    pub fn secured(certificate: &str, key: &str) -> io::Result<Self> {
        Self::make(Some((certificate, key)))
    }

    fn make(pair: Option<(&str, &str)>) -> io::Result<Self> {
        let bin = find_binaries()?;
        let folder = tempfile::Builder::new().prefix("aivonx-pg-").tempdir()?;
        let account = if folder.path().metadata()?.uid() == 0 {
            let account = find_account()?;
            chown(folder.path(), Some(account.uid), Some(account.gid))?;
            Some(account)
        } else {
            None
        };
        let mut server = Self {
            bin,
            folder,
            port: 0,
            account,
            databases: AtomicU32::new(0),
            secured: pair.is_some(),
        };
        let initdb = [
            "--no-sync",
            "-A",
            "trust",
            "-U",
            USER,
            "-E",
            "UTF8",
            "--locale=C",
        ];
        let mut command = server.command("initdb");
        finish(command.args(initdb).arg("-D").arg(server.data()))?;
        if let Some((certificate, key)) = pair {
            server.secure(certificate, key)?;
        }
        server.start_on_a_free_port()?;
        Ok(server)
    }

    fn secure(&self, certificate: &str, key: &str) -> io::Result<()> {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.data().join(name);
            fs::write(&file, text)?;
            // Postgres insists: its own, and nobody else's
            fs::set_permissions(&file, Permissions::from_mode(0o600))?;
            if let Some(Account { uid, gid }) = self.account {
                chown(&file, Some(uid), Some(gid))?;
            }
        }
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 trust\n";
        fs::write(self.data().join("pg_hba.conf"), rules)
    }

    fn start_on_a_free_port(&mut self) -> io::Result<()> {
        let mut tries = 1;
        loop {
            self.port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            match self.start() {
                Err(_) if tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    /// Starts the server, on the port that it had before. Returns once it takes connections.
    pub fn start(&self) -> io::Result<()> {
        let options = format!(
            "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{}' \
             -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
             -c max_connections=300 -c shared_buffers=32MB -c ssl={}",
            self.port,
            self.folder.path().display(),
            if self.secured { "on" } else { "off" }
        );
        let mut command = self.command("pg_ctl");
        command.args(["start", "-s", "-w", "-t", "60", "-o", &options]);
        command.arg("-l").arg(self.log()).arg("-D").arg(self.data());
        finish(&mut command).map_err(|error| {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            io::Error::other(format!("{error}\n{log}"))
        })
    }

    /// Stops the server and breaks its connections off. What was committed stays.
    pub fn stop(&self) -> io::Result<()> {
        self.stop_as("fast")
    }

    /// Ends the server without a word, as a crash does.
    pub fn crash(&self) -> io::Result<()> {
        self.stop_as("immediate")
    }

    fn stop_as(&self, mode: &str) -> io::Result<()> {
        let mut command = self.command("pg_ctl");
        command.args(["stop", "-s", "-w", "-t", "60", "-m", mode]);
        finish(command.arg("-D").arg(self.data()))
    }

    /// Makes an empty database and gives its URL.
    pub fn database(&self) -> io::Result<String> {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port, on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs SQL in a database; gives the rows, without decoration.
    pub fn sql(&self, database: &str, sql: &str) -> io::Result<String> {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", USER]);
        command.args(["-d", database, "-p", &self.port.to_string(), "-c", sql]);
        command.arg("-h").arg(self.folder.path());
        let output = run(&mut command)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.folder.path());
        command
            .env_remove("PGPASSWORD")
            .env("PGCONNECT_TIMEOUT", "10");
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // it may have been stopped already
        let _ = self.crash();
    }
}

fn finish(command: &mut Command) -> io::Result<()> {
    run(command).map(drop)
}

/// Runs a program to its end. Its output goes to a file: a server that `pg_ctl` leaves behind would
/// hold a pipe open.
fn run(command: &mut Command) -> io::Result<Output> {
    let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let status = command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .status()
        .map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
    let (stdout, stderr) = (read(out)?, read(err)?);
    if status.success() {
        return Ok(Output {
            status,
            stdout,
            stderr,
        });
    }
    let words = String::from_utf8_lossy(&stderr);
    Err(io::Error::other(format!("{command:?}: {status}\n{words}")))
}

fn read(mut file: File) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The newest version's binaries: Debian keeps them out of PATH.
fn find_binaries() -> io::Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&in_path).collect::<Vec<_>>();
    let newest_first = versions.into_iter().rev().map(|(_, bin)| bin);
    newest_first
        .chain(in_path)
        .find(|bin| bin.join("initdb").exists())
        .ok_or_else(|| io::Error::other("no Postgres here: `script/bootstrap test` installs it"))
}

/// `postgres`, or else `nobody`.
fn find_account() -> io::Result<Account> {
    let users = fs::read_to_string(Path::new("/etc/passwd"))?;
    let account = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { uid, gid })
    };
    account("postgres")
        .or_else(|| account("nobody"))
        .ok_or_else(|| io::Error::other("there is no user to run Postgres as"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_outlives_a_stop_and_the_port_stays() {
        let server = Postgres::new().unwrap();
        let url = server.database().unwrap();
        let name = url.rsplit('/').next().unwrap();
        server
            .sql(name, "CREATE TABLE t (n INT); INSERT INTO t VALUES (7)")
            .unwrap();
        let port = server.port();
        server.stop().unwrap();
        assert!(server.sql(name, "SELECT 1").is_err());
        server.start().unwrap();
        assert_eq!(server.sql(name, "SELECT n FROM t").unwrap(), "7");
        assert_eq!(server.port(), port);
        let folder = server.folder.path().to_owned();
        drop(server);
        assert!(!folder.exists());
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }
}
