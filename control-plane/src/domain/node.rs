//! Nodes: a draft, laid over what is there, becomes a node that data planes will accept. They judge it
//! with the reader of the fleet document; so does this, and no valid node can make a document invalid.

use std::collections::BTreeMap;

use aivonx_shared::fleet_doc::{NodeUrl, Scheme};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::fleet::{self, Secrets};
use super::node_address::{AddressRules, node_url};
use super::read::{is_plain, nullable};
use super::{Hidden, Invalid, slug};

/// Longest name, characters: the predecessor's.
const LONGEST_NAME: usize = 100;
/// Longest address, bytes; the predecessor's was 200.
const LONGEST_ADDRESS: usize = 300;
/// Most labels of a node, and longest key and value of one.
const LABELS: (usize, usize, usize) = (64, 63, 255);

/// What is said of a node to create or change it. What is absent stays as it is, or is the default.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeDraft {
    /// Up to 100 characters; unique.
    #[schema(min_length = 1, max_length = 100)]
    pub name: Option<String>,
    /// Where its Ollama listens: `http://10.0.0.1:11434`. Or say `address` and `port`.
    pub url: Option<String>,
    /// `host`, `host:port` or a URL.
    pub address: Option<String>,
    /// For an address without a port; 0 adds none.
    #[serde(default, deserialize_with = "port")]
    pub port: Option<i64>,
    /// Share of the work, 1 to 1000.
    #[schema(minimum = 1, maximum = 1000)]
    pub weight: Option<u32>,
    /// Concurrent requests of one model.
    #[schema(minimum = 1, maximum = 10000)]
    pub slots: Option<u32>,
    /// Free text for operators, and for where pulls go.
    pub labels: Option<BTreeMap<String, String>>,
    /// `false` takes nothing and is not probed.
    pub enabled: Option<bool>,
    /// The predecessor's name of `enabled`.
    pub active: Option<bool>,
    /// Finishes what it has, takes nothing new.
    pub draining: Option<bool>,
    /// Which models may be sent to it.
    pub models: Option<NodeDraftModels>,
    /// Whom to believe behind https; `null` believes the system's authorities.
    #[serde(default, deserialize_with = "nullable")]
    pub tls: Option<Option<NodeDraftTls>>,
    /// Believe any certificate.
    pub insecure_tls: Option<bool>,
    /// Sent as `Authorization: Bearer …`; `null` removes it. Never given back.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    pub bearer_token: Option<Option<Hidden>>,
    /// Sent with every request, instead of those that are set; a value of `null` keeps that header's.
    /// Values are never given back.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub headers: Option<Option<BTreeMap<String, Option<Hidden>>>>,
    /// `none`, `dns`, `dns4` or `dns6`.
    #[schema(pattern = "^(none|dns|dns4|dns6)$")]
    pub discover: Option<String>,
}

/// `models` of a node.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeDraftModels {
    /// At least one must match; empty lets everything in.
    pub include: Vec<String>,
    /// None may match.
    pub exclude: Vec<String>,
}

/// `tls` of a node.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeDraftTls {
    /// Certificates (PEM) that vouch for it.
    pub ca: Option<String>,
    /// The name in its certificate.
    pub server_name: Option<String>,
}

/// What a draft is judged by.
#[derive(Clone, Copy)]
pub struct NodeRules<'a> {
    /// Which addresses nodes may have.
    pub addresses: &'a AddressRules,
    /// Seals a secret for the database and the fleet document; `None` where that fails.
    pub seal: &'a dyn Fn(&str) -> Option<String>,
}

