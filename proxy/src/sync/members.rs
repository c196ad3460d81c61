//! Who belongs to the fleet: the document as it is written, and what the names of its discovering
//! entries stand for. Both become the concrete document that the fleet takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::fleet_doc::FleetDoc;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::discover::{Found, hosts};
use crate::fleet::Fleet;
use crate::names::Names;
use crate::telemetry::metrics::Metrics;

/// Brings documents and answers of DNS into force.
pub(crate) struct Members {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) names: Arc<Names>,
    pub(crate) metrics: Arc<Metrics>,
    /// Told after each change that came into force.
    pub(crate) changed: watch::Sender<u64>,
    /// Between two look-ups of a name.
    pub(crate) interval: Duration,
    /// After which a look-up has failed.
    pub(crate) patience: Duration,
    /// Guards what the fleet is built from, so that a document and an answer never overtake each
    /// other.
    pub(crate) state: Mutex<Written>,
    /// Wakes the look-ups: a document names somebody new.
    pub(crate) wake: Notify,
}

/// What the fleet is built from.
#[derive(Default)]
pub(crate) struct Written {
    doc: Option<FleetDoc>,
    /// The document's number, where it was published under one.
    number: Option<u64>,
    found: Found,
}

impl Members {
    /// Takes a document into force; gives its revision: the number under which it was published, or
    /// else how many there were.
    pub(crate) fn apply(&self, doc: FleetDoc, number: Option<u64>) -> u64 {
        let mut state = self.state.lock();
        let is_news = hosts(&doc).iter().any(|host| !state.found.knows(host));
        state.found.retain(&hosts(&doc));
        (state.doc, state.number) = (Some(doc), number);
        if is_news {
            self.wake.notify_one();
        }
        self.enforce(&state)
    }

    /// Whether there is a document and every name in it was looked up once, so that nobody is missing
    /// who could be known.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.state.lock();
        let doc = state.doc.as_ref();
        doc.is_some_and(|doc| hosts(doc).iter().all(|host| state.found.knows(host)))
    }

    /// Looks names up until the process ends.
    pub(crate) async fn follow(&self) {
        loop {
            self.look_up().await;
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    async fn look_up(&self) {
        let wanted: Vec<String> = {
            let state = self.state.lock();
            let doc = state.doc.iter().flat_map(hosts);
            doc.map(str::to_owned).collect()
        };
        let mut asked = JoinSet::new();
        for host in wanted {
            let (names, patience) = (Arc::clone(&self.names), self.patience);
            // the port is the entry's own; here only addresses count
            asked.spawn(async move { (names.look_up(&host, 0, patience).await, host) });
        }
        while let Some(told) = asked.join_next().await {
            if let Ok((answer, host)) = told {
                self.learn(&host, answer);
            }
        }
    }

    fn learn(&self, host: &str, answer: Result<Vec<std::net::SocketAddr>, String>) {
        let mut state = self.state.lock();
        let is_wanted = state
            .doc
            .as_ref()
            .is_some_and(|doc| hosts(doc).contains(host));
        if !is_wanted {
            return; // the document changed in the meantime
        }
        let is_first = !state.found.knows(host);
        if let Err(cause) = &answer
            && !state.found.fails(host)
        {
            tracing::warn!(
                host,
                cause,
                "a name that nodes are discovered by has no addresses; the last ones stay for a while"
            );
        }
        let answer = answer.unwrap_or_default();
        if state.found.learn(host, &answer, Instant::now()) {
            let revision = self.enforce(&state);
            let nodes = self.fleet.load().nodes().len();
            tracing::info!(
                host,
                fleet.revision = revision,
                fleet.nodes = nodes,
                "a name stands for other addresses now; the fleet follows"
            );
        } else if is_first {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    fn enforce(&self, state: &Written) -> u64 {
        let Some(doc) = &state.doc else { return 0 };
        let began = Instant::now();
        let (concrete, clashes) = state.found.expand(doc);
        self.fleet.apply(concrete);
        let revision = state.number.unwrap_or(self.fleet.load().revision());
        self.metrics.applied(revision, began.elapsed());
        self.changed.send_modify(|count| *count += 1);
        if !clashes.is_empty() {
            tracing::warn!(
                nodes = clashes.join(", "),
                "discovered nodes are left out: others have these names"
            );
        }
        revision
    }
}
