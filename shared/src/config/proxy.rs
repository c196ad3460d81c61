//! The `proxy:` section of `aivonx.yaml`: what a data plane listens on and how patient it is.
//! What the fleet is stands in the fleet document, not here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_yaml::Value;

use super::units::{Size, Span};
use super::{
    EdgeConfig, FrontDoorConfig, Lines, OperationsConfig, Overrides, Problems, Reader, UsageConfig,
    edge, front_door, networks, operations, parse_yaml, usage,
};
use crate::bus::redis::RedisBus;
use crate::fleet_doc::{Outside, Secret};

/// A validated data-plane configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// Where clients and operators connect.
    pub listen: ListenConfig,
    /// How clients are met.
    pub edge: EdgeConfig,
    /// Whose word on a client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the control plane's paths are relayed to; `None` keeps the front door closed.
    pub front_door: Option<FrontDoorConfig>,
    /// What the operations listener does for a control plane.
    pub operations: OperationsConfig,
    /// The fleet document; `None` where the command line must name it.
    pub fleet: Option<PathBuf>,
    /// The road to a control plane, which publishes the fleet document.
    pub bus: BusConfig,
    /// A file in the shape of `/etc/hosts` that is asked for the nodes' names first.
    pub hosts_file: Option<PathBuf>,
    /// Worker threads; 0 means one a core.
    pub threads: usize,
    /// How long each phase of a request may last.
    pub timeouts: TimeoutConfig,
    /// Memory for request bodies.
    pub body: BodyConfig,
    /// Tries of one request, the first included.
    pub max_attempts: usize,
    /// Idle connections kept to the nodes, over all of them.
    pub upstream_keepalive: usize,
    /// `GET /` on every node.
    pub probe: ProbeConfig,
    /// `/api/tags` on every node.
    pub inventory: PollConfig,
    /// `/api/ps` on every node.
    pub residency: PollConfig,
    /// When a failing node or runner is left alone.
    pub breaker: BreakerConfig,
    /// How usage is brought to the control plane.
    pub usage: UsageConfig,
    /// What `/api/version` answers instead of the lowest version in service.
    pub version: Option<String>,
    /// Where the access lines go.
    pub access_log: AccessLog,
    /// Seed of every random choice; `None` takes one from the system.
    pub seed: Option<u64>,
}

/// The road to a control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusConfig {
    /// The address of Redis; it may hold a password. Without it there is no bus.
    pub redis: Option<Secret>,
    /// The authorities of a `rediss://` server, a file of PEM; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// What names of keys and channels begin with.
    pub prefix: String,
    /// Where the last good fleet document is kept; `None` leaves the choice to who starts the plane.
    pub folder: Option<PathBuf>,
}

/// Listeners of a data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenConfig {
    /// Ollama's API and `/v1`.
    pub proxy: SocketAddr,
    /// `/metrics`, `/healthz`, `/readyz`, and what a control plane asks for.
    pub ops: SocketAddr,
}

/// Timeouts of a request, one for each phase (design.md D4): never one over a whole stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutConfig {
    /// TCP and TLS to a node.
    pub connect: Duration,
    /// From the request sent to the first byte of a stream: a cold load lies within it.
    pub first_byte: Duration,
    /// As `first_byte` for `stream: false`, where the first byte is the whole answer.
    pub answer: Duration,
    /// Between two chunks of an answer.
    pub idle: Duration,
    /// Between two reads of a client's request body, and a client's not reading its answer.
    pub client: Duration,
    /// How long SIGTERM waits for open requests.
    pub drain: Duration,
}

/// How much request body is held in memory so that it can be routed and sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyConfig {
    /// For one request, bytes; what is longer is streamed once its model is known.
    pub buffer: u64,
    /// Over all requests, bytes. Bodies up to 64 KiB are not counted.
    pub buffer_total: u64,
}

/// The active probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Between two probes of one node; each is moved by up to a tenth at random.
    pub interval: Duration,
    /// After which a probe has failed.
    pub timeout: Duration,
    /// Failures in a row that take a node out.
    pub unhealthy_after: u32,
    /// Successes in a row that bring it back.
    pub healthy_after: u32,
}

/// A poll with its own clock and patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollConfig {
    /// Between two polls of one node.
    pub interval: Duration,
    /// After which a poll has failed; the last answer stays in force.
    pub timeout: Duration,
}

/// The circuit breakers of a node and of a model on a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures: u32,
    /// First time it stays open; doubles with every failed trial.
    pub base: Duration,
    /// Longest time it stays open.
    pub max: Duration,
    /// A runner that holds work is stuck after this many times its slowest first byte of late.
    pub stuck_factor: f64,
    /// And never before this.
    pub stuck_after: Duration,
}

/// Where access lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// One JSON line a request on standard output.
    Stdout,
    /// None.
    Off,
}

