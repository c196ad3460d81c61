//! The truth onto the bus. A task reads the fleet from the store and publishes it: at once after a change
//! here, within a second after one by another control plane, and whenever the bus has lost what it held.
//! Losing an announcement is harmless, for the next round makes up for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::bus::{Bus, BusError, Outcome};
use aivonx_shared::published::Published;
use aivonx_shared::revision::Revision;
use tokio::sync::Notify;

use crate::store::{Db, StoreError};
use crate::telemetry::PublishMetrics;

/// How often it is looked whether others changed something, or the bus lost it.
const EVERY: Duration = Duration::from_secs(1);

/// Publishes the fleet. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Publisher {
    db: Db,
    bus: Arc<dyn Bus>,
    wake: Arc<Notify>,
    metrics: PublishMetrics,
}

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("the fleet document is not JSON: a bug")]
    NotJson,
}

impl Publisher {
    pub(crate) fn new(db: Db, bus: Arc<dyn Bus>, metrics: PublishMetrics) -> Self {
        Self {
            db,
            bus,
            wake: Arc::default(),
            metrics,
        }
    }

    /// Something was changed: publish it now.
    pub(crate) fn announce(&self) {
        self.wake.notify_one();
    }

    /// Publishes for as long as the process lives. An outage is told once when it begins and once when
    /// it ends.
    pub(crate) async fn run(self) {
        let mut fails = false;
        let mut told = None;
        loop {
            match self.round().await {
                Ok(revision) => {
                    if std::mem::take(&mut fails) {
                        tracing::info!("the fleet is published again");
                    }
                    if let Some(revision) = revision {
                        tracing::info!(fleet.revision = %revision, "fleet published");
                    }
                }
                Err(error) if !fails => {
                    fails = true;
                    tracing::warn!(%error, "the fleet cannot be published; data planes keep the last one");
                }
                Err(_) => {}
            }
            self.tell_if_behind(&mut told).await;
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Tells once for each revision that somebody holds and this database never gave out: it was restored
    /// from a backup, or is another one. Nothing is published then, lest an old control plane undoes what a
    /// newer one did; an operator decides.
    async fn tell_if_behind(&self, told: &mut Option<Revision>) {
        let (Ok(held), Ok(reports)) = (self.bus.revision().await, self.bus.reports().await) else {
            return; // told as an outage
        };
        let applied = reports.into_iter().filter_map(|report| report.applied);
        // the database is asked last: what was held before is in it, unless it is behind
        let (Some(newest), Ok(current)) = (applied.chain(held).max(), self.db.revision().await)
        else {
            return;
        };
        if newest > current && *told < Some(newest) {
            *told = Some(newest);
            tracing::error!(fleet.held = %newest, fleet.revision = %current, "data planes hold a newer fleet than the database, which seems to be restored from a backup: changes do not come into force until `aivonx fleet new-epoch` makes the database's fleet the newest");
        }
    }

    /// Publishes if the bus holds another revision than the store; gives what was published.
    async fn round(&self) -> Result<Option<Revision>, PublishError> {
        let held = self.bus.revision().await;
        self.metrics.bus_answers(held.is_ok());
        let held = held?;
        let current = self.db.revision().await?;
        self.metrics.is_at(current);
        if held.is_some_and(|held| held >= current) {
            return Ok(None);
        }
        let began = Instant::now();
        let done = self.publish().await;
        let (word, done) = match done {
            Ok((revision, Outcome::Applied)) => ("applied", Ok(Some(revision))),
            Ok((_, Outcome::Stale)) => ("stale", Ok(None)), // another control plane was first
            Err(error) => ("failed", Err(error)),
        };
        self.metrics.published(word, began.elapsed());
        done
    }

    async fn publish(&self) -> Result<(Revision, Outcome), PublishError> {
        let fleet = self.db.fleet().await?;
        let published =
            Published::new(fleet.revision, fleet.document()).map_err(|_| PublishError::NotJson)?;
        let outcome = self.bus.publish_fleet(&published).await?;
        Ok((fleet.revision, outcome))
    }
}
