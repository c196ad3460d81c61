//! `POST /api/create`: a model made from another one, or from blobs.

use std::sync::Arc;

use aivonx_shared::model_name::ModelName;
use serde_json::Value;

use super::transfer::{Progress, fetch, from_of};
use super::{Request, blobs, model_or_name, text};
use crate::answer::{ApiError, Dialect, send_error};
use crate::gojson::bind::Bound;
use crate::gojson::schema::CREATE;
use crate::http::reply::{Reply, Stop, Written};
use crate::node::Node;
use crate::spec::ModelSpec;
use crate::store::{Installed, manifest_digest};

/// Makes a model.
pub(super) async fn create(
    node: &Arc<Node>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Written {
    let (bound, name) = match checked(request) {
        Ok(checked) => checked,
        Err(e) => return send_error(reply, Dialect::Native, &e, 0).await,
    };
    let mut progress = Progress::new(reply, &bound);
    let outcome = make(node, &bound, name, &mut progress).await?;
    progress.end(outcome).await
}

fn checked(request: &Request<'_>) -> Result<(Bound, ModelName), ApiError> {
    let bound = request.native(&CREATE)?;
    let name =
        ModelName::parse(model_or_name(&bound)).map_err(|_| ApiError::bad("invalid model name"))?;
    if from_of(&bound).is_empty() && files(&bound).next().is_none() {
        return Err(ApiError::bad("neither 'from' or 'files' was specified"));
    }
    if files(&bound).any(|(_, digest)| blobs::parse_digest(digest).is_none()) {
        return Err(ApiError::bad("invalid digest format"));
    }
    Ok((bound, name))
}

fn files(bound: &Bound) -> impl Iterator<Item = (&str, &str)> {
    let map = bound.get("files").and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(name, digest)| (name.as_str(), digest.as_str().unwrap_or_default()))
}

async fn make(
    node: &Arc<Node>,
    bound: &Bound,
    name: ModelName,
    progress: &mut Progress<'_, '_>,
) -> Result<Result<(), ApiError>, Stop> {
    let base = match base(node, bound, progress).await? {
        Ok(base) => base,
        Err(e) => return Ok(Err(e)),
    };
    let spec = changed(base, bound, &name);
    let Some(mut model) = Installed::new(spec, node.clock.wall()) else {
        return Ok(Err(ApiError::bad("invalid model name")));
    };
    model.spec.size = model.layers.iter().map(|l| l.size).sum();
    for layer in &model.layers {
        let is_there = node.store.lock().has_blob(&layer.digest);
        let verb = if is_there {
            "using existing layer"
        } else {
            "creating new layer"
        };
        progress
            .status(&format!("{verb} sha256:{}", layer.digest))
            .await?;
    }
    progress.status("writing manifest").await?;
    node.store.lock().put(model);
    Ok(Ok(()))
}

/// What the new model starts from.
async fn base(
    node: &Arc<Node>,
    bound: &Bound,
    progress: &mut Progress<'_, '_>,
) -> Result<Result<ModelSpec, ApiError>, Stop> {
    let from = from_of(bound);
    if !from.is_empty() {
        let Ok((source, _)) = ModelName::parse_with_source(from) else {
            return Ok(Err(ApiError::bad("invalid model name")));
        };
        if node.store.lock().find(&source).is_none()
            && let Err(e) = fetch(node, &source, progress).await?
        {
            return Ok(Err(e));
        }
        let found = node.store.lock().find(&source);
        return Ok(found
            .map(|m| m.spec.clone())
            .ok_or_else(|| ApiError::new(500, "file does not exist")));
    }
    progress.status("parsing GGUF").await?;
    let mut spec = ModelSpec {
        template: "{{ .Prompt }}".into(),
        ..ModelSpec::new("new")
    };
    for (_, digest) in files(bound) {
        let digest = blobs::parse_digest(digest).unwrap_or_default();
        let Some(size) = node.store.lock().blob_size(&digest) else {
            let dir = &node.spec.models_dir;
            let text = format!("open {dir}/blobs/sha256-{digest}: no such file or directory");
            return Ok(Err(ApiError::new(500, text)));
        };
        spec.weights_digest = digest;
        spec.weights_size = Some(size);
    }
    Ok(Ok(spec))
}

/// The base with what the request changes.
fn changed(mut spec: ModelSpec, bound: &Bound, name: &ModelName) -> ModelSpec {
    let layers = Installed::new(spec.clone(), chrono::DateTime::default());
    spec.weights_size = layers.map(|m| m.layers[0].size);
    name.full().clone_into(&mut spec.name);
    spec.modified_at = None;
    let set = |key: &str, field: &mut String| {
        if !text(bound, key).is_empty() {
            text(bound, key).clone_into(field);
        }
    };
    set("template", &mut spec.template);
    set("system", &mut spec.system);
    match bound.get("license") {
        Some(Value::String(license)) => spec.license.clone_from(license),
        Some(Value::Array(all)) => {
            spec.license = all
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join("\n");
        }
        _ => {}
    }
    if let Some(Value::Object(parameters)) = bound.get("parameters") {
        for (key, value) in parameters {
            spec.parameters.retain(|(k, _)| k != key);
            spec.parameters.push((key.clone(), value.clone()));
        }
    }
    spec.digest = manifest_digest(&spec);
    spec
}
