//! How a data plane reaches a node: whom it believes behind https, what it shows of itself, and
//! which addresses its name stands for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::given::{Given, read_given, read_value};
use super::node_url::{NodeUrl, Scheme, is_host};
use crate::config::Reader;

/// Longest credential, bytes.
const LONGEST: usize = 8 << 10;

/// Headers that no document may set: they belong to the connection, to the message's framing or to
/// the proxy itself (RFC 9110 §7.6.1, ollama-api.md §9).
const RESERVED: [&str; 17] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// How to reach one node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeAccess {
    /// Whom to believe; for https only.
    pub tls: NodeTls,
    /// Sent as `Authorization: Bearer …`.
    pub bearer_token: Option<Given>,
    /// Sent with every request; names in small letters.
    pub headers: BTreeMap<String, Given>,
    /// Whether the entry stands for one node or for as many as its name has addresses.
    pub discover: Discover,
    /// The one address of a node that was discovered. Never written in a document.
    pub address: Option<IpAddr>,
}

/// Whom to believe behind https.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeTls {
    /// Certificates (PEM) that vouch for the node, instead of the system's.
    pub ca: Option<Given>,
    /// Believe any certificate.
    pub insecure: bool,
    /// The name in the node's certificate, where it is not the URL's host.
    pub server_name: Option<String>,
}

/// What an entry of the document stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Discover {
    /// One node.
    #[default]
    None,
    /// One node for each address of the URL's host name.
    Dns,
    /// For each of its IPv4 addresses.
    Dns4,
    /// For each of its IPv6 addresses.
    Dns6,
}

impl Discover {
    /// Whether the entry stands for a node at this address.
    pub fn takes(self, address: IpAddr) -> bool {
        match self {
            Self::None => false,
            Self::Dns => true,
            Self::Dns4 => address.is_ipv4(),
            Self::Dns6 => address.is_ipv6(),
        }
    }
}

impl NodeTls {
    /// The certificates of `ca`, DER; none where there is no `ca` or it was not read.
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        let pem = self.ca.as_ref().and_then(Given::text).unwrap_or_default();
        CertificateDer::pem_slice_iter(pem.as_bytes())
            .filter_map(Result::ok)
            .map(|der| der.to_vec())
            .collect()
    }
}

/// Reads what an entry says of the way to its node. `url` is `None` where the entry has none that
/// is valid.
pub(super) fn read_access(at: &Reader<'_>, url: Option<&NodeUrl>) -> NodeAccess {
    let access = NodeAccess {
        tls: read_tls(at, url),
        bearer_token: read_given(at, "bearer_token", "bearer_token_file", is_token),
        headers: read_headers(at),
        discover: read_discover(at, url),
        address: None,
    };
    if access.bearer_token.is_some() && access.headers.contains_key("authorization") {
        at.complain(
            "bearer_token",
            "is sent as `Authorization`, and `headers` names that too; keep one of them",
        );
    }
    access
}

fn read_tls(at: &Reader<'_>, url: Option<&NodeUrl>) -> NodeTls {
    let section = at.section("tls");
    let server_name = section.get::<String>("server_name");
    if server_name.as_deref().is_some_and(|name| !is_host(name)) {
        section.complain("server_name", "must be a host name or an IP address");
    }
    let tls = NodeTls {
        ca: read_given(&section, "ca", "ca_file", are_certificates),
        insecure: at.or("insecure_tls", false),
        server_name: server_name.map(|name| name.trim_matches(['[', ']']).to_owned()),
    };
    section.finish();
    if tls.insecure && (tls.ca.is_some() || tls.server_name.is_some()) {
        at.complain(
            "insecure_tls",
            "believes any certificate, so `tls` says nothing; keep one of them",
        );
    }
    if url.is_some_and(|url| url.scheme == Scheme::Http) {
        for (key, is_said) in [
            ("tls", at.value("tls").is_some()),
            ("insecure_tls", tls.insecure),
        ] {
            if is_said {
                at.complain(key, "is for an https:// url; this one is http://");
            }
        }
    }
    tls
}

fn read_headers(at: &Reader<'_>) -> BTreeMap<String, Given> {
    let mut headers = BTreeMap::new();
    let Some(value) = at.value("headers") else {
        return headers;
    };
    let Some(map) = value.as_mapping() else {
        at.complain("headers", "must be a mapping of names to values");
        return headers;
    };
    for (name, value) in map {
        // a name that is none may be half a secret: it is not repeated
        let Some(name) = name.as_str().filter(|name| is_header_name(name)) else {
            at.complain("headers", "holds a name that no header can have");
            continue;
        };
        let key = format!("headers.{name}");
        let small = name.to_ascii_lowercase();
        if RESERVED.contains(&small.as_str()) || small.starts_with("x-aivonx-") {
            at.complain(&key, "is not for a document to set");
            continue;
        }
        if let Some(given) = read_value(at, &key, value, is_header_value)
            && headers.insert(small, given).is_some()
        {
            at.complain(&key, "stands here already, in other letters");
        }
    }
    headers
}

fn read_discover(at: &Reader<'_>, url: Option<&NodeUrl>) -> Discover {
    let discover = match at.get::<String>("discover").as_deref() {
        None | Some("none") => Discover::None,
        Some("dns") => Discover::Dns,
        Some("dns4") => Discover::Dns4,
        Some("dns6") => Discover::Dns6,
        Some(other) => {
            let words = format!("`{other}` is unknown; write none, dns, dns4 or dns6");
            at.complain("discover", &words);
            Discover::None
        }
    };
    let is_address = url.is_some_and(|url| url.host.parse::<IpAddr>().is_ok());
    if discover != Discover::None && is_address {
        let words = "needs a host name in `url`; an address is one node";
        at.complain("discover", words);
    }
    discover
}

fn is_token(text: &str) -> Result<(), String> {
    if !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        Ok(())
    } else {
        Err("must be a token: letters, digits and signs, no spaces".to_owned())
    }
}

fn is_header_value(text: &str) -> Result<(), String> {
    let fits = !text.is_empty()
        && text.len() <= LONGEST
        && text.trim() == text
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t'));
    if fits {
        Ok(())
    } else {
        Err("must be one line of ASCII without spaces at its ends".to_owned())
    }
}

/// A token of RFC 9110 §5.6.2.
fn is_header_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Every certificate must parse here, with the parser that Pingora uses: it panics on others.
fn are_certificates(pem: &str) -> Result<(), String> {
    let mut count = 0;
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        count += 1;
        let is_one = der.is_ok_and(|der| x509_parser::parse_x509_certificate(&der).is_ok());
        if !is_one {
            return Err(format!("certificate {count} in it is damaged"));
        }
    }
    if count == 0 {
        return Err("holds no certificate (`-----BEGIN CERTIFICATE-----`)".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
