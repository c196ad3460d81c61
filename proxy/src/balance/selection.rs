//! The adapter to Pingora's load balancing: membership is a `ServiceDiscovery`, health a
//! `HealthCheck` on one shared `HealthRegistry`, and the choice a `BackendSelection` that yields a
//! model's candidates best first. The strategies behind it know none of this.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use pingora::prelude::{Error, ErrorType};
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::health_check::HealthCheck;
use pingora_load_balancing::selection::{BackendIter, BackendSelection};
use pingora_load_balancing::{Backend, Backends, Extensions, HealthRegistry, LoadBalancer};

use super::candidates::Ranking;
use crate::dice::Dice;
use crate::fleet::{Fleet, ModelEntry, ModelId, Node};

/// Pingora's load balancer over the fleet.
pub(crate) struct Selector {
    balancer: LoadBalancer<FleetSelection>,
    registry: Arc<HealthRegistry>,
}

impl Selector {
    pub(super) fn new(fleet: Arc<Fleet>, dice: Dice) -> Self {
        let registry = Arc::new(HealthRegistry::new());
        registry.set_health_check(Box::new(ProbedHealth));
        let discovery = Box::new(FleetDiscovery(Arc::clone(&fleet)));
        let backends = Backends::new_with_health_registry(discovery, Arc::clone(&registry));
        let balancer = LoadBalancer::from_backends_with_config(
            backends,
            Some(Arc::new(Source { fleet, dice })),
        );
        Self { balancer, registry }
    }

    /// Takes over membership and health from the fleet.
    pub(super) async fn sync(&self) {
        if let Err(error) = self.balancer.update().await {
            tracing::error!(%error, "the fleet could not be handed to the load balancer");
        }
        self.registry.run_health_check(false).await;
    }

    /// Offers the candidates of a model, best first, until `accept` takes one. `accept` gets the
    /// node's serial and whether the registry holds it healthy.
    pub(super) fn select(&self, model: ModelId, most: usize, accept: impl Fn(u64, bool) -> bool) {
        self.balancer
            .select_with(&model.0.to_le_bytes(), most, |backend, healthy| {
                serial_of(backend).is_some_and(|serial| accept(serial, healthy))
            });
    }
}

/// A node's synthetic address. Pingora identifies a backend by address and weight alone, so two
/// nodes behind one ingress would collapse into one under their real addresses; the serial also
/// changes with the node's document, which makes Pingora take over the new one.
fn address_of(serial: u64) -> SocketAddr {
    let [a, b, c, d] = [48, 32, 16, 0].map(|shift| (serial >> shift) as u16);
    SocketAddr::from((Ipv6Addr::new(0x0100, 0, 0, 0, a, b, c, d), 1)) // 100::/64, discard-only (RFC 6666)
}

fn backend_of(serial: u64, ext: Extensions) -> Backend {
    Backend {
        addr: PeerAddr::Inet(address_of(serial)),
        weight: 1,
        ext,
    }
}

fn serial_of(backend: &Backend) -> Option<u64> {
    match &backend.addr {
        PeerAddr::Inet(SocketAddr::V6(addr)) => Some(addr.ip().to_bits() as u64),
        _ => None,
    }
}

/// The wanted nodes as backends.
struct FleetDiscovery(Arc<Fleet>);

#[async_trait]
impl ServiceDiscovery for FleetDiscovery {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let snapshot = self.0.load_full();
        let backends = snapshot
            .nodes()
            .iter()
            .filter(|node| node.is_wanted())
            .map(|node| {
                let mut ext = Extensions::new();
                ext.insert(NodeRef(Arc::clone(node)));
                backend_of(node.serial(), ext)
            });
        Ok((backends.collect(), HashMap::new()))
    }
}

#[derive(Clone)]
struct NodeRef(Arc<Node>);

/// Health as the nodes' own probe tasks found it: they keep their own clocks and thresholds, so
/// that one slow node does not hold up the round, and this only reports.
struct ProbedHealth;

#[async_trait]
impl HealthCheck for ProbedHealth {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        match target.ext.get::<NodeRef>() {
            Some(NodeRef(node)) if node.state().health.is_up() => Ok(()),
            _ => Error::e_explain(ErrorType::ConnectError, "its probes fail"),
        }
    }

    fn backend_summary(&self, target: &Backend) -> String {
        target
            .ext
            .get::<NodeRef>()
            .map_or_else(String::new, |NodeRef(node)| format!("node {}", node.name()))
    }

    fn health_threshold(&self, _: bool) -> usize {
        1
    }
}

/// Where the selection finds the index by model.
pub(super) struct Source {
    fleet: Arc<Fleet>,
    dice: Dice,
}

/// Yields a model's candidates; the key is the model's id.
pub(super) struct FleetSelection {
    backends: HashMap<u64, Backend>,
    source: Option<Arc<Source>>,
}

impl BackendSelection for FleetSelection {
    type Iter = Candidates;
    type Config = Arc<Source>;

    fn build(backends: &BTreeSet<Backend>) -> Self {
        let backends = backends
            .iter()
            .filter_map(|backend| Some((serial_of(backend)?, backend.clone())));
        Self {
            backends: backends.collect(),
            source: None,
        }
    }

    fn build_with_config(backends: &BTreeSet<Backend>, source: &Self::Config) -> Self {
        Self {
            source: Some(Arc::clone(source)),
            ..Self::build(backends)
        }
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> Candidates {
        let id = key
            .try_into()
            .map_or(ModelId::ANY, |bytes| ModelId(u32::from_le_bytes(bytes)));
        let entry = self
            .source
            .as_ref()
            .and_then(|source| source.fleet.load().entry(id).cloned());
        Candidates {
            selection: Arc::clone(self),
            entry,
            order: Order::Untouched,
            newcomer: None,
        }
    }
}

/// The candidates of one model. Only the best is sought at first: it is nearly always taken.
pub(super) struct Candidates {
    selection: Arc<FleetSelection>,
    entry: Option<Arc<ModelEntry>>,
    order: Order,
    /// The last one offered that the selection does not know yet.
    newcomer: Option<Backend>,
}

enum Order {
    Untouched,
    /// The best was offered.
    First(usize),
    /// All, best first, and how many were offered.
    All(Vec<usize>, usize),
}

impl Candidates {
    fn next_index(&mut self) -> Option<usize> {
        let (entry, source) = (self.entry.as_ref()?, self.selection.source.as_ref()?);
        let strategy = source.fleet.load().strategy();
        let ranking = || Ranking::new(entry, strategy, Instant::now(), &source.dice);
        match &mut self.order {
            Order::Untouched => {
                let best = ranking().best()?;
                self.order = Order::First(best);
                Some(best)
            }
            Order::First(best) => {
                let mut all = ranking().all();
                all.retain(|index| index != best);
                let second = all.first().copied();
                self.order = Order::All(all, 1);
                second
            }
            Order::All(all, offered) => {
                let next = all.get(*offered).copied();
                *offered += 1;
                next
            }
        }
    }
}

impl BackendIter for Candidates {
    fn next(&mut self) -> Option<&Backend> {
        let index = self.next_index()?;
        let serial = self.entry.as_ref()?.holders.get(index)?.node.serial();
        if self.selection.backends.contains_key(&serial) {
            return self.selection.backends.get(&serial);
        }
        // Its document came into force a moment ago, and Pingora's side takes it over with the next sync.
        // It serves until then: else each change of a fleet's only node would refuse requests.
        Some(self.newcomer.insert(backend_of(serial, Extensions::new())))
    }
}
