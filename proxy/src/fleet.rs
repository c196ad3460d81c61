//! The fleet as a data plane sees it: an immutable snapshot of nodes and models, and the live
//! state of each node. Plain Rust, no Pingora types; `sync` and `probe` write, requests read.

pub(crate) mod access;
pub(crate) mod aliases;
pub(crate) mod breaker;
pub(crate) mod health;
pub(crate) mod inventory;
pub(crate) mod latency;
pub(crate) mod limiter;
pub(crate) mod model_state;
pub(crate) mod node;
pub(crate) mod permit;
pub(crate) mod residents;
pub(crate) mod snapshot;
pub(crate) mod trust;
pub(crate) mod waiting;

use std::collections::HashMap;
use std::sync::Arc;

use aivonx_shared::config::BreakerConfig;
use aivonx_shared::fleet_doc::FleetDoc;
use aivonx_shared::model_name::ModelKey;
use arc_swap::ArcSwap;
use parking_lot::Mutex;

use access::Access;
pub(crate) use node::Node;
pub(crate) use permit::Permit;
pub(crate) use snapshot::{ModelEntry, ModelId, Snapshot};

/// The fleet: what requests load once and what `sync` and `probe` replace.
pub(crate) struct Fleet {
    snapshot: ArcSwap<Snapshot>,
    /// What the snapshot is built from. Guards every rebuild, so that two of them never overtake
    /// each other; requests do not take it.
    source: Mutex<Source>,
}

struct Source {
    nodes: Vec<Arc<Node>>,
    doc: Arc<FleetDoc>,
    access: Arc<Access>,
    revision: u64,
    /// Ids of models, never given twice: they stand in keys across snapshots.
    ids: HashMap<ModelKey, ModelId>,
    next_serial: u64,
    /// Snapshots that requests may still hold. The last reference is always dropped here: freeing
    /// a large one takes milliseconds that no request shall pay.
    retired: Vec<Arc<Snapshot>>,
    breaker: BreakerConfig,
}

impl Fleet {
    /// An empty fleet; `breaker` is for all nodes that will join.
    pub(crate) fn new(breaker: BreakerConfig) -> Self {
        let doc = Arc::new(FleetDoc::default());
        let access = Arc::new(Access::of(&doc, None));
        let source = Source {
            nodes: Vec::new(),
            doc: Arc::clone(&doc),
            access: Arc::clone(&access),
            revision: 0,
            ids: HashMap::new(),
            next_serial: 1,
            retired: Vec::new(),
            breaker,
        };
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::empty(doc, access)),
            source: Mutex::new(source),
        }
    }

    /// The snapshot in force.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// The snapshot in force, to be kept.
    pub(crate) fn load_full(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Takes over a new document. A node whose name and address stay keeps its live state; requests
    /// in flight on a node that left run on with the permits they hold.
    pub(crate) fn apply(&self, doc: FleetDoc) {
        let mut source = self.source.lock();
        let mut nodes = Vec::with_capacity(doc.nodes.len());
        for wanted in &doc.nodes {
            let known = source
                .nodes
                .iter()
                .find(|node| node.doc().name == wanted.name)
                .cloned();
            let node = match known {
                Some(node) if node.doc() == wanted => node,
                other => {
                    let serial = source.next_serial;
                    source.next_serial += 1;
                    let heir = other.filter(|node| node.leads_to(wanted));
                    Arc::new(match heir {
                        Some(node) => node.with_doc(wanted.clone(), serial),
                        None => Node::new(wanted.clone(), serial, &source.breaker),
                    })
                }
            };
            nodes.push(node);
        }
        source.nodes = nodes;
        source.access = Arc::new(Access::of(&doc, Some(&source.access)));
        source.doc = Arc::new(doc);
        source.revision += 1;
        self.rebuild(&mut source);
    }

    /// Builds the snapshot again after an inventory changed.
    pub(crate) fn refresh(&self) {
        self.rebuild(&mut self.source.lock());
    }

    fn rebuild(&self, source: &mut Source) {
        let Source {
            nodes,
            doc,
            access,
            revision,
            ids,
            ..
        } = source;
        let (doc, access) = (Arc::clone(doc), Arc::clone(access));
        let snapshot = Snapshot::build(doc, access, nodes.clone(), *revision, ids);
        source.retired.push(self.snapshot.swap(Arc::new(snapshot)));
        Self::free_retired(source);
    }

    /// Frees what no request holds any more; to be called now and then.
    pub(crate) fn tidy(&self) {
        Self::free_retired(&mut self.source.lock());
    }

    fn free_retired(source: &mut Source) {
        source
            .retired
            .retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }
}

#[cfg(test)]
mod tests;
