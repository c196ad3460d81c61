//! Upstream connections that can be ended from outside while Pingora waits on them.
//!
//! Pingora offers no way to stop waiting for a node but a timeout. What ends a wait at once is
//! `shutdown(2)` on its socket: the pending read sees the end of the stream and the request fails
//! over. The descriptor is only used under a lock that Pingora's own tracer hook takes before the
//! socket is closed, so a number that was given to another socket is never shut down.

use std::os::fd::RawFd;
use std::sync::Arc;

use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use pingora::upstreams::peer::{Tracer, Tracing};

/// One upstream connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// The descriptor while the socket is open. Guards against use after close.
    open: Mutex<Option<RawFd>>,
}

impl Connection {
    /// Ends whatever waits on it. Harmless on a closed one.
    pub(crate) fn end(&self) {
        if let Some(fd) = *self.open.lock() {
            // an error means that the peer was faster
            let _ = shutdown(fd, Shutdown::Both);
        }
    }
}

/// All open upstream connections by descriptor: pooled ones are met again by it.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    /// Indexed by descriptor, which the kernel keeps small. Guards the table; held for one look-up.
    by_fd: Mutex<Vec<Option<Arc<Connection>>>>,
}

impl Connections {
    /// A connection that is about to be made, and the tracer that must go into its peer.
    pub(crate) fn prepare(self: &Arc<Self>) -> (Arc<Connection>, Tracer) {
        let connection = Arc::new(Connection::default());
        let trace = Trace {
            connection: Arc::clone(&connection),
            all: Arc::clone(self),
        };
        (connection, Tracer(Box::new(trace)))
    }

    /// The connection that Pingora took: the one prepared, or a pooled one.
    pub(crate) fn taken(
        &self,
        prepared: Arc<Connection>,
        fd: RawFd,
        reused: bool,
    ) -> Arc<Connection> {
        let index = usize::try_from(fd).unwrap_or_default();
        let mut by_fd = self.by_fd.lock();
        if reused {
            return by_fd.get(index).cloned().flatten().unwrap_or(prepared);
        }
        *prepared.open.lock() = Some(fd);
        if by_fd.len() <= index {
            by_fd.resize(index + 1, None);
        }
        by_fd[index] = Some(Arc::clone(&prepared));
        prepared
    }

    fn closed(&self, connection: &Connection) {
        // taken first, so that nobody shuts the number down once it is free
        if let Some(fd) = connection.open.lock().take() {
            let index = usize::try_from(fd).unwrap_or_default();
            if let Some(slot) = self.by_fd.lock().get_mut(index) {
                *slot = None;
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Trace {
    connection: Arc<Connection>,
    all: Arc<Connections>,
}

impl Tracing for Trace {
    fn on_connected(&self) {}

    /// Pingora calls this before it closes the socket.
    fn on_disconnected(&self) {
        self.all.closed(&self.connection);
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_wait_is_ended_and_a_closed_connection_is_left_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let all = Arc::new(Connections::default());
        let (prepared, tracer) = all.prepare();
        let connection = all.taken(prepared, client.as_raw_fd(), false);
        let (other, _) = all.prepare();
        assert!(
            Arc::ptr_eq(&all.taken(other, client.as_raw_fd(), true), &connection),
            "met again by its descriptor"
        );

        connection.end();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "the read saw the end");

        tracer.0.on_disconnected();
        assert!(all.by_fd.lock().iter().all(Option::is_none));
        connection.end();
    }
}
