//! Unloading: a `keep_alive` of zero with nothing to do asks that a model leave memory, and means
//! every node that has it there, or `ollama stop` would stop one of them at random.

use std::sync::Arc;

use super::Stores;
use super::answer::{Told, judged};
use super::call::{Failure, Question, Whole};
use crate::fleet::{ModelEntry, Node};

/// The nodes that have a model in memory, or load it now.
pub(crate) fn resident(entry: &ModelEntry) -> Vec<Arc<Node>> {
    let holders = entry.holders.iter().filter(|holder| {
        let model = holder.model.as_ref();
        holder.node.in_service()
            && model.is_some_and(|model| model.is_resident() || model.in_flight() > 0)
    });
    holders.map(|holder| Arc::clone(&holder.node)).collect()
}

impl Stores {
    /// Unloads the model of `entry` on every node of `nodes`; gives the first node's own answer, or
    /// what went wrong on which.
    pub(crate) async fn unload(
        self: &Arc<Self>,
        nodes: Vec<Arc<Node>>,
        question: Question,
    ) -> Result<Whole, Vec<Told>> {
        let answers = self.each(nodes.clone(), question).await;
        self.known.read_residency(nodes).await;
        let mut first = None;
        let mut told = Vec::new();
        for (node, answer) in answers {
            let result = match answer {
                Ok(whole) => {
                    let judged = judged(&whole);
                    if judged.is_ok() {
                        first.get_or_insert(whole);
                    }
                    judged
                }
                Err(failure) => Err(failure),
            };
            // what is not there any more needs no unloading
            if !matches!(
                &result,
                Err(Failure {
                    status: Some(404),
                    ..
                })
            ) {
                told.push(Told {
                    node: node.name().to_owned(),
                    result,
                });
            }
        }
        match first {
            Some(whole) if told.iter().all(|told| told.result.is_ok()) => Ok(whole),
            _ => Err(told),
        }
    }
}
