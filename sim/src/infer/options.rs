//! The `options` of a request: their types, and those that decide how a model is loaded.

use serde_json::{Map, Value};

use crate::answer::ApiError;
use crate::gojson::encode::go_quote;
use crate::node::Node;
use crate::sched::LoadOptions;
use crate::store::Installed;

/// Options of the runner beside `num_ctx`: another value means another load.
const OF_THE_RUNNER: [&str; 6] = [
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
];

/// Go's word for an option's type; `None` for options nobody knows.
fn kind(name: &str) -> Option<&'static str> {
    Some(match name {
        "num_keep" | "seed" | "num_predict" | "top_k" | "repeat_last_n" | "num_ctx"
        | "num_batch" | "num_gpu" | "main_gpu" | "num_thread" | "draft_num_predict" => "integer",
        "top_p" | "min_p" | "typical_p" | "temperature" | "repeat_penalty" | "presence_penalty"
        | "frequency_penalty" => "float32",
        "use_mmap" => "boolean",
        "stop" => "array",
        _ => return None,
    })
}

/// The options when each has its type; otherwise Ollama's 500.
pub(crate) fn checked_options(
    options: &Map<String, Value>,
) -> Result<&Map<String, Value>, ApiError> {
    for (name, value) in options {
        let Some(kind) = kind(name) else { continue };
        let fits = match (kind, value) {
            (_, Value::Null)
            | ("integer" | "float32", Value::Number(_))
            | ("boolean", Value::Bool(_)) => true,
            ("array", Value::Array(items)) => items.iter().all(Value::is_string),
            _ => false,
        };
        if !fits {
            let text = format!("option {} must be of type {kind}", go_quote(name));
            return Err(ApiError::new(500, text));
        }
    }
    Ok(options)
}

/// What a runner has to be loaded with: the request's options over the model's own.
pub(crate) fn load_options(
    node: &Node,
    model: &Installed,
    options: &Map<String, Value>,
) -> LoadOptions {
    let own = |name: &str| {
        model
            .spec
            .parameters
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v)
    };
    let given = |name: &str| {
        options
            .get(name)
            .filter(|v| !v.is_null())
            .or_else(|| own(name))
    };
    let num_ctx = given("num_ctx")
        .and_then(Value::as_f64)
        .map_or(node.spec.context_length, |n| n as u64);
    let trained = model.spec.details.context_length;
    let num_ctx = if trained > 0 {
        num_ctx.min(trained)
    } else {
        num_ctx
    };
    let others = OF_THE_RUNNER
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), given(name)?.to_string())));
    LoadOptions {
        num_ctx: num_ctx.max(4),
        others: others.collect(),
    }
}
