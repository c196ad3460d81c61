//! The edge towards clients: between a socket that was accepted and Pingora's HTTP. It knows the client
//! behind a load balancer, holds each client to its share of connections and of patience, answers what
//! is no HTTP, and ends TLS.
//!
//! Pingora has hooks before a TLS handshake and none before plain HTTP, and logs each failed handshake
//! with the client's address. So every listener is a plain one to Pingora, and a connection goes:
//!
//! ```text
//! proxy_header   the client's address, where a trusted peer names it
//! connections    its place, given back when the socket closes
//! certificate    TLS, on the listener that has it
//! head           each request's head, within its limits; HTTP/2 is Pingora's from here on
//! ```

mod certificate;
mod connections;
pub(crate) mod handover;
mod head;
mod proxy_header;
mod refusal;
mod streams;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::config::{LimitConfig, ProxyConfig};
use async_trait::async_trait;
use bytes::BytesMut;
use ipnet::IpNet;
use pingora::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::protocols::l4::{socket::SocketAddr as PeerAddr, stream::Stream as Socket};
use pingora::protocols::{ALPN, GetSocketDigest, SocketDigest, Ssl, Stream};
use pingora::server::ShutdownWatch;
use pingora::time::timeout;
use pingora_proxy::Session;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

pub(crate) use certificate::{Certificate, CertificateError};
pub(crate) use connections::Connections;
pub(crate) use streams::{arrived, broken_off};

use crate::telemetry::metrics::Metrics;
use head::{HeadLimits, NoHead, PREFACE};
use proxy_header::Opening;
use refusal::{Refusal, refuse};
use streams::Streams;

/// How long an idle connection is kept, seconds; what Pingora says of itself in `Keep-Alive`.
const KEEP_ALIVE: u64 = 60;
/// Upload windows of HTTP/2: a stream may fill the line, a connection may not fill the memory.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// The client's address: what a trusted peer said in a PROXY header, else the peer's own.
pub(crate) fn peer_address(session: &Session) -> Option<IpAddr> {
    let address = session.client_addr()?.as_inet()?;
    Some(address.ip().to_canonical())
}

/// HTTP/2 on plain connections that begin with its preface.
pub(crate) fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    options.h2_idle_timeout = Some(Duration::from_secs(KEEP_ALIVE));
    options
}

/// What an HTTP/2 connection may take.
pub(crate) fn h2_options(limits: &LimitConfig) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_header_list_size(limits.head as u32)
        .max_concurrent_streams(limits.streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    options
}

/// Meets clients, and hands their requests to `P`.
pub(crate) struct Edge<P> {
    proxy: Arc<P>,
    metrics: Arc<Metrics>,
    connections: Arc<Connections>,
    trusted: Vec<IpNet>,
    proxy_protocol: bool,
    heads: HeadLimits,
    tls: Option<Tls>,
    /// Turns true when idle connections are to end.
    closing: watch::Receiver<bool>,
}

/// The TLS listener among the two.
pub(crate) struct Tls {
    acceptor: Acceptor,
    /// Where it listens.
    here: SocketAddr,
    /// Where the plain one listens.
    plain: SocketAddr,
}

impl Tls {
    /// The listener at `here`, beside a plain one.
    pub(crate) fn new(
        certificate: &Arc<Certificate>,
        here: SocketAddr,
        plain: SocketAddr,
    ) -> Result<Self, rustls::Error> {
        Ok(Self {
            acceptor: Acceptor::from_server_config(Arc::new(certificate.server_config()?)),
            here,
            plain,
        })
    }

    /// Whether a connection that came in at `local` came in here. Two listeners on one port have an
    /// address each.
    fn is_at(&self, local: SocketAddr) -> bool {
        local.port() == self.here.port()
            && (self.here.port() != self.plain.port() || local.ip() == self.here.ip())
    }
}

