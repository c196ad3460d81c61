//! Requests that are with a node, so that they can be ended from outside: sent elsewhere at once
//! when the node is found dead, or failed when a phase of theirs has lasted too long.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use slab::Slab;

/// Why a request was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Why {
    /// Its node failed its probes.
    NodeDown = 1,
    /// No first byte in time.
    FirstByte = 2,
    /// No further byte in time.
    Idle = 3,
    /// The caller's key was taken out.
    Revoked = 4,
}

/// A request that can be ended from outside.
pub(crate) trait Interrupt: Send + Sync {
    /// Whether it still waits for its first byte.
    fn waits(&self) -> bool;
    /// Whether its present phase has lasted too long.
    fn overdue(&self, now: Instant) -> Option<Why>;
    /// Ends it; the first reason counts.
    fn interrupt(&self, why: Why);
}

/// The requests that are with one node.
#[derive(Default)]
pub(crate) struct Waiting {
    /// Guards the list; held to add, remove or look through it.
    list: Mutex<Slab<Arc<dyn Interrupt>>>,
}

impl Waiting {
    /// Adds a request; dropping the ticket takes it out.
    pub(crate) fn enter(self: &Arc<Self>, request: Arc<dyn Interrupt>) -> Ticket {
        let id = self.list.lock().insert(request);
        Ticket {
            id,
            waiting: Arc::clone(self),
        }
    }

    /// Ends all that have no byte yet, because the node is down; gives their number.
    pub(crate) fn node_is_down(&self) -> usize {
        let list = self.list.lock();
        let waiting = list.iter().filter(|(_, request)| request.waits());
        waiting
            .map(|(_, request)| request.interrupt(Why::NodeDown))
            .count()
    }

    /// Ends all whose phase has lasted too long.
    pub(crate) fn sweep(&self, now: Instant) {
        for (_, request) in self.list.lock().iter() {
            if let Some(why) = request.overdue(now) {
                request.interrupt(why);
            }
        }
    }
}

/// A place in [`Waiting`].
pub(crate) struct Ticket {
    id: usize,
    waiting: Arc<Waiting>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiting.list.lock().remove(self.id);
    }
}
