//! Ollama's own Host and Origin checks for callers without a key (design.md D12): upstream they
//! no longer see the client's headers, and any web page could otherwise reach a loopback fleet by
//! DNS rebinding. Rules: ollama-api.md §9; answers as in the recordings `transport-*`.

use std::net::{IpAddr, SocketAddr};

use super::client::ClientAddress;

/// Who may call, given where the proxy listens.
#[derive(Debug, Clone)]
pub(crate) struct OriginPolicy {
    /// Ollama checks the Host only when it listens on a loopback address: on the plain listener, and
    /// on the TLS one.
    check_host: [bool; 2],
    hostname: String,
    /// Origins of the configuration, `*` for any run of characters (as `OLLAMA_ORIGINS`).
    origins: Vec<String>,
}

/// What a request's `Host` and `Origin` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No browser, or the same origin: nothing to add.
    Plain,
    /// Another origin that is allowed: the answer names it.
    Cors,
    /// 403 with an empty body.
    Forbidden,
}

/// Hosts whose pages may call from any port (ollama: envconfig/config.go `AllowedOrigins`).
const ORIGIN_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "0.0.0.0"];
/// Schemes of desktop applications, any host.
const ORIGIN_SCHEMES: [&str; 5] = [
    "app://",
    "file://",
    "tauri://",
    "vscode-webview://",
    "vscode-file://",
];

impl OriginPolicy {
    /// The policy of a plain and perhaps a TLS listener on a machine of this name.
    pub(crate) fn new(
        listen: SocketAddr,
        tls: Option<SocketAddr>,
        hostname: String,
        origins: Vec<String>,
    ) -> Self {
        Self {
            check_host: [listen, tls.unwrap_or(listen)].map(|at| at.ip().is_loopback()),
            hostname,
            origins,
        }
    }

    /// Judges a request without a key from `client`. The origin comes first, as in Ollama. A trusted
    /// proxy has its own names: the host matters behind it only where the client is on this machine.
    pub(crate) fn judge(
        &self,
        host: &str,
        origin: Option<&str>,
        client: &ClientAddress,
        over_tls: bool,
    ) -> Verdict {
        let verdict = self.judge_origin(host, origin);
        let checks_host =
            client.local || (self.check_host[usize::from(over_tls)] && !client.proxied);
        if verdict != Verdict::Forbidden && checks_host && !self.host_allowed(host) {
            return Verdict::Forbidden;
        }
        verdict
    }

    /// Judges by the origin alone: a preflight, as Ollama does, and a request whose key shows that no
    /// web page made it up, since a browser adds the password of Basic authorization by itself.
    pub(crate) fn judge_origin(&self, host: &str, origin: Option<&str>) -> Verdict {
        match origin {
            None | Some("") => Verdict::Plain,
            Some(origin) if is_same(origin, host) => Verdict::Plain,
            Some(origin) if origin_allowed(origin) || self.is_configured(origin) => Verdict::Cors,
            Some(_) => Verdict::Forbidden,
        }
    }

    /// Whether the configuration names this origin.
    pub(crate) fn is_configured(&self, origin: &str) -> bool {
        let mut patterns = self.origins.iter();
        patterns.any(|pattern| matches(pattern.as_bytes(), origin.as_bytes()))
    }

    fn host_allowed(&self, host: &str) -> bool {
        let name = without_port(host);
        if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return ip_allowed(ip);
        }
        let name = name.to_ascii_lowercase();
        name.is_empty()
            || name == "localhost"
            || name == self.hostname
            || [".localhost", ".local", ".internal"]
                .iter()
                .any(|end| name.ends_with(end))
    }
}

/// Whether a text is as a pattern has it; case does not matter. Steps back to the last `*` only, so
/// that a client's text costs no more than its length times the pattern's.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut seen, mut star) = (0, 0, None);
    while seen < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, seen));
            at += 1;
        } else if pattern
            .get(at)
            .is_some_and(|byte| byte.eq_ignore_ascii_case(&text[seen]))
        {
            at += 1;
            seen += 1;
        } else if let Some((star_at, star_seen)) = star {
            star = Some((star_at, star_seen + 1));
            (at, seen) = (star_at + 1, star_seen + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

fn is_same(origin: &str, host: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| origin.strip_prefix(scheme) == Some(host))
}

fn origin_allowed(origin: &str) -> bool {
    if ORIGIN_SCHEMES
        .iter()
        .any(|scheme| origin.starts_with(scheme))
    {
        return true;
    }
    let rest = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        ORIGIN_HOSTS.iter().any(|host| {
            rest.strip_prefix(host)
                .is_some_and(|port| port.is_empty() || port.starts_with(':'))
        })
    })
}

