//! `GET /api/ps`.

use serde_json::{Value, json};

use super::{View, aliases, merged};

/// The body: every model that is resident somewhere, the one that stays longest first, with
/// `running_on` added: the nodes that have it loaded.
pub(crate) fn ps(view: View<'_>) -> String {
    let lists = |node: &crate::fleet::Node| node.state().residency().clone();
    let mut list = merged(view, lists);
    aliases::show_to(view.grant, &mut list);
    let models: Vec<Value> = list
        .into_iter()
        .map(|(mut listed, nodes)| {
            listed.entry.insert("running_on".into(), json!(nodes));
            Value::Object(listed.entry)
        })
        .collect();
    json!({ "models": models }).to_string()
}
