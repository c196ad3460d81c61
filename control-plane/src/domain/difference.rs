//! What one fleet has and another has not, field by field, for people to read before it is done. Secrets
//! and digests are compared and never shown: `***`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::fleet::{self, Secrets};
use super::{Hidden, NewApiKey, NewNode, WholeFleet};

const HIDDEN: &str = "***";

/// What becomes of a fleet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, utoipa::ToSchema)]
pub struct Difference {
    /// Nodes, as metrics name them.
    pub nodes: Changes,
    /// Keys, by their ids. Disabled ones that the document does not name stay.
    pub keys: Changes,
    /// Settings, by their keys.
    pub settings: BTreeMap<String, BeforeAfter>,
}

/// What becomes of the nodes, or of the keys.
#[derive(Debug, Clone, PartialEq, Default, Serialize, utoipa::ToSchema)]
pub struct Changes {
    /// They come.
    pub added: Vec<Changed>,
    /// They become others.
    pub changed: Vec<Changed>,
    /// They go.
    pub removed: Vec<Changed>,
}

/// One node or key.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// The fields that become others.
    pub fields: BTreeMap<String, BeforeAfter>,
}

/// A value; `null` where there is none.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct BeforeAfter {
    /// As it is.
    #[schema(value_type = Option<Object>)]
    pub before: Value,
    /// As it becomes.
    #[schema(value_type = Option<Object>)]
    pub after: Value,
}

/// Fields with the values they have and get.
type Fields = BTreeMap<String, BeforeAfter>;
type Leaves = BTreeMap<String, Value>;
type Entries = BTreeMap<String, Leaves>;

impl Difference {
    /// What makes one fleet the other.
    pub fn between(present: &WholeFleet, wanted: &WholeFleet) -> Self {
        let named: BTreeSet<_> = wanted.keys.iter().map(|(key, _)| &key.key_id).collect();
        let is_in_documents = |key: &NewApiKey| key.enabled || named.contains(&key.key_id);
        let kept = present.keys.iter().filter(|(key, _)| is_in_documents(key));
        Self {
            nodes: Changes::between(&nodes(present), &nodes(wanted)),
            keys: Changes::between(&keys(kept), &keys(wanted.keys.iter())),
            settings: fields(&settings(present), &settings(wanted)),
        }
    }

    /// Whether both are the same.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.keys.is_empty() && self.settings.is_empty()
    }
}

impl fmt::Display for Difference {
    /// One line: `nodes: 1 added, 2 changed; settings: 1 changed`, or `no difference`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("nodes", self.nodes.counts()),
            ("keys", self.keys.counts()),
            ("settings", [("changed", self.settings.len())].into()),
        ];
        let told = parts.map(|(name, counts)| {
            let counts: Vec<_> = counts
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(word, count)| format!("{count} {word}"))
                .collect();
            (!counts.is_empty()).then(|| format!("{name}: {}", counts.join(", ")))
        });
        let told: Vec<_> = told.into_iter().flatten().collect();
        if told.is_empty() {
            f.write_str("no difference")
        } else {
            f.write_str(&told.join("; "))
        }
    }
}

impl Changes {
    fn between(present: &Entries, wanted: &Entries) -> Self {
        let nothing = Leaves::new();
        let mut changes = Self::default();
        for (name, after) in wanted {
            let before = present.get(name);
            let entry = Changed::of(name, before.unwrap_or(&nothing), after);
            match before {
                None => changes.added.push(entry),
                Some(_) if entry.fields.is_empty() => {}
                Some(_) => changes.changed.push(entry),
            }
        }
        let gone = present
            .iter()
            .filter(|(name, _)| !wanted.contains_key(*name));
        changes.removed = gone
            .map(|(name, before)| Changed::of(name, before, &nothing))
            .collect();
        changes
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }

    fn counts(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("added", self.added.len()),
            ("changed", self.changed.len()),
            ("removed", self.removed.len()),
        ]
    }
}

impl Changed {
    fn of(name: &str, before: &Leaves, after: &Leaves) -> Self {
        Self {
            name: name.to_owned(),
            fields: fields(before, after),
        }
    }
}

/// The leaves that differ, with what must not be seen hidden.
fn fields(before: &Leaves, after: &Leaves) -> Fields {
    let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differing = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    differing
        .map(|name| {
            let shown = |leaves: &Leaves| {
                leaves
                    .get(name)
                    .map_or(Value::Null, |value| masked(name, value))
            };
            let both = BeforeAfter {
                before: shown(before),
                after: shown(after),
            };
            (name.clone(), both)
        })
        .collect()
}

fn masked(name: &str, value: &Value) -> Value {
    if is_sealed(value) || name == "sha256" {
        json!(HIDDEN)
    } else {
        value.clone()
    }
}

/// `{sealed: v1.…}`, as documents have it.
fn is_sealed(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|fields| fields.len() == 1 && fields.contains_key("sealed"))
}

fn nodes(whole: &WholeFleet) -> Entries {
    let entry = |node: &NewNode| {
        let mut entry = fleet::node(node, Secrets::Sealed);
        let headers = entry["headers"].take();
        let mut leaves = leaves(entry, "name");
        // header names may hold dots, and their values are secrets whatever they look like
        for (name, value) in headers.as_object().into_iter().flatten() {
            leaves.insert(format!("headers.{name}"), value.clone());
        }
        leaves
    };
    let nodes = whole.nodes.iter();
    nodes.map(|node| (node.slug.clone(), entry(node))).collect()
}

fn keys<'a>(keys: impl Iterator<Item = &'a (NewApiKey, Hidden)>) -> Entries {
    let entry = |(key, sha256): &(NewApiKey, Hidden)| {
        let mut leaves = leaves(fleet::key(key, sha256.reveal()), "id");
        leaves.insert("enabled".to_owned(), json!(key.enabled));
        leaves
    };
    keys.map(|pair| (pair.0.key_id.clone(), entry(pair)))
        .collect()
}

fn settings(whole: &WholeFleet) -> Leaves {
    let settings = whole.settings.iter();
    settings
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
}

/// Values by their paths, as `models.include`; lists and sealed texts are one value.
fn leaves(entry: Value, identity: &str) -> Leaves {
    let mut leaves = Leaves::new();
    let mut open = vec![(String::new(), entry)];
    while let Some((path, value)) = open.pop() {
        match value {
            value if is_sealed(&value) => {
                leaves.insert(path, value);
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let name = if path.is_empty() {
                        name
                    } else {
                        format!("{path}.{name}")
                    };
                    open.push((name, value));
                }
            }
            Value::Null => {}
            value => {
                leaves.insert(path, value);
            }
        }
    }
    leaves.remove(identity);
    leaves
}