impl ProxyConfig {
    /// Reads a configuration file's text with the environment's overrides.
    pub fn from_yaml(text: &str, overrides: &Overrides) -> Result<Self, Problems> {
        let mut value = parse_yaml(text)?;
        overrides.apply(&mut value);
        Self::from_value(&value, &Lines::of(text))
    }

    /// The configuration of an empty file.
    pub fn defaults() -> Self {
        Self::from_value(&Value::Null, &Lines::default()).expect("the defaults are valid")
    }

    fn from_value(value: &Value, lines: &Lines) -> Result<Self, Problems> {
        let outside = Outside::new("", |name| std::env::var(name).ok());
        let root = Reader::root(value).with_outside(Some(&outside));
        root.value("control_plane"); // judged where it is read
        let proxy = root.section("proxy");
        let config = read_proxy(&proxy);
        proxy.finish();
        root.finish();
        drop(proxy);
        match root.into_problems(lines) {
            Some(problems) => Err(problems),
            None => Ok(config),
        }
    }
}

fn read_proxy(proxy: &Reader<'_>) -> ProxyConfig {
    ProxyConfig {
        listen: ListenConfig {
            proxy: address(proxy, "listen", 8000),
            ops: address(proxy, "ops_listen", 8002),
        },
        edge: edge::read(proxy),
        trusted_proxies: networks(proxy, "trusted_proxies"),
        front_door: front_door::read(proxy),
        operations: operations::read(proxy),
        fleet: proxy.get("fleet"),
        bus: read_bus(proxy),
        hosts_file: proxy.get("hosts_file"),
        threads: in_range(proxy, "threads", 0, 0, 1024),
        timeouts: read_timeouts(&proxy.section("timeouts")),
        body: read_body(&proxy.section("body")),
        max_attempts: in_range(proxy, "max_attempts", 4, 1, 16),
        upstream_keepalive: in_range(proxy, "upstream_keepalive", 1024, 1, 1 << 20),
        probe: read_probe(&proxy.section("probe")),
        inventory: read_poll(&proxy.section("inventory"), 30),
        residency: read_poll(&proxy.section("residency"), 5),
        breaker: read_breaker(&proxy.section("breaker")),
        usage: usage::read(&proxy.section("usage")),
        version: proxy.get("version"),
        access_log: if proxy.or("access_log", true) {
            AccessLog::Stdout
        } else {
            AccessLog::Off
        },
        seed: proxy.get("seed"),
    }
}

fn read_bus(proxy: &Reader<'_>) -> BusConfig {
    let at = proxy.section("bus");
    let redis = at.get::<String>("redis");
    if let Some(Err(error)) = redis.as_deref().map(RedisBus::check_url) {
        at.complain("redis", &error.to_string());
    }
    if redis.is_some() && proxy.value("fleet").is_some() {
        at.complain(
            "redis",
            "is where the fleet comes from, and so is `fleet`; keep one of them",
        );
    }
    let prefix = at.or("prefix", "aivonx".to_owned());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !(1..=63).contains(&prefix.len()) || !prefix.bytes().all(is_plain) {
        at.complain("prefix", "must be 1 to 63 letters, digits, `-`, `_` or `.`");
    }
    let config = BusConfig {
        redis: redis.map(Secret::new),
        ca_file: at.get("ca_file"),
        prefix,
        folder: at.get("folder"),
    };
    at.finish();
    config
}

fn read_timeouts(at: &Reader<'_>) -> TimeoutConfig {
    let config = TimeoutConfig {
        connect: span(at, "connect", 2),
        first_byte: span(at, "first_byte", 15 * 60),
        answer: span(at, "answer", 60 * 60),
        idle: span(at, "idle", 15 * 60),
        client: span(at, "client", 60),
        drain: span(at, "drain", 300),
    };
    at.finish();
    config
}

fn read_body(at: &Reader<'_>) -> BodyConfig {
    let buffer = at.get::<Size>("buffer").map_or(64 << 20, |size| size.0);
    let buffer_total = at
        .get::<Size>("buffer_total")
        .map_or(1 << 30, |size| size.0);
    if buffer < 64 << 10 {
        at.complain("buffer", "must be at least 64 KiB");
    }
    if buffer_total < buffer {
        at.complain("buffer_total", "must not be less than body.buffer");
    }
    at.finish();
    BodyConfig {
        buffer,
        buffer_total,
    }
}

fn read_probe(at: &Reader<'_>) -> ProbeConfig {
    let config = ProbeConfig {
        interval: span(at, "interval", 5),
        timeout: span(at, "timeout", 2),
        unhealthy_after: in_range(at, "unhealthy_after", 2, 1, 100) as u32,
        healthy_after: in_range(at, "healthy_after", 1, 1, 100) as u32,
    };
    at.finish();
    config
}

