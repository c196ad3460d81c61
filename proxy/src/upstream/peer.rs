//! How every client of a node reaches it, relays and probes alike: the Pingora peer with whom to
//! believe, and what the node wants to see.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::config::TimeoutConfig;
use aivonx_shared::fleet_doc::{Given, NodeTls, Scheme, Secret};
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::tls::CaType;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Tracer};
use pingora::utils::tls::{WrappedX509, parse_x509};

use crate::fleet::Node;

/// After this much silence on a connection the kernel asks whether the machine is still there; a
/// machine without power is noticed within a minute in the middle of a stream too.
pub(super) const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    count: 4,
    user_timeout: Duration::from_secs(60),
};

/// The peer of `node` at `address`, one of those that its host and port stand for: scheme, name and
/// trust. Timeouts are the caller's. HTTP/1.1 only, as Ollama speaks it.
pub(crate) fn base(node: &Node, address: SocketAddr) -> HttpPeer {
    let url = &node.doc().url;
    if url.scheme == Scheme::Http {
        return HttpPeer::new(address, false, String::new());
    }
    let tls = &node.doc().access.tls;
    // never empty: Pingora checks no certificate of a nameless server
    let name = tls.server_name.as_ref().unwrap_or(&url.host).clone();
    let mut peer = HttpPeer::new(address, true, name);
    peer.options.verify_cert = !tls.insecure;
    peer.options.verify_hostname = !tls.insecure;
    if let Some(trust) = node.trust() {
        peer.options.ca = Some(trust.made(|| authority(tls)));
        // Pingora tells pooled connections apart by address, name and whether certificates are
        // checked, not by the authority that vouched
        peer.group_key = trust.group();
    }
    peer
}

/// An authority whose key nobody has. Pingora makes a verifier even where it is told not to ask it,
/// and none can be made of no authorities, which is what small machines have.
const NOBODY: &str = include_str!("nobody.pem");

/// Without a certificate nothing is believed: Pingora refuses to connect.
fn authority(tls: &NodeTls) -> Arc<CaType> {
    let nobody = NodeTls {
        ca: Some(Given::Here(Secret::new(NOBODY))),
        ..NodeTls::default()
    };
    let vouching = if tls.insecure { &nobody } else { tls };
    let certificates = vouching.certificates();
    certificates
        .into_iter()
        .map(|der| WrappedX509::new(der, parse_x509))
        .collect()
}

/// Puts what the node wants to see on a head that is on its way to it, over whatever a client sent
/// under these names.
pub(crate) fn authorize(head: &mut RequestHeader, node: &Node) -> Result<()> {
    for (name, value) in node.credentials() {
        head.insert_header(name, value.clone())?;
    }
    Ok(())
}

/// How to connect to `node` at `address` for a request.
pub(crate) fn peer(
    node: &Node,
    address: SocketAddr,
    timeouts: &TimeoutConfig,
    tracer: Tracer,
) -> HttpPeer {
    let mut peer = base(node, address);
    // what follows an upgrade would pass every check
    peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    peer.options.connection_timeout = Some(timeouts.connect);
    peer.options.total_connection_timeout = Some(timeouts.connect);
    // no read or write timeout: each would arm a timer for every read of the hot path, and the
    // phases have their own deadlines (`attempt`)
    // no idle timeout either: Ollama never closes idle connections, and TCP's own keepalive finds
    // those that a firewall forgot
    peer.options.tcp_keepalive = Some(KEEPALIVE);
    peer.options.tracer = Some(tracer);
    peer
}
