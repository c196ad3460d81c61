//! Pulls at one node that a control plane orders (`aivonx_shared::operations`). Nobody need wait for one: it
//! goes on by itself, takes its turn among the pulls of clients, and how it ended stays known for a while.

mod pull;

use std::collections::HashMap;
use std::sync::Arc;

use aivonx_shared::fleet_doc::Cloud;
use aivonx_shared::model_name::{ModelKey, ModelName, Source};
use aivonx_shared::operations::{ENDED_KEPT, PullOrder, PullSeen};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Stores;
use super::asked::pull_body;
use super::call::Question;
use super::targets::{self, spreads_cloud};
use crate::fleet::Snapshot;
use pull::{Pull, Work};

/// Pulls that are known at once, ended ones too.
const MOST: usize = 1000;

/// Why a pull was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotBegun {
    /// No model is called so.
    #[error("invalid model name")]
    Model,
    /// The fleet has no such node.
    #[error("node '{0}' is not in the fleet")]
    Node(String),
    /// As many as may be are known.
    #[error(
        "this data plane knows of {MOST} pulls, and takes no more until some of them have ended"
    )]
    Full,
    /// The process is on its way out.
    #[error("this data plane is on its way out; ask another one")]
    Draining,
}

/// The pulls that are known, by the asker's id.
pub(crate) struct Pulls {
    stores: Arc<Stores>,
    /// Guards the list only.
    known: Mutex<HashMap<String, Arc<Pull>>>,
}

impl Pulls {
    /// None yet.
    pub(crate) fn new(stores: Arc<Stores>) -> Self {
        Self {
            stores,
            known: Mutex::default(),
        }
    }

    /// Begins a pull, unless its id is known; gives how far it is.
    pub(crate) fn begin(&self, id: &str, order: &PullOrder) -> Result<PullSeen, NotBegun> {
        let mut known = self.known.lock();
        forget(&mut known, Instant::now());
        if let Some(pull) = known.get(id) {
            return Ok(pull.seen());
        }
        if *self.stores.stopping.borrow() {
            return Err(NotBegun::Draining);
        }
        if known.len() >= MOST {
            return Err(NotBegun::Full);
        }
        let work = self.work(id, order)?;
        let pull = Arc::new(Pull::new());
        known.insert(id.to_owned(), Arc::clone(&pull));
        drop(known);
        let seen = pull.seen();
        tokio::spawn(Box::pin(work.run(pull)));
        Ok(seen)
    }

    /// How far a pull is; `None` where its id is not known.
    pub(crate) fn seen(&self, id: &str) -> Option<PullSeen> {
        self.known(id).map(|pull| pull.seen())
    }

    /// Ends a pull if it goes on, and waits until the node was left; gives how it ended.
    pub(crate) async fn end(&self, id: &str) -> Option<PullSeen> {
        let pull = self.known(id)?;
        Some(pull.end().await)
    }

    fn known(&self, id: &str) -> Option<Arc<Pull>> {
        let mut known = self.known.lock();
        forget(&mut known, Instant::now());
        known.get(id).cloned()
    }

    /// What is to be done for an order.
    fn work(&self, id: &str, order: &PullOrder) -> Result<Work, NotBegun> {
        let name = ModelName::parse_for_store(&order.model).map_err(|_| NotBegun::Model)?;
        let snapshot = self.stores.fleet.load();
        let target = targets::named(&snapshot, &order.node);
        let target = target.ok_or_else(|| NotBegun::Node(order.node.clone()))?;
        Ok(Work {
            stores: Arc::clone(&self.stores),
            id: id.to_owned(),
            model: name.display().to_owned(),
            refusal: refusal(&snapshot, order),
            target,
            question: Question {
                method: "POST",
                path: "/api/pull",
                body: pull_body(&order.model, order.insecure),
                id: HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("aivonx")),
                is_long: false,
            },
        })
    }
}

/// Why a node is not asked for this model, by the house's rules for everybody.
fn refusal(snapshot: &Snapshot, order: &PullOrder) -> Option<String> {
    let mut scratch = String::new();
    let named = ModelKey::of(&order.model, &mut scratch);
    let is_cloud = snapshot.cloud() == Cloud::Deny && matches!(named, Ok((_, Source::Cloud)));
    if is_cloud || spreads_cloud(snapshot, &order.model, Some(&order.node)) {
        let model = &order.model;
        return Some(format!(
            "ollama cloud is disabled here: model '{model}' is not pulled"
        ));
    }
    None
}

/// Forgets how pulls ended that ended long ago.
fn forget(known: &mut HashMap<String, Arc<Pull>>, now: Instant) {
    known.retain(|_, pull| {
        let ended = pull.ended();
        ended.is_none_or(|ended| now.saturating_duration_since(ended) < ENDED_KEPT)
    });
}

#[cfg(test)]
mod tests;
