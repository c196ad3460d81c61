//! One node: what the fleet document says of it, and its live state.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aivonx_shared::config::BreakerConfig;
use aivonx_shared::fleet_doc::{Given, NodeAccess, NodeDoc};
use aivonx_shared::model_name::ModelKey;
use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderName, HeaderValue, header};
use parking_lot::Mutex;
use tokio::sync::{Mutex as TurnMutex, Notify};

use super::breaker::Breaker;
use super::health::Health;
use super::inventory::Listed;
use super::latency::Latency;
use super::model_state::ModelState;
use super::trust::Trust;
use super::waiting::Waiting;

/// A node of the fleet. A changed document makes a new `Node` around the same state.
pub(crate) struct Node {
    doc: NodeDoc,
    /// Its URL's host and port: the `Host` it expects.
    authority: HeaderValue,
    /// Its name, for headers.
    name_value: HeaderValue,
    /// What it wants to see of us.
    credentials: Vec<(HeaderName, HeaderValue)>,
    /// Whom to believe, if not the system's authorities.
    trust: Option<Arc<Trust>>,
    /// Unique among all nodes this process has seen.
    serial: u64,
    state: Arc<NodeState>,
}

/// What lives as long as the node's name and address stay.
pub(crate) struct NodeState {
    /// Permits held over all models.
    in_flight: AtomicU32,
    /// Requests that other data planes have with it, as they last said.
    elsewhere: AtomicU32,
    pub(crate) health: Health,
    /// Held during a probe, at its turn or on demand: health counts results in a row.
    pub(crate) probing: TurnMutex<()>,
    /// Opens when the node cannot be reached; a good probe closes it.
    pub(crate) breaker: Breaker,
    pub(crate) latency: Latency,
    /// Its `/api/version`, as last read.
    pub(crate) version: ArcSwapOption<String>,
    /// Its `/api/tags`, as last read.
    inventory: ArcSwap<Vec<Listed>>,
    /// The models of the inventory with their state, found once for all snapshots.
    held: ArcSwap<Vec<Held>>,
    /// Its `/api/ps`, as last read.
    residency: ArcSwap<Vec<Listed>>,
    /// State of each model ever seen on it. Guards the map only; entries are shared.
    models: Mutex<HashMap<ModelKey, Arc<ModelState>>>,
    pub(crate) waiting: Arc<Waiting>,
    /// Whether it is signed in at ollama.com, as it last said.
    signed_in: AtomicBool,
    /// Where its URL leads, as last resolved.
    address: ArcSwapOption<SocketAddr>,
    /// Wakes the probe: now, not at its next turn.
    pub(crate) refresh: Notify,
    /// Wakes the reading of the inventory.
    pub(crate) stale: Notify,
    breaker_config: BreakerConfig,
}

/// A model that a node has.
pub(crate) struct Held {
    pub(crate) key: ModelKey,
    pub(crate) state: Arc<ModelState>,
    /// Whether the node only passes requests for it on to ollama.com.
    pub(crate) is_stub: bool,
}

impl Node {
    pub(super) fn new(doc: NodeDoc, serial: u64, breaker: &BreakerConfig) -> Self {
        let state = NodeState {
            in_flight: AtomicU32::new(0),
            elsewhere: AtomicU32::new(0),
            health: Health::default(),
            probing: TurnMutex::default(),
            breaker: Breaker::new(breaker),
            latency: Latency::default(),
            version: ArcSwapOption::empty(),
            inventory: ArcSwap::default(),
            held: ArcSwap::default(),
            residency: ArcSwap::default(),
            models: Mutex::default(),
            waiting: Arc::default(),
            signed_in: AtomicBool::new(false),
            address: ArcSwapOption::from_pointee(discovered(&doc)),
            refresh: Notify::new(),
            stale: Notify::new(),
            breaker_config: *breaker,
        };
        let trust = Trust::of(&doc.access.tls, serial).map(Arc::new);
        Self::around(doc, serial, trust, Arc::new(state))
    }

    pub(super) fn with_doc(&self, doc: NodeDoc, serial: u64) -> Self {
        let trust = if doc.access.tls == self.doc.access.tls {
            self.trust.clone()
        } else {
            Trust::of(&doc.access.tls, serial).map(Arc::new)
        };
        Self::around(doc, serial, trust, Arc::clone(&self.state))
    }

    fn around(doc: NodeDoc, serial: u64, trust: Option<Arc<Trust>>, state: Arc<NodeState>) -> Self {
        Self {
            authority: header_value(&doc.url.authority()),
            name_value: header_value(&doc.name),
            credentials: credentials(&doc.access),
            trust,
            doc,
            serial,
            state,
        }
    }

    /// Whether another document of this name leads to the same server, so that what is known of it
    /// stays true.
    pub(super) fn leads_to(&self, doc: &NodeDoc) -> bool {
        self.doc.url == doc.url && self.doc.access.address == doc.access.address
    }

    /// What the fleet document says of it.
    pub(crate) fn doc(&self) -> &NodeDoc {
        &self.doc
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.doc.name
    }

    /// The `Host` it expects.
    pub(crate) fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Its name, for headers.
    pub(crate) fn name_value(&self) -> &HeaderValue {
        &self.name_value
    }

    /// The headers it wants to see; most nodes want none.
    pub(crate) fn credentials(&self) -> &[(HeaderName, HeaderValue)] {
        &self.credentials
    }

