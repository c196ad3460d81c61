//! Which node keeps the blobs of one caller: a blob names no model, and a create that uses it must
//! come to the node that has it. Rendezvous hashing (Thaler, Ravishankar, 1998): each caller
//! ranks all nodes in an order of its own and takes the first that is there, so a node that comes
//! or goes moves only the callers that had it or get it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::fleet::{Node, Snapshot};

/// The node of `caller` (the id of its key, or its address) among those in service.
pub(crate) fn node_of(snapshot: &Snapshot, caller: &str) -> Option<Arc<Node>> {
    let there = snapshot.nodes().iter().filter(|node| node.in_service());
    let best = there.max_by_key(|node| weight(caller, node.name()))?;
    Some(Arc::clone(best))
}

/// By name, which stays when a node's document changes. The hasher's keys are fixed, so every data
/// plane of one build agrees.
fn weight(caller: &str, node: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    caller.hash(&mut hasher);
    node.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aivonx_shared::config::ProxyConfig;
    use aivonx_shared::fleet_doc::FleetDoc;

    use super::*;
    use crate::fleet::Fleet;

    fn fleet(names: &[&str]) -> Fleet {
        let fleet = Fleet::new(ProxyConfig::defaults().breaker);
        let list: Vec<_> = names
            .iter()
            .map(|name| format!("{{name: {name}, url: \"http://{name}:1\"}}"))
            .collect();
        let doc = FleetDoc::from_yaml(&format!("nodes: [{}]", list.join(", "))).unwrap();
        fleet.apply(doc);
        for node in fleet.load().nodes() {
            node.state().health.observe(true, 1, 1);
        }
        fleet
    }

    fn placed(fleet: &Fleet) -> HashMap<String, String> {
        (0..300)
            .map(|caller| {
                let caller = format!("10.0.0.{caller}");
                let node = node_of(&fleet.load(), &caller).unwrap().name().to_owned();
                (caller, node)
            })
            .collect()
    }

    #[test]
    fn callers_are_spread_and_stay_where_they_are() {
        let three = placed(&fleet(&["a", "b", "c"]));
        assert_eq!(
            three,
            placed(&fleet(&["c", "a", "b"])),
            "the order is nothing"
        );
        for node in ["a", "b", "c"] {
            let here = three.values().filter(|at| *at == node).count();
            assert!((50..150).contains(&here), "{node} has {here} of 300");
        }
        let two = placed(&fleet(&["a", "b"]));
        for (caller, node) in &three {
            assert!(node == "c" || two[caller] == *node, "only c's callers move");
        }
    }

    #[test]
    fn a_node_that_is_away_keeps_no_blobs() {
        let fleet = fleet(&["a", "b"]);
        let first = node_of(&fleet.load(), "me").unwrap();
        first.state().health.observe(false, 1, 1);
        let second = node_of(&fleet.load(), "me").unwrap();
        assert_ne!(first.name(), second.name());
        second.state().health.observe(false, 1, 1);
        assert!(node_of(&fleet.load(), "me").is_none());
    }
}
