//! Lists of networks, as `10.0.0.0/8`; an address alone is a network of one.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Reader;

/// The networks of the list at `key`; empty where it is absent.
pub(crate) fn networks(at: &Reader<'_>, key: &'static str) -> Vec<IpNet> {
    let texts = at.get::<Vec<String>>(key).unwrap_or_default();
    let read = |text: &String| {
        let network = network(text);
        if network.is_none() {
            at.complain(
                key,
                &format!("`{text}` is no network: write one as 10.0.0.0/8, or an address"),
            );
        }
        network
    };
    texts.iter().filter_map(read).collect()
}

fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        assert_eq!(network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert_eq!(network("::1").unwrap().to_string(), "::1/128");
        assert_eq!(network("10.0.0.0/8").unwrap().prefix_len(), 8);
        for wrong in ["", "10.0.0.0/33", "gpu-1", "10.0.0"] {
            assert_eq!(network(wrong), None, "{wrong}");
        }
    }
}
