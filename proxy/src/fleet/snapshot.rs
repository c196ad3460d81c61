//! The immutable picture that a request works with: the nodes, and which of them hold a model.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aivonx_shared::fleet_doc::{Bounds, Cloud, FleetDoc, PullDoc, Strategy};
use aivonx_shared::model_name::{ModelKey, Source};
use parking_lot::Mutex;

use super::Node;
use super::access::Access;
use super::aliases::Aliases;
use super::model_state::ModelState;
use super::residents::Residents;

/// A model's number, the same in every snapshot of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ModelId(pub(crate) u32);

impl ModelId {
    /// Stands for "no model, or one that nobody holds": every wanted node is a holder.
    pub(crate) const ANY: Self = Self(u32::MAX);
}

/// The fleet at one moment. Live state hangs on its nodes.
pub(crate) struct Snapshot {
    doc: Arc<FleetDoc>,
    access: Arc<Access>,
    revision: u64,
    nodes: Vec<Arc<Node>>,
    models: HashMap<ModelKey, Arc<ModelEntry>>,
    by_id: Vec<Option<Arc<ModelEntry>>>,
    /// By the spellings that clients use most, so that these need no parsing.
    by_spelling: HashMap<Box<str>, Arc<ModelEntry>>,
    aliases: Aliases,
    any: Arc<ModelEntry>,
    /// Cloud models that nodes list as if they had them, while they are denied.
    stubs: HashSet<ModelKey>,
}

/// One model and who holds it.
pub(crate) struct ModelEntry {
    pub(crate) id: ModelId,
    /// Its identity; `None` for the entry that stands for any model.
    pub(crate) key: Option<ModelKey>,
    /// As metrics and logs show it: from the fleet, never from the client's text (design.md D9).
    pub(crate) label: Box<str>,
    /// In the order of their nodes' serials.
    pub(crate) holders: Vec<Holder>,
    /// Those of them that have it in memory.
    pub(crate) residents: Arc<Residents>,
    /// Held over choosing and counting, which makes them one step.
    pub(crate) pick: Mutex<()>,
    /// What a client's `keep_alive` is held to.
    pub(crate) keep_alive: Option<Bounds>,
}

/// A node that may serve a model.
pub(crate) struct Holder {
    pub(crate) node: Arc<Node>,
    /// `None` where the model is not known of the node.
    pub(crate) model: Option<Arc<ModelState>>,
    /// Whether the node only passes requests for the model on to ollama.com.
    pub(crate) is_stub: bool,
}

/// Of each model number: its key and who holds it.
type Holders = Vec<(Option<ModelKey>, Vec<Holder>)>;

impl ModelEntry {
    fn new(id: ModelId, label: &str, holders: Vec<Holder>) -> Self {
        let residents = Arc::new(Residents::default());
        for (index, holder) in holders.iter().enumerate() {
            if let Some(model) = &holder.model {
                model.list_in(&residents, index as u32);
            }
        }
        Self {
            id,
            key: None,
            label: label.into(),
            holders,
            residents,
            pick: Mutex::new(()),
            keep_alive: None,
        }
    }
}

impl Snapshot {
    pub(super) fn empty(doc: Arc<FleetDoc>, access: Arc<Access>) -> Self {
        Self::build(doc, access, Vec::new(), 0, &mut HashMap::new())
    }

    /// Indexes the wanted nodes by the models they have and may be sent.
    pub(super) fn build(
        doc: Arc<FleetDoc>,
        access: Arc<Access>,
        nodes: Vec<Arc<Node>>,
        revision: u64,
        ids: &mut HashMap<ModelKey, ModelId>,
    ) -> Self {
        let mut wanted: Vec<_> = nodes.iter().filter(|node| node.is_wanted()).collect();
        wanted.sort_by_key(|node| node.serial());
        let (holders, stubs) = by_model(&wanted, doc.cloud, ids);
        let mut models = HashMap::with_capacity(holders.len());
        let mut by_id = Vec::with_capacity(holders.len());
        let mut by_spelling = HashMap::with_capacity(2 * holders.len());
        for (index, (key, holders)) in holders.into_iter().enumerate() {
            let Some(key) = key else {
                by_id.push(None);
                continue;
            };
            let id = ModelId(index as u32);
            let mut entry = ModelEntry::new(id, key.display(), holders);
            entry.keep_alive = doc.keep_alive_of(&key);
            entry.key = Some(key.clone());
            let entry = Arc::new(entry);
            by_id.push(Some(Arc::clone(&entry)));
            for spelling in spellings(&key) {
                by_spelling.insert(spelling.into(), Arc::clone(&entry));
            }
            models.insert(key, entry);
        }
        let aliases = Aliases::build(&doc.aliases, &models);
        for hidden in aliases.iter().flat_map(|alias| spellings(&alias.key)) {
            by_spelling.remove(hidden);
        }
        let any = wanted.iter().map(|node| Holder {
            node: Arc::clone(node),
            model: None,
            is_stub: false,
        });
        let any = ModelEntry::new(ModelId::ANY, "", any.collect());
        Self {
            doc,
            access,
            revision,
            nodes,
            models,
            by_id,
            by_spelling,
            aliases,
            any: Arc::new(any),
            stubs,
        }
    }

