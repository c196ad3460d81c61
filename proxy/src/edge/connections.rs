//! Counts open connections, over all and by client. A place is given back when its socket closes,
//! whatever closed it: Pingora tells the tracer that travels with the socket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use pingora::upstreams::peer::{Tracer, Tracing};
use prometheus::IntGauge;

/// Open connections, and how many there may be; 0 means any number.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    most_each: usize,
    open: AtomicUsize,
    gauge: IntGauge,
    /// Guarded for two short moments of each connection's life.
    by_client: Mutex<HashMap<IpAddr, usize>>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// No more connections at all.
    All,
    /// No more of this client.
    Client,
}

impl Full {
    /// The value of `rejections_total{reason}`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::All => "connections",
            Self::Client => "connections_per_client",
        }
    }
}

impl Connections {
    /// With these limits, shown by `gauge`.
    pub(crate) fn new(most: usize, most_each: usize, gauge: IntGauge) -> Self {
        Self {
            most,
            most_each,
            open: AtomicUsize::new(0),
            gauge,
            by_client: Mutex::default(),
        }
    }

    /// Connections now.
    pub(crate) fn count(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Counts one; what is given back holds its place. `client` is `None` where it is not limited.
    pub(crate) fn enter(self: &Arc<Self>, client: Option<IpAddr>) -> Result<Tracer, Full> {
        let client = client.filter(|_| self.most_each > 0).map(counted_as);
        if let Some(client) = client {
            let mut by_client = self.by_client.lock();
            let count = by_client.entry(client).or_insert(0);
            if *count >= self.most_each {
                return Err(Full::Client);
            }
            *count += 1;
        }
        let before = self.open.fetch_add(1, Ordering::AcqRel);
        self.gauge.inc();
        let place = Place(Arc::new(Held {
            connections: Arc::clone(self),
            client,
        }));
        if self.most > 0 && before >= self.most {
            return Err(Full::All); // dropping the place gives it back
        }
        Ok(Tracer(Box::new(place)))
    }

    fn leave(&self, client: Option<IpAddr>) {
        self.open.fetch_sub(1, Ordering::AcqRel);
        self.gauge.dec();
        let Some(client) = client else { return };
        let mut by_client = self.by_client.lock();
        if let Some(count) = by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&client);
            }
        }
    }
}

/// Who a client is: of IPv6 a household or a machine has a whole /64.
fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        ip @ IpAddr::V4(_) => ip,
    }
}

/// A place among the open connections. Dropping its last clone is the only release; the socket
/// holds it.
#[derive(Debug, Clone)]
struct Place(#[expect(dead_code, reason = "held, never read")] Arc<Held>);

#[derive(Debug)]
struct Held {
    connections: Arc<Connections>,
    client: Option<IpAddr>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connections.leave(self.client);
    }
}

impl Tracing for Place {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {}

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_given_back() {
        let connections = Arc::new(Connections::new(
            3,
            2,
            IntGauge::new("connections", "Open.").unwrap(),
        ));
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = connections.enter(Some(a)).unwrap();
        let second = connections.enter(Some(a)).unwrap();
        assert_eq!(connections.enter(Some(a)).unwrap_err(), Full::Client);
        let third = connections.enter(Some(b)).unwrap();
        assert_eq!(connections.enter(Some(b)).unwrap_err(), Full::All);
        assert_eq!(connections.enter(None).unwrap_err(), Full::All);
        assert_eq!(connections.count(), 3, "what was refused holds nothing");
        drop(first);
        let again = connections.enter(Some(a)).unwrap();
        drop((again, second, third));
        assert_eq!(connections.count(), 0);
        assert!(connections.by_client.lock().is_empty());
    }

    #[test]
    fn a_client_of_ipv6_is_its_network() {
        let of = |text: &str| counted_as(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
