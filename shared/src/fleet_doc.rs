//! The fleet document: the one shape that `fleet.yaml` holds in file mode and that the control
//! plane publishes. Reading it reports every problem at once; a document with problems never
//! replaces the one in force.

mod aliases;
mod anonymous;
mod cloud;
mod elsewhere;
mod given;
mod keep_alive;
mod keys;
mod limits;
mod node_access;
mod node_url;
mod outside;
mod pull;
mod secret;
mod usage;

use std::collections::{BTreeMap, HashSet};

pub use aliases::AliasDoc;
pub use anonymous::{Anonymous, NetworkDoc};
pub use cloud::Cloud;
pub use elsewhere::as_yaml;
pub use given::Given;
pub(crate) use given::read_given;
pub use keep_alive::{Bounds, KeepAliveRule};
pub use keys::{ANONYMOUS, KeyDigest, KeyDoc, Scopes};
pub use limits::{Limits, Rate};
pub use node_access::{Discover, NodeAccess, NodeTls};
pub use node_url::{NodeUrl, Scheme, UrlError};
pub use outside::{Outside, SeenFile};
pub use pull::{PullDoc, PullTo, WhenClientLeaves};
pub use secret::Secret;
pub use usage::UsageDoc;

use crate::config::{Lines, Problems, Reader, parse_yaml};
use crate::model_name::{ModelKey, ModelPattern};

/// Concurrent requests of one model on one node where the document names no `slots`: Ollama's
/// own `OLLAMA_NUM_PARALLEL` default since 0.9.7 (ollama-api.md §8.1).
pub const DEFAULT_SLOTS: u32 = 1;

/// A validated fleet document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FleetDoc {
    /// The order among candidates.
    pub strategy: Strategy,
    /// Who may use the fleet without a key.
    pub anonymous: Anonymous,
    /// Who may use it with one.
    pub keys: Vec<KeyDoc>,
    /// What becomes of the streams of a key that is taken out.
    pub on_revoke: OnRevoke,
    /// Whether requests may leave the house.
    pub cloud: Cloud,
    /// How pulls are spread over the nodes.
    pub pull: PullDoc,
    /// The nodes, in the document's order; names are unique.
    pub nodes: Vec<NodeDoc>,
    /// Other names for models, in the document's order; their keys are unique.
    pub aliases: Vec<AliasDoc>,
    /// How long clients may keep a model loaded.
    pub keep_alive: Vec<KeepAliveRule>,
    /// How tokens of streams are learnt.
    pub usage: UsageDoc,
}

/// The order among candidates of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Fewest requests in flight over weight.
    #[default]
    LeastActive,
    /// Lowest expected time to first byte.
    LowestLatency,
}

impl Strategy {
    /// The name in documents and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastActive => "least_active",
            Self::LowestLatency => "lowest_latency",
        }
    }
}

/// What becomes of the streams of a key that is taken out of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnRevoke {
    /// They run to their end.
    #[default]
    Finish,
    /// They end with an error.
    End,
}

/// One node of a fleet document.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeDoc {
    /// Unique; shown in `x-aivonx-node`, metrics and logs.
    pub name: String,
    /// Where its Ollama listens.
    pub url: NodeUrl,
    /// Share of the work relative to the other nodes; at least 1.
    pub weight: u32,
    /// Free text for operators; `pull.to` may name it.
    pub labels: BTreeMap<String, String>,
    /// Concurrent requests of one model: the node's `OLLAMA_NUM_PARALLEL`.
    pub slots: u32,
    /// Admin intent: `false` takes nothing and is not probed.
    pub enabled: bool,
    /// Admin intent: finishes what it has, takes nothing new.
    pub draining: bool,
    /// Which models may be sent to it, whatever it has installed.
    pub models: ModelRules,
    /// How it is reached.
    pub access: NodeAccess,
}

