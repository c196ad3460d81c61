//! How a process comes and goes: signals, the hand-over to a new process, and the drain.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::background::BackgroundService;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::edge::Connections;
use crate::edge::handover::{self, Inheritance, Named};
use crate::gateway::Active;
use crate::store::Stores;
use crate::sync::usage::UsageRoad;
use crate::telemetry::access_log::AccessLogger;

/// How long idle connections stay open after a hand-over: a client that sends its next request within
/// it is answered and told to connect anew, instead of meeting a closed connection.
const LINGER: Duration = Duration::from_secs(5);
/// How long connections may take to close after their last request.
const PARTING: Duration = Duration::from_secs(1);
/// A new process takes over at the latest after this, however its nodes are.
const KNOWN: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
/// So long before Pingora ends the process it is said what is cut off: afterwards nothing runs any more.
const AHEAD: Duration = Duration::from_millis(100);

/// What the process does on a signal.
pub(super) struct Signals {
    /// Our listeners once more, for a new process. Given up before the drain: as long as anybody holds
    /// one, clients would be taken by a socket that nobody serves.
    listeners: Mutex<Option<Arc<Vec<Named>>>>,
    /// The configured meeting point, and the port that names the usual one.
    meeting_point: (Option<PathBuf>, u16),
    handed_over: Arc<AtomicBool>,
}

impl Signals {
    pub(super) fn new(
        listeners: Vec<Named>,
        meeting_point: (Option<PathBuf>, u16),
        handed_over: Arc<AtomicBool>,
    ) -> Self {
        Self {
            listeners: Mutex::new(Some(Arc::new(listeners))),
            meeting_point,
            handed_over,
        }
    }

    /// Resolves once a new process serves; never where that fails: this one then goes on.
    async fn hand_over(&self) {
        let listeners = self.listeners.lock().as_ref().map(Arc::downgrade);
        let (done, result) = oneshot::channel();
        let ((configured, port), listeners) =
            (self.meeting_point.clone(), listeners.unwrap_or_default());
        // it waits: a thread of its own, which does not keep the process from ending
        std::thread::spawn(move || {
            let path = handover::meeting_point(configured.as_deref(), port);
            let given = path.and_then(|path| handover::give(&path, &listeners));
            let _ = done.send(given.map_err(|error| error.to_string()));
        });
        let why = match result.await {
            Ok(Ok(())) => return self.handed_over.store(true, Ordering::Release),
            Ok(Err(why)) => why,
            Err(_) => "the thread that hands over broke off".to_owned(),
        };
        tracing::error!(
            why,
            "sockets could not be handed over; this process goes on"
        );
        std::future::pending::<()>().await;
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (mut quit, mut term, mut int) = (
            listen(SignalKind::quit()),
            listen(SignalKind::terminate()),
            listen(SignalKind::interrupt()),
        );
        let mut handing_over = None;
        let signal = loop {
            tokio::select! {
                () = next(&mut term) => break ShutdownSignal::GracefulTerminate,
                () = next(&mut int) => break ShutdownSignal::FastShutdown,
                // a second one begins anew, as after a failure
                () = next(&mut quit) => handing_over = Some(Box::pin(self.hand_over())),
                () = async { handing_over.as_mut().expect("checked").await }, if handing_over.is_some() => {
                    tracing::info!("a new process has taken over");
                    break ShutdownSignal::GracefulTerminate;
                }
            }
        };
        *self.listeners.lock() = None;
        signal
    }
}

fn listen(kind: SignalKind) -> Option<Signal> {
    signal(kind)
        .inspect_err(|error| tracing::error!(%error, "a signal cannot be heard"))
        .ok()
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Opens the listeners of a new process as soon as it knows its nodes, and lets the old one go.
pub(super) struct TakeOver {
    pub(super) inherited: Mutex<Option<Inheritance>>,
    /// Set once every node was probed.
    pub(super) first_round: Arc<AtomicBool>,
    pub(super) open: watch::Sender<bool>,
}

#[async_trait]
impl BackgroundService for TakeOver {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let inherited = self.inherited.lock().take();
        if let Some(mut inherited) = inherited {
            let latest = Instant::now() + KNOWN;
            let mut tick = tokio::time::interval(TICK);
            while !self.first_round.load(Ordering::Acquire) && Instant::now() < latest {
                tick.tick().await;
            }
            self.open.send_replace(true);
            if let Err(error) = inherited.ready() {
                tracing::warn!(%error, "the old process is gone already");
            }
        }
        self.open.send_replace(true);
        // the sender must outlive whoever waits for it
        let _ = shutdown.changed().await;
    }
}

/// Leaves as soon as nothing is open after SIGTERM or a hand-over.
pub(super) struct Drain {
    pub(super) stores: Arc<Stores>,
    pub(super) active: Arc<Active>,
    pub(super) connections: Arc<Connections>,
    pub(super) closing: watch::Sender<bool>,
    pub(super) handed_over: Arc<AtomicBool>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) access_log: AccessLogger,
    pub(super) usage: Option<Arc<UsageRoad>>,
    /// `timeouts.drain`, after which Pingora ends the process.
    pub(super) most: Duration,
    pub(super) exit: fn() -> !,
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        // an error means that the server is gone already
        let _ = shutdown.changed().await;
        self.draining.store(true, Ordering::Release);
        self.stores.stop();
        tracing::info!(requests.open = self.active.count(), "draining");
        let mut empty = std::pin::pin!(self.empty());
        let patience = self.most.saturating_sub(AHEAD);
        if tokio::time::timeout(patience, &mut empty).await.is_err() {
            let open = self.active.count();
            if open > 0 {
                tracing::warn!(
                    requests.open = open,
                    "the drain takes too long (proxy.timeouts.drain): what is open is cut off"
                );
            }
            empty.await;
        }
        tracing::info!("drained");
        if let Some(usage) = &self.usage {
            usage.finish().await;
        }
        self.access_log.flush();
        (self.exit)()
    }
}

impl Drain {
    /// Waits until nothing is open.
    async fn empty(&self) {
        if self.handed_over.load(Ordering::Acquire) {
            self.wait_while(LINGER, || self.connections.count() > 0)
                .await;
        }
        self.wait_while(Duration::MAX, || self.active.count() > 0)
            .await;
        self.closing.send_replace(true);
        // an answer's last bytes are with its connection
        self.wait_while(PARTING, || self.connections.count() > 0)
            .await;
        self.wait_while(Duration::MAX, || self.active.count() > 0)
            .await;
    }

    async fn wait_while(&self, most: Duration, open: impl Fn() -> bool + Send) {
        let began = Instant::now();
        let mut tick = tokio::time::interval(TICK);
        while open() && began.elapsed() < most {
            tick.tick().await;
        }
    }
}
