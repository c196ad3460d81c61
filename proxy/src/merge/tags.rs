//! `GET /api/tags`.

use serde_json::{Value, json};

use super::{aliases, merged};
use crate::fleet::Snapshot;
use crate::fleet::access::Grant;

/// The body: every model that can be had, newest first.
pub(crate) fn tags(snapshot: &Snapshot, grant: Option<&Grant>) -> String {
    let lists = |node: &crate::fleet::Node| node.state().inventory().clone();
    let mut list = merged(snapshot, lists);
    aliases::add(snapshot, grant, &mut list, |alias| &alias.display);
    let models: Vec<Value> = list
        .into_iter()
        .map(|(listed, _)| Value::Object(listed.entry))
        .collect();
    json!({ "models": models }).to_string()
}
