//! Rows into the fleet document, and the fleet document's reader as the judge of drafts: what data
//! planes would refuse never reaches the database.

use std::fmt::Write;

use aivonx_shared::fleet_doc::FleetDoc;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::read::WHOLE;
use super::{Invalid, NewApiKey, NewNode, Settings};

/// What stands for secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// `{sealed: "v1.…"}`: data planes hold the key.
    Sealed,
    /// `{stored: "gpu-1/bearer_token"}`: an import into the same database knows them by these names.
    References,
    /// A text in their place: to be judged, or shown.
    Placeholders,
}

/// The fleet document of a fleet, JSON. Disabled keys are not in it; disabled nodes are. `keys` come
/// with their digests, hexadecimal.
pub(crate) fn document<'a>(
    nodes: impl IntoIterator<Item = NewNode>,
    keys: impl IntoIterator<Item = (NewApiKey, &'a str)>,
    settings: &Settings,
    secrets: Secrets,
) -> String {
    let nodes = nodes.into_iter().map(|spec| node(&spec, secrets));
    let keys = keys.into_iter().filter(|(spec, _)| spec.enabled);
    let keys = keys.map(|(spec, sha256)| key(&spec, sha256));
    let mut document = Map::new();
    for (name, value) in settings.iter() {
        document.insert(name.to_owned(), value.clone());
    }
    document.insert("keys".to_owned(), keys.collect());
    document.insert("nodes".to_owned(), nodes.collect());
    text(&Value::Object(document))
}

/// A node's entry.
pub(crate) fn node(node: &NewNode, secrets: Secrets) -> Value {
    let mut entry = json!({
        "name": node.slug,
        "url": node.url,
        "weight": node.weight,
        "slots": node.slots,
        "labels": node.labels,
        "enabled": node.enabled,
        "draining": node.draining,
        "models": {"include": node.models_include, "exclude": node.models_exclude},
        "discover": node.discover,
    });
    let secret = |name: &str, sealed: &str| match secrets {
        Secrets::Sealed => json!({"sealed": sealed}),
        Secrets::References => json!({"stored": reference(&node.slug, name)}),
        Secrets::Placeholders => json!("sealed"),
    };
    if let Some(token) = &node.bearer_token {
        entry["bearer_token"] = secret("bearer_token", token.reveal());
    }
    if !node.headers.is_empty() {
        let headers = node.headers.iter();
        let headers = headers.map(|(name, sealed)| {
            let value = secret(&format!("headers/{name}"), sealed.reveal());
            (name.clone(), value)
        });
        entry["headers"] = Value::Object(headers.collect());
    }
    if node.tls_insecure {
        entry["insecure_tls"] = json!(true);
    }
    let mut tls = Map::new();
    if let Some(ca) = &node.tls_ca {
        tls.insert("ca".to_owned(), json!(ca));
    }
    if let Some(server_name) = &node.tls_server_name {
        tls.insert("server_name".to_owned(), json!(server_name));
    }
    if !tls.is_empty() {
        entry["tls"] = Value::Object(tls);
    }
    entry
}

/// What a node's secret is called in an export.
fn reference(slug: &str, name: &str) -> String {
    format!("{slug}/{name}")
}

/// The sealed secrets of a node, by what an export calls them.
pub(crate) fn stored(node: &NewNode) -> impl Iterator<Item = (String, String)> {
    let token = node.bearer_token.iter().map(|sealed| {
        let name = reference(&node.slug, "bearer_token");
        (name, sealed.reveal().to_owned())
    });
    let headers = node.headers.iter().map(|(name, sealed)| {
        let name = reference(&node.slug, &format!("headers/{name}"));
        (name, sealed.reveal().to_owned())
    });
    token.chain(headers)
}

/// A key's entry.
pub(crate) fn key(key: &NewApiKey, sha256: &str) -> Value {
    let mut entry = json!({
        "id": key.key_id,
        "sha256": sha256,
        "scopes": key.scopes,
        "models": key.models,
    });
    let optional = [
        ("rate", key.rate.as_ref().map(|rate| json!(rate))),
        ("burst", key.burst.map(|burst| json!(burst))),
        ("max_concurrent", key.max_concurrent.map(|most| json!(most))),
        ("expires", key.expires_at.map(|at| json!(instant(at)))),
        (
            "user_header",
            key.user_header.as_ref().map(|name| json!(name)),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            entry[name] = value;
        }
    }
    entry
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Has the reader judge a document; its problems are filed under fields, without what stands `within`.
pub(crate) fn judge(document: &Value, within: &str, invalid: &mut Invalid) {
    let Err(problems) = FleetDoc::from_yaml(&text(document)) else {
        return;
    };
    for problem in problems.iter() {
        let key = problem.key.strip_prefix(within).unwrap_or(&problem.key);
        match key.trim_start_matches('.') {
            "" => invalid.add(WHOLE, problem.message.clone()),
            field => invalid.add(field, problem.message.clone()),
        }
    }
}

/// JSON that is YAML, too: YAML has no place for some letters that JSON allows, and folds others.
fn text(value: &Value) -> String {
    let plain = serde_json::to_string(value).expect("a value is JSON");
    let mut text = String::with_capacity(plain.len());
    for letter in plain.chars() {
        let code = u32::from(letter);
        if matches!(
            code,
            0x7f..=0x9f | 0x2028 | 0x2029 | 0xfeff | 0xfffe | 0xffff
        ) {
            let _ = write!(text, "\\u{code:04x}"); // a String takes everything
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests;
