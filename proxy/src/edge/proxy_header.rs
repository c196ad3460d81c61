//! The PROXY protocol, versions 1 and 2, as HAProxy's `doc/proxy-protocol.txt` has it: a load
//! balancer names the client before the client's own bytes begin.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header of version 1, its line end included (§2.1).
const V1_MOST: usize = 107;
/// First bytes of version 2 (§2.2).
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 2 taken here: addresses and what balancers add to them fit.
const V2_MOST: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// No PROXY header: they are the client's own.
    None,
    /// It may become one.
    More,
    /// A header of this length; the client, where it names one (a balancer's own check does not).
    Header(usize, Option<SocketAddr>),
    /// It begins as one and is none.
    Wrong,
}

/// Whom a header speaks for.
#[derive(Debug, Clone, Copy)]
enum Client {
    Is(SocketAddr),
    Unnamed,
}

impl Client {
    fn address(self) -> Option<SocketAddr> {
        match self {
            Self::Is(address) => Some(address),
            Self::Unnamed => None,
        }
    }
}

/// Reads the first bytes of a connection.
pub(crate) fn read(bytes: &[u8]) -> Opening {
    if starts_alike(bytes, b"PROXY ") {
        return read_v1(bytes);
    }
    if starts_alike(bytes, &V2_SIGNATURE) {
        return read_v2(bytes).unwrap_or(Opening::More);
    }
    Opening::None
}

/// Whether one is the beginning of the other.
fn starts_alike(bytes: &[u8], pattern: &[u8]) -> bool {
    let most = bytes.len().min(pattern.len());
    bytes[..most] == pattern[..most]
}

fn read_v1(bytes: &[u8]) -> Opening {
    let line = &bytes[..bytes.len().min(V1_MOST)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        return if line.len() < V1_MOST {
            Opening::More
        } else {
            Opening::Wrong
        };
    };
    let text = line[..end].strip_suffix(b"\r");
    match text.and_then(|text| std::str::from_utf8(text).ok()) {
        Some(text) => v1_client(text).map_or(Opening::Wrong, |client| {
            Opening::Header(end + 1, client.address())
        }),
        None => Opening::Wrong,
    }
}

/// `PROXY TCP4 <client> <proxy> <client's port> <proxy's port>`, or `PROXY UNKNOWN …`.
fn v1_client(text: &str) -> Option<Client> {
    let mut words = text.strip_prefix("PROXY ")?.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Client::Unnamed); // the rest of the line is to be ignored
    }
    let [client, proxy, port, proxy_port] =
        [words.next()?, words.next()?, words.next()?, words.next()?];
    if words.next().is_some() || proxy_port.parse::<u16>().is_err() {
        return None;
    }
    let (client, proxy): (IpAddr, IpAddr) = (client.parse().ok()?, proxy.parse().ok()?);
    let same = match family {
        "TCP4" => client.is_ipv4() && proxy.is_ipv4(),
        "TCP6" => client.is_ipv6() && proxy.is_ipv6(),
        _ => false,
    };
    same.then_some(Client::Is(SocketAddr::new(client, port.parse().ok()?)))
}

/// `None` until it is whole.
fn read_v2(bytes: &[u8]) -> Option<Opening> {
    let version_and_command = *bytes.get(12)?;
    let family = *bytes.get(13)?;
    let length = usize::from(u16::from_be_bytes([*bytes.get(14)?, *bytes.get(15)?]));
    if !matches!(version_and_command, 0x20 | 0x21) || 16 + length > V2_MOST {
        return Some(Opening::Wrong);
    }
    let addresses = bytes.get(16..16 + length)?;
    // a check of the balancer's own (LOCAL) speaks for itself
    let client = if version_and_command == 0x20 {
        Some(Client::Unnamed)
    } else {
        v2_client(family, addresses)
    };
    Some(client.map_or(Opening::Wrong, |client| {
        Opening::Header(16 + length, client.address())
    }))
}

