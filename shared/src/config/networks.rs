//! Networks of clients: `10.0.0.0/8`, `fd00::/8`; a bare address is a network of one.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Reader;

/// The networks of the list at `key`; empty where it is absent.
pub(crate) fn networks(at: &Reader<'_>, key: &'static str) -> Vec<IpNet> {
    let texts: Vec<String> = at.or(key, Vec::new());
    texts
        .iter()
        .filter_map(|text| {
            let network = network(text);
            if network.is_none() {
                at.complain(key, &not_a_network(text));
            }
            network
        })
        .collect()
}

/// The network of a text. IPv4 within IPv6 is IPv4, as clients' addresses are held against it.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .ok()?;
    match network {
        IpNet::V6(v6) => Some(match (v6.addr().to_ipv4_mapped(), v6.prefix_len()) {
            (Some(v4), length @ 96..) => IpNet::new(IpAddr::V4(v4), length - 96).ok()?.trunc(),
            _ => network.trunc(),
        }),
        IpNet::V4(_) => Some(network.trunc()),
    }
}

/// What to write instead.
pub(crate) fn not_a_network(text: &str) -> String {
    format!("`{text}` is no network; write it as 10.0.0.0/8 or fd00::/8, or an address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_bare_addresses_are_read() {
        let shown = |text| network(text).map(|network| network.to_string());
        assert_eq!(shown("10.1.2.3/8").as_deref(), Some("10.0.0.0/8"));
        assert_eq!(shown(" ::1 ").as_deref(), Some("::1/128"));
        assert_eq!(shown("::ffff:10.0.0.0/104").as_deref(), Some("10.0.0.0/8"));
        for wrong in ["", "10.0.0.0/33", "10.0.0", "example.net", "10.0.0.0/8/8"] {
            assert_eq!(network(wrong), None, "{wrong}");
        }
    }
}
