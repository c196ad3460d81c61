//! The answers to changes of several stores: progress lines of a job, or one object at the end.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::prelude::Error;
use pingora_proxy::Session;
use serde_json::{Value, json};

use aivonx_shared::fleet_doc::WhenClientLeaves;

use super::answer::{JSON, Local, respond};
use super::ctx::RequestCtx;
use super::store::only_node;
use super::{Gateway, failure};
use crate::request::headers;
use crate::request::rejection::Rejection;
use crate::request::route::StoreRoute;
use crate::store::Change;
use crate::store::answer::Ending;
use crate::store::asked::Asked;
use crate::store::call::Question;
use crate::store::targets::Target;
use crate::store::transfer::{Asker, Piece, Running, Transfer};

impl Gateway {
    /// A change that is ours to answer; always true.
    pub(super) async fn change_each(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        route: StoreRoute,
        asked: &Asked,
        body: Bytes,
        targets: Vec<Target>,
    ) -> Result<bool> {
        if targets.iter().all(|target| target.away.is_some()) {
            return Err(failure::rejected(nobody_there(ctx, &targets)));
        }
        finish_reading(session).await?;
        let question = Question {
            method: if route == StoreRoute::Delete {
                "DELETE"
            } else {
                "POST"
            },
            path: route.label(),
            body: if route == StoreRoute::Pull {
                asked.pull_body()
            } else {
                body
            },
            id: ctx.id_value.clone(),
            is_long: route == StoreRoute::Create && !ctx.resolved.stream,
        };
        match route {
            StoreRoute::Copy | StoreRoute::Delete => {
                self.change_quickly(session, ctx, route, asked, question, targets)
                    .await?;
            }
            _ => {
                ctx.node = only_node(&targets);
                let running = self.begin_transfer(ctx, route, question, targets)?;
                self.answer_transfer(session, ctx, running).await?;
            }
        }
        Ok(true)
    }

    fn begin_transfer(
        &self,
        ctx: &RequestCtx,
        route: StoreRoute,
        question: Question,
        targets: Vec<Target>,
    ) -> Result<Running> {
        let leaves = self.fleet.load().pull().when_client_leaves;
        Ok(self.stores.begin(Transfer {
            route: route.label(),
            shown: ctx.shown.clone(),
            asker: asker(ctx)?,
            question,
            targets,
            outlives_client: route == StoreRoute::Pull && leaves == WhenClientLeaves::Continue,
            _keep: Box::new(self.active.enter()),
        }))
    }