/// Loopback, private and unspecified addresses (ollama: server/routes.go `allowedHost`).
fn ip_allowed(ip: IpAddr) -> bool {
    ip.is_loopback()
        || ip.is_unspecified()
        || match ip {
            IpAddr::V4(ip) => ip.is_private(),
            IpAddr::V6(ip) => ip.is_unique_local(),
        }
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    match host.split_once(':') {
        // more than one colon: an IPv6 address without brackets has no port
        Some((name, rest)) if !rest.contains(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ClientAddress = ClientAddress {
        ip: None,
        local: true,
        proxied: false,
    };

    fn policy(listen: &str) -> OriginPolicy {
        OriginPolicy::new(listen.parse().unwrap(), None, "box".into(), Vec::new())
    }

    #[test]
    fn hosts_are_checked_on_loopback_only() {
        let policy = policy("127.0.0.1:8000");
        for host in [
            "",
            "localhost:8000",
            "127.0.0.1:8000",
            "gpu-1.internal",
            "10.1.2.3:8000",
            "[::1]:8000",
            "BOX",
            "a.local",
        ] {
            assert_eq!(
                policy.judge(host, None, &HERE, false),
                Verdict::Plain,
                "{host}"
            );
        }
        for host in [
            "ollama.example.com",
            "8.8.8.8",
            "localhost.evil.com",
            "[2001:db8::1]:80",
        ] {
            assert_eq!(
                policy.judge(host, None, &HERE, false),
                Verdict::Forbidden,
                "{host}"
            );
            assert_eq!(policy.judge_origin(host, None), Verdict::Plain, "{host}");
        }
        let exposed = self::policy("0.0.0.0:8000");
        let elsewhere = ClientAddress {
            local: false,
            ..HERE
        };
        let behind = ClientAddress {
            proxied: true,
            ..elsewhere
        };
        let judge =
            |policy: &OriginPolicy, client| policy.judge("ollama.example.com", None, client, false);
        assert_eq!(judge(&exposed, &elsewhere), Verdict::Plain);
        assert_eq!(
            judge(&exposed, &HERE),
            Verdict::Forbidden,
            "a browser of this machine"
        );
        assert_eq!(
            judge(&policy, &elsewhere),
            Verdict::Forbidden,
            "as Ollama does"
        );
        assert_eq!(
            judge(&policy, &behind),
            Verdict::Plain,
            "the proxy's own name"
        );
    }

    #[test]
    fn origins_are_checked_everywhere() {
        for listen in ["127.0.0.1:8000", "0.0.0.0:8000"] {
            let policy = policy(listen);
            let judge = |origin| policy.judge("127.0.0.1:8000", Some(origin), &HERE, false);
            assert_eq!(judge("https://chat.example.com"), Verdict::Forbidden);
            assert_eq!(judge("http://localhost:3000"), Verdict::Cors);
            assert_eq!(judge("http://localhostevil"), Verdict::Forbidden);
            assert_eq!(
                judge("http://127.0.0.1:8000"),
                Verdict::Plain,
                "the same origin"
            );
            assert_eq!(judge("app://whatever"), Verdict::Cors);
            assert_eq!(judge("null"), Verdict::Forbidden);
        }
    }

    #[test]
    fn configured_origins_are_let_in_beside_ollamas_own() {
        let policy = |origins: &[&str]| {
            let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
            OriginPolicy::new("0.0.0.0:8000".parse().unwrap(), None, "box".into(), origins)
        };
        let allows = |policy: &OriginPolicy, origin| {
            policy.judge_origin("ollama.example.com", Some(origin)) == Verdict::Cors
        };
        let exact = policy(&["https://chat.example.com"]);
        assert!(allows(&exact, "https://chat.example.com"));
        assert!(allows(&exact, "http://localhost:3000"));
        for other in [
            "http://chat.example.com",
            "https://chat.example.com:8443",
            "https://chat.example.com.evil.com",
            "https://evil-chat.example.com",
            "null",
        ] {
            assert!(!allows(&exact, other), "{other}");
        }
        let wild = policy(&[
            "https://*.example.com",
            "chrome-extension://*",
            "https://a*b*c",
        ]);
        assert!(allows(&wild, "https://a.b.example.com"));
        assert!(allows(&wild, "chrome-extension://abcdef"));
        assert!(allows(&wild, "https://a-b-b-c"));
        assert!(!allows(&wild, "https://example.com"));
        assert!(!allows(&wild, "https://a.example.com.evil.com"));
        assert!(!allows(&wild, "https://ab"));
        assert!(allows(&policy(&["*"]), "https://anything.at.all"));
    }

    #[test]
    fn each_listener_checks_hosts_by_where_it_is() {
        let (plain, tls) = ("127.0.0.1:8000", "0.0.0.0:8443");
        let (plain, tls) = (plain.parse().unwrap(), tls.parse().unwrap());
        let policy = OriginPolicy::new(plain, Some(tls), "box".into(), Vec::new());
        let elsewhere = ClientAddress {
            local: false,
            ..HERE
        };
        let judge = |over_tls| policy.judge("ollama.example.com", None, &elsewhere, over_tls);
        assert_eq!(
            (judge(false), judge(true)),
            (Verdict::Forbidden, Verdict::Plain)
        );
    }
}
