//! The way to the control plane, for what the front door relays: its address, how to connect, how
//! patient to be, and how much may be under way. It has no permit and no breaker, and shares nothing
//! with the way to nodes but Pingora: whatever becomes of the control plane, inference goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use aivonx_shared::config::FrontDoorConfig;
use aivonx_shared::fleet_doc::{NodeUrl, Scheme};
use http::HeaderValue;
use parking_lot::Mutex;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Tracer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::attempt::Attempt;
use super::connection::Connection;
use super::peer::KEEPALIVE;
use crate::fleet::waiting::{Interrupt, Why};
use crate::names::Names;

/// For its name, and for TCP and TLS to one address.
const CONNECT: Duration = Duration::from_secs(2);
/// From the request sent to the head of its answer.
const FIRST_BYTE: Duration = Duration::from_secs(60);
/// Between two pieces of an answer; a stream of events has a sign of life every few seconds.
const IDLE: Duration = Duration::from_secs(15 * 60);
/// How often these are held against the clock.
const TICK: Duration = Duration::from_secs(1);
/// Idle connections are closed before the control plane would do so: a request on one that it closes
/// at this moment could not be sent again.
const KEPT: Duration = Duration::from_secs(2);
/// Requests under way at a time. Events hold their place for hours.
const PLACES: usize = 512;
/// Addresses of its name that are tried.
const ADDRESSES: usize = 3;
/// Keeps its connections apart from those to nodes, whose numbers count up.
const GROUP: u64 = u64::MAX;

/// The control plane behind the front door.
pub(crate) struct ControlPlane {
    to: NodeUrl,
    authority: HeaderValue,
    token: HeaderValue,
    names: Arc<Names>,
    places: Arc<Semaphore>,
    /// Where it was reached last. Guards the address; held for a look.
    good: Mutex<Option<SocketAddr>>,
    /// Whether it did not answer last, so that the log says it once.
    is_away: AtomicBool,
}

impl ControlPlane {
    /// The one of the configuration, found through `names`.
    pub(crate) fn new(config: &FrontDoorConfig, names: Arc<Names>) -> Self {
        // what is no header value opens nothing: the control plane holds another token
        let value = |text: &str| {
            HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
        };
        let mut token = value(config.token.reveal());
        token.set_sensitive(true);
        Self {
            authority: value(&config.to.authority()),
            to: config.to.clone(),
            token,
            names,
            places: Arc::new(Semaphore::new(PLACES)),
            good: Mutex::new(None),
            is_away: AtomicBool::new(false),
        }
    }

    /// Its host and port, as `Host`.
    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// The path before its own, empty or `/base`.
    pub(crate) fn base(&self) -> &str {
        &self.to.base
    }

    /// What both planes hold.
    pub(crate) fn token(&self) -> &HeaderValue {
        &self.token
    }

    /// A place for one request; `None` where all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// The addresses to try, the first one last: where it was reached last, if that is still one of
    /// them. Or in words why there is none.
    pub(crate) async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let found = self.names.look_up(&self.to.host, self.to.port, CONNECT);
        let mut found = found.await?;
        let good = *self.good.lock();
        found.sort_by_key(|address| Some(*address) != good); // stable
        found.truncate(ADDRESSES);
        found.reverse();
        Ok(found)
    }

    /// It was reached at `address`.
    pub(crate) fn prefer(&self, address: SocketAddr) {
        *self.good.lock() = Some(address);
    }

    /// How to connect to it at `address`. Upgrades are not passed on.
    pub(crate) fn peer(&self, address: SocketAddr, tracer: Tracer) -> HttpPeer {
        let is_tls = self.to.scheme == Scheme::Https;
        // never empty: Pingora checks no certificate of a nameless server
        let mut peer = HttpPeer::new(address, is_tls, self.to.host.clone());
        peer.group_key = GROUP;
        peer.options.connection_timeout = Some(CONNECT);
        peer.options.total_connection_timeout = Some(CONNECT);
        peer.options.idle_timeout = Some(KEPT);
        peer.options.tcp_keepalive = Some(KEEPALIVE);
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
        peer.options.tracer = Some(tracer);
        peer
    }

    /// It answered, or in words why not. The log says it when it changes.
    pub(crate) fn note(&self, answer: Result<(), &str>) {
        let is_away = answer.is_err();
        if self.is_away.load(Ordering::Relaxed) == is_away
            || self.is_away.swap(is_away, Ordering::Relaxed) == is_away
        {
            return;
        }
        match answer {
            Err(cause) => {
                tracing::warn!(control_plane.at = %self.to, cause, "the control plane does not answer; the front door says 503");
            }
            Ok(()) => {
                tracing::info!(control_plane.at = %self.to, "the control plane answers again");
            }
        }
    }
}

/// A request that is with the control plane, ended when a phase of it lasts too long.
pub(crate) struct Exchange {
    attempt: Arc<Attempt>,
    watch: JoinHandle<()>,
}

impl Exchange {
    /// One that begins now.
    pub(crate) fn begin(connection: Arc<Connection>) -> Self {
        Self::with(Attempt::new(connection, FIRST_BYTE, IDLE), TICK)
    }

    fn with(attempt: Attempt, tick: Duration) -> Self {
        let attempt = Arc::new(attempt);
        let watched = Arc::clone(&attempt);
        let watch = tokio::spawn(async move {
            let why = loop {
                tokio::time::sleep(tick).await;
                if let Some(why) = watched.overdue(Instant::now()) {
                    break why;
                }
            };
            watched.interrupt(why);
        });
        Self { attempt, watch }
    }

    /// Its phases.
    pub(crate) fn attempt(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    /// Why it was ended from here.
    pub(crate) fn why(&self) -> Option<Why> {
        self.attempt.why()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aivonx_shared::fleet_doc::Secret;

    fn control(to: &str) -> ControlPlane {
        let config = FrontDoorConfig {
            to: to.parse().unwrap(),
            token: Secret::new("0123456789abcdef"),
        };
        ControlPlane::new(&config, Arc::new(Names::new(None)))
    }

    #[tokio::test]
    async fn a_silent_control_plane_is_given_up_and_one_that_answered_has_longer() {
        let millis = Duration::from_millis;
        let attempt = || Attempt::new(Arc::default(), millis(20), Duration::from_secs(3600));
        let (silent, answering) = (
            Exchange::with(attempt(), millis(5)),
            Exchange::with(attempt(), millis(5)),
        );
        answering.attempt().saw_byte(Instant::now());
        let ends = async {
            while silent.why().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ends)
            .await
            .unwrap();
        assert_eq!(silent.why(), Some(Why::FirstByte));
        assert_eq!(answering.why(), None);
        let watch = answering.watch.abort_handle();
        drop(answering);
        tokio::time::timeout(Duration::from_secs(20), async {
            while !watch.is_finished() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn places_are_bounded_and_come_back() {
        let control = control("http://127.0.0.1:8001");
        let held: Vec<_> = (0..PLACES).map(|_| control.place().unwrap()).collect();
        assert!(control.place().is_none());
        drop(held);
        assert!(control.place().is_some());
        assert_eq!(
            control.addresses().await.unwrap(),
            ["127.0.0.1:8001".parse().unwrap()]
        );
    }

    #[test]
    fn the_token_is_not_shown() {
        let control = control("https://[::1]/base");
        assert_eq!(control.authority(), "[::1]:443");
        assert_eq!(control.base(), "/base");
        assert!(!format!("{:?}", control.token()).contains("0123"));
    }
}
