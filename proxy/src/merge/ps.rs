//! `GET /api/ps`.

use serde_json::{Value, json};

use super::{aliases, merged};
use crate::fleet::Snapshot;
use crate::fleet::access::Grant;

/// The body: every model that is resident somewhere, the one that stays longest first, with
/// `running_on` added: the nodes that have it loaded.
pub(crate) fn ps(snapshot: &Snapshot, grant: Option<&Grant>) -> String {
    let lists = |node: &crate::fleet::Node| node.state().residency().clone();
    let mut list = merged(snapshot, lists);
    aliases::show_to(grant, &mut list);
    let models: Vec<Value> = list
        .into_iter()
        .map(|(mut listed, nodes)| {
            listed.entry.insert("running_on".into(), json!(nodes));
            Value::Object(listed.entry)
        })
        .collect();
    json!({ "models": models }).to_string()
}