    /// Who may use the fleet.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Whether requests may leave the house.
    pub(crate) fn cloud(&self) -> Cloud {
        self.doc.cloud
    }

    /// Whether a model that nobody holds is listed as a cloud model by some node.
    pub(crate) fn is_stub(&self, key: &str) -> bool {
        self.stubs.contains(key)
    }

    /// Grows with every document taken over.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The order among candidates.
    pub(crate) fn strategy(&self) -> Strategy {
        self.doc.strategy
    }

    /// Other names for models.
    pub(crate) fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    /// How pulls are spread over the nodes.
    pub(crate) fn pull(&self) -> &PullDoc {
        &self.doc.pull
    }

    /// Whether the counts of streams are asked for where a client did not.
    pub(crate) fn injects_usage(&self) -> bool {
        self.doc.usage.inject
    }

    /// Every node, disabled ones too.
    pub(crate) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// The model of this key, where any node holds it.
    pub(crate) fn model(&self, key: &str) -> Option<&Arc<ModelEntry>> {
        self.models.get(key)
    }

    /// The model of a name spelt as clients mostly do; a name that is not found here may still be
    /// one.
    pub(crate) fn spelt(&self, text: &str) -> Option<&Arc<ModelEntry>> {
        self.by_spelling.get(text)
    }

    /// Every model that any node holds.
    pub(crate) fn models(&self) -> impl Iterator<Item = (&ModelKey, &Arc<ModelEntry>)> {
        self.models.iter()
    }

    /// The model of this number.
    pub(crate) fn entry(&self, id: ModelId) -> Option<&Arc<ModelEntry>> {
        if id == ModelId::ANY {
            Some(&self.any)
        } else {
            self.by_id.get(id.0 as usize)?.as_ref()
        }
    }

    /// Every wanted node, for requests that no model decides.
    pub(crate) fn any(&self) -> &Arc<ModelEntry> {
        &self.any
    }
}

/// Who holds each model, by its number, and the cloud models that are denied. Nodes come in the
/// order of their serials, so holders do, too.
fn by_model(
    wanted: &[&Arc<Node>],
    cloud: Cloud,
    ids: &mut HashMap<ModelKey, ModelId>,
) -> (Holders, HashSet<ModelKey>) {
    let mut holders: Holders = Vec::new();
    let mut stubs = HashSet::new();
    for node in wanted {
        let rules = &node.doc().models;
        let held = node.state().held();
        for held in held.iter().filter(|held| rules.allow(&held.key)) {
            if held.is_stub && cloud == Cloud::Deny {
                stubs.insert(held.key.clone());
                continue;
            }
            let id = id_of(ids, &held.key).0 as usize;
            if holders.len() <= id {
                holders.resize_with(id + 1, Default::default);
            }
            let (key, list) = &mut holders[id];
            key.get_or_insert_with(|| held.key.clone());
            list.push(Holder {
                node: Arc::clone(node),
                model: Some(Arc::clone(&held.state)),
                is_stub: held.is_stub,
            });
        }
    }
    (holders, stubs)
}

fn id_of(ids: &mut HashMap<ModelKey, ModelId>, key: &ModelKey) -> ModelId {
    if let Some(id) = ids.get(key) {
        return *id;
    }
    let id = ModelId(ids.len() as u32);
    ids.insert(key.clone(), id);
    id
}

/// The short form with and without its tag, as far as they mean this model and no source.
pub(super) fn spellings(key: &ModelKey) -> impl Iterator<Item = &str> {
    let display = key.display();
    let bare = display.strip_suffix(":latest");
    [Some(display), bare]
        .into_iter()
        .flatten()
        .filter(move |text| {
            let mut scratch = String::new();
            ModelKey::of(text, &mut scratch) == Ok((key.as_str(), Source::Unspecified))
        })
}
