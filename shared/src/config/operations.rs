//! How a control plane reaches a data plane's operations listener: the token that both hold, and the address
//! that stands in the data plane's reports (`crate::operations`).

use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Reader, token};
use crate::fleet_doc::Secret;

/// What a data plane's operations listener does for a control plane.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OperationsConfig {
    /// What both planes hold; without it nothing is done for anybody.
    pub token: Option<Secret>,
    /// Where a control plane finds the listener, if not at its own address.
    pub advertise: Option<Advertise>,
}

/// An address that others can dial: `host`, or `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertise {
    /// An IPv6 address in its brackets.
    host: String,
    /// `None`: the listener's own.
    port: Option<u16>,
}

impl Advertise {
    /// As `host:port`, for a listener on this port.
    pub fn with_port(&self, listener: u16) -> String {
        format!("{}:{}", self.host, self.port.unwrap_or(listener))
    }

    /// What a data plane says of a listener at `own` without a word on it: that address, or on all addresses
    /// the name of its machine.
    pub fn by_default(own: SocketAddr, hostname: &str) -> String {
        if own.ip().is_unspecified() && !hostname.is_empty() {
            format!("{hostname}:{}", own.port())
        } else {
            own.to_string()
        }
    }
}

impl FromStr for Advertise {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "must be a host, or host:port, that a control plane can connect to, such as \
                             10.0.0.9:8002; an IPv6 address stands in brackets";
        let (host, rest) = match text.find(']') {
            Some(end) => text.split_at(end + 1),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or(WRONG)?),
            None if rest.is_empty() => None,
            None => return Err(WRONG),
        };
        if !is_host(host) {
            return Err(WRONG);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// A name or an address; not the one that means all addresses, which nobody can dial.
fn is_host(text: &str) -> bool {
    let in_brackets = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match in_brackets {
        Some(address) => address
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| !address.is_unspecified()),
        None => {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            (1..=253).contains(&text.len()) && text.bytes().all(is_plain) && text != "0.0.0.0"
        }
    }
}

/// Reads `operations_token` and `ops_advertise`, which stand in `proxy:` itself.
pub(super) fn read(proxy: &Reader<'_>) -> OperationsConfig {
    let advertise = proxy.get::<String>("ops_advertise");
    OperationsConfig {
        token: token::read(proxy, "operations_token", "operations_token_file"),
        advertise: advertise.and_then(|text| {
            text.parse()
                .map_err(|words| proxy.complain("ops_advertise", words))
                .ok()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ControlConfig, Overrides, ProxyConfig, overrides_from};
    use super::*;

    const TEXT: &str = "0123456789abcdef";

    fn advertised(text: &str) -> Result<String, &'static str> {
        text.parse::<Advertise>()
            .map(|advertise| advertise.with_port(8002))
    }

    #[test]
    fn an_address_is_a_host_with_the_listeners_port_or_its_own() {
        for (text, shown) in [
            ("10.0.0.9", "10.0.0.9:8002"),
            ("10.0.0.9:9000", "10.0.0.9:9000"),
            ("gw-1.example", "gw-1.example:8002"),
            ("[fd00::1]:9000", "[fd00::1]:9000"),
            ("[::1]", "[::1]:8002"),
        ] {
            assert_eq!(advertised(text).as_deref(), Ok(shown));
        }
        for wrong in [
            "",
            ":8002",
            "h:",
            "h:0",
            "h:65536",
            "h:x",
            "h/p",
            "http://h",
            "fd00::1",
            "[fd00::1]x",
            "[h]",
            "0.0.0.0",
            "[::]:8002",
            "a b",
        ] {
            assert!(advertised(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_found_by_the_machines_name() {
        let at = |text: &str, hostname| Advertise::by_default(text.parse().unwrap(), hostname);
        assert_eq!(at("10.0.0.9:8002", "gw-1"), "10.0.0.9:8002");
        assert_eq!(at("0.0.0.0:8002", "gw-1"), "gw-1:8002");
        assert_eq!(at("[::]:8002", "gw-1"), "gw-1:8002");
        assert_eq!(at("0.0.0.0:8002", ""), "0.0.0.0:8002");
    }

    #[test]
    fn both_planes_read_the_token_from_the_file_another_or_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, format!("{TEXT}\n")).unwrap();
        let in_file = format!("{{operations_token_file: '{}'}}", path.display());
        let here = format!("{{operations_token: {TEXT}}}");
        let variable = |section: &str| {
            let name = format!("AIVONX_{section}__OPERATIONS_TOKEN");
            overrides_from(section, [(name, TEXT.to_owned())].into_iter())
        };
        let ways = [
            (in_file, Overrides::default(), Overrides::default()),
            (here, Overrides::default(), Overrides::default()),
            (
                "{}".to_owned(),
                variable("PROXY"),
                variable("CONTROL_PLANE"),
            ),
        ];
        for (section, proxy, control) in ways {
            let yaml = format!("{{proxy: {section}, control_plane: {section}}}");
            let proxy = ProxyConfig::from_yaml(&yaml, &proxy).unwrap();
            let control = ControlConfig::from_yaml(&yaml, &control).unwrap();
            for token in [&proxy.operations.token, &control.operations_token] {
                assert_eq!(token.as_ref().map(Secret::reveal), Some(TEXT), "{yaml}");
            }
            assert!(!format!("{proxy:?}{control:?}").contains(TEXT));
        }
        let defaults = (ProxyConfig::defaults(), ControlConfig::defaults());
        assert_eq!(defaults.0.operations, OperationsConfig::default());
        assert_eq!(defaults.1.operations_token, None);
    }

    #[test]
    fn what_is_wrong_is_said_of_both_planes_without_the_token() {
        let yaml = "proxy:\n  operations_token: hunter2\n  ops_advertise: 'http://h'\ncontrol_plane:\n  operations_token: hunter2\n";
        let proxy = ProxyConfig::from_yaml(yaml, &Overrides::default());
        let proxy = proxy.unwrap_err().to_string();
        assert!(
            proxy.contains("line 2: proxy.operations_token: must be 16 to 512"),
            "{proxy}"
        );
        assert!(
            proxy.contains("line 3: proxy.ops_advertise: must be a host"),
            "{proxy}"
        );
        let control = ControlConfig::from_yaml(yaml, &Overrides::default());
        let control = control.unwrap_err().to_string();
        assert!(
            control.contains("line 5: control_plane.operations_token: must be 16 to 512"),
            "{control}"
        );
        assert!(!format!("{proxy}{control}").contains("hunter2"));
    }
}