/// A valid node: everything of it that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNode {
    /// As operators wrote it.
    pub name: String,
    /// As the fleet document names it, but for a number that the store adds where it is taken.
    pub slug: String,
    /// Where its Ollama listens, normalised.
    pub url: String,
    /// The predecessor's spelling of it, as it was given.
    pub address: String,
    /// The port beside `address`; 0 adds none.
    pub port: i32,
    /// Share of the work.
    pub weight: i32,
    /// Concurrent requests of one model.
    pub slots: i32,
    /// Free text for operators.
    pub labels: BTreeMap<String, String>,
    /// Admin intent.
    pub enabled: bool,
    /// Admin intent.
    pub draining: bool,
    /// Patterns of models.
    pub models_include: Vec<String>,
    /// Patterns of models.
    pub models_exclude: Vec<String>,
    /// PEM; no secret.
    pub tls_ca: Option<String>,
    /// The name in its certificate.
    pub tls_server_name: Option<String>,
    /// Believe any certificate.
    pub tls_insecure: bool,
    /// Sealed.
    pub bearer_token: Option<Hidden>,
    /// Values are sealed; names in small letters.
    pub headers: BTreeMap<String, Hidden>,
    /// `none`, `dns`, `dns4` or `dns6`.
    pub discover: String,
}

/// Secrets of a draft as they were written: judged, then sealed.
#[derive(Default)]
struct Plain {
    bearer_token: Option<Hidden>,
    headers: BTreeMap<String, Hidden>,
}

impl NewNode {
    /// What a node is of which nothing was said.
    pub(super) fn empty() -> Self {
        Self {
            name: String::new(),
            slug: String::new(),
            url: String::new(),
            address: String::new(),
            port: 0,
            weight: 1,
            slots: 1,
            labels: BTreeMap::new(),
            enabled: true,
            draining: false,
            models_include: Vec::new(),
            models_exclude: Vec::new(),
            tls_ca: None,
            tls_server_name: None,
            tls_insecure: false,
            bearer_token: None,
            headers: BTreeMap::new(),
            discover: "none".to_owned(),
        }
    }

    /// What is left of a node where nothing is said of it but that it is there: what it is called, and
    /// where it was.
    pub(super) fn bare(&self) -> Self {
        Self {
            name: self.name.clone(),
            slug: self.slug.clone(),
            url: self.url.clone(),
            address: self.address.clone(),
            port: self.port,
            ..Self::empty()
        }
    }
}

impl NodeDraft {
    /// A new node. It needs a name and an address.
    pub fn create(self, rules: NodeRules<'_>) -> Result<NewNode, Invalid> {
        let missing = self.missing();
        self.over(NewNode::empty(), rules, missing)
    }

    /// PUT: name and address must be there; what else is absent stays, since clients of the predecessor
    /// know no other fields.
    pub fn replace(self, present: NewNode, rules: NodeRules<'_>) -> Result<NewNode, Invalid> {
        let missing = self.missing();
        self.over(present, rules, missing)
    }

    /// PATCH: what is absent stays.
    pub fn patch(self, present: NewNode, rules: NodeRules<'_>) -> Result<NewNode, Invalid> {
        self.over(present, rules, Invalid::default())
    }

    fn missing(&self) -> Invalid {
        let mut invalid = Invalid::default();
        if self.name.is_none() {
            invalid.add("name", "is required");
        }
        if self.url.is_none() && self.address.is_none() {
            invalid.add("address", "is required, or `url`");
        }
        invalid
    }

    fn over(
        self,
        mut node: NewNode,
        rules: NodeRules<'_>,
        mut invalid: Invalid,
    ) -> Result<NewNode, Invalid> {
        self.set_name(&mut node, &mut invalid);
        self.set_address(&mut node, rules.addresses, &mut invalid);
        self.set_intent(&mut node, &mut invalid);
        let plain = self.set_rest(&mut node, &mut invalid);
        if !node.url.is_empty() {
            judge(&node, &plain, &mut invalid);
        }
        seal(&mut node, plain, rules, &mut invalid);
        invalid.or_ok()?;
        Ok(node)
    }

    fn set_name(&self, node: &mut NewNode, invalid: &mut Invalid) {
        let Some(name) = &self.name else { return };
        let name = name.trim();
        if name.is_empty() || name.chars().count() > LONGEST_NAME || !is_plain(name) {
            let words = "must be 1 to 100 characters, none of them a control character";
            invalid.add("name", words);
            return;
        }
        if name != node.name {
            name.clone_into(&mut node.name);
            node.slug = slug(name);
        }
    }

