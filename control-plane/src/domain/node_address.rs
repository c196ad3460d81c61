//! A node's address: the predecessor's three spellings, and which addresses no node may have. Whoever
//! may register nodes can make the fleet send requests there, so the services that a cloud offers its
//! machines on link-local addresses (credentials among them) are refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aivonx_shared::fleet_doc::NodeUrl;
use ipnet::IpNet;

/// Ollama's own port, for an address that names none.
const OLLAMA: u16 = 11434;

/// Names under which clouds offer their metadata.
const METADATA: [&str; 5] = [
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Which addresses nodes may have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressRules {
    /// Networks that are allowed although they are refused by themselves.
    pub allowed: Vec<IpNet>,
}

impl AddressRules {
    /// Why no node may stand at a host: a name, or an IP address without brackets. A name is judged as
    /// it is written; where it leads is known only to who connects.
    pub fn judge(&self, host: &str) -> Result<(), String> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if let Ok(ip) = host.parse::<IpAddr>() {
            return self.judge_ip(ip);
        }
        if METADATA.contains(&host.as_str()) {
            return Err("is a cloud's metadata service".to_owned());
        }
        if ends_in_number(&host) {
            return Err("has a host that is neither a name nor an IP address in full".to_owned());
        }
        Ok(())
    }

    fn judge_ip(&self, ip: IpAddr) -> Result<(), String> {
        let plain = embedded(ip);
        if self
            .allowed
            .iter()
            .any(|net| net.contains(&ip) || net.contains(&plain))
        {
            return Ok(());
        }
        let kind = match plain {
            IpAddr::V4(ip) => refused_v4(ip),
            IpAddr::V6(ip) => refused_v6(ip),
        };
        kind.map_or(Ok(()), |kind| {
            Err(format!(
                "is {kind}; `node_networks` in the configuration can allow it"
            ))
        })
    }
}

fn refused_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [first, ..] = ip.octets();
    if ip.is_link_local() {
        Some("a link-local address")
    } else if first == 0 {
        Some("an address of no machine")
    } else if ip.is_multicast() || first >= 240 {
        Some("an address of many machines")
    } else if ip == Ipv4Addr::new(100, 100, 100, 200) {
        Some("a cloud's metadata service")
    } else {
        None
    }
}

fn refused_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if ip.is_unicast_link_local() {
        Some("a link-local address")
    } else if ip.is_unspecified() {
        Some("an address of no machine")
    } else if ip.is_multicast() {
        Some("an address of many machines")
    } else if ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254) {
        Some("a cloud's metadata service")
    } else {
        None
    }
}

/// The IPv4 address inside an IPv6 one: mapped and compatible (RFC 4291 §2.5.5), NAT64 (RFC 6052).
fn embedded(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let [prefix @ .., high, low] = v6.segments();
    let is_embedding = matches!(
        prefix,
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0]
    );
    if is_embedding && !v6.is_loopback() && !v6.is_unspecified() {
        IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
    } else {
        ip
    }
}

/// Resolvers read `2852039166`, `0xa9fea9fe` and `169.254.43518` as addresses; no name ends so (URL
/// Standard, "ends in a number").
fn ends_in_number(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_hex = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hex || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The URL that an address and a port stand for: `host`, `host:port` or a URL; the port counts where
/// the address has none, and 0 says that there is none to add (the predecessor's rule). Neither means
/// Ollama's own port, but for a URL, whose scheme has one.
pub fn node_url(address: &str, port: Option<u16>) -> Result<NodeUrl, String> {
    let address = address.trim();
    let small = address.to_ascii_lowercase();
    let (scheme, rest, default) = if small.starts_with("https://") {
        ("https", &address["https://".len()..], 0)
    } else if small.starts_with("http://") {
        ("http", &address["http://".len()..], 0)
    } else if address.contains("://") {
        return Err("must be a host, or begin with http:// or https://".to_owned());
    } else {
        ("http", address, OLLAMA)
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let authority = if authority.parse::<Ipv6Addr>().is_ok() {
        format!("[{authority}]")
    } else {
        authority.to_owned()
    };
    let has_port = match authority.rsplit_once(']') {
        Some((_, behind)) => behind.contains(':'),
        None => authority.contains(':'),
    };
    let port = match port.unwrap_or(default) {
        0 => String::new(),
        _ if has_port => String::new(),
        port => format!(":{port}"),
    };
    format!("{scheme}://{authority}{port}{path}")
        .parse::<NodeUrl>()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_predecessors_three_spellings_become_urls() {
        for (address, port, url) in [
            ("ollama", Some(11434), "http://ollama:11434"),
            ("ollama", None, "http://ollama:11434"),
            ("ollama", Some(0), "http://ollama:80"),
            (" 10.0.0.1:8080 ", Some(11434), "http://10.0.0.1:8080"),
            ("https://h", Some(0), "https://h:443"),
            ("https://h", Some(8443), "https://h:8443"),
            ("HTTP://H/base/", Some(11434), "http://h:11434/base"),
            ("http://h:1/base", Some(11434), "http://h:1/base"),
            ("httpfoo", Some(11434), "http://httpfoo:11434"),
            ("::1", Some(11434), "http://[::1]:11434"),
            ("[::1]:7", Some(11434), "http://[::1]:7"),
        ] {
            let made = node_url(address, port).unwrap();
            assert_eq!(made.to_string(), url, "{address} {port:?}");
        }
        for bad in [
            "ftp://h",
            "a b",
            "",
            "u:p@h",
            "h?x",
            "javascript:alert(1)",
            "http://",
        ] {
            assert!(node_url(bad, Some(11434)).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_that_lead_to_secrets_of_the_cloud_are_refused_in_every_spelling() {
        let rules = AddressRules::default();
        for host in [
            "169.254.169.254",
            "169.254.169.254.",
            "fe80::1",
            "::ffff:169.254.169.254",
            "::ffff:a9fe:a9fe",
            "64:ff9b::a9fe:a9fe",
            "::a9fe:a9fe",
            "fd00:ec2::254",
            "100.100.100.200",
            "Metadata.Google.Internal",
            "metadata.google.internal.",
            "instance-data",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "2852039166",
            "0xa9fea9fe",
            "169.254.43518",
            "0251.0376.0251.0376",
            "169.254.0xa9fe",
        ] {
            assert!(rules.judge(host).is_err(), "{host}");
        }
    }

    #[test]
    fn machines_of_the_house_are_not_refused() {
        let rules = AddressRules::default();
        for host in [
            "127.0.0.1",
            "::1",
            "localhost",
            "10.0.0.1",
            "fd12::1",
            "gpu-1.lab",
            "gpu1",
        ] {
            assert_eq!(rules.judge(host), Ok(()), "{host}");
        }
    }

    #[test]
    fn the_configuration_can_allow_a_network() {
        let rules = AddressRules {
            allowed: vec![
                "169.254.10.0/24".parse().unwrap(),
                "fe80::/64".parse().unwrap(),
            ],
        };
        assert_eq!(rules.judge("169.254.10.9"), Ok(()));
        assert_eq!(rules.judge("::ffff:169.254.10.9"), Ok(()));
        assert_eq!(rules.judge("fe80::2"), Ok(()));
        assert!(rules.judge("169.254.169.254").is_err());
    }
}
