//! Models on the command line and nodes in a JSON file.

use std::io;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use aivonx_sim::{Account, ModelSpec, NodeSpec, RegistrySpec};
use serde::Deserialize;

/// A model given as `NAME:SIZE:LOAD_MS:TOKENS_PER_S:PROMPT_TOKENS_PER_S`.
#[derive(Clone, Debug)]
pub(crate) struct ModelArg(pub(crate) ModelSpec);

impl FromStr for ModelArg {
    type Err = String;

    /// The last numbers, four at most, are size, load time, speed and prompt speed; what stands
    /// before is the name, tag included. A tag that is a number needs all four behind it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split(':').collect();
        let numbers: Vec<f64> = parts
            .iter()
            .skip(1)
            .rev()
            .map_while(|p| p.parse().ok())
            .take(4)
            .collect();
        let name = parts[..parts.len() - numbers.len()].join(":");
        if name.is_empty() {
            return Err("a model needs a name".into());
        }
        let mut model = ModelSpec::new(&name);
        let mut numbers = numbers.into_iter().rev();
        if let Some(size) = numbers.next() {
            model.size = size as u64;
        }
        if let Some(load) = numbers.next() {
            model.load_time =
                Duration::try_from_secs_f64(load / 1000.0).map_err(|e| e.to_string())?;
        }
        if let Some(speed) = numbers.next() {
            model = model.speed(numbers.next().unwrap_or(f64::INFINITY), speed);
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
    #[serde(default)]
    account: Account,
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
    /// For a stub of a cloud model: its name there.
    #[serde(default)]
    remote_model: Option<String>,
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
        if let Some(remote) = file.remote_model {
            model = model.remote(&remote, "https://ollama.com:443");
        }
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
    spec.account = file.account;
    spec.num_parallel = file.num_parallel.unwrap_or(spec.num_parallel);
    spec.max_queue = file.max_queue.unwrap_or(spec.max_queue);
    spec.max_loaded_models = file.max_loaded_models.unwrap_or(spec.max_loaded_models);
    spec.memory = file.memory.unwrap_or(spec.memory);
    spec.version = file.version.unwrap_or(spec.version);
    spec.time_scale = file.time_scale.unwrap_or(spec.time_scale);
    spec.seed = file.seed.unwrap_or(spec.seed);
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_behind_a_name_are_size_load_time_and_speed() {
        let ModelArg(model) = "llama3:8b:5000:250:40".parse().expect("a model");
        assert_eq!((model.name.as_str(), model.size), ("llama3:8b", 5000));
        assert_eq!(model.load_time, Duration::from_millis(250));
        assert!((model.tokens_per_second - 40.0).abs() < 1e-9);
        let ModelArg(plain) = "ns/llama3:8b".parse().expect("a model");
        assert_eq!(plain.name, "ns/llama3:8b");
    }
}
