//! Probes on demand: the same probe as a node has at its turn, and what it found, for who asks (`ops`).

use std::collections::HashSet;
use std::sync::Arc;

use aivonx_shared::operations::{NodeProbed, Probed};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Probes;
use super::task::NodeWatch;
use crate::fleet::Node;

/// Times the probe's patience that one node may take altogether: for a probe that is under way, for the
/// name, the address, other addresses of the name, and what it has.
const MOST: u32 = 6;

impl Probes {
    /// Probes the nodes of these names, disabled ones too, or without a name all that are enabled; all at
    /// once. Gives what was found by name, without those that are not in the fleet.
    pub(crate) async fn now(self: &Arc<Self>, names: &[String]) -> Probed {
        let mut probing = JoinSet::new();
        for node in self.chosen(names) {
            let watch = NodeWatch::new(self, &node);
            let most = MOST * self.probe.timeout;
            probing.spawn(async move {
                let probed = timeout(most, Box::pin(watch.probe_now())).await;
                let error = probed.unwrap_or_else(|_| Err("no answer in time".to_owned()));
                (node.name().to_owned(), found(&node, error.err()))
            });
        }
        let nodes = probing.join_all().await;
        Probed {
            nodes: nodes.into_iter().collect(),
        }
    }

    fn chosen(&self, names: &[String]) -> Vec<Arc<Node>> {
        let chosen: HashSet<&str> = names.iter().map(String::as_str).collect();
        let is_meant = |node: &&Arc<Node>| {
            if chosen.is_empty() {
                node.doc().enabled
            } else {
                chosen.contains(node.name())
            }
        };
        let snapshot = self.fleet.load();
        snapshot.nodes().iter().filter(is_meant).cloned().collect()
    }
}

impl NodeWatch {
    /// A probe, and of a node that answers also what it has: that may have changed since it was read last.
    async fn probe_now(&self) -> Result<(), String> {
        self.probe().await?;
        let reading = async { tokio::join!(self.read_version(), self.read_inventory()) };
        // what does not come in time stays as it was last said
        if let Ok(((), true)) = timeout(self.probes.probe.timeout, Box::pin(reading)).await {
            self.probes.tell();
        }
        Ok(())
    }
}

fn found(node: &Node, error: Option<String>) -> NodeProbed {
    let state = node.state();
    let inventory = state.inventory();
    let models = inventory.iter().map(|listed| listed.key.display());
    NodeProbed {
        health: state.health.state().seen(),
        error,
        version: state.version.load().as_deref().cloned(),
        models: models.map(str::to_owned).collect(),
    }
}
