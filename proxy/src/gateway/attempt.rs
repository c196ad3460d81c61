//! One try at one node: take a place, connect, send, judge the head of the answer.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use http::{StatusCode, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, ErrorType, HttpPeer};
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, failure};
use crate::balance::NoNode;
use crate::request::rejection::Rejection;
use crate::request::{headers, judge as words};
use crate::upstream::attempt::Attempt;
use crate::upstream::retry::{Judgement, judge};

impl Gateway {
    /// Takes a place on the best node, or says why there is none.
    pub(super) fn acquire(&self, ctx: &mut RequestCtx) -> Result<()> {
        if ctx.resolved.is_unserved() {
            return Err(failure::rejected(self.no_node(ctx, NoNode::None)));
        }
        let now = Instant::now();
        let none = match self.balancer.acquire(&ctx.resolved.demand, &ctx.tried, now) {
            Ok(permit) => {
                ctx.attempts += 1;
                ctx.node = Some(Arc::clone(permit.node()));
                ctx.permit = Some(permit);
                return Ok(());
            }
            Err(none) => none,
        };
        if Self::fall_back(ctx) {
            return self.acquire(ctx);
        }
        Err(failure::rejected(self.no_node(ctx, none)))
    }

    fn no_node(&self, ctx: &RequestCtx, none: NoNode) -> Rejection {
        if let Some(cause) = &ctx.last_failure {
            return Rejection::NodeFailed(cause.clone());
        }
        let route = ctx.node_route();
        let wrong = ctx
            .found
            .as_ref()
            .and_then(|found| words::without_a_node(found, route, &ctx.resolved.asked));
        if let Some(wrong) = wrong.filter(|_| ctx.resolved.entry.is_none()) {
            return wrong;
        }
        match none {
            NoNode::None if ctx.resolved.leaves_the_house() => Rejection::NotSignedIn,
            NoNode::None
                if ctx.resolved.demand.unheld.is_some()
                    && !self.fleet.load().any().holders.is_empty() =>
            {
                words::unknown_model(route, &ctx.resolved.asked)
            }
            NoNode::None => Rejection::NoNode,
            NoNode::Broken(wait) => Rejection::Failing(wait),
            NoNode::Unhealthy | NoNode::Exhausted => Rejection::NoHealthyNode(
                ctx.resolved
                    .entry
                    .as_ref()
                    .map(|entry| entry.label.to_string()),
            ),
        }
    }

    /// The peer of the node that was taken.
    pub(super) fn connect(&self, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
        let node = ctx.permit.as_ref().map(|permit| Arc::clone(permit.node()));
        let address = node.as_ref().and_then(|node| node.state().address());
        let (Some(node), Some(address)) = (node, address) else {
            return Error::e_explain(ErrorType::ConnectError, "the node has no address");
        };
        let (connection, tracer) = self.connections.prepare();
        ctx.prepared = Some(connection);
        Ok(Box::new(crate::upstream::peer::peer(
            &node,
            address,
            &self.timeouts,
            tracer,
        )))
    }

    /// From here on the attempt can be ended from outside.
    pub(super) fn connected(&self, ctx: &mut RequestCtx, fd: RawFd, reused: bool) {
        if ctx.front.is_some() {
            return self.control_connected(ctx, fd, reused);
        }
        let Some(prepared) = ctx.prepared.take() else {
            return;
        };
        let connection = self.connections.taken(prepared, fd, reused);
        let first_byte = if ctx.resolved.stream {
            self.timeouts.first_byte
        } else {
            self.timeouts.answer
        };
        let grant = ctx.caller.as_ref().map(|caller| &caller.grant);
        let grant = grant.filter(|grant| grant.is_key()).cloned();
        let attempt = Attempt::new(connection, first_byte, self.timeouts.idle).granted(grant);
        let attempt = Arc::new(attempt);
        if let Some(permit) = &mut ctx.permit {
            permit.interrupt_with(Arc::clone(&attempt) as _);
        }
        ctx.attempt = Some(attempt);
    }