    fn set_address(&self, node: &mut NewNode, rules: &AddressRules, invalid: &mut Invalid) {
        let by_url = self.url.as_deref();
        let by_url = by_url.and_then(|url| by_url_alone(url, node, invalid));
        let is_addressed = self.address.is_some() || self.port.is_some();
        let by_address = is_addressed
            .then(|| self.by_address(node, invalid))
            .flatten();
        // who changes what a GET gave sends both back: the one that differs is the change
        let (field, wanted) = match (by_url, by_address) {
            (None, None) => return,
            (Some(url), None) => ("url", url),
            (None, Some(address)) => ("address", address),
            (Some(url), Some(address)) if url.url == address.url => ("url", address),
            (Some(url), Some(address)) if url.url == node.url => ("address", address),
            (Some(url), Some(address)) if address.url == node.url => ("url", url),
            (Some(_), Some(_)) => {
                invalid.add("url", "says another place than `address` and `port`");
                return;
            }
        };
        if let Err(problem) = rules.judge(&wanted.host) {
            invalid.add(field, problem);
        }
        (node.url, node.address, node.port) = (wanted.url, wanted.address, wanted.port);
    }

    fn by_address(&self, node: &NewNode, invalid: &mut Invalid) -> Option<Place> {
        let address = self.address.as_deref().unwrap_or(&node.address).trim();
        if address.is_empty() || address.len() > LONGEST_ADDRESS {
            invalid.add("address", "must be 1 to 300 bytes");
            return None;
        }
        let given = self.port.map(u16::try_from).transpose();
        let Ok(port) = given else {
            invalid.add("port", "must be from 0 to 65535");
            return None;
        };
        let present = u16::try_from(node.port).unwrap_or_default();
        let port = port.or((present != 0 || address == node.address).then_some(present));
        match node_url(address, port) {
            Err(problem) => {
                invalid.add("address", problem);
                None
            }
            Ok(url) => Some(Place {
                host: url.host.clone(),
                address: address.to_owned(),
                port: i32::from(port.unwrap_or(if address.contains("://") { 0 } else { url.port })),
                url: url.to_string(),
            }),
        }
    }

    fn set_intent(&self, node: &mut NewNode, invalid: &mut Invalid) {
        match (self.enabled, self.active) {
            (Some(enabled), Some(active)) if enabled != active => {
                // as with addresses: the one that differs from what is there is the change
                node.enabled = !node.enabled;
            }
            (Some(enabled), _) | (None, Some(enabled)) => node.enabled = enabled,
            (None, None) => {}
        }
        if let Some(draining) = self.draining {
            node.draining = draining;
        }
        for (field, number, place) in [
            ("weight", self.weight, &mut node.weight),
            ("slots", self.slots, &mut node.slots),
        ] {
            match number.map(i32::try_from) {
                None => {}
                Some(Ok(number)) => *place = number,
                Some(Err(_)) => invalid.add(field, "is too large"),
            }
        }
    }

    fn set_rest(self, node: &mut NewNode, invalid: &mut Invalid) -> Plain {
        if let Some(labels) = self.labels {
            judge_labels(&labels, invalid);
            node.labels = labels;
        }
        if let Some(models) = self.models {
            (node.models_include, node.models_exclude) = (models.include, models.exclude);
        }
        if let Some(tls) = self.tls {
            let tls = tls.unwrap_or_default();
            (node.tls_ca, node.tls_server_name) = (tls.ca, tls.server_name);
        }
        if let Some(insecure) = self.insecure_tls {
            node.tls_insecure = insecure;
        }
        if let Some(discover) = self.discover {
            node.discover = discover;
        }
        let mut plain = Plain::default();
        if let Some(token) = self.bearer_token {
            node.bearer_token = None;
            plain.bearer_token = token;
        }
        if let Some(headers) = self.headers {
            set_headers(headers.unwrap_or_default(), node, &mut plain, invalid);
        }
        plain
    }
}

