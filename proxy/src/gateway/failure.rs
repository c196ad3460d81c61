//! What an error means: another attempt, an answer of the proxy's own, or the end of a stream that
//! its client can see.

use std::time::Instant;

use http::header;
use pingora::prelude::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::Gateway;
use super::answer::{Local, respond};
use super::ctx::RequestCtx;
use crate::fleet::waiting::Why;
use crate::request::rejection::Rejection;
use crate::request::route::StoreRoute;
use crate::upstream::words::plain;

/// A rejection as the error that carries it to where it is answered.
pub(super) fn rejected(rejection: Rejection) -> Box<Error> {
    Error::because(ErrorType::Custom("rejected"), "", rejection)
}

/// The rejection that an error carries.
fn rejection_of(error: &Error) -> Option<&Rejection> {
    error.root_cause().downcast_ref::<Rejection>()
}

impl Gateway {
    /// Whether another node may be asked: nothing has gone to the client, the body is in hand, and
    /// somebody is left to ask.
    pub(super) fn may_retry(&self, session: &mut Session, ctx: &mut RequestCtx) -> bool {
        if ctx.attempts >= self.max_attempts || answered(session) || !ctx.body.can_replay(session) {
            return false;
        }
        let serial = ctx.permit.as_ref().map(|permit| permit.node().serial());
        let tried: Vec<_> = ctx.tried.iter().copied().chain(serial).collect();
        self.balancer
            .has_another(&ctx.resolved.demand, &tried, Instant::now())
            || Self::chain_goes_on(ctx)
    }

    /// Leaves the present node and asks Pingora for another attempt.
    pub(super) fn try_another(&self, ctx: &mut RequestCtx, reason: &'static str) -> Box<Error> {
        self.metrics.retried(reason);
        if let Some(permit) = ctx.permit.take() {
            Self::note_left(ctx, permit.node().serial(), reason);
        }
        ctx.attempt = None;
        let mut error = Error::explain(ErrorType::Custom("retry"), reason);
        error.as_up();
        error.set_retry(true);
        error
    }

    /// No connection to the node.
    pub(super) fn not_connected(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if ctx.front.is_some() {
            return Self::control_not_connected(ctx, error);
        }
        Self::node_failed(ctx, &error);
        if self.may_retry(session, ctx) {
            return self.try_another(ctx, "connect");
        }
        error.set_retry(false);
        error
    }

    /// The exchange with the node broke off, or one of our own hooks ended it.
    pub(super) fn broken(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        mut error: Box<Error>,
        pooled: bool,
    ) -> Box<Error> {
        if error.etype() == &ErrorType::Custom("retry") {
            return error;
        }
        if rejection_of(&error).is_some() || *error.esource() == ErrorSource::Downstream {
            error.set_retry(false);
            return error;
        }
        if let Some(relay) = &ctx.front {
            relay.note_broken(&error);
            error.set_retry(false);
            return error;
        }
        let ended = ctx.attempt.as_ref().and_then(|attempt| attempt.why());
        if answered(session) {
            if ended.is_none() {
                Self::node_failed(ctx, &error);
            }
            error.set_retry(false);
            return error;
        }
        let once = ctx.store_route().is_some_and(StoreRoute::acts_once);
        if ended.is_none() && pooled && !once && self.reconnect(session, ctx) {
            error.set_retry(true);
            return error;
        }
        let reason = Self::blame(ctx, ended, &error);
        match reason {
            Some(reason) if !once && self.may_retry(session, ctx) => self.try_another(ctx, reason),
            _ => {
                error.set_retry(false);
                error
            }
        }
    }

    /// A pooled connection that the node had closed is no failure of it: once more, the same node
    /// may be chosen, on a fresh connection.
    fn reconnect(&self, session: &mut Session, ctx: &mut RequestCtx) -> bool {
        let Some(serial) = ctx.permit.as_ref().map(|permit| permit.node().serial()) else {
            return false;
        };
        let again = ctx.reconnected != Some(serial) && ctx.body.can_replay(session);
        if again {
            ctx.reconnected = Some(serial);
            ctx.attempts = ctx.attempts.saturating_sub(1);
            self.metrics.retried("pooled_connection");
        }
        again
    }