fn read_poll(at: &Reader<'_>, interval: u64) -> PollConfig {
    let config = PollConfig {
        interval: span(at, "interval", interval),
        timeout: span(at, "timeout", 10),
    };
    at.finish();
    config
}

fn read_breaker(at: &Reader<'_>) -> BreakerConfig {
    let base = span(at, "base", 1);
    let max = span(at, "max", 60);
    if max < base {
        at.complain("max", "must not be less than breaker.base");
    }
    let stuck_factor: f64 = at.or("stuck_factor", 8.0);
    if stuck_factor < 1.0 {
        at.complain("stuck_factor", "must be at least 1");
    }
    let config = BreakerConfig {
        failures: in_range(at, "failures", 3, 1, 1000) as u32,
        base,
        max,
        stuck_factor,
        stuck_after: span(at, "stuck_after", 60),
    };
    at.finish();
    config
}

/// A duration, `seconds` by default. Zero is refused: no phase can end before it began.
pub(super) fn span(at: &Reader<'_>, key: &'static str, seconds: u64) -> Duration {
    let span = at
        .get::<Span>(key)
        .map_or(Duration::from_secs(seconds), |span| span.0);
    if span.is_zero() {
        at.complain(key, "must be longer than zero");
    }
    span
}

fn in_range(
    at: &Reader<'_>,
    key: &'static str,
    default: usize,
    least: usize,
    most: usize,
) -> usize {
    let number = at.or(key, default);
    if !(least..=most).contains(&number) {
        at.complain(key, &format!("must be from {least} to {most}"));
    }
    number
}

pub(super) fn address(at: &Reader<'_>, key: &'static str, port: u16) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], port));
    let Some(text) = at.get::<String>(key) else {
        return default;
    };
    text.parse().unwrap_or_else(|_| {
        at.complain(
            key,
            &format!("must be an address and port such as 127.0.0.1:{port}"),
        );
        default
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_safe_default() {
        let config = ProxyConfig::from_yaml("", &Overrides::default()).unwrap();
        assert!(config.listen.proxy.ip().is_loopback() && config.listen.ops.ip().is_loopback());
        assert_eq!(config.timeouts.connect, Duration::from_secs(2));
        assert_eq!(config.timeouts.first_byte, Duration::from_secs(900));
        assert_eq!(config.timeouts.answer, Duration::from_secs(3600));
        assert_eq!(config, ProxyConfig::defaults());
    }

    #[test]
    fn every_problem_is_reported_at_once_with_key_and_line() {
        let text = "proxy:\n  listen: here\n  thread: 4\n  timeouts:\n    connect: soon\n    idle: 0s\n  body: {buffer: 1}\n";
        let problems = ProxyConfig::from_yaml(text, &Overrides::default()).unwrap_err();
        let seen: Vec<_> = problems.iter().map(|p| (p.key.as_str(), p.line)).collect();
        assert_eq!(
            seen,
            [
                ("proxy.listen", Some(2)),
                ("proxy.thread", Some(3)),
                ("proxy.timeouts.connect", Some(5)),
                ("proxy.timeouts.idle", Some(6)),
                ("proxy.body.buffer", Some(7)),
            ]
        );
    }

    #[test]
    fn the_address_of_the_bus_is_checked_and_never_printed() {
        let read = |text: &str| ProxyConfig::from_yaml(text, &Overrides::default());
        let good = "proxy: {bus: {redis: \"redis://user:hush@h:6379/1\", prefix: blue}}";
        let config = read(good).unwrap();
        let address = config.bus.redis.as_ref().map(Secret::reveal);
        assert_eq!(address, Some("redis://user:hush@h:6379/1"));
        assert!(!format!("{config:?}").contains("hush"));
        for (bad, key) in [
            ("redis: \"http://user:hush@h\"", "proxy.bus.redis"),
            ("redis: \"hush@h:6379\"", "proxy.bus.redis"),
            ("prefix: \"a b\"", "proxy.bus.prefix"),
            ("host: hush", "proxy.bus.host"),
        ] {
            let problems = read(&format!("proxy: {{bus: {{{bad}}}}}")).unwrap_err();
            assert_eq!(problems.iter().next().unwrap().key, key);
            assert!(!problems.to_string().contains("hush"), "{problems}");
        }
        let both = "proxy:\n  fleet: f.yaml\n  bus: {redis: \"redis://h\"}\n";
        assert!(read(both).unwrap_err().to_string().contains("keep one"));
    }

    #[test]
    fn broken_yaml_names_its_line() {
        let problems =
            ProxyConfig::from_yaml("proxy: {\n  a: [\n", &Overrides::default()).unwrap_err();
        assert!(problems.iter().next().unwrap().line.is_some(), "{problems}");
    }
}
