//! A fleet document beside the fleet as it is: what the fleet becomes, if the document is taken over. The
//! document is the whole truth: what it does not name is taken out or falls back to its default. What
//! no document says stays: display names, notes, keys that are disabled.
//!
//! Secrets arrive openly, sealed under this installation's key, or as a reference to one that is stored.
//! One that is the same as before keeps its sealed text, so that taking an export over again changes
//! nothing.

use aivonx_shared::config::Problems;
use aivonx_shared::fleet_doc::{FleetDoc, Given, KeyDoc, NodeDoc};
use aivonx_shared::sealed::{self, SealKey};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::read::WHOLE;
use super::{
    AddressRules, ApiKeyDraft, Hidden, Invalid, NewApiKey, NewNode, NodeDraft, NodeDraftTls,
    NodeRules, SETTING_KEYS, Settings, SettingsPatch, draft, fleet,
};

/// Most nodes, and most keys: all of them are one transaction.
const MOST: usize = 5_000;

/// A fleet: as it is, or as a document wants it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WholeFleet {
    /// Nodes, by their slugs.
    pub nodes: Vec<NewNode>,
    /// Keys and their digests, by their ids.
    pub keys: Vec<(NewApiKey, Hidden)>,
    /// Settings.
    pub settings: Settings,
}

/// What a document is judged by.
#[derive(Debug, Clone, Copy)]
pub struct ImportRules<'a> {
    /// Which addresses nodes may have.
    pub addresses: &'a AddressRules,
    /// Opens and seals secrets.
    pub key: &'a SealKey,
}

impl WholeFleet {
    /// The fleet that a document (YAML or JSON) wants, where this is the one there is; or everything
    /// that is wrong with the document, by its keys. No problem repeats a secret.
    pub fn with_document(&self, text: &str, rules: ImportRules<'_>) -> Result<Self, Invalid> {
        let stored = self.nodes.iter().flat_map(fleet::stored).collect();
        let read = FleetDoc::from_elsewhere(text, rules.key.clone(), stored);
        let (doc, written) = read.map_err(|problems| by_key(&problems))?;
        let mut invalid = Invalid::default();
        for (name, count) in [("nodes", doc.nodes.len()), ("keys", doc.keys.len())] {
            if count > MOST {
                invalid.add(name, format!("are more than {MOST}"));
            }
        }
        invalid.or_ok()?;

        let mut invalid = Invalid::default();
        let mut wanted = Self::default();
        for (index, node) in doc.nodes.iter().enumerate() {
            let made = self.node(node, &written["nodes"][index], rules);
            wanted
                .nodes
                .extend(filed(made, &format!("nodes[{index}]"), &mut invalid));
        }
        for (index, key) in doc.keys.iter().enumerate() {
            let made = self.key(key, &written["keys"][index]);
            wanted
                .keys
                .extend(filed(made, &format!("keys[{index}]"), &mut invalid));
        }
        wanted.settings = settings(&written)?;
        invalid.or_ok()?;
        Ok(wanted)
    }

    /// The change that makes these settings of any others.
    pub fn settings_patch(&self) -> SettingsPatch {
        SettingsPatch::whole(&self.settings)
    }

    fn node(
        &self,
        doc: &NodeDoc,
        written: &Value,
        rules: ImportRules<'_>,
    ) -> Result<NewNode, Invalid> {
        let known = self.nodes.iter().find(|node| node.slug == doc.name);
        if known.is_none() && self.nodes.iter().any(|node| node.name == doc.name) {
            let words = "is what another node is called that metrics know by another name; rename that one first";
            return Err(Invalid::of("name", words));
        }
        let mut wanted: NodeDraft = draft(rest_of(written), &[])?;
        wanted.name = known.is_none().then(|| doc.name.clone());
        wanted.tls = written.get("tls").filter(|tls| !tls.is_null()).map(|tls| {
            let server_name = tls["server_name"].as_str();
            Some(NodeDraftTls {
                ca: doc
                    .access
                    .tls
                    .ca
                    .as_ref()
                    .and_then(Given::text)
                    .map(str::to_owned),
                server_name: server_name.map(str::to_owned),
            })
        });
        wanted.bearer_token = doc.access.bearer_token.as_ref().map(hidden);
        let headers = doc.access.headers.iter();
        wanted.headers = Some(Some(
            headers
                .map(|(name, value)| (name.clone(), hidden(value)))
                .collect(),
        ));
        let base = known.map_or_else(NewNode::empty, NewNode::bare);
        let seal = |text: &str| sealed::seal(rules.key, text).ok();
        let rules_of_nodes = NodeRules {
            addresses: rules.addresses,
            seal: &seal,
        };
        let mut node = wanted.patch(base, rules_of_nodes)?;
        if let Some(known) = known {
            keep_seals(&mut node, known, rules.key);
        }
        Ok(node)
    }

