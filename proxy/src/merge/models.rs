//! `GET /v1/models` and `GET /v1/models/{id}`.

use aivonx_shared::model_name::ModelName;
use serde_json::{Value, json};

use super::{View, aliases, merged};
use crate::fleet::inventory::Listed;

/// The list, newest first; Ollama's `null` where there is no model. Ends in a newline as Ollama's.
pub(crate) fn models(view: View<'_>) -> String {
    let mut list = inventory(view);
    aliases::add(view, &mut list, |alias| &alias.written);
    let data: Vec<Value> = list
        .iter()
        .map(|(listed, _)| {
            object(
                listed,
                listed
                    .entry
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or(""),
            )
        })
        .collect();
    let data = if data.is_empty() {
        Value::Null
    } else {
        Value::Array(data)
    };
    format!("{}\n", json!({ "object": "list", "data": data }))
}

/// One model under the id it was asked by, or `Err` with the name to say "not found" of.
pub(crate) fn model(view: View<'_>, id: &str) -> Result<String, String> {
    let Ok((name, _)) = ModelName::parse_with_source(id) else {
        return Err(id.to_owned());
    };
    let mut list = inventory(view);
    let found = match view.snapshot.aliases().get(name.key()) {
        Some(alias) if view.grant.is_none_or(|grant| alias.is_open_to(grant)) => {
            aliases::stands_for(alias, &list)
        }
        Some(_) => None,
        None => {
            aliases::show_to(view.grant, &mut list);
            list.iter().find(|(listed, _)| listed.key == *name.key())
        }
    };
    found
        .map(|(listed, _)| format!("{}\n", object(listed, id)))
        .ok_or_else(|| name.display().to_owned())
}

fn inventory(view: View<'_>) -> Vec<(Listed, Vec<String>)> {
    let lists = |node: &crate::fleet::Node| node.state().inventory().clone();
    merged(view, lists)
}

fn object(listed: &Listed, id: &str) -> Value {
    let owner = ModelName::parse(listed.key.as_str())
        .map_or_else(|_| String::new(), |name| name.namespace().to_owned());
    let created = listed.instant.map_or(0, |instant| instant.timestamp());
    json!({ "id": id, "object": "model", "created": created, "owned_by": owner })
}
