//! What a node is: its models, its limits, its speed. Written by tests, the demo and the binary.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

mod registry;

pub use registry::RegistrySpec;

use crate::cloud::{Account, RemoteSpec};
use crate::digest::sha256_hex;

/// One model as it lies in a node's store or in the simulated registry.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// Name as a client would write it; defaults are filled in (`llama3` is `llama3:latest`).
    pub name: String,
    /// Bytes of all layers together, as `/api/tags` says.
    pub size: u64,
    /// Sha256 of the manifest, 64 hex digits without a prefix.
    pub digest: String,
    /// Sha256 of the weights, 64 hex digits. Models that share it share one runner.
    pub weights_digest: String,
    /// Bytes of the weights; the rest of `size` when `None`.
    pub weights_size: Option<u64>,
    /// Further layers of a kilobyte each, as models have that are stored a tensor a layer.
    pub extra_layers: usize,
    /// Bytes of memory while loaded; `size` when `None`.
    pub memory: Option<u64>,
    /// What the model can do: `completion`, `tools`, `insert`, `vision`, `embedding`, `thinking`, `audio`.
    pub capabilities: Vec<String>,
    /// What `/api/tags` claims, where that differs from [`Self::capabilities`].
    pub listed_capabilities: Option<Vec<String>>,
    /// Node time to load it.
    pub load_time: Duration,
    /// The beginning of `load_time` that goes on even when nobody waits for the load any more
    /// (a process being started). Zero by default.
    pub start_time: Duration,
    /// Prompt tokens a second; infinite by default. Prompts of one runner are evaluated one after
    /// the other and hold its other streams up, as llama-server's batches do.
    pub prompt_tokens_per_second: f64,
    /// Generated tokens a second of one stream; infinite by default.
    pub tokens_per_second: f64,
    /// How many tokens an answer has when `num_predict` allows; `None` draws 32 to 96, and
    /// lets a given `num_predict` be used up.
    pub answer_tokens: Option<usize>,
    /// `details` of tags, ps and show.
    pub details: ModelDetails,
    /// The prompt template, a layer of its own.
    pub template: String,
    /// The system prompt, a layer of its own.
    pub system: String,
    /// The licence, a layer of its own.
    pub license: String,
    /// Modelfile parameters in order, such as `num_ctx`.
    pub parameters: Vec<(String, Value)>,
    /// `model_info` of show.
    pub model_info: Value,
    /// `tensors` of show, left out when null.
    pub tensors: Value,
    /// When it was made; the node's start when `None`.
    pub modified_at: Option<DateTime<Utc>>,
    /// Where it runs, for a stub: a cloud model that was pulled.
    pub remote: Option<RemoteSpec>,
}

/// The `details` object of tags, ps and show.
#[derive(Clone, Debug)]
pub struct ModelDetails {
    /// Empty, or the name it was made from.
    pub parent_model: String,
    /// `gguf`.
    pub format: String,
    /// The architecture.
    pub family: String,
    /// Usually just `family`.
    pub families: Vec<String>,
    /// As shown, such as `8.0B`.
    pub parameter_size: String,
    /// As shown, such as `Q4_K_M`.
    pub quantization_level: String,
    /// The longest context it was trained for.
    pub context_length: u64,
    /// Numbers in an embedding.
    pub embedding_length: u64,
}

impl Default for ModelDetails {
    fn default() -> Self {
        Self {
            parent_model: String::new(),
            format: "gguf".into(),
            family: "llama".into(),
            families: vec!["llama".into()],
            parameter_size: "8.0B".into(),
            quantization_level: "Q4_K_M".into(),
            context_length: 8192,
            embedding_length: 64,
        }
    }
}

impl ModelSpec {
    /// A quick model with completion and tools: no load time, tokens at once. Digests follow from the name.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            size: 4_000_000_000,
            digest: sha256_hex(format!("manifest of {name}").as_bytes()),
            weights_digest: sha256_hex(format!("weights of {name}").as_bytes()),
            weights_size: None,
            extra_layers: 0,
            memory: None,
            capabilities: vec!["completion".into(), "tools".into()],
            listed_capabilities: None,
            load_time: Duration::ZERO,
            start_time: Duration::ZERO,
            prompt_tokens_per_second: f64::INFINITY,
            tokens_per_second: f64::INFINITY,
            answer_tokens: None,
            details: ModelDetails::default(),
            template: "{{ .Prompt }}".into(),
            system: String::new(),
            license: String::new(),
            parameters: Vec::new(),
            model_info: json!({"general.architecture": "llama"}),
            tensors: Value::Null,
            modified_at: None,
            remote: None,
        }
    }

    /// An embedding model.
    pub fn embedding(name: &str) -> Self {
        Self::new(name).capabilities(["embedding"])
    }

    /// Sets the bytes of all layers.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Sets the manifest's digest.
    #[must_use]
    pub fn digest(mut self, hex: &str) -> Self {
        self.digest = hex.into();
        self
    }

    /// Sets how many layers of a kilobyte it has beside the others.
    #[must_use]
    pub fn extra_layers(mut self, layers: usize) -> Self {
        self.extra_layers = layers;
        self
    }

    /// Sets the digest of the weights.
    #[must_use]
    pub fn weights_digest(mut self, hex: &str) -> Self {
        self.weights_digest = hex.into();
        self
    }

    /// Sets the node time of a load.
    #[must_use]
    pub fn load_time(mut self, time: Duration) -> Self {
        self.load_time = time;
        self
    }

    /// Sets prompt and answer speed in tokens a second.
    #[must_use]
    pub fn speed(mut self, prompt: f64, answer: f64) -> Self {
        self.prompt_tokens_per_second = prompt;
        self.tokens_per_second = answer;
        self
    }

    /// Sets how long an answer is when nothing cuts it short.
    #[must_use]
    pub fn answer_tokens(mut self, tokens: usize) -> Self {
        self.answer_tokens = Some(tokens);
        self
    }

    /// Sets the memory it takes while loaded.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// Sets what it can do.
    #[must_use]
    pub fn capabilities<'a>(mut self, list: impl IntoIterator<Item = &'a str>) -> Self {
        self.capabilities = list.into_iter().map(String::from).collect();
        self
    }

    /// Sets a Modelfile parameter.
    #[must_use]
    pub fn parameter(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.parameters.push((key.into(), value.into()));
        self
    }

    /// Sets the context it was trained for.
    #[must_use]
    pub fn context_length(mut self, tokens: u64) -> Self {
        self.details.context_length = tokens;
        self
    }

    /// Makes it a stub of a model that runs elsewhere, as `https://ollama.com:443`.
    #[must_use]
    pub fn remote(mut self, model: &str, host: &str) -> Self {
        self.remote = Some(RemoteSpec {
            model: model.into(),
            host: host.into(),
        });
        self
    }

    /// Sets when it was made.
    #[must_use]
    pub fn modified_at(mut self, at: DateTime<Utc>) -> Self {
        self.modified_at = Some(at);
        self
    }

    /// The parameters as one JSON object, sorted by key as Go's maps are written.
    pub(crate) fn parameters_json(&self) -> Option<Value> {
        if self.parameters.is_empty() {
            return None;
        }
        let mut sorted = self.parameters.clone();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        Some(Value::Object(sorted.into_iter().collect::<Map<_, _>>()))
    }

    /// Whether it has a capability.
    pub(crate) fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }
}