    /// Tells the breakers; gives the reason where another node should be asked.
    fn blame(ctx: &mut RequestCtx, ended: Option<Why>, error: &Error) -> Option<&'static str> {
        let now = Instant::now();
        let name = ctx.node.as_ref().map_or("", |node| node.name()).to_owned();
        match ended {
            Some(Why::NodeDown) => {
                ctx.last_failure = Some(format!("node {name} stopped answering"));
                Some("node_down")
            }
            Some(Why::Revoked) => None,
            Some(Why::FirstByte | Why::Idle) => {
                if let Some(permit) = &mut ctx.permit {
                    permit.runner_failed(now);
                }
                None
            }
            None => {
                Self::node_failed(ctx, error);
                Some("reset")
            }
        }
    }

    fn node_failed(ctx: &mut RequestCtx, error: &Error) {
        let Some(permit) = &mut ctx.permit else {
            return;
        };
        let node = permit.node().name().to_owned();
        if permit.node_failed(Instant::now()) {
            tracing::warn!(node.name = node, cause = %error.etype().as_str(), "node fails requests; its breaker opens");
        }
        permit.node().state().refresh.notify_one();
        ctx.last_failure = Some(format!("node {node} failed: {}", plain(error)));
    }

    /// The last answer of a request that failed.
    pub(super) async fn answer_failure(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestCtx,
    ) -> FailToProxy {
        if *error.esource() == ErrorSource::Downstream && rejection_of(error).is_none() {
            ctx.outcome = Some("client_gone");
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        }
        if answered(session) {
            return self.end_stream(session, ctx).await;
        }
        let rejection = rejection_of(error)
            .cloned()
            .unwrap_or_else(|| self.rejection_from(ctx, error));
        self.metrics.rejected(rejection.reason());
        ctx.outcome = Some(rejection.reason());
        let status = rejection.status().as_u16();
        let answer = Self::control_failed(session, ctx, &rejection).await;
        let answer = answer.unwrap_or_else(|| Local::rejection(&rejection, ctx));
        let keep = session.downstream_session.is_body_done();
        if !keep {
            session.set_keepalive(None);
        }
        let written = respond(session, ctx, answer).await;
        FailToProxy {
            error_code: status,
            can_reuse_downstream: keep && written.is_ok(),
        }
    }

    fn rejection_from(&self, ctx: &RequestCtx, error: &Error) -> Rejection {
        if ctx.front.is_some() {
            return Rejection::ControlPlaneAway;
        }
        let node = ctx.node.as_ref().map_or("", |node| node.name()).to_owned();
        match ctx.attempt.as_ref().and_then(|attempt| attempt.why()) {
            Some(Why::Revoked) => Rejection::KeyRevoked,
            Some(Why::FirstByte | Why::Idle) => {
                let waited = if ctx.resolved.stream {
                    self.timeouts.first_byte
                } else {
                    self.timeouts.answer
                };
                Rejection::FirstByteTimeout { node, waited }
            }
            _ => Rejection::NodeFailed(
                ctx.last_failure
                    .clone()
                    .unwrap_or_else(|| format!("node {node} failed: {}", plain(error))),
            ),
        }
    }

    /// A stream broke after its first byte: it ends as an error that its dialect can see, or is
    /// cut, never as a success.
    async fn end_stream(&self, session: &mut Session, ctx: &mut RequestCtx) -> FailToProxy {
        ctx.outcome = Some("broken");
        if ctx.front.is_some() {
            return FailToProxy {
                error_code: 502,
                can_reuse_downstream: false,
            };
        }
        let head = session.downstream_session.response_written();
        let framed = head.is_some_and(|head| !head.headers.contains_key(header::CONTENT_LENGTH));
        let content_type = head
            .and_then(|head| head.headers.get(header::CONTENT_TYPE)?.to_str().ok())
            .unwrap_or("")
            .to_owned();
        let node = ctx.node.as_ref().map_or("", |node| node.name());
        let why = ctx.attempt.as_ref().and_then(|attempt| attempt.why());
        let message = if why == Some(Why::Revoked) {
            ctx.outcome = Some("key_revoked");
            Rejection::KeyRevoked.to_string()
        } else {
            format!("the answer of node {node} broke off")
        };
        let last = ctx
            .dialect
            .stream_error(&content_type, &message, ctx.is_mid_line());
        if let Some(last) = last.filter(|_| framed) {
            // a client that has gone in the meantime changes nothing
            let _ = session.write_response_body(Some(last.into()), true).await;
        }
        FailToProxy {
            error_code: 502,
            can_reuse_downstream: false,
        }
    }
}

/// Whether anything but `100 Continue` has gone to the client.
fn answered(session: &Session) -> bool {
    session
        .response_written()
        .is_some_and(|head| !head.status.is_informational())
}
