//! Answers to reads of the whole fleet, from what is already known of it: no node is asked while
//! a client waits. Shapes are Ollama's (ollama-api.md §6), instants are compared as instants.

mod aliases;
mod models;
mod ps;
mod tags;
mod version;

pub(crate) use models::{model, models};
pub(crate) use ps::ps;
pub(crate) use tags::tags;
pub(crate) use version::lowest_version;

use std::collections::HashMap;
use std::sync::Arc;

use aivonx_shared::fleet_doc::Cloud;
use aivonx_shared::model_name::ModelKey;

use crate::fleet::access::Grant;
use crate::fleet::inventory::Listed;
use crate::fleet::{Node, Snapshot};

/// What an answer is made of.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The fleet at one moment.
    pub(crate) snapshot: &'a Snapshot,
    /// What the caller may do.
    pub(crate) grant: Option<&'a Grant>,
    /// The one node that the answer is of, in service or not; `None`: all that are in service.
    pub(crate) node: Option<&'a Node>,
}

impl<'a> View<'a> {
    fn nodes(self) -> impl Iterator<Item = &'a Node> {
        let nodes = self.snapshot.nodes().iter().map(|node| &**node);
        nodes.filter(move |node| match self.node {
            Some(only) => only.serial() == node.serial(),
            None => node.in_service(),
        })
    }
}

/// What every node of a view lists, newest instant first; of one model the newest entry stands,
/// with all nodes that list it. Models that may not be sent to a node are not listed for it.
fn merged(view: View<'_>, lists: impl Fn(&Node) -> Arc<Vec<Listed>>) -> Vec<(Listed, Vec<String>)> {
    let mut by_key: HashMap<ModelKey, (Listed, Vec<String>)> = HashMap::new();
    for node in view.nodes() {
        for listed in lists(node).iter() {
            let denied = listed.is_stub() && view.snapshot.cloud() == Cloud::Deny;
            if denied || !node.doc().models.allow(&listed.key) {
                continue;
            }
            match by_key.get_mut(&listed.key) {
                None => {
                    by_key.insert(
                        listed.key.clone(),
                        (listed.clone(), vec![node.name().to_owned()]),
                    );
                }
                Some((newest, nodes)) => {
                    nodes.push(node.name().to_owned());
                    if listed.instant > newest.instant {
                        *newest = listed.clone();
                    }
                }
            }
        }
    }
    let mut all: Vec<_> = by_key.into_values().collect();
    all.sort_by(order);
    all
}

/// Newest first; equal instants fall by name, so that the order is the same each time.
fn order((a, _): &(Listed, Vec<String>), (b, _): &(Listed, Vec<String>)) -> std::cmp::Ordering {
    b.instant.cmp(&a.instant).then_with(|| a.key.cmp(&b.key))
}

#[cfg(test)]
mod tests;
