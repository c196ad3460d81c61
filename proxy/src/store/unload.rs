//! Unloading: a `keep_alive` of zero with nothing to do asks that a model leave memory, and means
//! every node that has it there, or `ollama stop` would stop one of them at random.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Stores;
use super::answer::{Told, judged};
use super::call::{Failure, Question, Whole};
use crate::fleet::{ModelEntry, Node};

/// Whether a body asks for nothing but that its model be unloaded; `work` is the field that holds
/// what is to be done: `prompt` or `messages`.
///
/// To be replaced: whoever reads whole bodies anyway knows this already.
pub(crate) fn is_unload(body: &[u8], work: &str) -> bool {
    if memchr::memmem::find(body, b"keep_alive").is_none() {
        return false;
    }
    let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(body) else {
        return false;
    };
    let is_idle = match fields.get(work) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => false,
    };
    is_idle && fields.get("keep_alive").is_some_and(is_zero)
}

/// A number of seconds, or a duration as Go writes it.
fn is_zero(keep_alive: &Value) -> bool {
    match keep_alive {
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => {
            text.contains('0') && !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
        }
        _ => false,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_with_nothing_to_do_unloads() {
        let generate = |body: &str| is_unload(body.as_bytes(), "prompt");
        for body in [
            r#"{"model":"m","keep_alive":0}"#,
            r#"{"model":"m","prompt":"","keep_alive":"0s"}"#,
            r#"{"model":"m","prompt":null,"keep_alive":0.0,"stream":false}"#,
            r#"{"keep_alive":"0","model":"m"}"#,
        ] {
            assert!(generate(body), "{body}");
        }
        for body in [
            r#"{"model":"m"}"#,
            r#"{"model":"m","keep_alive":"10m"}"#,
            r#"{"model":"m","keep_alive":-1}"#,
            r#"{"model":"m","keep_alive":null}"#,
            r#"{"model":"m","prompt":"keep_alive","keep_alive":0}"#,
            r#"{"model":"m","keep_alive":0"#,
        ] {
            assert!(!generate(body), "{body}");
        }
        assert!(is_unload(br#"{"messages":[],"keep_alive":0}"#, "messages"));
        assert!(!is_unload(
            br#"{"messages":[{}],"keep_alive":0}"#,
            "messages"
        ));
    }
}
