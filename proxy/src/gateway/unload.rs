//! Unloading: a request with nothing to do and a `keep_alive` of zero. It needs another scope than
//! work on the same route, and goes wherever the model is resident.

use std::sync::Arc;

use pingora::Result;
use pingora_proxy::Session;
use serde_json::json;

use super::answer::{JSON_UTF8, Local, respond};
use super::ctx::RequestCtx;
use super::pin::check_body;
use super::transfer::{end, finish_reading};
use super::{Gateway, failure};
use crate::fleet::Node;
use crate::request::body;
use crate::request::intent::is_unload;
use crate::request::model_scan::Outcome;
use crate::request::rejection::Rejection;
use crate::request::route::{NodeRoute, Scope};
use crate::store::answer::Ending;
use crate::store::call::Question;
use crate::store::unload::resident;

impl Gateway {
    /// Refuses a body that names a node; tells unloading from work and holds each against the caller's scopes, either of which let it
    /// come so far (`admit`).
    pub(super) async fn judge_work(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
        match check_body(ctx).and_then(|()| unloads(session, ctx)) {
            Ok(unloads) => {
                ctx.unloads = unloads;
                Ok(())
            }
            Err(rejection) => {
                if ctx.body.streams_on() {
                    // else the answer may be overtaken by a reset
                    body::drain(session).await;
                }
                Err(failure::rejected(rejection))
            }
        }
    }

    /// A request to unload a model goes to every node that has it in memory; true where it was
    /// answered here. Where that is one, it is relayed to this one.
    pub(super) async fn unload(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        let Some((question, nodes)) = unloading(session, ctx) else {
            return Ok(false);
        };
        if let [node] = nodes.as_slice() {
            ctx.resolved.demand.only = Some([node.serial()].into());
        }
        if nodes.len() < 2 {
            return Ok(false);
        }
        finish_reading(session).await?;
        let answer = match self.stores.unload(nodes, question).await {
            Ok(whole) => Local::new(whole.status, JSON_UTF8, whole.body),
            Err(told) => {
                let name = ctx.resolved.asked.clone();
                let undone = format!("model '{name}' is still loaded on");
                return end(session, ctx, Ending::of_change(&told, &undone))
                    .await
                    .map(|()| true);
            }
        };
        respond(session, ctx, answer).await?;
        Ok(true)
    }
}

/// Whether a request only unloads its model. Who may not manage gets no body past whose work could
/// not be seen: all that is known of it might be junk, and its end a `keep_alive` of zero.
fn unloads(session: &Session, ctx: &mut RequestCtx) -> Result<bool, Rejection> {
    let route = ctx.node_route();
    if !route.may_unload() {
        return Ok(false); // `admit` has judged it
    }
    let (Some(found), Some(caller)) = (&ctx.found, &ctx.caller) else {
        return Err(Rejection::NoKey); // `admit` and `read_body` went before
    };
    let may_unload = caller.check(Scope::Manage);
    let asks = found.given.keep_alive > 0 && found.outcome == Outcome::Complete;
    if asks
        && let Some(body) = ctx.body.all(session)
        && is_unload(route, &body)
    {
        return may_unload.map(|()| true);
    }
    caller.check(Scope::Infer)?;
    if may_unload.is_err() && ctx.body.streams_on() && !ctx.body.hold_to_work(session, route) {
        return Err(Rejection::LateWork);
    }
    Ok(false)
}

/// What to ask, and of which nodes.
type Unloading = (Question, Vec<Arc<Node>>);

/// What to ask of which nodes, where a request unloads a model that is held and pins no node.
fn unloading(session: &Session, ctx: &RequestCtx) -> Option<Unloading> {
    if !ctx.unloads || ctx.resolved.demand.only.is_some() {
        return None;
    }
    let entry = ctx.resolved.entry.as_ref()?;
    let path = match ctx.node_route() {
        NodeRoute::Generate => "/api/generate",
        NodeRoute::Chat => "/api/chat",
        NodeRoute::Embed => "/api/embed",
        NodeRoute::Embeddings => "/api/embeddings",
        _ => return None,
    };
    let body = match ctx.resolved.rewritten() {
        None => ctx.body.all(session)?,
        Some(model) => json!({ "model": &*model, "keep_alive": 0 })
            .to_string()
            .into(),
    };
    let question = Question {
        method: "POST",
        path,
        body,
        id: ctx.id_value.clone(),
        is_long: false,
    };
    Some((question, resident(entry)))
}
