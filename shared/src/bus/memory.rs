//! The bus of one process with both planes in it: nothing leaves it, nothing is lost on the way.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};

use super::{Bus, BusError, LOADS_KEPT, Outcome, RECLAIM, REPORTS_KEPT, Taken, USAGE_KEPT};
use crate::published::Published;
use crate::report::{Load, Report};
use crate::revision::Revision;
use crate::usage_batch::UsageBatch;

/// A bus within this process.
pub struct MemoryBus {
    fleet: watch::Sender<Option<Arc<Published>>>,
    connected: watch::Sender<bool>,
    loads: broadcast::Sender<Arc<Load>>,
    reclaim: Duration,
    /// Guards reports and usage; held for a few instructions.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reports: BTreeMap<String, (Report, Instant)>,
    usage: VecDeque<Waiting>,
    /// Ids of stored batches, the oldest first.
    stored: VecDeque<String>,
    next_receipt: u64,
}

/// A batch that is not acknowledged.
struct Waiting {
    batch: UsageBatch,
    /// Under which number and when it was taken.
    taken: Option<(String, Instant)>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self::reclaiming_after(RECLAIM)
    }

    /// The same with another patience for batches that were taken and not acknowledged.
    pub fn reclaiming_after(reclaim: Duration) -> Self {
        Self {
            fleet: watch::Sender::new(None),
            connected: watch::Sender::new(true),
            loads: broadcast::Sender::new(LOADS_KEPT),
            reclaim,
            state: Mutex::default(),
        }
    }

    /// Nothing that is done under the lock can leave it half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBus").finish_non_exhaustive()
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish_fleet(&self, published: &Published) -> Result<Outcome, BusError> {
        let is_newer = self.fleet.send_if_modified(|held| {
            let is_newer = held
                .as_ref()
                .is_none_or(|held| published.revision() > held.revision());
            if is_newer {
                *held = Some(Arc::new(published.clone()));
            }
            is_newer
        });
        Ok(if is_newer {
            Outcome::Applied
        } else {
            Outcome::Stale
        })
    }

    async fn fleet(&self) -> Result<Option<Published>, BusError> {
        Ok(self.fleet.borrow().as_deref().cloned())
    }

    async fn revision(&self) -> Result<Option<Revision>, BusError> {
        Ok(self.fleet.borrow().as_ref().map(|held| held.revision()))
    }

    fn watch(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.fleet.subscribe()
    }

    fn connected(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    async fn report(&self, report: &Report) -> Result<(), BusError> {
        let entry = (report.clone(), Instant::now());
        self.state().reports.insert(report.instance.clone(), entry);
        Ok(())
    }

    async fn reports(&self) -> Result<Vec<Report>, BusError> {
        let now = Instant::now();
        let mut state = self.state();
        let age = |at: Instant| now.saturating_duration_since(at);
        state.reports.retain(|_, (_, at)| age(*at) < REPORTS_KEPT);
        let aged = |(report, at): &(Report, Instant)| Report {
            age: age(*at),
            ..report.clone()
        };
        Ok(state.reports.values().map(aged).collect())
    }

    async fn share_load(&self, load: &Load) -> Result<(), BusError> {
        // an error means that nobody listens
        let _ = self.loads.send(Arc::new(load.clone()));
        Ok(())
    }

    fn loads(&self) -> broadcast::Receiver<Arc<Load>> {
        self.loads.subscribe()
    }

    async fn send_usage(&self, batch: &UsageBatch) -> Result<(), BusError> {
        let mut state = self.state();
        state.usage.push_back(Waiting {
            batch: batch.clone(),
            taken: None,
        });
        if state.usage.len() > USAGE_KEPT {
            state.usage.pop_front();
        }
        Ok(())
    }

    async fn take_usage(&self, most: usize) -> Result<Vec<Taken>, BusError> {
        let now = Instant::now();
        let mut state = self.state();
        let State {
            usage,
            next_receipt,
            ..
        } = &mut *state;
        let free = usage.iter_mut().filter(|waiting| {
            let taken = waiting.taken.as_ref();
            taken.is_none_or(|(_, at)| now.saturating_duration_since(*at) >= self.reclaim)
        });
        let take = |waiting: &mut Waiting| {
            *next_receipt += 1;
            let receipt = next_receipt.to_string();
            waiting.taken = Some((receipt.clone(), now));
            Taken {
                receipt,
                batch: waiting.batch.clone(),
            }
        };
        Ok(free.take(most).map(take).collect())
    }

    async fn ack_usage(&self, taken: &[Taken]) -> Result<(), BusError> {
        let mut state = self.state();
        state.usage.retain(|waiting| {
            let receipt = waiting.taken.as_ref().map(|(receipt, _)| receipt);
            receipt.is_none_or(|receipt| taken.iter().all(|taken| taken.receipt != *receipt))
        });
        for taken in taken {
            state.stored.push_back(taken.batch.id.clone());
        }
        while state.stored.len() > USAGE_KEPT {
            state.stored.pop_front();
        }
        Ok(())
    }

    async fn stored_usage(&self, ids: &[String]) -> Result<Vec<String>, BusError> {
        let state = self.state();
        let stored = ids.iter().filter(|id| state.stored.contains(id));
        Ok(stored.cloned().collect())
    }
}
