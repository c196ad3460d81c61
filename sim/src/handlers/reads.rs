//! What a node says about itself and its store; nothing here waits.

use aivonx_shared::model_name::ModelName;
use serde_json::{Value, json};

use crate::answer::{ApiError, Dialect, send_json, send_json_line, send_text};
use crate::clock::rfc3339;
use crate::http::reply::{Reply, Written};
use crate::node::Node;
use crate::spec::ModelDetails;
use crate::store::Installed;

/// `GET /`
pub(super) async fn root(reply: &mut Reply<'_>) -> Written {
    send_text(reply, 200, "text/plain; charset=utf-8", "Ollama is running").await
}

/// `GET /api/status`
pub(super) async fn status(reply: &mut Reply<'_>) -> Written {
    send_json(
        reply,
        200,
        &json!({"cloud": {"disabled": false, "source": "none"}}),
    )
    .await
}

/// `GET /api/tags`
pub(super) async fn tags(node: &Node, reply: &mut Reply<'_>) -> Written {
    let models: Vec<Value> = node.store.lock().all().iter().map(|m| tag(m)).collect();
    send_json(reply, 200, &json!({ "models": models })).await
}

fn tag(model: &Installed) -> Value {
    let spec = &model.spec;
    let mut details = details(&spec.details);
    if spec.details.context_length > 0 {
        details["context_length"] = spec.details.context_length.into();
    }
    if spec.details.embedding_length > 0 {
        details["embedding_length"] = spec.details.embedding_length.into();
    }
    let mut tag = json!({
        "name": model.name.display(),
        "model": model.name.display(),
        "modified_at": rfc3339(model.modified_at),
        "size": spec.size,
        "digest": spec.digest,
        "details": details,
        "capabilities": spec.listed_capabilities.as_ref().unwrap_or(&spec.capabilities),
    });
    if let Some(remote) = &spec.remote {
        tag["remote_model"] = remote.model.as_str().into();
        tag["remote_host"] = remote.host.as_str().into();
    }
    tag
}

/// `details` as every route shows it.
pub(super) fn details(of: &ModelDetails) -> Value {
    json!({
        "parent_model": of.parent_model,
        "format": of.format,
        "family": of.family,
        "families": of.families,
        "parameter_size": of.parameter_size,
        "quantization_level": of.quantization_level,
    })
}

/// `GET /api/ps`
pub(super) async fn ps(node: &Node, reply: &mut Reply<'_>) -> Written {
    let row = |r: &crate::sched::Resident| {
        let (model, memory) = (&r.model, if node.spec.vram { r.model.memory() } else { 0 });
        json!({
            "name": model.name.display(),
            "model": model.name.display(),
            "size": memory,
            "digest": model.spec.digest,
            "details": details(&model.spec.details),
            "expires_at": rfc3339(node.clock.wall_at(r.expires_at)),
            "size_vram": memory,
            "context_length": r.num_ctx,
        })
    };
    let models: Vec<Value> = node.sched.residents().iter().map(row).collect();
    send_json(reply, 200, &json!({ "models": models })).await
}

/// `GET /api/experimental/model-recommendations`
pub(super) async fn recommendations(node: &Node, reply: &mut Reply<'_>) -> Written {
    send_json(
        reply,
        200,
        &json!({"recommendations": node.spec.recommendations}),
    )
    .await
}

/// `GET /v1/models`
pub(super) async fn v1_models(node: &Node, reply: &mut Reply<'_>) -> Written {
    let list: Vec<Value> = node
        .store
        .lock()
        .all()
        .iter()
        .map(|m| v1_object(m, m.name.display()))
        .collect();
    let data = if list.is_empty() {
        Value::Null
    } else {
        Value::Array(list)
    };
    send_json_line(reply, 200, &json!({"object": "list", "data": data})).await
}

/// `GET /v1/models/:model`
pub(super) async fn v1_model(node: &Node, text: &str, reply: &mut Reply<'_>) -> Written {
    let name = ModelName::parse_with_source(text);
    let found = name
        .as_ref()
        .ok()
        .and_then(|(n, _)| node.store.lock().find(n));
    if let Some(model) = found {
        return send_json_line(reply, 200, &v1_object(&model, text)).await;
    }
    let error = match name {
        Ok((name, _)) => ApiError::new(404, format!("model '{}' not found", name.display())),
        Err(e) => ApiError::bad(e.to_string()),
    };
    send_json_line(reply, error.status, &Dialect::OpenAi.error_body(&error, 0)).await
}

fn v1_object(model: &Installed, id: &str) -> Value {
    json!({
        "id": id,
        "object": "model",
        "created": model.modified_at.timestamp(),
        "owned_by": model.name.namespace(),
    })
}