/// One node: what it holds and how it behaves.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// The models in its store at the start.
    pub models: Vec<ModelSpec>,
    /// Blobs already lying in its store, by content.
    pub blobs: Vec<Vec<u8>>,
    /// `OLLAMA_NUM_PARALLEL`: streams of one model at a time.
    pub num_parallel: usize,
    /// `OLLAMA_MAX_QUEUE`: requests that may wait for a load.
    pub max_queue: usize,
    /// `OLLAMA_MAX_LOADED_MODELS`; 0 means 3.
    pub max_loaded_models: usize,
    /// Bytes of memory for loaded models.
    pub memory: u64,
    /// Bytes of disk for models and blobs.
    pub disk: u64,
    /// `OLLAMA_KEEP_ALIVE`; `None` keeps models for ever.
    pub keep_alive: Option<Duration>,
    /// `OLLAMA_CONTEXT_LENGTH`.
    pub context_length: u64,
    /// Whether loaded models lie in video memory, as `/api/ps` shows.
    pub vram: bool,
    /// What `/api/version` says.
    pub version: String,
    /// Node seconds in a real second.
    pub time_scale: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Where pulls come from; unreachable by default.
    pub registry: RegistrySpec,
    /// How it stands with ollama.com at the start.
    pub account: Account,
    /// The models `/api/experimental/model-recommendations` names.
    pub recommendations: Value,
    /// The name server a failing look-up names.
    pub name_server: String,
    /// The folder of models that errors and Modelfiles name.
    pub models_dir: String,
    /// How many requests [`crate::SimNode::requests`] remembers; 0 also saves hashing the bodies.
    pub remember: usize,
}

impl Default for NodeSpec {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            blobs: Vec::new(),
            num_parallel: 1,
            max_queue: 512,
            max_loaded_models: 0,
            memory: u64::MAX,
            disk: u64::MAX,
            keep_alive: Some(Duration::from_mins(5)),
            context_length: 4096,
            vram: true,
            version: "0.33.0".into(),
            time_scale: 1.0,
            seed: 0,
            registry: RegistrySpec::unreachable(),
            account: Account::default(),
            recommendations: json!([]),
            name_server: "127.0.0.53:53".into(),
            models_dir: "/usr/share/ollama/.ollama/models".into(),
            remember: 10_000,
        }
    }
}

impl NodeSpec {
    /// An empty node with Ollama's defaults, in real time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a model.
    #[must_use]
    pub fn model(mut self, model: ModelSpec) -> Self {
        self.models.push(model);
        self
    }

    /// Sets the streams of one model at a time.
    #[must_use]
    pub fn num_parallel(mut self, slots: usize) -> Self {
        self.num_parallel = slots.max(1);
        self
    }

    /// Sets how many requests may wait for a load.
    #[must_use]
    pub fn max_queue(mut self, requests: usize) -> Self {
        self.max_queue = requests;
        self
    }

    /// Sets how many models may be loaded; 0 means 3.
    #[must_use]
    pub fn max_loaded_models(mut self, models: usize) -> Self {
        self.max_loaded_models = models;
        self
    }

    /// Sets the bytes of memory for loaded models.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Sets the bytes of disk for models and blobs.
    #[must_use]
    pub fn disk(mut self, bytes: u64) -> Self {
        self.disk = bytes;
        self
    }

    /// Sets the version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// Sets node seconds in a real second.
    #[must_use]
    pub fn time_scale(mut self, scale: f64) -> Self {
        self.time_scale = scale;
        self
    }

    /// Sets the seed of everything random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Sets how it stands with ollama.com at the start.
    #[must_use]
    pub fn account(mut self, account: Account) -> Self {
        self.account = account;
        self
    }

    /// Sets where pulls come from.
    #[must_use]
    pub fn registry(mut self, registry: RegistrySpec) -> Self {
        self.registry = registry;
        self
    }
}