/// The client; unnamed in families without an address of the Internet.
fn v2_client(family: u8, bytes: &[u8]) -> Option<Client> {
    let port = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    match family {
        0x11 => {
            let octets: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
            bytes.get(..12)?;
            Some(Client::Is(SocketAddr::new(
                Ipv4Addr::from(octets).into(),
                port(8)?,
            )))
        }
        0x21 => {
            let octets: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
            bytes.get(..36)?;
            Some(Client::Is(SocketAddr::new(
                Ipv6Addr::from(octets).into(),
                port(32)?,
            )))
        }
        // unspecified, and streams over Unix sockets
        0x00 | 0x31 => Some(Client::Unnamed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2 for TCP.
    fn v2(client: SocketAddr, extra: &[u8]) -> Vec<u8> {
        let (family, ip, proxy) = match client.ip() {
            IpAddr::V4(ip) => (0x11, ip.octets().to_vec(), vec![10, 0, 0, 1]),
            IpAddr::V6(ip) => (0x21, ip.octets().to_vec(), vec![0; 16]),
        };
        let mut rest = [ip, proxy].concat();
        rest.extend(client.port().to_be_bytes());
        rest.extend([0x1f, 0x40]);
        rest.extend(extra);
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([0x21, family]);
        bytes.extend((rest.len() as u16).to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn v1(client: SocketAddr) -> Vec<u8> {
        let (family, proxy) = match client.ip() {
            IpAddr::V4(_) => ("TCP4", "10.0.0.1"),
            IpAddr::V6(_) => ("TCP6", "fd00::1"),
        };
        format!(
            "PROXY {family} {} {proxy} {} 8000\r\n",
            client.ip(),
            client.port()
        )
        .into_bytes()
    }

    #[test]
    fn a_clients_own_bytes_are_none() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            b"POST",
            b"PRI * HTTP/2.0",
            b"\x16\x03\x01",
            b"\r\nGET",
            b"PROXYING /",
        ] {
            assert_eq!(read(bytes), Opening::None, "{bytes:?}");
        }
        for bytes in [&b""[..], b"P", b"PRO", b"\r\n", b"\r\n\r\n\0"] {
            assert_eq!(read(bytes), Opening::More, "{bytes:?}");
        }
    }

    #[test]
    fn what_begins_as_a_header_and_is_none_is_wrong() {
        let long = format!("PROXY TCP4 {}", "1".repeat(200));
        for text in [
            "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
            "PROXY \r\n",
            &long,
        ] {
            assert_eq!(read(text.as_bytes()), Opening::Wrong, "{text}");
        }
        let mut version_3 = v2("1.2.3.4:5".parse().unwrap(), b"");
        version_3[12] = 0x31;
        assert_eq!(read(&version_3), Opening::Wrong);
        let mut datagram = v2("1.2.3.4:5".parse().unwrap(), b"");
        datagram[13] = 0x12;
        assert_eq!(read(&datagram), Opening::Wrong);
        let mut short = v2("1.2.3.4:5".parse().unwrap(), b"");
        short[15] = 8;
        assert_eq!(read(&short), Opening::Wrong);
        let mut endless = V2_SIGNATURE.to_vec();
        endless.extend([0x21, 0x11, 0xff, 0xff]);
        assert_eq!(read(&endless), Opening::Wrong);
    }

    #[test]
    fn a_balancers_own_check_names_nobody() {
        let unknown = b"PROXY UNKNOWN ffff:: ffff:: 1 2\r\nGET";
        assert_eq!(read(unknown), Opening::Header(33, None));
        let mut local = v2("1.2.3.4:5".parse().unwrap(), b"");
        local[12] = 0x20;
        assert_eq!(read(&local), Opening::Header(28, None));
    }

    proptest! {
        #[test]
        fn both_versions_name_the_client_and_end_where_they_end(
            ip: IpAddr, port: u16, extra in prop::collection::vec(any::<u8>(), 0..64), rest: Vec<u8>,
        ) {
            let client = SocketAddr::new(ip, port);
            for header in [v1(client), v2(client, &extra)] {
                let all = [&header[..], &rest].concat();
                prop_assert_eq!(read(&all), Opening::Header(header.len(), Some(client)));
                for cut in 0..header.len() {
                    prop_assert_eq!(read(&header[..cut]), Opening::More);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_within_bounds(bytes: Vec<u8>, version in 0..3) {
            let start: &[u8] = [&b""[..], b"PROXY TCP4 ", &V2_SIGNATURE][version as usize];
            let all = [start, &bytes].concat();
            match read(&all) {
                Opening::Header(length, _) => prop_assert!(length <= all.len()),
                Opening::More => prop_assert!(all.len() < V2_MOST),
                Opening::None | Opening::Wrong => {}
            }
        }
    }
}
