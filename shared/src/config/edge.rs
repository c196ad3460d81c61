//! The edge towards clients: TLS, PROXY protocol, origins, limits, and the hand-over to a new process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Reader;
use super::units::{Size, Span};

/// How clients are met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeConfig {
    /// The TLS listener, where there is one.
    pub tls: Option<TlsConfig>,
    /// Whether peers within `trusted_proxies` may name the client in a PROXY header.
    pub proxy_protocol: bool,
    /// Origins whose pages may call beside Ollama's own, with `*` for any run of characters.
    pub origins: Vec<String>,
    /// What one client may take.
    pub limits: LimitConfig,
    /// Where a new process meets the old one; `None` takes a private folder.
    pub upgrade_socket: Option<PathBuf>,
}

/// A TLS listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The chain, PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// What one client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitConfig {
    /// Head of a request, bytes.
    pub head: u64,
    /// Body of a request, bytes; 0 means any.
    pub body: u64,
    /// Connections of all clients; 0 means any number.
    pub connections: usize,
    /// Connections of one client; 0 means any number.
    pub connections_per_client: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// For a TLS handshake, a PROXY header, and from the first to the last byte of a head.
    pub head_timeout: Duration,
    /// Bytes a second that a body must bring on average; 0 means any.
    pub body_rate: u64,
}

/// Reads the keys of the edge, which stand in `proxy:` itself.
pub(super) fn read(proxy: &Reader<'_>) -> EdgeConfig {
    EdgeConfig {
        tls: read_tls(proxy),
        proxy_protocol: proxy.or("proxy_protocol", false),
        origins: read_origins(&proxy.section("cors")),
        limits: read_limits(&proxy.section("limits")),
        upgrade_socket: proxy.get("upgrade_socket"),
    }
}

fn read_tls(proxy: &Reader<'_>) -> Option<TlsConfig> {
    proxy.value("tls")?;
    let at = proxy.section("tls");
    let listen = super::proxy::address(&at, "listen", 8443);
    let file = |key| {
        let path: Option<PathBuf> = at.get(key);
        if path.is_none() && at.value(key).is_none() {
            at.complain(key, "is missing: name a PEM file");
        }
        path
    };
    let (certificate, key) = (file("certificate"), file("key"));
    at.finish();
    Some(TlsConfig {
        listen,
        certificate: certificate?,
        key: key?,
    })
}

fn read_origins(at: &Reader<'_>) -> Vec<String> {
    let origins: Vec<String> = at.or("origins", Vec::new());
    for origin in &origins {
        if origin != "*" && !is_origin(origin) {
            at.complain(
                "origins",
                &format!(
                    "`{origin}` is no origin: write one as https://chat.example.com, without a path"
                ),
            );
        }
    }
    at.finish();
    origins
}

/// A scheme and a host, nothing after it: browsers send no more.
fn is_origin(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty() && !host.contains('/'))
}

fn read_limits(at: &Reader<'_>) -> LimitConfig {
    let size = |key, default| at.get::<Size>(key).map_or(default, |size| size.0);
    let head = size("head", 64 << 10);
    if !(4 << 10..=1 << 20).contains(&head) {
        at.complain("head", "must be from 4 KiB to 1 MiB");
    }
    let head_timeout = at
        .get::<Span>("head_timeout")
        .map_or(Duration::from_secs(10), |span| span.0);
    if head_timeout.is_zero() {
        at.complain("head_timeout", "must be longer than zero");
    }
    let streams = at.or("streams", 128);
    if !(1..=100_000).contains(&streams) {
        at.complain("streams", "must be from 1 to 100000");
    }
    let config = LimitConfig {
        head,
        body: size("body", 0),
        connections: at.or("connections", 0),
        connections_per_client: at.or("connections_per_client", 1024),
        streams,
        head_timeout,
        body_rate: size("body_rate", 1 << 10),
    };
    at.finish();
    config
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, ProxyConfig};

    fn problems(yaml: &str) -> Vec<(String, Option<usize>)> {
        match ProxyConfig::from_yaml(yaml, &Overrides::default()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(|p| (p.key.clone(), p.line)).collect(),
        }
    }

    #[test]
    fn without_keys_there_is_no_tls_and_no_trust() {
        let edge = ProxyConfig::defaults().edge;
        assert_eq!(edge.tls, None);
        assert!(!edge.proxy_protocol && edge.origins.is_empty());
        assert_eq!(edge.limits.head, 65_536);
    }

    #[test]
    fn a_tls_listener_needs_both_files() {
        let yaml = "proxy:\n  tls:\n    listen: 0.0.0.0:8443\n    certificate: a.pem\n";
        assert_eq!(problems(yaml), [("proxy.tls.key".into(), Some(2))]);
        let yaml = format!("{yaml}    key: b.pem\n");
        let config = ProxyConfig::from_yaml(&yaml, &Overrides::default()).unwrap();
        assert_eq!(config.edge.tls.unwrap().listen.port(), 8443);
    }

    #[test]
    fn wrong_networks_origins_and_limits_are_told_together() {
        let yaml = "proxy:\n  trusted_proxies: [10.0.0.0/33]\n  cors:\n    origins: [example.com, 'https://a/b', 'https://*.b']\n  limits:\n    head: 1\n    head_timeout: 0s\n    streams: 0\n";
        assert_eq!(
            problems(yaml),
            [
                ("proxy.trusted_proxies".into(), Some(2)),
                ("proxy.cors.origins".into(), Some(4)),
                ("proxy.cors.origins".into(), Some(4)),
                ("proxy.limits.head".into(), Some(6)),
                ("proxy.limits.head_timeout".into(), Some(7)),
                ("proxy.limits.streams".into(), Some(8)),
            ]
        );
    }
}
