//! `POST /api/pull` and `POST /api/push`: progress lines while layers move.

use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::model_name::ModelName;
use serde_json::{Value, json};

use super::{Request, blobs, model_or_name, text};
use crate::answer::{ApiError, Dialect, send_error};
use crate::gojson::bind::Bound;
use crate::gojson::encode::encode;
use crate::gojson::schema::{PULL, PUSH};
use crate::http::reply::{Reply, Written};
use crate::node::Node;
use crate::pull::Watch;
use crate::spec::ModelSpec;
use crate::store::{Installed, Layer, api_digest};

/// Between two progress lines.
const TICK: Duration = Duration::from_millis(60);

/// Progress as lines, or only its end.
pub(super) struct Progress<'r, 'c> {
    reply: &'r mut Reply<'c>,
    streams: bool,
}

impl<'r, 'c> Progress<'r, 'c> {
    /// By the request's `stream`.
    pub(super) fn new(reply: &'r mut Reply<'c>, bound: &Bound) -> Self {
        Self {
            reply,
            streams: bound.get("stream") != Some(&Value::Bool(false)),
        }
    }

    /// One line, flushed.
    pub(super) async fn line(&mut self, value: &Value) -> Written {
        if !self.streams {
            return Ok(());
        }
        self.reply.header("Content-Type", "application/x-ndjson");
        self.reply.write(&encode(value));
        self.reply.write(b"\n");
        self.reply.flush().await
    }

    /// One line of `status`.
    pub(super) async fn status(&mut self, text: &str) -> Written {
        self.line(&json!({ "status": text })).await
    }

    /// The end: success, or an error with its status where nothing was sent yet.
    pub(super) async fn end(mut self, outcome: Result<(), ApiError>) -> Written {
        match (&outcome, self.streams) {
            (Ok(()), true) => self.status("success").await?,
            (Err(e), true) if self.reply.has_started() => {
                self.line(&blobs::error_line(&e.text)).await?;
            }
            (Err(e), true) => {
                self.reply.status = e.status;
                self.reply.header("Content-Type", "application/json");
                self.reply.write(&encode(&blobs::error_line(&e.text)));
                self.reply.flush().await?;
            }
            (Ok(()), false) => {
                self.reply.header("Content-Type", "application/json");
                self.reply.write(&encode(&json!({"status": "success"})));
            }
            (Err(e), false) => {
                self.reply.status = e.status;
                self.reply.header("Content-Type", "application/json");
                self.reply.write(&encode(&blobs::error_line(&e.text)));
            }
        }
        self.reply.finish().await
    }
}

