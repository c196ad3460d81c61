//! `GET /api/tags`.

use serde_json::{Value, json};

use super::{View, aliases, merged};

/// The body: every model that can be had, newest first.
pub(crate) fn tags(view: View<'_>) -> String {
    let lists = |node: &crate::fleet::Node| node.state().inventory().clone();
    let mut list = merged(view, lists);
    aliases::add(view, &mut list, |alias| &alias.display);
    let models: Vec<Value> = list
        .into_iter()
        .map(|(listed, _)| Value::Object(listed.entry))
        .collect();
    json!({ "models": models }).to_string()
}
