//! The predecessor's nodes as ours. Its names and addresses were not unique, and `active` was what its
//! health check saw last, whatever an operator had wanted: all nodes come enabled, and probes find out.

use std::collections::HashSet;

use super::report::Part;
use super::source::FoundNode;
use crate::domain::{AddressRules, NewNode, NodeDraft, NodeRules};
use crate::store::{ImportNode, Node};

/// Longest name, characters.
const LONGEST_NAME: usize = 100;

/// The nodes to add, with their ids and ages. What is here already stays: a node of the same place or,
/// made by an earlier import, of the same name.
pub(super) fn take(
    found: Vec<FoundNode>,
    present: &[Node],
    addresses: &AddressRules,
    told: &mut Part,
) -> Vec<ImportNode> {
    let mut names: HashSet<String> = present.iter().map(|node| node.name.clone()).collect();
    let ids: HashSet<i64> = present.iter().map(|node| node.id).collect();
    let mut places: Vec<(String, String)> = present
        .iter()
        .map(|node| (node.url.clone(), node.name.clone()))
        .collect();
    let mut taken = Vec::new();
    for node in found {
        let shown = format!("node {} {:?}", node.id, node.name);
        let made = match draft(&node, addresses) {
            Ok(made) => made,
            Err(problem) => {
                told.left(format!("{shown}: {problem}"));
                continue;
            }
        };
        if let Some((_, other)) = places.iter().find(|(url, _)| *url == made.url) {
            told.left(format!("{shown}: {other:?} stands at {} already", made.url));
            continue;
        }
        let (made, mut line) = named(made, &node, &names);
        if !node.active {
            line.push_str(
                "; it did not answer there at last, or was switched off: it comes enabled",
            );
        }
        let id = (!ids.contains(&node.id)).then_some(node.id);
        if id.is_none() {
            line.push_str("; its id is another node's here, so it gets a new one");
        }
        told.taken(line);
        names.insert(made.name.clone());
        places.push((made.url.clone(), made.name.clone()));
        taken.push(ImportNode {
            id,
            created_at: Some(node.created_at.into()),
            node: made,
        });
    }
    taken
}

/// The node by our rules, and the name that the predecessor gave it as far as ours allow.
fn draft(node: &FoundNode, addresses: &AddressRules) -> Result<NewNode, String> {
    let plain: String = node
        .name
        .chars()
        .filter(|letter| !letter.is_control())
        .collect();
    let name = match plain.trim() {
        "" => format!("node {}", node.id),
        name => name.to_owned(),
    };
    let draft = NodeDraft {
        name: Some(name),
        address: Some(node.address.clone()),
        port: Some(node.port),
        ..NodeDraft::default()
    };
    let rules = NodeRules {
        addresses,
        seal: &|_| None, // it has no secrets
    };
    draft.create(rules).map_err(|invalid| invalid.to_string())
}

/// The node under a name that is its own alone, and the line that tells of it.
fn named(mut made: NewNode, node: &FoundNode, names: &HashSet<String>) -> (NewNode, String) {
    let wanted = made.name.clone();
    for number in 2.. {
        if !names.contains(&made.name) {
            break;
        }
        let behind = format!(" ({number})");
        let kept = LONGEST_NAME - behind.len();
        made.name = wanted.chars().take(kept).collect::<String>() + &behind;
    }
    let mut line = format!("{}: {}", made.name, made.url);
    if made.name != node.name {
        let told = format!("; it was called {:?} there", node.name);
        line.push_str(&told);
    }
    made.slug = crate::domain::slug(&made.name);
    (made, line)
}
