//! The edge towards clients: HTTP/2, TLS, PROXY headers, origins, limits, and the hand-over to a new
//! process.

mod http2;
mod http2_bodies;
mod limits;
mod origins;
mod proxy_protocol;
mod tls;
mod upgrade;

use std::path::Path;

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Setup};

/// A node whose answers take a while: fifty tokens a second.
async fn node() -> SimNode {
    let spec = NodeSpec::new().num_parallel(400).model(
        ModelSpec::new("tiny")
            .context_length(1 << 40)
            .speed(f64::INFINITY, 50.0),
    );
    SimNode::start(spec).await.unwrap()
}

/// A node that answers at once.
async fn quick() -> SimNode {
    let tiny = ModelSpec::new("tiny").context_length(1 << 40);
    SimNode::start(NodeSpec::new().num_parallel(400).model(tiny))
        .await
        .unwrap()
}

/// With a TLS listener whose certificate and key lie in `folder`.
pub(crate) fn with_tls(setup: Setup, folder: &Path) -> Setup {
    let file = |name| folder.join(name).display().to_string();
    setup
        .set("TLS__LISTEN", "127.0.0.1:0")
        .set("TLS__CERTIFICATE", &file("cert.pem"))
        .set("TLS__KEY", &file("key.pem"))
}

/// Sends bytes on a connection of its own; all that comes back until it ends.
async fn wire(addr: std::net::SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // it may be closed already
    let _ = stream.write_all(bytes).await;
    let mut all = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .expect("the connection stays open");
    all
}

/// The same as text.
async fn wire_text(addr: std::net::SocketAddr, bytes: &[u8]) -> String {
    String::from_utf8_lossy(&wire(addr, bytes).await).into_owned()
}