impl<P: HttpServerApp + Send + Sync + 'static> Edge<P> {
    /// An edge in front of `proxy`.
    pub(crate) fn new(
        proxy: P,
        config: &ProxyConfig,
        metrics: Arc<Metrics>,
        connections: Arc<Connections>,
        tls: Option<Tls>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let limits = &config.edge.limits;
        Self {
            proxy: Arc::new(proxy),
            metrics,
            connections,
            trusted: config.trusted_proxies.clone(),
            proxy_protocol: config.edge.proxy_protocol,
            heads: HeadLimits {
                most: limits.head as usize,
                patience: limits.head_timeout,
            },
            tls,
            closing,
        }
    }

    /// The socket stays in its box: each of these futures would hold its room, twice.
    async fn meet(&self, mut socket: Box<Socket>, shutdown: &ShutdownWatch) {
        let mut read = BytesMut::new();
        let client = match self.client(&mut socket, &mut read).await {
            Ok(client) => client,
            Err(refusal) => return self.refuse(socket, refusal).await,
        };
        let tls = self.tls.as_ref();
        let tls = tls.filter(|tls| local(&socket).is_some_and(|local| tls.is_at(local)));
        match self.connections.enter(client) {
            Ok(place) => socket.tracer = Some(place),
            Err(full) if tls.is_some() => return self.metrics.rejected(full.reason()),
            Err(full) => return self.refuse(socket, full.into()).await,
        }
        let met = match tls {
            // boxed: a handshake is large, and plain connections should not hold its room
            Some(tls) => Box::pin(self.tls(tls, socket, read, shutdown)).await,
            None => self.plain(socket, read, shutdown).await,
        };
        if let Err((stream, refusal)) = met {
            self.refuse(stream, refusal).await;
        }
    }

    /// The client whose connections are counted: `None` on this machine, and for a trusted peer that
    /// does not say for whom it comes.
    async fn client(
        &self,
        socket: &mut Socket,
        read: &mut BytesMut,
    ) -> Result<Option<IpAddr>, Refusal> {
        let Some(peer) = peer(socket) else {
            return Ok(None);
        };
        let is_trusted = self.trusted.iter().any(|network| network.contains(&peer));
        if is_trusted && self.proxy_protocol {
            match timeout(self.heads.patience, proxy_header(socket, read)).await {
                Ok(Ok(Some(client))) if is_believed(peer, client) => {
                    return Ok(Some(rename(socket, client)));
                }
                Ok(Ok(_)) => {}
                Ok(Err(refusal)) => return Err(refusal),
                Err(_) => return Err(NoHead::Slow.into()),
            }
        }
        Ok((!is_trusted && !peer.is_loopback()).then_some(peer))
    }

    async fn tls(
        &self,
        tls: &Tls,
        mut socket: Box<Socket>,
        mut read: BytesMut,
        shutdown: &ShutdownWatch,
    ) -> Result<(), (Stream, Refusal)> {
        let patience = self.heads.patience;
        if read.is_empty() {
            match timeout(patience, socket.read_buf(&mut read)).await {
                Ok(Ok(1..)) => {}
                _ => return Ok(()),
            }
        }
        if read[0] != 0x16 {
            return Err((socket, Refusal::PlainOnTls));
        }
        socket.rewind(&read);
        let streams = Streams::attach(&mut socket);
        let Ok(Ok(stream)) = timeout(patience, tls.acceptor.tls_handshake(*socket)).await else {
            self.metrics.rejected("tls_handshake");
            return Ok(());
        };
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            self.http2(Box::new(stream), &streams, shutdown).await;
            return Ok(());
        }
        self.http1(Box::new(stream), BytesMut::new(), shutdown)
            .await
    }

    async fn plain(
        &self,
        mut socket: Box<Socket>,
        read: BytesMut,
        shutdown: &ShutdownWatch,
    ) -> Result<(), (Stream, Refusal)> {
        let mut closing = self.closing.clone();
        let read = match self.heads.read(&mut *socket, read, &mut closing).await {
            Ok(read) => read,
            Err(none) => return Err((socket, none.into())),
        };
        if read.starts_with(PREFACE) {
            socket.rewind(&read);
            let streams = Streams::attach(&mut socket);
            self.http2(socket, &streams, shutdown).await;
            return Ok(());
        }
        self.http1(socket, read, shutdown).await
    }

    /// Pingora's own loop, except that it does not read heads.
    async fn http1(
        &self,
        mut stream: Stream,
        mut read: BytesMut,
        shutdown: &ShutdownWatch,
    ) -> Result<(), (Stream, Refusal)> {
        let mut closing = self.closing.clone();
        let mut settings = None;
        loop {
            read = match self.heads.read(&mut stream, read, &mut closing).await {
                Ok(read) => read,
                Err(none) => return Err((stream, none.into())),
            };
            let mut session = ServerSession::new_http1(stream);
            session.set_keepalive(Some(KEEP_ALIVE));
            if let Some(settings) = settings.take() {
                pingora::apps::HttpPersistentSettings::apply_to_session(settings, &mut session);
            }
            session.set_pipelined_prefix(read);
            let Some(reused) = self.proxy.process_new_http(session, shutdown).await else {
                return Ok(());
            };
            (stream, settings) = reused.consume();
            read = BytesMut::new();
        }
    }

    async fn http2(&self, stream: Stream, streams: &Streams, shutdown: &ShutdownWatch) {
        tokio::select! {
            _ = ServerApp::process_new(&self.proxy, stream, shutdown) => {}
            () = streams.abused() => self.metrics.rejected("rapid_reset"),
            () = streams.silent(self.heads.patience) => self.metrics.rejected("head_timeout"),
        }
    }

    async fn refuse(&self, stream: Stream, refusal: Refusal) {
        if let Some(reason) = refusal.reason() {
            self.metrics.rejected(reason);
            // boxed: it reads into 4 KiB, for which no connection that is served should hold room
            Box::pin(refuse(stream, refusal)).await;
        }
    }
}

