//! Usage on its way to the control plane, so that each request counts exactly once there. Every interval
//! what was counted is gathered in batches, which are kept until they are known to be stored (`spool`),
//! sent over the bus, and sent again where that takes long. No request waits for any of it.
//!
//! Why once and not less: a batch is in memory and on disk (`folder`) until the control plane has said
//! that it is stored, and whoever finds it there sends it. Why once and not more: from its first sending
//! on it keeps its id and what it holds, on disk as well, and the control plane stores an id once.

mod folder;
mod growing;
mod spool;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aivonx_shared::bus::{Bus, BusError};
use aivonx_shared::config::UsageConfig;
use parking_lot::Mutex;

use self::spool::Spool;
use super::report::ticks;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::usage::UsageCounts;

/// A batch that is not stored after so many intervals is sent again.
const PATIENCE: u32 = 6;
/// How long the last batch may take to leave.
const PARTING: Duration = Duration::from_secs(3);

/// Brings usage to the control plane.
pub(crate) struct UsageRoad {
    bus: Arc<dyn Bus>,
    counts: Arc<UsageCounts>,
    metrics: Arc<Metrics>,
    interval: Duration,
    /// What waits, and its files: held while they are written, so on threads of its own only.
    spool: Arc<Mutex<Spool>>,
    /// Whether the bus was away at the last round. Held over a round: one at a time.
    turn: tokio::sync::Mutex<bool>,
}

impl UsageRoad {
    /// Of the process called `instance`, which keeps what waits in the folder `state`, if there is one.
    pub(crate) fn new(
        bus: &Arc<dyn Bus>,
        metrics: &Arc<Metrics>,
        config: UsageConfig,
        instance: &str,
        state: Option<&Path>,
    ) -> Self {
        let spool = Spool::new(instance, milliseconds(), state)
            .with_bounds(config.keep, config.interval * PATIENCE);
        Self {
            bus: Arc::clone(bus),
            counts: Arc::default(),
            metrics: Arc::clone(metrics),
            interval: config.interval,
            spool: Arc::new(Mutex::new(spool)),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Where requests are counted.
    pub(crate) fn counts(&self) -> Arc<UsageCounts> {
        Arc::clone(&self.counts)
    }

    /// Brings usage until the process ends.
    pub(crate) async fn run(&self) {
        let mut tick = ticks(self.interval);
        loop {
            tick.tick().await;
            self.round().await;
        }
    }

    /// Brings the last of it, once no request is left. What cannot be sent stays on disk.
    pub(crate) async fn finish(&self) {
        let last = tokio::time::timeout(PARTING, self.round()).await;
        if last.is_err() {
            self.gather().await;
        }
        let unsaved = self.on_spool(|spool| spool.unsaved()).await;
        // where the runtime ends nobody can say how much
        if unsaved != Some(0) {
            tracing::error!(
                requests = unsaved,
                "usage is lost unless it arrived just now: it could not be kept on disk"
            );
        }
    }

    /// Keeps on disk what was counted, without a runtime.
    pub(crate) fn keep(&self) {
        self.spool.lock().gather(seconds(), self.counts.take());
    }

    /// Gathers what was counted, and brings what waits.
    async fn round(&self) {
        let mut was_away = self.turn.lock().await;
        self.gather().await;
        match self.exchange().await {
            Ok(()) => {
                if std::mem::take(&mut *was_away) {
                    tracing::info!("usage reaches the control plane again");
                }
            }
            Err(error) => {
                self.metrics.bus_failed("usage");
                let now = Instant::now();
                self.on_spool(move |spool| spool.is_away(now)).await;
                if !std::mem::replace(&mut *was_away, true) {
                    tracing::warn!(%error, "usage does not reach the control plane; it is kept until it does");
                }
            }
        }
        self.tell().await;
    }

    async fn gather(&self) {
        let counts = Arc::clone(&self.counts);
        self.on_spool(move |spool| {
            spool.take_over(seconds());
            spool.gather(seconds(), counts.take());
        })
        .await;
    }

    /// Hears what is stored, then sends what is due: a bus that does not answer the first is not asked
    /// for the second, so that the batch which grows may go on growing.
    async fn exchange(&self) -> Result<(), BusError> {
        let under_way = self.on_spool(|spool| spool.under_way()).await;
        let under_way = under_way.unwrap_or_default();
        if !under_way.is_empty() {
            let stored = self.bus.stored_usage(&under_way).await?;
            self.on_spool(move |spool| spool.stored(&stored)).await;
        }
        let now = Instant::now();
        let due = self.on_spool(move |spool| spool.due(now)).await;
        for batch in due.unwrap_or_default() {
            self.bus.send_usage(&batch).await?;
        }
        Ok(())
    }

    async fn tell(&self) {
        let told = self.on_spool(|spool| (spool.len(), spool.take_lost()));
        let (waiting, lost) = told.await.unwrap_or_default();
        self.metrics.usage_waits(waiting);
        self.metrics.usage_lost(lost); // with its series from the start, so that an alert can watch it
        if lost > 0 {
            tracing::warn!(
                requests = lost,
                "usage was given up: too much waits, or for too long (proxy.usage.keep)"
            );
        }
    }

    /// Works on what waits, on a thread that may wait for the disk; `None` where the runtime ends.
    async fn on_spool<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Spool) -> R + Send + 'static,
    ) -> Option<R> {
        let spool = Arc::clone(&self.spool);
        let working = tokio::task::spawn_blocking(move || work(&mut spool.lock()));
        working.await.ok()
    }
}

fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default() // a clock that stands before it
}

fn seconds() -> u64 {
    since_1970().as_secs()
}

fn milliseconds() -> u64 {
    since_1970().as_millis() as u64
}