    /// Makes the client's head fit for the node.
    pub(super) fn to_node(&self, head: &mut RequestHeader, ctx: &RequestCtx) -> Result<()> {
        if ctx.to_control(head)? {
            return Ok(());
        }
        let Some(node) = &ctx.node else { return Ok(()) };
        ctx.body.frame(head)?;
        let snapshot = self.fleet.load();
        headers::strip(head, |name| snapshot.access().is_user_header(name));
        let (base, read) = (&node.doc().url.base, ctx.route.query_read());
        headers::to_node(head, node.authority(), base, &ctx.id_value, read)?;
        crate::upstream::peer::authorize(head, node)
    }

    /// Decides what an answer means: an error asks Pingora for another attempt.
    pub(super) fn judge(
        &self,
        session: &mut Session,
        head: &ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        if ctx.saw_control(head) {
            return Ok(());
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // nobody asked for it, and what follows would be neither judged nor counted
            let mut error = Error::explain(ErrorType::InvalidHTTPHeader, "an unasked 101");
            error.as_up();
            return Err(error);
        }
        if head.status.is_informational() {
            return Ok(());
        }
        let now = Instant::now();
        if let Some(permit) = &mut ctx.permit {
            permit.head_arrived(now);
        }
        if let Some(attempt) = &ctx.attempt {
            attempt.saw_byte(now);
        }
        let content_type = head
            .headers
            .get(header::CONTENT_TYPE)
            .map_or(&b""[..], |value| value.as_bytes());
        let judgement = judge(
            head.status,
            content_type.starts_with(b"text/plain"),
            ctx.resolved.entry.is_some(),
        );
        ctx.judgement = Some(judgement);
        let reason = Self::note_judgement(ctx, judgement, head.status.as_u16(), now);
        match reason {
            Some(reason) if self.may_retry(session, ctx) => Err(self.try_another(ctx, reason)),
            _ => {
                ctx.body.release();
                Ok(())
            }
        }
    }

    /// Tells the breakers; gives the reason where another node should be asked.
    fn note_judgement(
        ctx: &mut RequestCtx,
        judgement: Judgement,
        status: u16,
        now: Instant,
    ) -> Option<&'static str> {
        if ctx.store_route().is_some() {
            Self::note_change(ctx, judgement, now);
            return None; // an error of a store comes back the same from every node
        }
        let infers = ctx.node_route().infers() && ctx.resolved.entry.is_some();
        let permit = ctx.permit.as_mut()?;
        if judgement != Judgement::Good {
            ctx.last_failure = Some(format!("node {} answered {status}", permit.node().name()));
        }
        match judgement {
            Judgement::Good => {
                ctx.last_failure = None;
                permit.succeeded(infers, now);
                if let Some(suspect) = ctx.suspect.take() {
                    suspect.convict(now);
                }
                None
            }
            Judgement::Final => None,
            Judgement::TooOld => Some("node_too_old"),
            Judgement::Stale => {
                permit.node().state().stale.notify_one();
                Some("stale_inventory")
            }
            Judgement::Faulty => {
                if infers {
                    permit.runner_failed(now);
                }
                Some(if status == 503 { "busy" } else { "bad_gateway" })
            }
            Judgement::Suspicious if ctx.suspect.is_some() => None,
            Judgement::Suspicious => {
                ctx.suspect = infers.then(|| permit.suspect());
                Some("server_error")
            }
        }
    }

    /// Marks the answer that is relayed.
    pub(super) fn mark(
        session: &Session,
        head: &mut ResponseHeader,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        if head.status.is_informational() {
            return Ok(());
        }
        if session.req_header().version == http::Version::HTTP_10 {
            headers::for_http_1_0(head);
        }
        if ctx.clean_control(head)? {
            return Ok(());
        }
        Self::mark_edits(head, ctx)?;
        if let Some(origin) = &ctx.origin {
            headers::allow_origin(head, origin)?;
        }
        if head.status.as_u16() == 503 && !head.headers.contains_key(header::RETRY_AFTER) {
            head.insert_header(header::RETRY_AFTER, 1)?;
        }
        let node = ctx
            .node
            .as_ref()
            .map(|node| (node.name_value(), ctx.attempts));
        headers::mark(head, &ctx.id_value, node)
    }
}
