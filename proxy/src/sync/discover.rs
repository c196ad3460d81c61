//! `discover: dns`: from entries that stand for every address of a name to nodes, one an address.
//! No I/O here: answers and the time come in.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aivonx_shared::fleet_doc::{Discover, FleetDoc, NodeDoc};

/// How long the addresses of the last good answer stay while a name has none or cannot be resolved:
/// an outage of DNS must not empty the fleet. Not for ever, because addresses are given to others.
pub(super) const KEPT: Duration = Duration::from_secs(300);

/// What each name stands for.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<String, Known>);

#[derive(Debug)]
struct Known {
    addresses: BTreeSet<IpAddr>,
    /// When the last good answer came, or when it was first asked.
    seen: Instant,
    /// Whether the last answer was none.
    fails: bool,
}

/// The names that a document wants to be looked up.
pub(super) fn hosts(doc: &FleetDoc) -> BTreeSet<&str> {
    let discovered = |node: &&NodeDoc| node.access.discover != Discover::None;
    let nodes = doc.nodes.iter().filter(discovered);
    nodes.map(|node| node.url.host.as_str()).collect()
}

impl Found {
    /// Whether a name was asked about at all.
    pub(super) fn knows(&self, host: &str) -> bool {
        self.0.contains_key(host)
    }

    /// Takes an answer, empty where there was none; true where the name stands for others now.
    pub(super) fn learn(&mut self, host: &str, answer: &[SocketAddr], now: Instant) -> bool {
        let fresh: BTreeSet<IpAddr> = answer
            .iter()
            .map(|address| address.ip().to_canonical())
            .collect();
        let known = self.0.entry(host.to_owned()).or_insert_with(|| Known {
            addresses: BTreeSet::new(),
            seen: now,
            fails: false,
        });
        known.fails = fresh.is_empty();
        if fresh.is_empty() && now.saturating_duration_since(known.seen) < KEPT {
            return false;
        }
        if !fresh.is_empty() {
            known.seen = now;
        }
        let changed = known.addresses != fresh;
        known.addresses = fresh;
        changed
    }

    /// Whether the last answer for a name was none.
    pub(super) fn fails(&self, host: &str) -> bool {
        self.0.get(host).is_some_and(|known| known.fails)
    }

    /// Forgets the names that no document asks for any more.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<&str>) {
        self.0.retain(|host, _| wanted.contains(host.as_str()));
    }

    /// The document with a node for each address in place of its discovering entries, and the names
    /// of nodes that are left out because another node has them.
    pub(super) fn expand(&self, doc: &FleetDoc) -> (FleetDoc, Vec<String>) {
        let single = |node: &&NodeDoc| node.access.discover == Discover::None;
        let mut names: HashSet<String> = doc
            .nodes
            .iter()
            .filter(single)
            .map(|node| node.name.clone())
            .collect();
        let mut clashes = Vec::new();
        let mut nodes = Vec::with_capacity(doc.nodes.len());
        for entry in &doc.nodes {
            if entry.access.discover == Discover::None {
                nodes.push(entry.clone());
                continue;
            }
            let known = self.0.get(&entry.url.host);
            let all = known.iter().flat_map(|known| &known.addresses);
            for address in all.filter(|address| entry.access.discover.takes(**address)) {
                let node = at_address(entry, *address);
                if names.insert(node.name.clone()) {
                    nodes.push(node);
                } else {
                    clashes.push(node.name);
                }
            }
        }
        let doc = FleetDoc {
            nodes,
            ..doc.clone()
        };
        (doc, clashes)
    }
}

