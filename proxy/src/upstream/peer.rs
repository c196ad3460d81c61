//! The Pingora peer of a node.

use std::net::SocketAddr;
use std::time::Duration;

use aivonx_shared::config::TimeoutConfig;
use aivonx_shared::fleet_doc::Scheme;
use pingora::protocols::TcpKeepalive;
use pingora::upstreams::peer::{HttpPeer, Tracer};

use crate::fleet::Node;

/// After this much silence on a connection the kernel asks whether the machine is still there; a
/// machine without power is noticed within a minute in the middle of a stream too.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(15),
    interval: Duration::from_secs(5),
    count: 4,
    user_timeout: Duration::from_secs(60),
};

/// How to connect to `node` at `address`, which is its resolved host and port.
pub(crate) fn peer(
    node: &Node,
    address: SocketAddr,
    timeouts: &TimeoutConfig,
    tracer: Tracer,
) -> HttpPeer {
    let url = &node.doc().url;
    let tls = url.scheme == Scheme::Https;
    let mut peer = HttpPeer::new(
        address,
        tls,
        if tls { url.host.clone() } else { String::new() },
    );
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