/// `models: {include, exclude}` of a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelRules {
    /// At least one must match; an empty list matches everything.
    pub include: Vec<ModelPattern>,
    /// None may match.
    pub exclude: Vec<ModelPattern>,
}

impl ModelRules {
    /// Whether a model of this identity may be sent to the node.
    pub fn allow(&self, model: &ModelKey) -> bool {
        (self.include.is_empty() || self.include.iter().any(|pattern| pattern.matches(model)))
            && !self.exclude.iter().any(|pattern| pattern.matches(model))
    }
}

impl FleetDoc {
    /// Reads `fleet.yaml` as it stands: what it refers to in files and variables is not looked at.
    pub fn from_yaml(text: &str) -> Result<Self, Problems> {
        Self::read(text, None)
    }

    /// The same with what it refers to outside; what cannot be had is a problem like any other.
    pub fn from_yaml_with(text: &str, outside: &Outside) -> Result<Self, Problems> {
        Self::read(text, Some(outside))
    }

    fn read(text: &str, outside: Option<&Outside>) -> Result<Self, Problems> {
        let value = parse_yaml(text)?;
        let lines = Lines::of(text);
        let root = Reader::root(&value).with_outside(outside);
        let doc = read_doc(&root);
        match root.into_problems(&lines) {
            Some(problems) => Err(problems),
            None => Ok(doc),
        }
    }

    /// What a client's `keep_alive` for this model is held to.
    pub fn keep_alive_of(&self, model: &ModelKey) -> Option<Bounds> {
        let rule = self.keep_alive.iter().find(|rule| rule.names(model))?;
        Some(rule.bounds)
    }
}

fn read_doc(root: &Reader<'_>) -> FleetDoc {
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    let nodes: Vec<_> = root
        .list("nodes")
        .iter()
        .filter_map(|at| read_node(at, &mut names))
        .collect();
    if root.value("nodes").is_none() {
        root.complain_here(
            "needs `nodes`, as in `nodes: [{name: gpu-1, url: \"http://10.0.0.1:11434\"}]`",
        );
    }
    let doc = FleetDoc {
        strategy: read_strategy(root),
        anonymous: anonymous::read_anonymous(root, &mut ids),
        keys: keys::read_keys(root, &mut ids),
        on_revoke: read_on_revoke(root),
        cloud: cloud::read_cloud(root),
        pull: pull::read_pull(&root.section("pull")),
        nodes,
        aliases: aliases::read(root),
        keep_alive: keep_alive::read(root),
        usage: usage::read(root),
    };
    root.finish();
    doc
}

fn read_strategy(root: &Reader<'_>) -> Strategy {
    match root.get::<String>("strategy").as_deref() {
        None | Some("least_active") => Strategy::LeastActive,
        Some("lowest_latency") => Strategy::LowestLatency,
        Some(other) => {
            root.complain(
                "strategy",
                &format!("`{other}` is no strategy; write least_active or lowest_latency"),
            );
            Strategy::default()
        }
    }
}

fn read_on_revoke(root: &Reader<'_>) -> OnRevoke {
    match root.get::<String>("on_revoke").as_deref() {
        None | Some("finish") => OnRevoke::Finish,
        Some("end") => OnRevoke::End,
        Some(other) => {
            root.complain(
                "on_revoke",
                &format!("`{other}` is no choice; write finish or end"),
            );
            OnRevoke::Finish
        }
    }
}

