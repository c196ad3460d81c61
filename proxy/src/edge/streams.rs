//! Watches the streams of one HTTP/2 connection. A client may open a stream and reset it at once, for
//! ever: each costs the proxy a request and the client nothing (CVE-2023-44487), and the limit on
//! concurrent streams does not see it. A connection on which that happens at a rate no people and no
//! editor reach is closed. (The `h2` crate does so itself for streams that are reset before they were
//! even looked at.) And one that brings no whole head of a request in the time that a head has is
//! closed: nothing else bounds the wait for the preface inside TLS, or for the rest of a first head.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{GetProxyDigest, l4::stream::Stream as Socket};
use pingora_proxy::Session;
use tokio::sync::Notify;

/// A stream that its client resets sooner was opened for nothing: people stop answers later.
const EARLY: Duration = Duration::from_secs(1);
/// Streams for nothing that are overlooked at once…
const BURST: f64 = 200.0;
/// …and a second from then on.
const RATE: f64 = 100.0;

/// The streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    /// How many more are overlooked, as of when. Only streams for nothing come here.
    left: Mutex<(f64, Instant)>,
    abused: Notify,
    /// Whether a request has come.
    served: AtomicBool,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            left: Mutex::new((BURST, Instant::now())),
            abused: Notify::new(),
            served: AtomicBool::new(false),
        }
    }
}

impl Counts {
    /// Counts one stream for nothing; true where its client has gone too far.
    fn one_more(&self, now: Instant) -> bool {
        let (left, since) = &mut *self.left.lock();
        let earned = now.saturating_duration_since(*since).as_secs_f64() * RATE;
        *left = (*left + earned).min(BURST) - 1.0;
        *since = now;
        *left < 0.0
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

    /// Resolves when no request has come in this time; never, where one has.
    pub(super) async fn silent(&self, patience: Duration) {
        pingora::time::sleep(patience).await;
        if self.0.served.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

/// Tells of a request whose head has come.
pub(crate) fn arrived(session: &Session) {
    if let Some(counts) = counts(session) {
        counts.served.store(true, Ordering::Relaxed);
    }
}

/// Tells of a stream that its client broke off after this time.
pub(crate) fn broken_off(session: &Session, after: Duration) {
    if after >= EARLY {
        return;
    }
    if let Some(counts) = counts(session)
        && counts.one_more(Instant::now())
    {
        counts.abused.notify_one();
    }
}

/// The counts of a session's connection, where it speaks HTTP/2.
fn counts(session: &Session) -> Option<&Arc<Counts>> {
    let digest = session.digest()?.proxy_digest.as_ref()?;
    digest.user_data.as_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_goes_too_far_and_an_editor_that_changes_its_mind_does_not() {
        let (counts, now) = (Counts::default(), Instant::now());
        assert_eq!((0..1000).position(|_| counts.one_more(now)), Some(200));
        let counts = Counts::default();
        let often = |n: u32| now + n * Duration::from_millis(20);
        assert!(!(0..10_000).any(|n| counts.one_more(often(n))));
    }
}
