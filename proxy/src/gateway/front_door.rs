//! The front door: requests for the control plane's paths are relayed to it, by the same hooks as
//! those to nodes and with none of their rules. No key is asked for, nothing is kept or tried again,
//! and what the control plane does or does not do is nothing to the fleet.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, header};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, HttpPeer};
use pingora_proxy::Session;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Local, keep_after_continue, refused_body, respond};
use super::ctx::RequestCtx;
use super::{Gateway, failure};
use crate::edge;
use crate::request::body::{self, BodyLimits};
use crate::request::client::ClientAddress;
use crate::request::front_door::{is_https, prefers_html, route, told_client};
use crate::request::headers::front_door::{Told, from_control, to_control};
use crate::request::origin::Verdict;
use crate::request::rejection::Rejection;
use crate::request::route::Route;
use crate::upstream::control::{ControlPlane, Exchange};
use crate::upstream::words::plain;

/// Longest body that is relayed, bytes: the control plane takes documents, not models.
const LONGEST: u64 = 16 << 20;
/// What a browser gets in place of JSON.
const AWAY: &str = "<!doctype html><title>aivonx</title>\n<p>The control plane does not answer.</p>\n<p>Models are served all the same. Try again in a moment.</p>\n";
const HTML: &str = "text/html; charset=utf-8";

/// A request that is relayed to the control plane.
pub(super) struct Relay {
    control: Arc<ControlPlane>,
    /// Given back when the request ends.
    _place: OwnedSemaphorePermit,
    /// Not tried yet, the next one last.
    addresses: Vec<SocketAddr>,
    /// Being tried.
    present: Option<SocketAddr>,
    exchange: Option<Exchange>,
    client: HeaderValue,
    is_https: bool,
    began: Instant,
    /// Bytes of the body that went past.
    sent: u64,
    longest: u64,
}

impl Gateway {
    /// The route of a request as far as an open front door decides it.
    pub(super) fn front_route(&self, head: &RequestHeader) -> Option<Route> {
        self.front_door.as_ref()?;
        route(&head.method, head.uri.path(), &head.headers)
    }

