//! The `control_plane:` section of `aivonx.yaml`: where a control plane listens, where its truth
//! lies and what it shares with the data planes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_yaml::Value;

use super::proxy::{address, span};
use super::{Lines, Overrides, Problems, Reader, networks, parse_yaml, token};
use crate::fleet_doc::{Outside, Secret};

/// Ollama's own port.
const OLLAMA: u16 = 11434;

/// A validated control-plane configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ControlConfig {
    /// The REST API, the documentation and the console.
    pub listen: SocketAddr,
    /// Metrics and probes, where the control plane is a process of its own.
    pub ops_listen: SocketAddr,
    /// `sqlite:FILE` or `postgres://…`; `None` where the role decides.
    pub database: Option<Secret>,
    /// `redis://…`, the bus to the data planes; `None` in one process.
    pub redis: Option<Secret>,
    /// The authorities of a `rediss://` server, a file of PEM; `None`: the system's.
    pub redis_ca_file: Option<PathBuf>,
    /// In front of every name in Redis.
    pub redis_prefix: String,
    /// What proves that a request came through a data plane's front door.
    pub front_door_token: Option<Secret>,
    /// What it shows data planes, at their operations listeners; without it they are asked nothing.
    pub operations_token: Option<Secret>,
    /// The key under which secrets of nodes lie in the database, base64 or hexadecimal.
    pub secret_key: Option<Secret>,
    /// The file that holds it, made where it is absent.
    pub secret_key_file: Option<PathBuf>,
    /// The first password of `root`; `None` has one made and printed.
    pub root_password: Option<Secret>,
    /// Link-local and other unusual networks in which nodes may stand all the same.
    pub node_networks: Vec<IpNet>,
    /// Where `serve` looks for an Ollama at its first start, to register it; `None`: nowhere.
    pub local_ollama: Option<SocketAddr>,
    /// How long logins last.
    pub logins: LoginConfig,
    /// How many pulls go on at once.
    pub pulls: PullConfig,
}

/// How many pulls go on at once, over all control planes on one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullConfig {
    /// At one node.
    pub per_node: u32,
    /// At all nodes together: they share the way to the registry.
    pub fleet: u32,
}

/// How long logins last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginConfig {
    /// An access token.
    pub access_token: Duration,
    /// A refresh token, from its last use.
    pub refresh_token: Duration,
    /// A session of the console without a request.
    pub session_idle: Duration,
    /// A session of the console altogether.
    pub session: Duration,
}

impl ControlConfig {
    /// Reads a configuration file's text with the environment's overrides; the data plane's section is
    /// passed over.
    pub fn from_yaml(text: &str, overrides: &Overrides) -> Result<Self, Problems> {
        let mut value = parse_yaml(text)?;
        overrides.apply(&mut value);
        Self::from_value(&value, &Lines::of(text))
    }

    /// The configuration of an empty file.
    pub fn defaults() -> Self {
        Self::from_value(&Value::Null, &Lines::default()).expect("the defaults are valid")
    }

    /// Whether others than this machine can connect.
    pub fn is_exposed(&self) -> bool {
        let beyond = |ip: IpAddr| !ip.is_loopback();
        beyond(self.listen.ip())
    }

    fn from_value(value: &Value, lines: &Lines) -> Result<Self, Problems> {
        let outside = Outside::new("", |name| std::env::var(name).ok());
        let root = Reader::root(value).with_outside(Some(&outside));
        root.value("proxy"); // judged where it is read
        let at = root.section("control_plane");
        let config = read(&at);
        at.finish();
        root.finish();
        drop(at);
        match root.into_problems(lines) {
            Some(problems) => Err(problems),
            None => Ok(config),
        }
    }
}

fn read(at: &Reader<'_>) -> ControlConfig {
    ControlConfig {
        listen: address(at, "listen", 8001),
        ops_listen: address(at, "ops_listen", 8003),
        database: secret(at, "database"),
        redis: secret(at, "redis"),
        redis_ca_file: at.get("redis_ca_file"),
        redis_prefix: at.or("redis_prefix", "aivonx".to_owned()),
        front_door_token: secret(at, "front_door_token"),
        operations_token: token::read(at, "operations_token", "operations_token_file"),
        secret_key: secret(at, "secret_key"),
        secret_key_file: at.get("secret_key_file"),
        root_password: secret(at, "root_password"),
        node_networks: networks(at, "node_networks"),
        local_ollama: read_local_ollama(at),
        logins: read_logins(&at.section("logins")),
        pulls: read_pulls(&at.section("pulls")),
    }
}

fn read_local_ollama(at: &Reader<'_>) -> Option<SocketAddr> {
    let key = "local_ollama";
    if at.value(key).and_then(Value::as_str) == Some("none") {
        return None;
    }
    Some(address(at, key, OLLAMA))
}

fn read_logins(at: &Reader<'_>) -> LoginConfig {
    let logins = LoginConfig {
        access_token: span(at, "access_token", 15 * 60),
        refresh_token: span(at, "refresh_token", 24 * 3600),
        session_idle: span(at, "session_idle", 8 * 3600),
        session: span(at, "session", 7 * 24 * 3600),
    };
    at.finish();
    logins
}

fn read_pulls(at: &Reader<'_>) -> PullConfig {
    let count = |key, default| {
        let count = at.or::<u32>(key, default);
        if count == 0 {
            at.complain(key, "must be at least 1");
        }
        count
    };
    let pulls = PullConfig {
        per_node: count("per_node", 1),
        fleet: count("fleet", 3),
    };
    at.finish();
    pulls
}

fn secret(at: &Reader<'_>, key: &'static str) -> Option<Secret> {
    at.get::<String>(key).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_safe_default() {
        let config = ControlConfig::from_yaml("", &Overrides::default()).unwrap();
        assert!(!config.is_exposed());
        assert_eq!(config.logins.access_token, Duration::from_secs(900));
        assert_eq!(config, ControlConfig::defaults());
        assert_eq!(config.local_ollama, Some(([127, 0, 0, 1], 11434).into()));
        let text = "control_plane: {local_ollama: none}";
        let config = ControlConfig::from_yaml(text, &Overrides::default()).unwrap();
        assert_eq!(config.local_ollama, None);
    }

    #[test]
    fn problems_name_their_key_and_secrets_are_not_shown() {
        let text = "control_plane:\n  listen: here\n  root_password: hunter22222\n  pulls: 3\n";
        let problems = ControlConfig::from_yaml(text, &Overrides::default()).unwrap_err();
        let seen: Vec<_> = problems.iter().map(|p| (p.key.as_str(), p.line)).collect();
        assert_eq!(
            seen,
            [
                ("control_plane.listen", Some(2)),
                ("control_plane.pulls", Some(4))
            ]
        );
        let none = "control_plane: {pulls: {per_node: 0, fleet: 4}}";
        let problems = ControlConfig::from_yaml(none, &Overrides::default()).unwrap_err();
        assert!(
            problems
                .to_string()
                .contains("pulls.per_node: must be at least 1")
        );
        let text = "control_plane: {root_password: hunter22222}";
        let config = ControlConfig::from_yaml(text, &Overrides::default()).unwrap();
        assert!(!format!("{config:?}").contains("hunter"));
    }
}