    fn key(&self, doc: &KeyDoc, written: &Value) -> Result<(NewApiKey, Hidden), Invalid> {
        let known = self.keys.iter().find(|(key, _)| key.key_id == doc.id);
        let mut fields = as_map(written);
        fields.retain(|name, value| {
            !["id", "sha256", "expires"].contains(&name.as_str()) && !value.is_null()
        });
        let mut wanted: ApiKeyDraft = draft(Value::Object(fields), &[])?;
        wanted.key_id = Some(doc.id.clone());
        wanted.note = known.map(|(key, _)| key.note.clone());
        wanted.expires_at = doc.expires.map(|at| Some(DateTime::<Utc>::from(at)));
        let digits: Vec<_> = doc
            .sha256
            .0
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok((wanted.create()?, Hidden::new(digits.concat())))
    }
}

/// What a draft can say of a node by itself: all but its name and what may be secret.
fn rest_of(written: &Value) -> Value {
    let apart = [
        "name",
        "bearer_token",
        "bearer_token_file",
        "headers",
        "tls",
    ];
    let mut fields = as_map(written);
    fields.retain(|name, _| !apart.contains(&name.as_str()));
    without_nulls(Value::Object(fields))
}

fn as_map(written: &Value) -> Map<String, Value> {
    written.as_object().cloned().unwrap_or_default()
}

/// Nothing, as the reader of the document takes it.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                fields
                    .map(|(name, value)| (name, without_nulls(value)))
                    .collect(),
            )
        }
        other => other,
    }
}

fn settings(written: &Value) -> Result<Settings, Invalid> {
    let said = SETTING_KEYS.iter().filter_map(|key| {
        let value = written.get(key).filter(|value| !value.is_null())?;
        Some(((*key).to_owned(), value.clone()))
    });
    let patch = SettingsPatch::parse(Value::Object(said.collect()), &[])?;
    let mut settings = Settings::default();
    for (key, value) in patch.into_parts() {
        settings.set(key, value);
    }
    Ok(settings)
}

fn hidden(given: &Given) -> Option<Hidden> {
    given.text().map(Hidden::new)
}

/// Sealing a text twice gives two texts: the same secret keeps the one that it has.
fn keep_seals(node: &mut NewNode, known: &NewNode, key: &SealKey) {
    let is_same = |one: &Hidden, other: &Hidden| {
        let open = |text: &Hidden| sealed::open(key, text.reveal()).ok();
        open(one).is_some_and(|text| open(other) == Some(text))
    };
    if let (Some(new), Some(old)) = (&mut node.bearer_token, &known.bearer_token)
        && is_same(new, old)
    {
        new.clone_from(old);
    }
    for (name, new) in &mut node.headers {
        if let Some(old) = known.headers.get(name)
            && is_same(new, old)
        {
            new.clone_from(old);
        }
    }
}

/// A part of the document, or its problems under the part's own place.
fn filed<T>(made: Result<T, Invalid>, at: &str, invalid: &mut Invalid) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(found) => {
            for (field, problems) in found.fields {
                let place = if field == WHOLE {
                    at.to_owned()
                } else {
                    format!("{at}.{field}")
                };
                for problem in problems {
                    invalid.add(&place, problem);
                }
            }
            None
        }
    }
}

fn by_key(problems: &Problems) -> Invalid {
    let mut invalid = Invalid::default();
    for problem in problems.iter() {
        let field = if problem.key.is_empty() {
            WHOLE
        } else {
            problem.key.as_str()
        };
        let line = problem.line.map(|line| format!("line {line}: "));
        invalid.add(field, line.unwrap_or_default() + &problem.message);
    }
    invalid
}

#[cfg(test)]
mod tests;