    /// Lets a request in on its way to the control plane; true where it was answered here.
    pub(super) async fn open_front_door(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<bool> {
        let Some(control) = self.front_door.clone() else {
            return Err(failure::rejected(Rejection::ControlPlaneAway)); // `front_route` looked
        };
        let headers = &session.req_header().headers;
        ctx.client = ClientAddress::of(edge::peer_address(session), headers, &self.trusted_proxies);
        let is_foreign = self.is_foreign(session, &ctx.client);
        if is_foreign && !headers.contains_key(header::HOST) && !session.is_http2() {
            ctx.outcome = Some("forbidden_origin");
            respond(session, ctx, Local::empty(403)).await?;
            return Ok(true);
        }
        let is_https = is_https(&ctx.client, over_tls(session), headers);
        let client = told_client(&ctx.client, is_foreign);
        let relay = self.relay(control, client, is_https).await;
        let relay = relay.map_err(failure::rejected)?;
        let opened = body::streamed(session, relay.longest).await;
        opened.map_err(|error| refused_body(session, error))?;
        keep_after_continue(session);
        ctx.front = Some(Box::new(relay));
        Ok(false)
    }

    /// A place among what is under way, and where it goes.
    async fn relay(
        &self,
        control: Arc<ControlPlane>,
        client: HeaderValue,
        is_https: bool,
    ) -> Result<Relay, Rejection> {
        let place = control.place().ok_or(Rejection::ControlPlaneBusy)?;
        let addresses = control.addresses().await.map_err(|cause| {
            control.note(Err(&cause));
            Rejection::ControlPlaneAway
        })?;
        let longest = match self.limits.most {
            0 => LONGEST,
            most => most.min(LONGEST),
        };
        Ok(Relay {
            control,
            _place: place,
            addresses,
            present: None,
            exchange: None,
            client,
            is_https,
            began: Instant::now(),
            sent: 0,
            longest,
        })
    }

    /// Whether Ollama's Host and Origin checks (D12) would refuse a request. The control plane has
    /// an address book of its own names and rules of its own for origins, so they refuse nothing
    /// here. But it believes a client on this machine more than others, and a page of a stranger
    /// runs in a browser on this machine, too: by DNS rebinding under a name of its own, which the
    /// Host shows, or across origins, which the Origin shows. Such a request is relayed, and does
    /// not count as one from this machine. One without a Host is refused as everywhere.
    fn is_foreign(&self, session: &Session, client: &ClientAddress) -> bool {
        let head = session.req_header();
        let text = |name| {
            let value: Option<&HeaderValue> = head.headers.get(name);
            value.and_then(|value| value.to_str().ok())
        };
        let authority = head.uri.authority().map(http::uri::Authority::as_str);
        let host = text(header::HOST).or(authority).unwrap_or("");
        let verdict = self
            .origin
            .judge(host, text(header::ORIGIN), client, over_tls(session));
        verdict == Verdict::Forbidden
    }

    /// The way to the control plane.
    pub(super) fn control_peer(&self, ctx: &mut RequestCtx) -> Result<Box<HttpPeer>> {
        let Some(relay) = &mut ctx.front else {
            return Err(failure::rejected(Rejection::ControlPlaneAway)); // asked before
        };
        relay.present = relay.addresses.pop();
        let Some(address) = relay.present else {
            return Err(failure::rejected(Rejection::ControlPlaneAway)); // one is left to try
        };
        ctx.attempts += 1;
        let (connection, tracer) = self.connections.prepare();
        ctx.prepared = Some(connection);
        Ok(Box::new(relay.control.peer(address, tracer)))
    }

    /// From here on its patience counts.
    pub(super) fn control_connected(&self, ctx: &mut RequestCtx, fd: RawFd, reused: bool) {
        if let (Some(relay), Some(prepared)) = (&mut ctx.front, ctx.prepared.take()) {
            if let Some(address) = relay.present {
                relay.control.prefer(address);
            }
            let exchange = Exchange::begin(self.connections.taken(prepared, fd, reused));
            ctx.attempt = Some(Arc::clone(exchange.attempt()));
            relay.exchange = Some(exchange);
        }
    }

    /// No connection to the control plane: nothing was sent, so its next address may be tried.
    pub(super) fn control_not_connected(ctx: &mut RequestCtx, mut error: Box<Error>) -> Box<Error> {
        let again = ctx.front.as_ref().is_some_and(|relay| {
            let is_last = relay.addresses.is_empty();
            if is_last {
                relay.control.note(Err(plain(&error)));
            }
            !is_last
        });
        error.set_retry(again);
        error
    }

    /// The answer to what went wrong on the way to the control plane or back, once the rest of the
    /// body is out of the way: a browser gets a page. `None` where it is not on that way.
    pub(super) async fn control_failed(
        session: &mut Session,
        ctx: &RequestCtx,
        rejection: &Rejection,
    ) -> Option<Local> {
        if ctx.route != Route::FrontDoor {
            return None;
        }
        body::pass_over_refused(session).await;
        let wants_page = prefers_html(&session.req_header().headers);
        let is_away = *rejection == Rejection::ControlPlaneAway;
        (is_away && wants_page).then(|| Local {
            retry_after: rejection.retry_after(),
            ..Local::new(rejection.status().as_u16(), HTML, AWAY)
        })
    }
}

impl RequestCtx {
    /// Makes a client's head fit for the control plane; false where it is not on its way there.
    pub(super) fn to_control(&self, head: &mut RequestHeader) -> Result<bool> {
        let Some(relay) = &self.front else {
            return Ok(false);
        };
        let told = Told {
            token: relay.control.token(),
            client: &relay.client,
            is_https: relay.is_https,
            request_id: &self.id_value,
        };
        let (authority, base) = (relay.control.authority(), relay.control.base());
        to_control(head, authority, base, &told).map(|()| true)
    }

    /// The head of an answer came; false where it is not the control plane's.
    pub(super) fn saw_control(&mut self, head: &ResponseHeader) -> bool {
        let Some(relay) = &self.front else {
            return false;
        };
        if head.status.is_informational() {
            return true;
        }
        relay.control.note(Ok(()));
        if let Some(attempt) = &self.attempt {
            attempt.saw_byte(Instant::now());
        }
        let kind = head.headers.get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            self.here = None; // events never end: a process that is to leave does not wait for them
        }
        true
    }

    /// Makes the control plane's head fit for the client; false where it is not its.
    pub(super) fn clean_control(&self, head: &mut ResponseHeader) -> Result<bool> {
        if self.front.is_none() {
            return Ok(false);
        }
        from_control(head, &self.id_value).map(|()| true)
    }

    /// Counts a piece of a body on its way to the control plane: one that is too long, or comes too
    /// slowly, ends the request.
    pub(super) fn count_for_control(
        &mut self,
        piece: Option<&[u8]>,
        limits: &BodyLimits,
    ) -> Result<()> {
        let (Some(relay), Some(piece)) = (&mut self.front, piece) else {
            return Ok(());
        };
        relay.sent += piece.len() as u64;
        if relay.sent > relay.longest {
            return Err(failure::rejected(Rejection::BodyLimit(relay.longest)));
        }
        if !piece.is_empty() && limits.patience(relay.sent, relay.began.elapsed()).is_zero() {
            return Err(failure::rejected(Rejection::BodyTimeout));
        }
        Ok(())
    }
}

impl Relay {
    /// The control plane was connected and failed before its answer's head.
    pub(super) fn note_broken(&self, error: &Error) {
        let gave_up = self.exchange.as_ref().and_then(Exchange::why).is_some();
        let cause = if gave_up {
            "no answer in time"
        } else {
            plain(error)
        };
        self.control.note(Err(cause));
    }
}

fn over_tls(session: &Session) -> bool {
    session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some())
}
