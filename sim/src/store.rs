//! What lies on a node's disk: models by name, blobs by digest. Reads, and the changes of copy,
//! delete, create and pull. No I/O and no waiting: callers hold the lock for a moment.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use aivonx_shared::model_name::ModelName;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::digest::sha256_hex;
use crate::gojson::encode::encode;
use crate::spec::{ModelSpec, NodeSpec};

/// One layer of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// 64 hex digits.
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// A model in the store. Immutable: a change replaces it, running streams keep theirs.
#[derive(Clone, Debug)]
pub(crate) struct Installed {
    pub(crate) name: ModelName,
    pub(crate) spec: ModelSpec,
    pub(crate) modified_at: DateTime<Utc>,
    /// The weights first.
    pub(crate) layers: Vec<Layer>,
}

impl Installed {
    /// A model made of its specification; `None` when its name is none.
    pub(crate) fn new(spec: ModelSpec, now: DateTime<Utc>) -> Option<Self> {
        let name = ModelName::parse(&spec.name).ok()?;
        let layers = layers_of(&spec);
        Some(Self {
            name,
            modified_at: spec.modified_at.unwrap_or(now),
            layers,
            spec,
        })
    }

    /// Bytes it takes while loaded.
    pub(crate) fn memory(&self) -> u64 {
        self.spec.memory.unwrap_or(self.spec.size)
    }
}

/// Bytes of each of [`ModelSpec::extra_layers`].
const EXTRA_LAYER: u64 = 1000;

/// The layers in the order of a manifest: weights, template, licence, system, parameters.
fn layers_of(spec: &ModelSpec) -> Vec<Layer> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for text in [&spec.template, &spec.license, &spec.system] {
        if !text.is_empty() {
            texts.push(text.clone().into_bytes());
        }
    }
    if let Some(parameters) = spec.parameters_json() {
        let mut text = encode(&parameters);
        text.push(b'\n');
        texts.push(text);
    }
    let extra = EXTRA_LAYER * spec.extra_layers as u64;
    let small: u64 = extra + texts.iter().map(|t| t.len() as u64).sum::<u64>();
    let weights = spec
        .weights_size
        .unwrap_or_else(|| spec.size.saturating_sub(small));
    let mut layers = vec![Layer {
        digest: spec.weights_digest.clone(),
        size: weights,
    }];
    layers.extend(texts.iter().map(|t| Layer {
        digest: sha256_hex(t),
        size: t.len() as u64,
    }));
    layers.extend((0..spec.extra_layers).map(|number| Layer {
        digest: sha256_hex(format!("{} layer {number}", spec.weights_digest).as_bytes()),
        size: EXTRA_LAYER,
    }));
    layers
}

/// Models and blobs of one node.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// By full name as spelt when stored.
    models: Vec<Arc<Installed>>,
    /// Sizes of blobs by digest, also of those that no model uses.
    blobs: HashMap<String, u64>,
}

impl Store {
    pub(crate) fn new(spec: &NodeSpec, now: DateTime<Utc>) -> Self {
        let mut store = Self::default();
        for model in spec
            .models
            .iter()
            .filter_map(|m| Installed::new(m.clone(), now))
        {
            store.put(model);
        }
        for blob in &spec.blobs {
            store.blobs.insert(sha256_hex(blob), blob.len() as u64);
        }
        store
    }

    /// Adds a model with its layers, or replaces the one of that name.
    pub(crate) fn put(&mut self, model: Installed) {
        for layer in &model.layers {
            self.blobs.insert(layer.digest.clone(), layer.size);
        }
        self.models.retain(|m| m.name.key() != model.name.key());
        self.models.push(Arc::new(model));
    }

    /// Finds a model in any spelling of its name.
    pub(crate) fn find(&self, name: &ModelName) -> Option<Arc<Installed>> {
        self.models
            .iter()
            .find(|m| m.name.key() == name.key())
            .cloned()
    }

    /// Finds a model in exactly this spelling.
    pub(crate) fn find_exact(&self, name: &ModelName) -> Option<Arc<Installed>> {
        self.find(name).filter(|m| m.name.full() == name.full())
    }

    /// All models, the newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Installed>> {
        let mut all = self.models.clone();
        all.sort_by(|a, b| {
            b.modified_at
                .cmp(&a.modified_at)
                .then_with(|| a.name.full().cmp(b.name.full()))
        });
        all
    }

    /// Gives a model a second name.
    pub(crate) fn copy(&mut self, source: &ModelName, name: ModelName, now: DateTime<Utc>) -> bool {
        let Some(model) = self.find(source) else {
            return false;
        };
        let spec = ModelSpec {
            name: name.full().to_owned(),
            ..model.spec.clone()
        };
        self.put(Installed {
            name,
            spec,
            modified_at: now,
            layers: model.layers.clone(),
        });
        true
    }

    /// Removes a model and the layers nobody else uses.
    pub(crate) fn delete(&mut self, name: &ModelName) -> bool {
        let Some(model) = self.find(name) else {
            return false;
        };
        self.models.retain(|m| m.name.key() != name.key());
        let used: HashSet<&str> = self
            .models
            .iter()
            .flat_map(|m| &m.layers)
            .map(|l| l.digest.as_str())
            .collect();
        for layer in model
            .layers
            .iter()
            .filter(|l| !used.contains(l.digest.as_str()))
        {
            self.blobs.remove(&layer.digest);
        }
        true
    }

    pub(crate) fn has_blob(&self, digest: &str) -> bool {
        self.blobs.contains_key(digest)
    }

    pub(crate) fn blob_size(&self, digest: &str) -> Option<u64> {
        self.blobs.get(digest).copied()
    }

    /// Bytes of all blobs.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.values().sum()
    }

    pub(crate) fn put_blob(&mut self, digest: &str, size: u64) {
        self.blobs.insert(digest.to_owned(), size);
    }
}

/// The digest of a manifest that has no recorded one.
pub(crate) fn manifest_digest(spec: &ModelSpec) -> String {
    let mut text = String::new();
    for layer in layers_of(spec) {
        text.push_str(&layer.digest);
        text.push('\n');
    }
    text.push_str(&spec.capabilities.join(","));
    sha256_hex(text.as_bytes())
}

/// The `sha256:` form of a digest in the API.
pub(crate) fn api_digest(hex: &str) -> Value {
    Value::String(format!("sha256:{hex}"))
}