/// The node at one address of an entry; its name stays as long as the address does.
fn at_address(entry: &NodeDoc, address: IpAddr) -> NodeDoc {
    let mut node = entry.clone();
    let suffix = address.to_string().replace(['.', ':'], "-");
    node.name = format!("{}-{suffix}", entry.name);
    node.access.discover = Discover::None;
    node.access.address = Some(address);
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "nodes:\n  - {name: gpu, url: \"http://gpus.example:11434\", discover: dns, slots: 4, draining: true}\n  - {name: gpu-10-0-0-2, url: \"http://other:1\"}\n";

    fn answer(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn names(doc: &FleetDoc) -> Vec<&str> {
        doc.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn each_address_is_a_node_with_all_that_the_entry_says() {
        let doc = FleetDoc::from_yaml(TEXT).unwrap();
        let mut found = Found::default();
        assert_eq!(hosts(&doc), BTreeSet::from(["gpus.example"]));
        assert!(!found.knows("gpus.example"));
        assert_eq!(names(&found.expand(&doc).0), ["gpu-10-0-0-2"]);
        let list = answer(&["10.0.0.10:1", "10.0.0.9:1", "[fd00::1]:1"]);
        assert!(found.learn("gpus.example", &list, Instant::now()));

        let (concrete, clashes) = found.expand(&doc);

        assert_eq!(
            names(&concrete),
            [
                "gpu-10-0-0-9",
                "gpu-10-0-0-10",
                "gpu-fd00--1",
                "gpu-10-0-0-2"
            ]
        );
        let node = &concrete.nodes[0];
        assert_eq!((node.slots, node.draining), (4, true));
        assert_eq!(
            node.url, doc.nodes[0].url,
            "the Host header stays the name's"
        );
        assert_eq!(node.access.address, Some("10.0.0.9".parse().unwrap()));
        assert_eq!(node.access.discover, Discover::None);
        assert!(clashes.is_empty());
        for (family, expected) in [
            (
                "dns4",
                vec!["gpu-10-0-0-9", "gpu-10-0-0-10", "gpu-10-0-0-2"],
            ),
            ("dns6", vec!["gpu-fd00--1", "gpu-10-0-0-2"]),
        ] {
            let text = TEXT.replace("discover: dns", &format!("discover: {family}"));
            let doc = FleetDoc::from_yaml(&text).unwrap();
            assert_eq!(names(&found.expand(&doc).0), expected);
        }
    }

    #[test]
    fn a_name_that_is_taken_is_left_to_its_node_and_told() {
        let doc = FleetDoc::from_yaml(TEXT).unwrap();
        let mut found = Found::default();
        found.learn("gpus.example", &answer(&["10.0.0.2:1"]), Instant::now());
        let (concrete, clashes) = found.expand(&doc);
        assert_eq!(clashes, ["gpu-10-0-0-2"]);
        assert_eq!(concrete.nodes.len(), 1);
        assert_eq!(concrete.nodes[0].url.host, "other");
    }

    #[test]
    fn an_outage_of_dns_changes_nothing_for_a_while() {
        let doc = FleetDoc::from_yaml(TEXT).unwrap();
        let (mut found, began) = (Found::default(), Instant::now());
        let host = "gpus.example";
        assert!(!found.learn(host, &[], began));
        assert!(found.knows(host), "asked, without an answer");
        assert!(found.learn(host, &answer(&["10.0.0.1:1", "10.0.0.3:1"]), began));
        assert!(!found.learn(host, &answer(&["10.0.0.3:1", "10.0.0.1:1"]), began));
        assert!(!found.learn(host, &[], began + KEPT / 2));
        assert!(!found.learn(host, &[], began + KEPT / 2));
        assert_eq!(found.expand(&doc).0.nodes.len(), 3);

        assert!(found.learn(host, &[], began + KEPT));
        assert_eq!(
            found.expand(&doc).0.nodes.len(),
            1,
            "addresses go to others"
        );
        assert!(!found.learn(host, &[], began + KEPT * 2));
        assert!(found.learn(host, &answer(&["10.0.0.1:1"]), began + KEPT * 2));

        found.retain(&BTreeSet::new());
        assert!(!found.knows(host));
    }
}
