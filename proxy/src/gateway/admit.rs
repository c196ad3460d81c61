//! Who may: finds the caller, holds it against the route's scope, its limits and, once the body is
//! known, its models.

use std::time::{Instant, SystemTime};

use pingora::Result;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, failure};
use crate::request::auth::Caller;
use crate::request::client::ClientAddress;
use crate::request::limit;
use crate::request::permission::Asked;
use crate::request::rejection::Rejection;
use crate::request::route::Route;

impl Gateway {
    /// Finds out who asks.
    pub(super) fn identify(
        &self,
        session: &Session,
        ctx: &mut RequestCtx,
    ) -> Result<(), Rejection> {
        let peer = session.client_addr().and_then(|address| address.as_inet());
        let headers = &session.req_header().headers;
        let peer = peer.map(std::net::SocketAddr::ip);
        ctx.client = ClientAddress::of(peer, headers, &self.trusted_proxies);
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
        let Err(rejection) = Self::judge_caller(ctx, identified) else {
            return Ok(());
        };
        if matches!(ctx.route, Route::Node(_)) {
            // else the answer may be overtaken by a reset
            self.pass_over_body(session).await;
        }
        Err(failure::rejected(rejection))
    }

    fn judge_caller(
        ctx: &mut RequestCtx,
        identified: Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let Some(scope) = ctx.route.scope(ctx.dialect) else {
            return Ok(());
        };
        identified?;
        let caller = ctx.caller.as_ref().ok_or(Rejection::NoKey)?;
        caller.check(scope)?;
        ctx.open = limit::enter(caller, Instant::now())?;
        Ok(())
    }

    /// Holds what the body asks for against the caller's list and the house's rules.
    pub(super) fn permit(&self, session: &Session, ctx: &RequestCtx) -> Result<()> {
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
}
