//! Who the client is, by its address: the peer's, or what a trusted proxy in front says of it.
//!
//! "Loopback" is a claim to full trust (design.md D8), so it is given narrowly: the peer is on this
//! machine, and no header speaks of a client behind it, unless that peer is a trusted proxy.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// Headers by which proxies say that they speak for somebody else, and how many more of them begin.
const FORWARDING: [&str; 27] = [
    "forwarded",
    "forwarded-for",
    "via",
    "client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-proxyuser-ip",
    "x-http-forwarded-for",
    "x-scheme",
    "proxy-client-ip",
    "wl-proxy-client-ip",
    "remote-addr",
    "fastly-client-ip",
    "fly-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-appengine-user-ip",
    "x-nf-client-connection-ip",
    "x-vercel-forwarded-for",
    "x-vercel-proxied-for",
    "x-sucuri-clientip",
    "incap-client-ip",
    "cdn-loop",
    "cloudfront-viewer-address",
];
const FORWARDING_PREFIXES: [&str; 5] = ["x-forwarded", "x-original-", "x-envoy-", "x-real-", "cf-"];
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A client as far as its address tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClientAddress {
    /// `None` where it cannot be told.
    pub(crate) ip: Option<IpAddr>,
    /// Whether the client is on this machine.
    pub(crate) local: bool,
    /// Whether a trusted proxy stands between.
    pub(crate) proxied: bool,
}

impl ClientAddress {
    /// Reads `headers` of a request from `peer`, the address after the PROXY protocol.
    pub(crate) fn of(peer: Option<IpAddr>, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let Some(peer) = peer.map(|ip| ip.to_canonical()) else {
            return Self::default();
        };
        let is_trusted = |ip: &IpAddr| trusted.iter().any(|network| network.contains(ip));
        if is_trusted(&peer) {
            return Self::behind(peer, headers, is_trusted);
        }
        Self {
            ip: Some(peer),
            local: peer.is_loopback() && !headers.keys().any(|name| forwards(name.as_str())),
            proxied: false,
        }
    }

    /// The client in front of trusted proxies: from the right, the first address that is none of
    /// theirs. A proxy that names no client is the client, but never a local one: it may have
    /// passed on a stranger's request without saying so.
    fn behind(peer: IpAddr, headers: &HeaderMap, is_trusted: impl Fn(&IpAddr) -> bool) -> Self {
        let lines: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .map(|value| value.to_str().unwrap_or("?"))
            .collect();
        let mut client = None;
        for part in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Some(ip) = address(part) else {
                // what stands left of it may be anybody's
                return Self {
                    proxied: true,
                    ..Self::default()
                };
            };
            client = Some(ip);
            if !is_trusted(&ip) {
                break;
            }
        }
        Self {
            ip: Some(client.unwrap_or(peer)),
            // another machine's loopback is not ours
            local: peer.is_loopback() && client.is_some_and(|ip| ip.is_loopback()),
            proxied: true,
        }
    }
}

/// Whether a header speaks of a client behind the peer.
pub(crate) fn forwards(name: &str) -> bool {
    FORWARDING_PREFIXES
        .iter()
        .any(|start| name.starts_with(start))
        || FORWARDING.contains(&name)
}

/// An entry of `X-Forwarded-For`; some proxies write a port, and brackets around IPv6.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let ip = text
        .parse()
        .or_else(|_| {
            text.parse()
                .map(|address: std::net::SocketAddr| address.ip())
        })
        .or_else(|_| text.trim_matches(['[', ']']).parse::<IpAddr>());
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &str)], trusted: &[&str]) -> (String, bool) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let client = ClientAddress::of(Some(peer.parse().unwrap()), &map, &trusted);
        let shown = client.ip.map_or("?".to_owned(), |ip| ip.to_string());
        (shown, client.local)
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn without_trusted_proxies_the_peer_is_the_client() {
        assert_eq!(client("127.0.0.1", &[], &[]), ("127.0.0.1".into(), true));
        assert_eq!(
            client("::ffff:127.0.0.1", &[], &[]),
            ("127.0.0.1".into(), true)
        );
        assert_eq!(client("10.0.0.1", &[], &[]), ("10.0.0.1".into(), false));
        let claimed = client("10.0.0.1", &[(XFF, "127.0.0.1")], &[]);
        assert_eq!(claimed, ("10.0.0.1".into(), false));
    }

    #[test]
    fn a_forwarding_header_from_a_stranger_is_never_loopback() {
        let begun = [
            "x-forwarded-for",
            "x-forwarded",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-original-forwarded-for",
            "x-original-url",
            "x-envoy-external-address",
            "x-real-ip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-ray",
        ];
        for name in FORWARDING.into_iter().chain(begun) {
            let (_, local) = client("127.0.0.1", &[(name, "127.0.0.1")], &[]);
            assert!(!local, "{name}");
        }
    }

    #[test]
    fn what_clients_themselves_send_does_not_make_them_strangers() {
        let names = [
            "host",
            "user-agent",
            "accept",
            "content-type",
            "authorization",
            "x-api-key",
            "x-request-id",
            "x-stainless-lang",
            "x-openwebui-user-email",
            "anthropic-version",
            "origin",
            "traceparent",
        ];
        let sent = names.map(|name| (name, "a"));
        assert!(client("127.0.0.1", &sent, &[]).1);
    }

    #[test]
    fn the_first_address_from_the_right_that_is_no_proxy_is_the_client() {
        let trusted = ["10.0.0.0/8", "127.0.0.1/32"];
        let of = |value| client("10.0.0.1", &[(XFF, value)], &trusted);
        assert_eq!(of("192.0.2.7"), ("192.0.2.7".into(), false));
        assert_eq!(
            of("127.0.0.1, 192.0.2.7, 10.0.0.2"),
            ("192.0.2.7".into(), false)
        );
        assert_eq!(of("192.0.2.7:4711"), ("192.0.2.7".into(), false));
        assert_eq!(of("[2001:db8::1]:80"), ("2001:db8::1".into(), false));
        assert_eq!(of("192.0.2.7, unknown"), ("?".into(), false));
        assert_eq!(
            of("10.0.0.9"),
            ("10.0.0.9".into(), false),
            "all are proxies"
        );
        let two = [(XFF, "198.51.100.1"), (XFF, "192.0.2.7")];
        assert_eq!(
            client("10.0.0.1", &two, &trusted),
            ("192.0.2.7".into(), false)
        );
    }

    #[test]
    fn loopback_through_a_proxy_counts_only_on_this_machine_and_only_when_named() {
        let trusted = ["10.0.0.0/8", "127.0.0.1/32"];
        let of = |peer, headers: &[(&'static str, &str)]| client(peer, headers, &trusted).1;
        assert!(of("127.0.0.1", &[(XFF, "127.0.0.1")]));
        assert!(
            !of("127.0.0.1", &[]),
            "it may have passed on anybody's request"
        );
        assert!(
            !of("10.0.0.1", &[(XFF, "127.0.0.1")]),
            "that machine's loopback"
        );
        assert!(!of("127.0.0.1", &[(XFF, "127.0.0.1, 192.0.2.7")]));
    }
}
