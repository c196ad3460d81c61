//! Chooses a node for a request: candidates, their order, and the permit, in one step.
//!
//! `candidates` says who may serve and in which tier, one file a strategy says the order within,
//! `selection` is the adapter to Pingora's `BackendSelection`.

mod candidates;
mod least_active;
mod lowest_latency;
mod selection;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::model_name::ModelKey;

use crate::dice::Dice;
use crate::fleet::{Fleet, ModelEntry, ModelId, Permit, Snapshot};

pub(crate) use selection::Selector;

/// What a request needs of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    /// The model, where any node holds it.
    pub(crate) model: Option<ModelId>,
    /// The key of a model that nobody holds: it still must not go where a pattern forbids it.
    pub(crate) unheld: Option<ModelKey>,
    /// Whether it goes on to ollama.com: only nodes that are signed in there can serve it.
    pub(crate) cloud: bool,
    /// Serials of the nodes that may take it, where not every candidate may: one that was named by
    /// the client, or the one that has its blobs.
    pub(crate) only: Option<Arc<[u64]>>,
}

impl Demand {
    fn id(&self) -> ModelId {
        self.model.unwrap_or(ModelId::ANY)
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoNode {
    /// The document names no node that may get the model.
    None,
    /// Those there are were all tried by this request.
    Exhausted,
    /// None of them is healthy.
    Unhealthy,
    /// Their breakers are open; one lets a request through in this time.
    Broken(Duration),
}

/// How often a request looks for a node while documents come into force under its eyes.
const LOOKS: u32 = 4;

/// Chooses nodes. One for all requests.
pub(crate) struct Balancer {
    fleet: Arc<Fleet>,
    selector: Selector,
}

impl Balancer {
    /// A balancer over `fleet`; `dice` breaks ties.
    pub(crate) fn new(fleet: Arc<Fleet>, dice: Dice) -> Self {
        let selector = Selector::new(Arc::clone(&fleet), dice);
        Self { fleet, selector }
    }

    /// Hands the changed fleet and health to Pingora's side.
    pub(crate) async fn sync(&self) {
        self.selector.sync().await;
    }

    /// Takes the best candidate that is not in `tried` (serials of nodes) and counts the request
    /// on it. Choosing and counting are one step for a model: its pick lock is held over both, so
    /// that requests at the same moment do not pile up on one node.
    pub(crate) fn acquire(
        &self,
        demand: &Demand,
        tried: &[u64],
        now: Instant,
    ) -> Result<Permit, NoNode> {
        for _ in 1..LOOKS {
            let snapshot = self.fleet.load();
            let taken = self.acquire_in(&snapshot, demand, tried, now);
            if taken.is_ok() || Arc::ptr_eq(&snapshot, &self.fleet.load()) {
                return taken;
            }
            // a document came into force in the meantime: what was refused may have been its nodes' forebears
        }
        self.acquire_in(&self.fleet.load(), demand, tried, now)
    }

    fn acquire_in(
        &self,
        snapshot: &Snapshot,
        demand: &Demand,
        tried: &[u64],
        now: Instant,
    ) -> Result<Permit, NoNode> {
        let entry = snapshot.entry(demand.id()).ok_or(NoNode::None)?;
        let taken: Cell<Option<Permit>> = Cell::new(None);
        {
            let _one_step = entry.pick.lock();
            self.selector
                .select(entry.id, entry.holders.len(), |serial, healthy| {
                    let Some(holder) = holder(entry, serial).filter(|_| !tried.contains(&serial))
                    else {
                        return false;
                    };
                    // the registry hears of a probe, or of a node, a moment after the node's own state
                    if !(healthy || holder.node.in_service()) || !allowed(holder, demand) {
                        return false;
                    }
                    let permit = Permit::reserve(&holder.node, holder.model.as_ref(), now);
                    let accepted = permit.is_some();
                    taken.set(permit);
                    accepted
                });
        }
        taken
            .into_inner()
            .ok_or_else(|| why_none(entry, demand, tried, now))
    }
}

impl Balancer {
    /// Whether a node that is not in `tried` could take the request now.
    pub(crate) fn has_another(&self, demand: &Demand, tried: &[u64], now: Instant) -> bool {
        let snapshot = self.fleet.load();
        snapshot.entry(demand.id()).is_some_and(|entry| {
            entry.holders.iter().any(|holder| {
                !tried.contains(&holder.node.serial())
                    && holder.node.in_service()
                    && allowed(holder, demand)
                    && holder.node.state().breaker.would_pass(now)
                    && holder
                        .model
                        .as_ref()
                        .is_none_or(|model| model.breaker.would_pass(now))
            })
        })
    }
}

fn allowed(holder: &crate::fleet::snapshot::Holder, demand: &Demand) -> bool {
    let node = &holder.node;
    if (demand.cloud || holder.is_stub) && !node.state().signed_in() {
        return false;
    }
    demand
        .only
        .as_ref()
        .is_none_or(|only| only.contains(&node.serial()))
        && demand
            .unheld
            .as_ref()
            .is_none_or(|key| node.doc().models.allow(key))
}

/// Holders stand in the order of their nodes' serials.
fn holder(entry: &ModelEntry, serial: u64) -> Option<&crate::fleet::snapshot::Holder> {
    let index = entry
        .holders
        .binary_search_by_key(&serial, |holder| holder.node.serial())
        .ok()?;
    entry.holders.get(index)
}

fn why_none(entry: &ModelEntry, demand: &Demand, tried: &[u64], now: Instant) -> NoNode {
    let mut any = false;
    let mut healthy = false;
    let mut wait: Option<Duration> = None;
    for holder in entry
        .holders
        .iter()
        .filter(|holder| allowed(holder, demand))
    {
        any = true;
        if !holder.node.in_service() || tried.contains(&holder.node.serial()) {
            continue;
        }
        healthy = true;
        let node = holder.node.state().breaker.remaining(now);
        let model = holder
            .model
            .as_ref()
            .map_or(Duration::ZERO, |model| model.breaker.remaining(now));
        let until = node.max(model);
        wait = Some(wait.map_or(until, |least| least.min(until)));
    }
    match wait {
        _ if !any => NoNode::None,
        _ if !healthy && !tried.is_empty() => NoNode::Exhausted,
        Some(wait) if healthy => NoNode::Broken(wait),
        _ => NoNode::Unhealthy,
    }
}

#[cfg(test)]
mod tests;
