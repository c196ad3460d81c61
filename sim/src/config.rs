//! Models on the command line and nodes in a JSON file.

use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use aivonx_sim::{ModelSpec, NodeSpec, RegistrySpec};
use serde::Deserialize;

/// A model given as `NAME:SIZE:LOAD_MS:TOKENS_PER_S`.
#[derive(Clone, Debug)]
pub(crate) struct ModelArg(pub(crate) ModelSpec);

impl FromStr for ModelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default().replace('/', ":");
        if name.is_empty() {
            return Err("a model needs a name".into());
        }
        let mut model = ModelSpec::new(&name);
        let number = |text: &str, what: &str| {
            text.parse::<f64>()
                .map_err(|_| format!("{what} `{text}` is not a number"))
        };
        if let Some(size) = parts.next() {
            model.size = number(size, "size")? as u64;
        }
        if let Some(load) = parts.next() {
            model.load_time = Duration::from_secs_f64(number(load, "load time")?.max(0.0) / 1000.0);
        }
        if let Some(speed) = parts.next() {
            let speed = number(speed, "speed")?;
            model = model.speed(speed * 20.0, speed);
        }
        Ok(Self(model))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    #[serde(default)]
    models: Vec<ModelFile>,
    #[serde(default)]
    registry: Option<Vec<ModelFile>>,
    #[serde(default)]
    registry_bytes_per_second: Option<f64>,
    #[serde(default)]
    num_parallel: Option<usize>,
    #[serde(default)]
    max_queue: Option<usize>,
    #[serde(default)]
    max_loaded_models: Option<usize>,
    #[serde(default)]
    memory: Option<u64>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    time_scale: Option<f64>,
    #[serde(default)]
    seed: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    name: String,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    load_ms: u64,
    #[serde(default)]
    tokens_per_second: Option<f64>,
    #[serde(default)]
    prompt_tokens_per_second: Option<f64>,
    #[serde(default)]
    answer_tokens: Option<usize>,
    #[serde(default)]
    capabilities: Option<Vec<String>>,
}

impl From<ModelFile> for ModelSpec {
    fn from(file: ModelFile) -> Self {
        let mut model = Self::new(&file.name)
            .load_time(Duration::from_millis(file.load_ms))
            .speed(
                file.prompt_tokens_per_second.unwrap_or(f64::INFINITY),
                file.tokens_per_second.unwrap_or(f64::INFINITY),
            );
        model.size = file.size.unwrap_or(model.size);
        model.answer_tokens = file.answer_tokens;
        if let Some(list) = file.capabilities {
            model.capabilities = list;
        }
        model
    }
}

/// Reads a node from a JSON file.
pub(crate) fn read_config(path: &Path) -> io::Result<NodeSpec> {
    let text = std::fs::read_to_string(path)?;
    let file: NodeFile = serde_json::from_str(&text).map_err(|e| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {e}", path.display()),
        )
    })?;
    let mut spec = NodeSpec::new();
    spec.models = file.models.into_iter().map(Into::into).collect();
    if let Some(models) = file.registry {
        spec.registry = RegistrySpec::serving(models.into_iter().map(Into::into));
        if let Some(speed) = file.registry_bytes_per_second {
            spec.registry = spec.registry.speed(speed);
        }
    }
    spec.num_parallel = file.num_parallel.unwrap_or(spec.num_parallel);
    spec.max_queue = file.max_queue.unwrap_or(spec.max_queue);
    spec.max_loaded_models = file.max_loaded_models.unwrap_or(spec.max_loaded_models);
    spec.memory = file.memory.unwrap_or(spec.memory);
    spec.version = file.version.unwrap_or(spec.version);
    spec.time_scale = file.time_scale.unwrap_or(spec.time_scale);
    spec.seed = file.seed.unwrap_or(spec.seed);
    Ok(spec)
}