    /// Hands on what the job says, for as long as the client is there.
    async fn answer_transfer(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        mut running: Running,
    ) -> Result<()> {
        let mut has_head = false;
        loop {
            let piece = tokio::select! {
                piece = running.next() => piece,
                // the whole body was read: what comes now is the client's leaving
                left = session.downstream_session.read_body_or_idle(true) => {
                    return Err(client_left(left));
                }
            };
            let (lines, ending) = match piece {
                Some(Piece::Lines(lines)) if ctx.resolved.stream => (lines, None),
                Some(Piece::Lines(_)) => continue,
                Some(Piece::End(ending)) => {
                    let lines = [ending.summary.as_ref(), ending.last.as_ref()];
                    let lines = lines.into_iter().flatten().map(|line| format!("{line}\n"));
                    (lines.collect::<String>().into(), Some(ending))
                }
                Some(Piece::Revoked) if has_head => return end_revoked(session, ctx).await,
                Some(Piece::Revoked) => return Err(failure::rejected(Rejection::KeyRevoked)),
                None => {
                    return Err(failure::rejected(Rejection::NodeFailed(
                        "the job broke off".into(),
                    )));
                }
            };
            match ending {
                // nothing was sent, and nothing but an end is wanted or left to say
                Some(ending) if !has_head && (!ctx.resolved.stream || ending.status != 200) => {
                    return end(session, ctx, ending).await;
                }
                ending => {
                    if !std::mem::replace(&mut has_head, true) {
                        begin_stream(session, ctx).await?;
                    }
                    ctx.saw(&lines);
                    session
                        .write_response_body(Some(lines), ending.is_some())
                        .await
                        .map_err(Error::into_down)?;
                    if let Some(ending) = ending {
                        ctx.outcome = ending.outcome;
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn change_quickly(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        route: StoreRoute,
        asked: &Asked,
        question: Question,
        targets: Vec<Target>,
    ) -> Result<()> {
        let undone = if route == StoreRoute::Delete {
            format!("model '{}' is still on", asked.model())
        } else {
            format!("model '{}' was not copied on", asked.source)
        };
        ctx.node = only_node(&targets);
        let keep = self.active.enter();
        let change = Change {
            route: route.label(),
            shown: ctx.shown.clone(),
            asker: asker(ctx)?,
            question,
            targets,
        };
        let change = self.stores.change(change, keep);
        let told = tokio::select! {
            told = change => told,
            left = session.downstream_session.read_body_or_idle(true) => return Err(client_left(left)),
        };
        end(session, ctx, Ending::of_change(&told, &undone)).await
    }
}

/// Who wants a change.
fn asker(ctx: &RequestCtx) -> Result<Asker> {
    let caller = ctx.caller.as_ref();
    let caller = caller.ok_or_else(|| failure::rejected(Rejection::NoKey))?; // `admit` went before
    Ok(Asker {
        request: ctx.id.clone(),
        grant: Arc::clone(&caller.grant),
        user: caller.user().unwrap_or_default().to_owned(),
    })
}

/// Nobody that should do it can be asked.
fn nobody_there(ctx: &RequestCtx, targets: &[Target]) -> Rejection {
    match targets {
        [target] => {
            Rejection::NodeAway(target.node.name().to_owned(), target.away.unwrap_or("away"))
        }
        _ => Rejection::NoHealthyNode(
            ctx.resolved
                .entry
                .as_ref()
                .map(|entry| entry.label.to_string()),
        ),
    }
}

/// What is left of a body whose value has come: at most the end of its chunks.
pub(super) async fn finish_reading(session: &mut Session) -> Result<()> {
    const REST: usize = 64 << 10;
    let body = &mut session.downstream_session;
    let mut left = REST;
    while !body.is_body_done() {
        match body.read_request_body().await.map_err(Error::into_down)? {
            Some(chunk) if chunk.len() <= left => left -= chunk.len(),
            Some(_) => {
                let text = "request body goes on after its value".to_owned();
                return Err(failure::rejected(Rejection::AsOllama(400, text)));
            }
            None => return Ok(()),
        }
    }
    Ok(())
}

/// The error of a client that left.
fn client_left(read: Result<Option<Bytes>>) -> Box<Error> {
    match read {
        Err(error) => error.into_down(),
        Ok(_) => {
            let mut error = Error::explain(
                pingora::prelude::ErrorType::ConnectionClosed,
                "client sent more than its request",
            );
            error.as_down();
            error
        }
    }
}

/// The head of an answer in lines.
async fn begin_stream(session: &mut Session, ctx: &RequestCtx) -> Result<()> {
    let mut head = ResponseHeader::build(200, Some(8))?;
    if let Some(origin) = &ctx.origin {
        headers::allow_origin(&mut head, origin)?;
    }
    head.insert_header(header::CONTENT_TYPE, "application/x-ndjson")?;
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    head.insert_header(header::DATE, now)?;
    match session.req_header().version {
        http::Version::HTTP_10 => head.set_version(http::Version::HTTP_10),
        http::Version::HTTP_11 => head.insert_header(header::TRANSFER_ENCODING, "chunked")?,
        _ => {}
    }
    let node = ctx.node.as_ref().map(|node| (node.name_value(), 1));
    headers::mark(&mut head, &ctx.id_value, node)?;
    session
        .write_response_header(Box::new(head), false)
        .await
        .map_err(Error::into_down)
}

/// The end of lines whose key was taken out.
async fn end_revoked(session: &mut Session, ctx: &mut RequestCtx) -> Result<()> {
    ctx.outcome = Some(Rejection::KeyRevoked.reason());
    let line = json!({ "error": Rejection::KeyRevoked.to_string() });
    let line = Bytes::from(format!("{line}\n"));
    ctx.saw(&line);
    session
        .write_response_body(Some(line), true)
        .await
        .map_err(Error::into_down)
}

/// An end that is the whole answer.
pub(super) async fn end(session: &mut Session, ctx: &mut RequestCtx, ending: Ending) -> Result<()> {
    ctx.outcome = ending.outcome;
    let answer = match ending.last.as_ref().map(Value::to_string) {
        Some(body) => Local::new(ending.status, JSON, body),
        None => Local::empty(ending.status),
    };
    let node = ctx.node.clone();
    respond(session, ctx, Local { node, ..answer }).await
}