fn read_node(at: &Reader<'_>, names: &mut HashSet<String>) -> Option<NodeDoc> {
    let name = at.get::<String>("name");
    match &name {
        None if at.value("name").is_none() => at.complain_here("needs a `name`"),
        Some(name) if !is_node_name(name) => {
            at.complain("name", "must be 1 to 63 letters, digits, `-`, `_` or `.`");
        }
        Some(name) if !names.insert(name.clone()) => {
            at.complain("name", &format!("`{name}` names another node already"));
        }
        None | Some(_) => {}
    }
    let url = match at.get::<String>("url") {
        Some(text) => text
            .parse::<NodeUrl>()
            .map_err(|error| at.complain("url", &error.to_string()))
            .ok(),
        None => {
            if at.value("url").is_none() {
                at.complain_here("needs a `url`, as http://10.0.0.1:11434");
            }
            None
        }
    };
    let weight = number(at, "weight", 1, 1000);
    let slots = number(at, "slots", DEFAULT_SLOTS, 10_000);
    let labels = at.or("labels", BTreeMap::new());
    let (enabled, draining) = (at.or("enabled", true), at.or("draining", false));
    let models = read_rules(&at.section("models"));
    let access = node_access::read_access(at, url.as_ref());
    at.finish();
    Some(NodeDoc {
        name: name?,
        url: url?,
        weight,
        labels,
        slots,
        enabled,
        draining,
        models,
        access,
    })
}

fn read_rules(at: &Reader<'_>) -> ModelRules {
    let rules = ModelRules {
        include: read_patterns(at, "include"),
        exclude: read_patterns(at, "exclude"),
    };
    at.finish();
    rules
}

/// The model patterns of the list at `key`.
fn read_patterns(at: &Reader<'_>, key: &'static str) -> Vec<ModelPattern> {
    let texts: Vec<String> = at.or(key, Vec::new());
    texts
        .iter()
        .filter_map(|text| {
            ModelPattern::parse(text)
                .map_err(|error| at.complain(key, &format!("`{text}`: {error}")))
                .ok()
        })
        .collect()
}

fn number(at: &Reader<'_>, key: &'static str, default: u32, most: u32) -> u32 {
    let number = at.or(key, default);
    if !(1..=most).contains(&number) {
        at.complain(key, &format!("must be from 1 to {most}"));
    }
    number
}

/// Names go into headers, labels and paths: a safe alphabet only.
fn is_node_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ModelKey {
        ModelKey::parse(text).unwrap()
    }

    #[test]
    fn the_smallest_document_takes_every_default() {
        let doc =
            FleetDoc::from_yaml("nodes: [{name: gpu-1, url: \"http://10.0.0.1:11434\"}]").unwrap();
        let node = &doc.nodes[0];
        assert_eq!(
            (node.weight, node.slots, node.enabled, node.draining),
            (1, 1, true, false)
        );
        assert_eq!(
            (doc.strategy, doc.anonymous),
            (Strategy::LeastActive, Anonymous::Loopback)
        );
        assert!(
            node.models
                .allow(&key("registry.ollama.ai/library/llama3:latest"))
        );
    }

    #[test]
    fn patterns_say_which_models_a_node_may_get() {
        let text = "nodes:\n  - {name: a, url: \"http://h:1\", models: {include: [\"llama3:*\"], exclude: [\"llama3:70b\"]}}\n";
        let doc = FleetDoc::from_yaml(text).unwrap();
        let rules = &doc.nodes[0].models;
        assert!(rules.allow(&key("registry.ollama.ai/library/llama3:8b")));
        assert!(!rules.allow(&key("registry.ollama.ai/library/llama3:70b")));
        assert!(!rules.allow(&key("registry.ollama.ai/library/qwen3:8b")));
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let text = "strategy: fastest\nnodes:\n  - name: a\n    url: 10.0.0.1\n  - name: a\n    url: http://h:1\n    weight: 0\n    wieght: 2\n  - {}\ncloud: maybe\n";
        let problems = FleetDoc::from_yaml(text).unwrap_err();
        let seen: Vec<_> = problems
            .iter()
            .map(|p| (p.key.as_str(), p.line.unwrap()))
            .collect();
        assert_eq!(
            seen,
            [
                ("strategy", 1),
                ("nodes[0].url", 4),
                ("nodes[1].name", 5),
                ("nodes[1].weight", 7),
                ("nodes[1].wieght", 8),
                ("nodes[2]", 9),
                ("nodes[2]", 9),
                ("cloud", 10),
            ],
            "{problems}"
        );
    }
}
