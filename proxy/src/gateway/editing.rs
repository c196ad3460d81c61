//! What aivonx changes on the way: the body before the first attempt, once more where an alias
//! falls back to the next model of its chain, and the counts of a stream that are taken out again.

use std::time::Instant;

use bytes::Bytes;
use http::header;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, failure};
use crate::request::edit::Wanted;
use crate::request::model_scan::{Found, Outcome, Root};
use crate::request::rejection::Rejection;
use crate::request::route::NodeRoute;
use crate::upstream::usage_filter::UsageFilter;

/// Reasons for which a node is not asked for the next model of a chain, either.
const NODE_REASONS: [&str; 3] = ["connect", "reset", "node_down"];

impl Gateway {
    /// Changes the body where the fleet document asks for it.
    pub(super) fn edit_body(&self, session: &Session, ctx: &mut RequestCtx) -> Result<()> {
        let route = ctx.node_route();
        let Some(mut found) = ctx.found.take() else {
            return Ok(());
        };
        let wanted = self.wanted(ctx, route, &found);
        let edited = if wanted.is_nothing() {
            Ok(())
        } else {
            ctx.body
                .edit(session, &wanted, &mut found, route, &self.limits)
        };
        let (asks, only_asks) = (
            wanted.usage && edited.is_ok(),
            wanted.model.is_none() && wanted.keep_alive.is_none(),
        );
        ctx.asked_for_usage = asks;
        ctx.found = Some(found);
        match edited {
            // counts are not worth a request
            Err(Rejection::BodyMemory | Rejection::BodyTooLarge(_)) if only_asks => Ok(()),
            edited => edited.map_err(failure::rejected),
        }
    }

    fn wanted(&self, ctx: &RequestCtx, route: NodeRoute, found: &Found) -> Wanted {
        let streams_on = ctx.body.streams_on();
        if found.outcome != Outcome::Complete && !streams_on {
            return Wanted::default(); // a node says what is wrong with it
        }
        let reports = matches!(route, NodeRoute::V1Chat | NodeRoute::V1Completions);
        let usage = reports
            && found.stream == Some(true)
            && found.include_usage != Some(true)
            && found.root == Root::Object
            && !streams_on
            && self.fleet.load().injects_usage();
        Wanted {
            usage,
            ..for_model(ctx, route, found)
        }
    }

    /// Whether an alias could go on to another model.
    pub(super) fn chain_goes_on(ctx: &RequestCtx) -> bool {
        next_of_chain(ctx).is_some()
    }

    /// Goes on to the next model of an alias that a node could serve; false where there is none.
    pub(super) fn fall_back(ctx: &mut RequestCtx) -> bool {
        let Some(next) = next_of_chain(ctx) else {
            return false;
        };
        let Some(mut found) = ctx.found.take() else {
            return false;
        };
        ctx.resolved.serve(next);
        ctx.tried.clone_from(&ctx.unreachable);
        ctx.suspect = None; // another model's answer says nothing of that runner
        let route = ctx.node_route();
        let wanted = for_model(ctx, route, &found);
        let edited = ctx.body.edit_again(&wanted, &mut found, route);
        ctx.found = Some(found);
        edited
    }

    /// Notes why a node is left.
    pub(super) fn note_left(ctx: &mut RequestCtx, serial: u64, reason: &str) {
        ctx.tried.push(serial);
        if ctx.resolved.alias.is_some() && NODE_REASONS.contains(&reason) {
            ctx.unreachable.push(serial);
        }
    }

    /// Marks the answer to an alias with the model that is served, and sees to it that counts go
    /// out of a stream that nobody asked them for.
    pub(super) fn mark_edits(head: &mut ResponseHeader, ctx: &mut RequestCtx) -> Result<()> {
        if let Some(model) = ctx.resolved.served() {
            head.insert_header("x-aivonx-model", model.clone())?;
        }
        let content_type = head.headers.get(header::CONTENT_TYPE);
        let streams =
            content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if ctx.asked_for_usage
            && streams
            && head.status == 200
            && !head.headers.contains_key(header::CONTENT_LENGTH)
        {
            ctx.usage_filter = Some(Box::default());
        }
        Ok(())
    }
}

/// What the model asks for: its own name in place of an alias, and its bounds.
fn for_model(ctx: &RequestCtx, route: NodeRoute, found: &Found) -> Wanted {
    let keeps = matches!(
        route,
        NodeRoute::Generate | NodeRoute::Chat | NodeRoute::Embed | NodeRoute::Embeddings
    );
    // of a body that streams on, it may still come
    let given = keeps && (found.given.keep_alive > 0 || ctx.body.streams_on());
    let bounds = ctx
        .resolved
        .entry
        .as_ref()
        .and_then(|entry| entry.keep_alive);
    Wanted {
        model: ctx.resolved.rewritten(),
        keep_alive: bounds.filter(|_| given),
        usage: false,
    }
}

fn next_of_chain(ctx: &RequestCtx) -> Option<usize> {
    let aliased = ctx.resolved.alias.as_ref()?;
    let from = aliased.at? + 1;
    if !ctx.body.can_edit_again() {
        return None;
    }
    aliased.alias.next(from, &ctx.unreachable, Instant::now())
}

impl RequestCtx {
    /// Takes the counts out of a piece of the answer where they are to go.
    pub(super) fn relay(&mut self, body: &mut Option<Bytes>, end: bool) {
        let Some(filter) = &mut self.usage_filter else {
            return;
        };
        let before = body.as_ref().map_or(0, Bytes::len) as u64;
        filter.pass(body, end);
        let after = body.as_ref().map_or(0, Bytes::len) as u64;
        self.tail.total = (self.tail.total + after).saturating_sub(before);
    }

    /// Whether the client has got a part of a line.
    pub(super) fn is_mid_line(&self) -> bool {
        self.usage_filter
            .as_deref()
            .map_or_else(|| self.tail.is_mid_line(), UsageFilter::is_mid_line)
    }
}
