//! The listening sockets: bound by us, or inherited from the process before.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use aivonx_shared::config::ProxyConfig;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora::services::listening::Service as Listening;
use tokio::sync::watch;

use super::StartError;
use crate::edge::handover::{Inheritance, Named};

/// Names of the listeners, for a new process.
const PROXY: &str = "proxy";
const TLS: &str = "tls";
const OPS: &str = "ops";

/// Where clients and operators connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Plain HTTP.
    pub proxy: SocketAddr,
    /// TLS, where there is such a listener.
    pub tls: Option<SocketAddr>,
    /// Operations.
    pub ops: SocketAddr,
}

/// The sockets, bound.
pub(super) struct Listeners {
    pub(super) proxy: TcpListener,
    pub(super) tls: Option<TcpListener>,
    pub(super) ops: TcpListener,
}

impl Listeners {
    /// Binds what the configuration names and `inherited` does not hold.
    pub(super) fn bind(
        config: &ProxyConfig,
        mut inherited: Option<&mut Inheritance>,
    ) -> Result<Self, StartError> {
        let mut listen = |name, address| {
            let old = inherited
                .as_mut()
                .and_then(|inherited| inherited.take(name));
            match old.filter(|old| old.local_addr().is_ok_and(|old| fits(old, address))) {
                Some(old) => Ok(old),
                None => listen(address),
            }
        };
        let tls = config.edge.tls.as_ref();
        Ok(Self {
            proxy: listen(PROXY, config.listen.proxy)?,
            tls: tls.map(|tls| listen(TLS, tls.listen)).transpose()?,
            ops: listen(OPS, config.listen.ops)?,
        })
    }

    pub(super) fn addresses(&self) -> std::io::Result<Addresses> {
        let tls = self.tls.as_ref().map(TcpListener::local_addr);
        Ok(Addresses {
            proxy: self.proxy.local_addr()?,
            tls: tls.transpose()?,
            ops: self.ops.local_addr()?,
        })
    }

    /// The same sockets once more, to be handed to a new process.
    pub(super) fn to_hand_over(&self) -> std::io::Result<Vec<Named>> {
        let mut all = vec![
            (PROXY.to_owned(), self.proxy.try_clone()?),
            (OPS.to_owned(), self.ops.try_clone()?),
        ];
        if let Some(tls) = &self.tls {
            all.push((TLS.to_owned(), tls.try_clone()?));
        }
        Ok(all)
    }
}

/// Whether an inherited socket is the one that is wanted; port 0 wants any.
fn fits(old: SocketAddr, wanted: SocketAddr) -> bool {
    old.ip() == wanted.ip() && (wanted.port() == 0 || old.port() == wanted.port())
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| StartError::Listen { address, error })
}

/// A service that runs `app` on sockets, from when `open` turns true.
pub(super) fn serve<A: ServerApp + Send + Sync + 'static>(
    name: &str,
    app: A,
    threads: Option<usize>,
    sockets: Vec<(SocketAddr, TcpListener)>,
    open: &watch::Sender<bool>,
) -> WithListeners<Listening<A>> {
    let mut service = Listening::new(name.to_owned(), app);
    service.threads = threads;
    let mut fds = Fds::new();
    for (address, socket) in sockets {
        service.add_tcp(&address.to_string());
        fds.add(address.to_string(), socket.into_raw_fd());
    }
    WithListeners {
        service,
        fds: Arc::new(Mutex::new(fds)),
        open: open.subscribe(),
    }
}

/// A service with listeners that are bound already: Pingora itself would try a taken port for half a
/// minute and then leave a process without one (pingora.md §5).
pub(super) struct WithListeners<S> {
    service: S,
    fds: ListenFds,
    /// Accepts from when this turns true.
    open: watch::Receiver<bool>,
}

#[async_trait]
impl<S: Service> Service for WithListeners<S> {
    async fn start_service(
        &mut self,
        _: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let fds = Some(Arc::clone(&self.fds));
        // an error means that the process is about to end
        let _ = self.open.wait_for(|open| *open).await;
        self.service
            .start_service(fds, shutdown, listeners_per_fd)
            .await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}
