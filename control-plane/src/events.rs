//! Events: what changes in the fleet, for those who listen. While somebody does, the `Hub` looks twice a
//! second at the database and at the reports, and tells what is another than before: so what other control
//! planes did is told, too. `look` finds the differences, `api/events` hands them out.

mod look;

use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::bus::Bus;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};

use crate::store::Db;
use look::Look;
pub(crate) use look::{TOLD, change};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Streams and waiting answers at a time: each holds a connection.
const PLACES: usize = 256;
/// Events that wait for a slow listener; beyond it is told how many it missed.
const WAITING: usize = 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Of an event that can be told again: the audit's.
    pub(crate) id: Option<i64>,
    /// `change`, `revision`, `plane`, `health` or `job`.
    pub(crate) name: &'static str,
    /// JSON.
    pub(crate) data: String,
}

/// Tells events to all who listen.
pub(crate) struct Hub {
    sender: broadcast::Sender<Arc<Event>>,
    places: Arc<Semaphore>,
    /// Counts the looks.
    looks: watch::Sender<u64>,
    /// Somebody began to listen.
    arrived: Notify,
    closed: watch::Sender<bool>,
}

/// Somebody who listens.
pub(crate) struct Listener {
    pub(crate) events: broadcast::Receiver<Arc<Event>>,
    looks: watch::Receiver<u64>,
}

impl Listener {
    /// Comes back once everything that happens from now on is told.
    pub(crate) async fn ready(&mut self) {
        self.looks.mark_unchanged();
        // an error means that the process ends
        let _ = self.looks.changed().await;
    }
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(WAITING),
            places: Arc::new(Semaphore::new(PLACES)),
            looks: watch::Sender::new(0),
            arrived: Notify::new(),
            closed: watch::Sender::new(false),
        }
    }

    /// A place for a stream or an answer that waits; `None` where all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Listens from now on.
    pub(crate) fn listen(&self) -> Listener {
        let listener = Listener {
            events: self.sender.subscribe(),
            looks: self.looks.subscribe(),
        };
        self.arrived.notify_one();
        listener
    }

    /// The process ends: streams end, so that nobody waits for them.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Whether the process ends.
    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Looks and tells for as long as the process lives.
    pub(crate) async fn run(&self, db: &Db, bus: &dyn Bus) {
        let mut last = Look::default();
        loop {
            if self.sender.receiver_count() == 0 {
                last = Look::default();
                self.arrived.notified().await;
            }
            for event in last.again(db, bus).await {
                // nobody may listen any more
                let _ = self.sender.send(Arc::new(event));
            }
            self.looks.send_modify(|looks| *looks += 1);
            tokio::time::sleep(EVERY).await;
        }
    }
}