#[async_trait]
impl<P: HttpServerApp + Send + Sync + 'static> ServerApp for Edge<P> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        // to Pingora every listener is a plain one
        let socket = stream.into_any().downcast::<Socket>().ok()?;
        self.meet(socket, shutdown).await;
        None
    }
}

/// The other end of a socket.
fn peer(socket: &Socket) -> Option<IpAddr> {
    let digest = socket.get_socket_digest()?;
    Some(digest.peer_addr()?.as_inet()?.ip().to_canonical())
}

/// This end of a socket.
fn local(socket: &Socket) -> Option<SocketAddr> {
    let digest = socket.get_socket_digest()?;
    let local = digest.local_addr()?.as_inet()?;
    Some(SocketAddr::new(local.ip().to_canonical(), local.port()))
}

/// Reads a PROXY header, if there is one; what follows it stays in `read`.
async fn proxy_header(
    socket: &mut Socket,
    read: &mut BytesMut,
) -> Result<Option<SocketAddr>, Refusal> {
    loop {
        match proxy_header::read(read) {
            Opening::None => return Ok(None),
            Opening::Wrong => return Err(NoHead::ProxyHeader.into()),
            Opening::Header(length, client) => {
                let _ = read.split_to(length);
                return Ok(client);
            }
            Opening::More => match socket.read_buf(read).await {
                Ok(1..) => {}
                _ => return Err(NoHead::Gone.into()),
            },
        }
    }
}

/// Whether `peer` may speak for `client`: its own loopback is not ours, and to be on this machine is
/// to be trusted with everything.
fn is_believed(peer: IpAddr, client: SocketAddr) -> bool {
    peer.is_loopback() || !client.ip().to_canonical().is_loopback()
}

/// Makes the socket say that it is `client`'s, to Pingora and to all who ask it.
fn rename(socket: &mut Socket, client: SocketAddr) -> IpAddr {
    let digest = SocketDigest::from_raw_fd(socket.as_raw_fd());
    // a fresh digest has no address yet
    let _ = digest.peer_addr.set(Some(PeerAddr::Inet(client)));
    socket.set_socket_digest(digest);
    client.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_cannot_make_a_client_local() {
        let believed =
            |peer: &str, client: &str| is_believed(peer.parse().unwrap(), client.parse().unwrap());
        assert!(believed("10.0.0.1", "192.0.2.7:4711"));
        assert!(believed("127.0.0.1", "127.0.0.1:4711"));
        assert!(!believed("10.0.0.1", "127.0.0.1:4711"));
        assert!(!believed("10.0.0.1", "[::1]:4711"));
        assert!(!believed("10.0.0.1", "[::ffff:127.0.0.1]:4711"));
    }
}
