//! What the fleet knows after a change: the inventory of a changed node is read again at once, and
//! whoever asks for a model that nobody seems to hold waits a moment for such a reading. Without
//! this a client that pulls and then generates would be told that the model does not exist.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::call::Caller;
use crate::fleet::inventory::parse_list;
use crate::fleet::{Fleet, Node};

/// Longest wait for one reading: a request is better answered from old knowledge than late.
const PATIENCE: Duration = Duration::from_secs(3);

/// Reads nodes again after a change.
pub(crate) struct Known {
    fleet: Arc<Fleet>,
    caller: Arc<Caller>,
    /// Readings that are under way.
    reading: watch::Sender<usize>,
}

/// One reading under way.
struct Reading(watch::Sender<usize>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Known {
    /// Nothing under way.
    pub(crate) fn new(fleet: Arc<Fleet>, caller: Arc<Caller>) -> Self {
        Self {
            fleet,
            caller,
            reading: watch::Sender::new(0),
        }
    }

    /// Reads a node's inventory and puts it in force. Bounded; what cannot be read is left to the
    /// node's own watch.
    pub(crate) async fn read(&self, node: &Arc<Node>) {
        self.reading.send_modify(|count| *count += 1);
        let _under_way = Reading(self.reading.clone());
        let read = tokio::time::timeout(PATIENCE, self.caller.get(node, "/api/tags")).await;
        let list = read
            .ok()
            .flatten()
            .and_then(|body| parse_list(&body, "modified_at"));
        if let Some(list) = list
            && node.state().set_inventory(list)
        {
            self.fleet.refresh();
        }
        // its own watch may have begun to read before the change and end after this
        node.state().stale.notify_one();
    }

    /// The same for several at once.
    pub(crate) async fn read_all(self: &Arc<Self>, nodes: impl IntoIterator<Item = Arc<Node>>) {
        let mut readings = tokio::task::JoinSet::new();
        for node in nodes {
            let known = Arc::clone(self);
            readings.spawn(async move { known.read(&node).await });
        }
        readings.join_all().await;
    }

    /// Begins to read a node; from here on `settled` waits for it.
    pub(crate) fn begin(self: &Arc<Self>, node: &Arc<Node>) {
        let (known, node) = (Arc::clone(self), Arc::clone(node));
        // counted before the task runs: the client may ask in the next moment
        self.reading.send_modify(|count| *count += 1);
        let under_way = Reading(self.reading.clone());
        tokio::spawn(async move {
            known.read(&node).await;
            drop(under_way);
        });
    }

    /// Waits for the readings that are under way; false where there were none.
    pub(crate) async fn settled(&self) -> bool {
        if *self.reading.borrow() == 0 {
            return false;
        }
        let mut reading = self.reading.subscribe();
        // in time or not: what is known then is what there is
        let _ = tokio::time::timeout(PATIENCE, reading.wait_for(|count| *count == 0)).await;
        true
    }

    /// Reads what nodes have in memory, after that was changed.
    pub(crate) async fn read_residency(
        self: &Arc<Self>,
        nodes: impl IntoIterator<Item = Arc<Node>>,
    ) {
        let mut readings = tokio::task::JoinSet::new();
        for node in nodes {
            let known = Arc::clone(self);
            readings.spawn(async move { known.read_one_residency(&node).await });
        }
        readings.join_all().await;
    }

    async fn read_one_residency(&self, node: &Arc<Node>) {
        const QUICK: Duration = Duration::from_millis(500); // it may stall (ollama-api.md §6)
        let read = tokio::time::timeout(QUICK, self.caller.get(node, "/api/ps")).await;
        let list = read
            .ok()
            .flatten()
            .and_then(|body| parse_list(&body, "expires_at"));
        if let Some(list) = list {
            node.state().set_residency(list);
        }
    }
}