/// Where a draft wants a node.
struct Place {
    host: String,
    url: String,
    address: String,
    port: i32,
}

fn by_url_alone(text: &str, node: &NewNode, invalid: &mut Invalid) -> Option<Place> {
    let parsed = text.trim().parse::<NodeUrl>();
    let url = match parsed {
        Ok(url) if text.len() <= LONGEST_ADDRESS => url,
        Ok(_) => {
            invalid.add("url", "must be 1 to 300 bytes");
            return None;
        }
        Err(error) => {
            invalid.add("url", error.to_string());
            return None;
        }
    };
    let whole = url.to_string();
    let (address, port) = if whole == node.url {
        (node.address.clone(), node.port)
    } else if url.scheme == Scheme::Http && url.base.is_empty() {
        (url.host.clone(), i32::from(url.port))
    } else {
        (whole.clone(), 0)
    };
    Some(Place {
        host: url.host,
        url: whole,
        address,
        port,
    })
}

fn set_headers(
    headers: BTreeMap<String, Option<Hidden>>,
    node: &mut NewNode,
    plain: &mut Plain,
    invalid: &mut Invalid,
) {
    let mut present = std::mem::take(&mut node.headers);
    for (name, value) in headers {
        let small = name.to_ascii_lowercase();
        let is_new = match value {
            Some(value) => plain.headers.insert(small.clone(), value).is_none(),
            None => match present.remove(&small) {
                Some(sealed) => node.headers.insert(small.clone(), sealed).is_none(),
                None => {
                    invalid.add(
                        "headers",
                        "`null` keeps a header, and there is none to keep",
                    );
                    true
                }
            },
        };
        if !is_new || (plain.headers.contains_key(&small) && node.headers.contains_key(&small)) {
            invalid.add("headers", "names a header twice, in other letters");
        }
    }
}

fn judge_labels(labels: &BTreeMap<String, String>, invalid: &mut Invalid) {
    let (most, longest_key, longest_value) = LABELS;
    let fits = labels.len() <= most
        && labels.iter().all(|(key, value)| {
            (1..=longest_key).contains(&key.len())
                && value.len() <= longest_value
                && is_plain(key)
                && is_plain(value)
        });
    if !fits {
        let words = "must be at most 64 pairs of texts, keys up to 63 bytes and values up to 255, without control characters";
        invalid.add("labels", words);
    }
}

/// Has the reader of the fleet document judge the node.
fn judge(node: &NewNode, plain: &Plain, invalid: &mut Invalid) {
    let mut entry = fleet::node(node, Secrets::Placeholders);
    if let Some(token) = &plain.bearer_token {
        entry["bearer_token"] = json!(token.reveal());
    }
    for (name, value) in &plain.headers {
        if entry.get("headers").is_none() {
            entry["headers"] = json!({});
        }
        entry["headers"][name] = json!(value.reveal());
    }
    fleet::judge(&json!({"nodes": [entry]}), "nodes[0]", invalid);
}

fn seal(node: &mut NewNode, plain: Plain, rules: NodeRules<'_>, invalid: &mut Invalid) {
    let mut sealed = |field: &str, secret: &Hidden| {
        let sealed = (rules.seal)(secret.reveal()).map(Hidden::new);
        if sealed.is_none() {
            invalid.add(field, "cannot be sealed; see the log");
        }
        sealed
    };
    if let Some(token) = plain.bearer_token {
        node.bearer_token = sealed("bearer_token", &token);
    }
    for (name, value) in plain.headers {
        if let Some(value) = sealed("headers", &value) {
            node.headers.insert(name, value);
        }
    }
}

/// A number, or text that is one, as HTML forms send it.
fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Number(number) if number.is_i64() => Ok(number.as_i64()),
        Value::String(text) if text.trim().parse::<i64>().is_ok() => {
            Ok(text.trim().parse::<i64>().ok())
        }
        _ => Err(serde::de::Error::custom("expected a whole number")),
    }
}

#[cfg(test)]
mod tests;
