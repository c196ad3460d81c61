//! `aivonx node`.

mod draft;

use http::Method;
use serde_json::{Map, Value, json};

use super::api::{Api, by_id};
use super::args::{Named, NodeArgs, NodeCommand, NodeFields, Removal};
use super::connect;
use super::failure::{Done, Failure};
use super::output::{self, Column, cell, instant, pairs};
use super::terminal::confirm;
use crate::escape::escaped;

const NODES: &str = "/api/proxy/nodes";

const COLUMNS: [Column; 9] = [
    ("ID", |node| cell(node, "id")),
    ("NAME", |node| cell(node, "name")),
    ("URL", |node| cell(node, "url")),
    ("STATE", |node| state(node).to_owned()),
    ("HEALTH", |node| cell(node, "health")),
    ("IN-FLIGHT", |node| cell(node, "in_flight")),
    ("WEIGHT", |node| cell(node, "weight")),
    ("SLOTS", |node| cell(node, "slots")),
    ("OLLAMA", |node| cell(node, "ollama_version")),
];

const LINES: [Column; 22] = [
    ("Id", |node| cell(node, "id")),
    ("Name", |node| cell(node, "name")),
    ("Slug", |node| cell(node, "slug")),
    ("URL", |node| cell(node, "url")),
    ("State", |node| state(node).to_owned()),
    ("Health", |node| cell(node, "health")),
    ("In flight", |node| cell(node, "in_flight")),
    ("First byte", latency),
    ("Ollama", |node| cell(node, "ollama_version")),
    ("Weight", |node| cell(node, "weight")),
    ("Slots", |node| cell(node, "slots")),
    ("Labels", |node| pairs(node, "labels")),
    ("Models", |node| cell(&node["models"], "include")),
    ("Not models", |node| cell(&node["models"], "exclude")),
    ("Bearer token", |node| cell(node, "has_bearer_token")),
    ("Headers", |node| pairs(node, "headers")),
    ("TLS name", |node| cell(&node["tls"], "server_name")),
    ("TLS authority", own_authority),
    ("Insecure TLS", |node| cell(node, "insecure_tls")),
    ("Discover", |node| cell(node, "discover")),
    ("Created", |node| instant(node, "created_at")),
    ("Changed", |node| instant(node, "updated_at")),
];

/// Does what is said of nodes.
pub(super) fn run(args: &NodeArgs) -> Done {
    let (api, json) = (connect(&args.shared.server)?, args.shared.json);
    match &args.command {
        NodeCommand::List => {
            let nodes = api.list(NODES)?;
            output::list(
                &nodes,
                &COLUMNS,
                json,
                "there are no nodes; `aivonx node add` registers one",
            )
        }
        NodeCommand::Show { name } => output::one(&find(&api, name)?, &LINES, json),
        NodeCommand::Add { name, url, fields } => add(&api, name, url, fields, json),
        NodeCommand::Set {
            name,
            new_name,
            url,
            fields,
        } => {
            let named = [("name", new_name), ("url", url)];
            set(&api, name, &named, fields, json)
        }
        NodeCommand::Remove(removal) => remove(&api, removal),
        NodeCommand::Enable(named) => act(&api, named, "enable", json),
        NodeCommand::Disable(named) => act(&api, named, "disable", json),
        NodeCommand::Drain(named) => act(&api, named, "drain", json),
        NodeCommand::Undrain(named) => act(&api, named, "undrain", json),
    }
}

fn add(api: &Api, name: &str, url: &str, fields: &NodeFields, json: bool) -> Done {
    let mut body = draft::of(fields, &Value::Null)?;
    body.insert("name".to_owned(), name.into());
    body.insert("url".to_owned(), url.into());
    let made = api.send(Method::POST, NODES, Some(&body.into()))?;
    output::one(&made, &LINES, json)
}

fn set(
    api: &Api,
    name: &str,
    named: &[(&str, &Option<String>)],
    fields: &NodeFields,
    json: bool,
) -> Done {
    let node = find(api, name)?;
    let mut body: Map<String, Value> = draft::of(fields, &node)?;
    for (key, value) in named {
        if let Some(value) = value {
            body.insert((*key).to_owned(), json!(value));
        }
    }
    if body.is_empty() {
        let words = "say what to change; `aivonx node set --help` lists it";
        return Err(Failure::Usage(words.to_owned()));
    }
    // lists and maps are laid over what was read: somebody else's change in between must not be lost
    let changed = api.change(
        Method::PATCH,
        &path(&node),
        Some(&body.into()),
        node["version"].as_i64(),
    )?;
    output::one(&changed, &LINES, json)
}

fn remove(api: &Api, removal: &Removal) -> Done {
    for name in &removal.names {
        let node = find(api, name)?;
        let shown = format!("{} ({})", cell(&node, "name"), cell(&node, "url"));
        confirm(&format!("take node {shown} out of the fleet"), removal.yes)?;
        let version = node["version"].as_i64();
        api.change(Method::DELETE, &path(&node), None, version)?;
        output::note(&format!("{shown} is out"));
    }
    Ok(())
}

fn act(api: &Api, named: &Named, action: &str, json: bool) -> Done {
    let changed = named.names.iter().map(|name| {
        let node = find(api, name)?;
        api.send(Method::POST, &format!("{}/{action}", path(&node)), None)
    });
    let changed = changed.collect::<Result<Vec<_>, Failure>>()?;
    output::list(&changed, &COLUMNS, json, "")
}

/// The node of a name, a slug or an id, in this order.
fn find(api: &Api, name: &str) -> Result<Value, Failure> {
    let nodes = api.list(&format!("{NODES}?name={}", escaped(name)))?;
    let by = |key: &str| nodes.iter().find(|node| node[key] == name);
    if let Some(node) = by("name").or_else(|| by("slug")) {
        return Ok(node.clone());
    }
    // a slug need not be part of its name, and an id never is
    let all = api.list(NODES)?;
    let by_slug = all.iter().find(|node| node["slug"] == name);
    let found = by_slug.or_else(|| by_id(&all, name));
    found
        .cloned()
        .ok_or_else(|| Failure::missing("node", name, "aivonx node list"))
}

fn path(node: &Value) -> String {
    format!("{NODES}/{}", node["id"])
}

/// What operators want of it, in a word.
fn state(node: &Value) -> &'static str {
    match (&node["enabled"], &node["draining"]) {
        (Value::Bool(false), _) => "disabled",
        (_, Value::Bool(true)) => "draining",
        _ => "enabled",
    }
}

fn latency(node: &Value) -> String {
    let seconds = node["latency"].as_f64();
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3} s"))
}

fn own_authority(node: &Value) -> String {
    let words = if node["tls"]["ca"].is_string() {
        "its own"
    } else {
        "the system's"
    };
    words.to_owned()
}
