//! Watches the streams of one HTTP/2 connection. A client may open a stream and reset it at once, for
//! ever: each costs the proxy a request and the client nothing (CVE-2023-44487), and the limit on
//! concurrent streams does not see it. As in Envoy, a connection most of whose streams end so is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{GetProxyDigest, l4::stream::Stream as Socket};
use pingora_proxy::Session;
use tokio::sync::Notify;

/// A stream that its client resets sooner was opened for nothing: people stop answers later.
const EARLY: Duration = Duration::from_secs(1);
/// Streams for nothing that are overlooked.
const TOLERATED: u32 = 100;

/// The streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: AtomicU32,
    early: AtomicU32,
    abused: Notify,
}

impl Counts {
    /// Counts one stream; true where its client has gone too far.
    fn ended(&self, for_nothing: bool) -> bool {
        let all = self.all.fetch_add(1, Ordering::Relaxed) + 1;
        if !for_nothing {
            return false;
        }
        let early = self.early.fetch_add(1, Ordering::Relaxed) + 1;
        early > TOLERATED && early > all / 2
    }
}

impl Streams {
    /// Has every session on this socket carry the counts: the digest of an upstream's proxy, which a
    /// client's connection has no other use for, is the one place in Pingora that travels with it.
    pub(super) fn attach(socket: &mut Socket) -> Self {
        let streams = Self::default();
        if let Ok(head) = ResponseHeader::build(200, Some(0)) {
            let counts = Box::new(Arc::clone(&streams.0));
            socket.set_proxy_digest(ProxyDigest::new(Box::new(head), Some(counts)));
        }
        streams
    }

    /// Resolves when the connection should end.
    pub(super) async fn abused(&self) {
        self.0.abused.notified().await;
    }
}

/// Tells of a stream that ended: after which time, and whether its client broke it off.
pub(crate) fn stream_ended(session: &Session, broken_off: bool, after: Duration) {
    let digest = session
        .digest()
        .and_then(|digest| digest.proxy_digest.as_ref());
    let counts = digest
        .and_then(|digest| digest.user_data.as_ref())
        .and_then(|data| data.downcast_ref::<Arc<Counts>>());
    if let Some(counts) = counts
        && counts.ended(broken_off && after < EARLY)
    {
        counts.abused.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_mostly_resets_goes_too_far_and_one_that_sometimes_does_not() {
        let counts = Counts::default();
        assert_eq!((0..200).position(|_| counts.ended(true)), Some(100));
        let counts = Counts::default();
        assert!(!(0..1000).any(|n| counts.ended(n % 3 == 0)));
    }
}