    /// Whom to believe; `None` where its certificate is judged by the system's authorities.
    pub(crate) fn trust(&self) -> Option<&Trust> {
        self.trust.as_deref()
    }

    /// Unique number of this node with this document.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Its live state.
    pub(crate) fn state(&self) -> &Arc<NodeState> {
        &self.state
    }

    /// Whether the operator wants it to take requests.
    pub(crate) fn is_wanted(&self) -> bool {
        self.doc.enabled && !self.doc.draining
    }

    /// Whether it takes requests: wanted and healthy.
    pub(crate) fn in_service(&self) -> bool {
        self.is_wanted() && self.state.health.is_up()
    }
}

/// Where a discovered node is; others are looked up.
fn discovered(doc: &NodeDoc) -> Option<SocketAddr> {
    let address = doc.access.address?;
    Some(SocketAddr::new(address, doc.url.port))
}

/// Validation has made sure that each is a header; sensitive, so that nothing prints its value.
fn credentials(access: &NodeAccess) -> Vec<(HeaderName, HeaderValue)> {
    let token = access.bearer_token.as_ref().and_then(Given::text);
    let bearer = token.map(|token| (header::AUTHORIZATION, format!("Bearer {token}")));
    let fixed = access.headers.iter().filter_map(|(name, given)| {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, given.text()?.to_owned()))
    });
    let sensitive = |(name, text): (HeaderName, String)| {
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    bearer
        .into_iter()
        .chain(fixed)
        .filter_map(sensitive)
        .collect()
}

/// Names and authorities are of a safe alphabet by validation.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

impl NodeState {
    /// Permits held over all models.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests that it has from all data planes, as far as is known.
    pub(crate) fn anywhere(&self) -> u32 {
        self.in_flight()
            .saturating_add(self.elsewhere.load(Ordering::Relaxed))
    }

    /// Notes what other data planes have in flight: over all models, and of each.
    pub(crate) fn set_elsewhere(&self, all: u32, of: impl Fn(&ModelKey) -> u32) {
        self.elsewhere.store(all, Ordering::Relaxed);
        for (key, model) in self.models.lock().iter() {
            model.set_elsewhere(of(key));
        }
    }

    pub(super) fn take(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Where its URL leads; `None` until it was resolved once.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address.load().as_deref().copied()
    }

    /// Notes where its URL leads.
    pub(crate) fn set_address(&self, address: SocketAddr) {
        if self.address() != Some(address) {
            self.address.store(Some(Arc::new(address)));
        }
    }

    /// Whether it is signed in at ollama.com, as it last said; only asked where cloud models are
    /// allowed.
    pub(crate) fn signed_in(&self) -> bool {
        self.signed_in.load(Ordering::Relaxed)
    }

    /// Notes whether it is signed in; true where that is news.
    pub(crate) fn set_signed_in(&self, signed_in: bool) -> bool {
        self.signed_in.swap(signed_in, Ordering::Relaxed) != signed_in
    }

    /// What it has installed, newest first as it said.
    pub(crate) fn inventory(&self) -> arc_swap::Guard<Arc<Vec<Listed>>> {
        self.inventory.load()
    }

    /// The models it has, with their state.
    pub(super) fn held(&self) -> arc_swap::Guard<Arc<Vec<Held>>> {
        self.held.load()
    }

    /// What it has in memory, as it last said.
    pub(crate) fn residency(&self) -> arc_swap::Guard<Arc<Vec<Listed>>> {
        self.residency.load()
    }

    /// Takes a fresh inventory; true where it differs from the last one.
    pub(crate) fn set_inventory(&self, list: Vec<Listed>) -> bool {
        if **self.inventory.load() == list {
            return false;
        }
        let held = list.iter().map(|listed| Held {
            key: listed.key.clone(),
            state: self.model(&listed.key),
            is_stub: listed.is_stub(),
        });
        self.held.store(Arc::new(held.collect()));
        self.inventory.store(Arc::new(list));
        true
    }

    /// Takes a fresh residency. A runner is listed under the name that loaded it first, so a model
    /// counts as resident by digest, then by name (ollama-api.md §6).
    pub(crate) fn set_residency(&self, list: Vec<Listed>) {
        let inventory = self.inventory.load();
        let models = self.models.lock();
        for listed in inventory.iter() {
            if let Some(state) = models.get(&listed.key) {
                let resident = list.iter().any(|loaded| {
                    loaded.key == listed.key
                        || (loaded.digest().is_some() && loaded.digest() == listed.digest())
                });
                state.set_resident(resident);
            }
        }
        drop(models);
        self.residency.store(Arc::new(list));
    }

    /// The state of a model on this node, made when it is first seen.
    pub(crate) fn model(&self, key: &ModelKey) -> Arc<ModelState> {
        let mut models = self.models.lock();
        match models.get(key) {
            Some(state) => Arc::clone(state),
            None => {
                let state = Arc::new(ModelState::new(&self.breaker_config));
                models.insert(key.clone(), Arc::clone(&state));
                state
            }
        }
    }

    /// Every model state, with its key.
    pub(crate) fn models(&self) -> Vec<(ModelKey, Arc<ModelState>)> {
        self.models
            .lock()
            .iter()
            .map(|(key, state)| (key.clone(), Arc::clone(state)))
            .collect()
    }
}