/// `POST /api/pull`
pub(super) async fn pull(
    node: &Arc<Node>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Written {
    let bound = match request.native(&PULL) {
        Ok(bound) => bound,
        Err(e) => return send_error(reply, Dialect::Native, &e, 0).await,
    };
    let Ok(name) = ModelName::parse_for_store(model_or_name(&bound)) else {
        return send_error(
            reply,
            Dialect::Native,
            &ApiError::bad("invalid model name"),
            0,
        )
        .await;
    };
    let mut progress = Progress::new(reply, &bound);
    let outcome = fetch(node, &name, &mut progress).await?;
    progress.end(outcome).await
}

/// Pulls a model into the store, telling how it goes. Nothing but `success` is left to say.
pub(super) async fn fetch(
    node: &Arc<Node>,
    name: &ModelName,
    progress: &mut Progress<'_, '_>,
) -> Result<Result<(), ApiError>, crate::http::reply::Stop> {
    progress.status("pulling manifest").await?;
    let spec = match offered(node, name) {
        Ok(spec) => spec,
        Err(e) => return Ok(Err(e)),
    };
    let Some(model) = Installed::new(spec, node.clock.wall()) else {
        return Ok(Err(ApiError::new(
            500,
            "pull model manifest: file does not exist",
        )));
    };
    for layer in &model.layers {
        if let Err(e) = download(node, layer, progress).await? {
            return Ok(Err(e));
        }
    }
    progress.status("verifying sha256 digest").await?;
    let bytes: u64 = model.layers.iter().map(|l| l.size).sum();
    let span = bytes as f64 / node.spec.registry.verify_bytes_per_second;
    node.clock
        .sleep(Duration::try_from_secs_f64(span).unwrap_or_default())
        .await;
    progress.status("writing manifest").await?;
    node.store.lock().put(model);
    Ok(Ok(()))
}

/// What the registry has under this name, renamed to it.
fn offered(node: &Node, name: &ModelName) -> Result<ModelSpec, ApiError> {
    let registry = &node.spec.registry;
    if !registry.reachable {
        let (host, server) = (name.host(), &node.spec.name_server);
        let text = format!(
            "pull model manifest: Get \"https://{host}/v2/{}/{}/manifests/{}\": dial tcp: lookup {host} on {server}: no such host",
            name.namespace(),
            name.model(),
            name.tag()
        );
        return Err(ApiError::new(500, text));
    }
    let path =
        |n: &ModelName| format!("{}/{}:{}", n.namespace(), n.model(), n.tag()).to_lowercase();
    let found = registry
        .models
        .iter()
        .find(|m| ModelName::parse(&m.name).is_ok_and(|n| path(&n) == path(name)));
    let spec =
        found.ok_or_else(|| ApiError::new(500, "pull model manifest: file does not exist"))?;
    Ok(ModelSpec {
        name: name.full().to_owned(),
        modified_at: None,
        ..spec.clone()
    })
}

async fn download(
    node: &Arc<Node>,
    layer: &Layer,
    progress: &mut Progress<'_, '_>,
) -> Result<Result<(), ApiError>, crate::http::reply::Stop> {
    let line = |completed: u64| {
        let short: String = layer.digest.chars().take(12).collect();
        let mut line = json!({
            "status": format!("pulling {short}"),
            "digest": api_digest(&layer.digest),
            "total": layer.size,
        });
        if completed > 0 {
            line["completed"] = completed.into();
        }
        line
    };
    if node.store.lock().has_blob(&layer.digest) {
        return progress.line(&line(layer.size)).await.map(Ok);
    }
    let watch = Watch::join(node, &layer.digest, layer.size);
    loop {
        let (completed, total) = watch.progress();
        if blobs::is_full(node, completed) {
            return Ok(Err(blobs::no_space(node, &layer.digest)));
        }
        if completed >= total {
            break;
        }
        node.clock.sleep(TICK).await;
        let (completed, total) = watch.progress();
        if completed < total {
            progress.line(&line(completed)).await?;
        }
    }
    drop(watch); // as recorded, no line says that a layer is complete
    node.store.lock().put_blob(&layer.digest, layer.size);
    Ok(Ok(()))
}

/// `POST /api/push`
pub(super) async fn push(
    node: &Arc<Node>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Written {
    let bound = match request.native(&PUSH) {
        Ok(bound) => bound,
        Err(e) => return send_error(reply, Dialect::Native, &e, 0).await,
    };
    let asked = model_or_name(&bound).to_owned();
    if asked.is_empty() {
        return send_error(
            reply,
            Dialect::Native,
            &ApiError::bad("model is required"),
            0,
        )
        .await;
    }
    let found = ModelName::parse(&asked)
        .ok()
        .map(|n| (node.store.lock().find(&n), n));
    let mut progress = Progress::new(reply, &bound);
    let (model, name) = match found {
        Some((Some(model), name)) => (model, name),
        Some((None, name)) => {
            return send_plain(progress, ApiError::new(500, no_manifest(node, &name))).await;
        }
        None => {
            let text = format!("unqualified name: {}", shown_invalid(&asked));
            return send_plain(progress, ApiError::new(500, text)).await;
        }
    };
    progress.status("retrieving manifest").await?;
    if !node.spec.registry.reachable {
        let e = push_unreachable(node, &name, &model.layers[0]);
        return progress.end(Err(e)).await;
    }
    for layer in &model.layers {
        let short: String = layer.digest.chars().take(12).collect();
        let span = layer.size as f64 / node.spec.registry.bytes_per_second;
        node.clock
            .sleep(Duration::try_from_secs_f64(span).unwrap_or_default())
            .await;
        let line = json!({
            "status": format!("pushing {short}"), "digest": api_digest(&layer.digest),
            "total": layer.size, "completed": layer.size,
        });
        progress.line(&line).await?;
    }
    progress.status("pushing manifest").await?;
    progress.end(Ok(())).await
}

/// Errors found before the first line are never streamed here.
async fn send_plain(mut progress: Progress<'_, '_>, error: ApiError) -> Written {
    progress.streams = false;
    progress.end(Err(error)).await
}

fn no_manifest(node: &Node, name: &ModelName) -> String {
    let dir = &node.spec.models_dir;
    let (host, namespace, model, tag) = (name.host(), name.namespace(), name.model(), name.tag());
    format!("open {dir}/manifests/{host}/{namespace}/{model}/{tag}: no such file or directory")
}

fn push_unreachable(node: &Node, name: &ModelName, layer: &Layer) -> ApiError {
    let (host, server) = (name.host(), &node.spec.name_server);
    let text = format!(
        "Head \"https://{host}/v2/{}/{}/blobs/sha256:{}\": dial tcp: lookup {host} on {server}: no such host",
        name.namespace(),
        name.model(),
        layer.digest
    );
    ApiError::new(500, text)
}

/// A name with missing parts, as Ollama prints what it made of it.
fn shown_invalid(asked: &str) -> String {
    let (path, tag) = match asked.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (asked, "latest"),
    };
    let parts: Vec<&str> = path
        .split('/')
        .map(|p| if p.is_empty() { "!MISSING!" } else { p })
        .collect();
    let tag = if tag.is_empty() { "!MISSING!" } else { tag };
    format!("{}:{tag}", parts.join("/"))
}

/// The name a `from` asks to pull.
pub(super) fn from_of(bound: &Bound) -> &str {
    text(bound, "from")
}
