//! One file a family of routes; here is the list of all of them.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::answer::{ApiError, send_json};
use crate::gojson::bind::{Bound, bind};
use crate::gojson::schema::Struct;
use crate::gojson::{Json, parse};
use crate::http::head::Head;
use crate::http::reply::{Reply, Written};
use crate::node::Node;
use crate::routes::Route;

mod blobs;
mod chat;
mod create;
mod embed;
mod generate;
mod identity;
mod multipart;
mod native_stream;
mod reads;
mod show;
mod transfer;
mod v1;

/// A whole request.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) head: &'a Head,
    /// Empty for blobs, which are only hashed.
    pub(crate) body: Vec<u8>,
    pub(crate) body_len: u64,
    pub(crate) body_sha256: String,
    /// The body as JSON, on routes that take it.
    pub(crate) json: Result<Json, String>,
}

impl<'a> Request<'a> {
    /// A request whose body is JSON if its route takes JSON.
    pub(crate) fn new(
        head: &'a Head,
        route: &Route,
        body: Vec<u8>,
        body_len: u64,
        body_sha256: String,
    ) -> Self {
        let json = match route {
            Route::BlobPut(_) | Route::V1Transcriptions => Err(String::new()),
            _ if route.takes_zstd() && head.get("content-encoding") == Some("zstd") => {
                unpacked(&body)
            }
            _ => parse(&body),
        };
        Self {
            head,
            body,
            body_len,
            body_sha256,
            json,
        }
    }

    /// The body fitted to a struct; an error is the text for a 400.
    pub(crate) fn bound(&self, shape: &'static Struct) -> Result<Bound, String> {
        bind(self.json.as_ref().map_err(Clone::clone)?, shape)
    }

    /// [`Self::bound`] with the native words for an empty body.
    pub(crate) fn native(&self, shape: &'static Struct) -> Result<Bound, ApiError> {
        self.bound(shape).map_err(|text| {
            ApiError::bad(if text == "EOF" {
                "missing request body".into()
            } else {
                text
            })
        })
    }
}

/// Bytes a packed body may have when unpacked.
const MAX_UNPACKED: u64 = 20 << 20;

fn unpacked(body: &[u8]) -> Result<Json, String> {
    use std::io::Read as _;

    let mut out = Vec::new();
    let mut decoder = zstd::stream::read::Decoder::new(body).map_err(|e| e.to_string())?;
    decoder.window_log_max(23).map_err(|e| e.to_string())?;
    decoder
        .take(MAX_UNPACKED)
        .read_to_end(&mut out)
        .map_err(|_| "unexpected EOF".to_owned())?;
    parse(&out)
}

/// The model a request names, for faults and for what was seen.
pub(crate) fn named_model(request: &Request<'_>, route: &Route) -> Option<String> {
    if *route == Route::V1Transcriptions {
        return multipart::Form::read(request).text("model");
    }
    let Ok(Json::Obj(fields)) = &request.json else {
        return None;
    };
    let last = |key: &str| {
        fields.iter().rev().find_map(|(k, v)| match v {
            Json::Str(s) if k.eq_ignore_ascii_case(key) => Some(s.clone()),
            _ => None,
        })
    };
    let model = last("model").filter(|m| !m.is_empty());
    model.or_else(|| last("name")).or_else(|| last("source"))
}

/// Answers a request.
pub(crate) async fn handle(
    node: &Arc<Node>,
    request: &Request<'_>,
    route: &Route,
    reply: &mut Reply<'_>,
) -> Written {
    match route {
        Route::Root => reads::root(reply).await,
        Route::Version => send_json(reply, 200, &json!({"version": node.spec.version})).await,
        Route::Status => reads::status(reply).await,
        Route::Tags => reads::tags(node, reply).await,
        Route::Ps => reads::ps(node, reply).await,
        Route::Recommendations => reads::recommendations(node, reply).await,
        Route::Show => show::show(node, request, reply).await,
        Route::Generate => generate::generate(node, request, reply).await,
        Route::Chat => chat::chat(node, request, reply).await,
        Route::Embed => embed::embed(node, request, reply).await,
        Route::Embeddings => embed::embeddings(node, request, reply).await,
        Route::Pull => transfer::pull(node, request, reply).await,
        Route::Push => transfer::push(node, request, reply).await,
        Route::Create => create::create(node, request, reply).await,
        Route::BlobPut(digest) => blobs::put(node, request, digest, reply).await,
        Route::BlobHead(digest) => blobs::head(node, digest, reply).await,
        Route::Copy => blobs::copy(node, request, reply).await,
        Route::Delete => blobs::delete(node, request, reply).await,
        Route::Me => identity::me(node, reply).await,
        Route::Signout => identity::signout(node, reply).await,
        Route::WebTool(tool) => identity::web_tool(node, tool, reply).await,
        Route::V1Chat => v1::chat::chat(node, request, reply).await,
        Route::V1Completions => v1::completions::completions(node, request, reply).await,
        Route::V1Embeddings => v1::embeddings::embeddings(node, request, reply).await,
        Route::V1Responses => v1::responses::responses(node, request, reply).await,
        Route::V1Messages => v1::messages::messages(node, request, reply).await,
        Route::V1Transcriptions => v1::audio::transcriptions(node, request, reply).await,
        Route::V1Models => reads::v1_models(node, reply).await,
        Route::V1Model(name) => reads::v1_model(node, name, reply).await,
    }
}

/// A string field, empty when it was not given.
pub(crate) fn text<'a>(bound: &'a Bound, key: &str) -> &'a str {
    bound.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// `model`, or the old `name` where a route still reads it.
pub(crate) fn model_or_name(bound: &Bound) -> &str {
    match text(bound, "model") {
        "" => text(bound, "name"),
        model => model,
    }
}
