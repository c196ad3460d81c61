//! Who may: finds the caller, holds it against the route's scope, its limits and, once the body is
//! known, its models.

use std::time::{Instant, SystemTime};

use aivonx_shared::fleet_doc::Cloud;
use pingora::Result;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, failure};
use crate::edge;
use crate::request::auth::Caller;
use crate::request::client::ClientAddress;
use crate::request::intent::web_search_tool;
use crate::request::limit;
use crate::request::model_scan::Outcome;
use crate::request::permission::Asked;
use crate::request::rejection::Rejection;
use crate::request::route::{NodeRoute, Route, Scope};

impl Gateway {
    /// Finds out who asks.
    pub(super) fn identify(
        &self,
        session: &Session,
        ctx: &mut RequestCtx,
    ) -> Result<(), Rejection> {
        let headers = &session.req_header().headers;
        ctx.client = ClientAddress::of(edge::peer_address(session), headers, &self.trusted_proxies);
        let snapshot = self.fleet.load();
        ctx.caller = Caller::of(headers, &ctx.client, snapshot.access(), SystemTime::now())?;
        Ok(())
    }

    /// Lets the request pass if its caller may and has not asked too much.
    pub(super) async fn admit(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        identified: Result<(), Rejection>,
    ) -> Result<()> {
        let pins = super::pin::pinned(session).is_some();
        let Err(rejection) = Self::judge_caller(ctx, identified, pins) else {
            return Ok(());
        };
        if matches!(ctx.route, Route::Node(_) | Route::Store(_)) {
            // else the answer may be overtaken by a reset
            self.pass_over_body(session).await;
        }
        Err(failure::rejected(rejection))
    }

    fn judge_caller(
        ctx: &mut RequestCtx,
        identified: Result<(), Rejection>,
        pins: bool,
    ) -> Result<(), Rejection> {
        let scope = match ctx.route.scope(ctx.dialect) {
            Some(scope) => scope,
            // the version is for everybody, whose it is is not
            None if pins && ctx.route.is_read() => Scope::Manage,
            None => return Ok(()),
        };
        identified?;
        let caller = ctx.caller.as_ref().ok_or(Rejection::NoKey)?;
        // unloading needs another scope than work: only the body tells them apart (`unload`)
        let either = matches!(ctx.route, Route::Node(route) if route.may_unload());
        if !either || caller.check(Scope::Manage).is_err() {
            caller.check(scope)?;
        }
        if pins {
            caller.check(Scope::Manage)?;
        }
        ctx.open = limit::enter(caller, Instant::now())?;
        Ok(())
    }

    /// Holds what the body asks for against the caller's list and the house's rules.
    pub(super) fn permit(&self, session: &Session, ctx: &mut RequestCtx) -> Result<()> {
        self.check_tools(session, ctx).map_err(failure::rejected)?;
        let (Some(found), Some(caller)) = (&ctx.found, &ctx.caller) else {
            return Err(failure::rejected(Rejection::NoKey)); // `admit` and `read_body` went before
        };
        let asked = Asked {
            route: ctx.node_route(),
            query: session.req_header().uri.query(),
            found,
            resolved: &ctx.resolved,
            is_watched: ctx.body.is_watched(),
        };
        asked
            .check_cloud(&self.fleet.load())
            .and_then(|()| asked.check_model(&caller.grant))
            .map_err(failure::rejected)
    }

    /// Refuses tools by which a node would search the web, while nothing shall leave the house.
    fn check_tools(&self, session: &Session, ctx: &mut RequestCtx) -> Result<(), Rejection> {
        let route = ctx.node_route();
        let searches = matches!(route, NodeRoute::V1Responses | NodeRoute::V1Messages);
        if !searches || self.fleet.load().cloud() == Cloud::Allow {
            return Ok(());
        }
        if ctx.body.streams_on() {
            let what = "a body too large to be looked through for web searches";
            return Err(Rejection::Cloud(what.into()));
        }
        let Some(found) = ctx.found.as_ref().filter(|found| {
            // what is no JSON is refused by every node
            found.given.tools > 0 && found.outcome == Outcome::Complete
        }) else {
            return Ok(());
        };
        let body = ctx.body.plain(session, found, &self.limits);
        let body = body.ok_or(Rejection::BodyMemory)?;
        match web_search_tool(route, &body) {
            Some(tool) => Err(Rejection::Cloud(format!(
                "a request with the tool '{tool}'"
            ))),
            None => Ok(()),
        }
    }
}
