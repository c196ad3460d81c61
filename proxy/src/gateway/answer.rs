//! The first steps of a request, and the answers that the proxy gives itself.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType};
use pingora::protocols::http::v1::server::HttpSession;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, failure};
use crate::edge;
use crate::fleet::Node;
use crate::request::body::{self, BodyError};
use crate::request::demand::Resolved;
use crate::request::origin::Verdict;
use crate::request::rejection::Rejection;
use crate::request::route::Route;
use crate::request::{headers, id};
use aivonx_shared::error_body::Dialect;

const TEXT: &str = "text/plain";
const TEXT_UTF8: &str = "text/plain; charset=utf-8";
/// Content type of native answers, and of `/v1` lists (recordings `reads`).
pub(super) const JSON_UTF8: &str = "application/json; charset=utf-8";
pub(super) const JSON: &str = "application/json";
/// What Go's server reads of a body that nobody asked for, so that the connection can go on, bytes.
const LEFT_OVER: usize = 256 << 10;
/// What Pingora calls a chunked body that is none; the constants themselves are private to it.
const BAD_CHUNKS: [ErrorType; 2] = [
    ErrorType::Custom("InvalidChunk"),
    ErrorType::Custom("InvalidTrailerEnd"),
];

impl Gateway {
    /// Names the request and its route.
    pub(super) fn begin(&self, session: &mut Session, ctx: &mut RequestCtx) {
        ctx.here = Some(self.active.enter());
        session
            .downstream_session
            .set_read_timeout(Some(self.timeouts.client));
        session
            .downstream_session
            .set_write_timeout(Some(self.timeouts.client));
        edge::arrived(session);
        let head = session.req_header();
        ctx.id = id::request_id(
            head.headers
                .get(&headers::REQUEST_ID)
                .map(http::HeaderValue::as_bytes),
            &self.dice,
        );
        ctx.id_value = header_value(&ctx.id);
        ctx.route = self
            .front_route(head)
            .unwrap_or_else(|| Route::of(&head.method, head.uri.path()));
        ctx.dialect = Dialect::of_path(head.uri.path());
    }

    /// Answers what needs no node; true where it did.
    pub(super) async fn answer_by_route(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<bool> {
        if refuse_faulty(session, ctx).await? {
            self.metrics.rejected("bad_request");
            return Ok(true);
        }
        if ctx.route == Route::FrontDoor {
            return Ok(false); // the control plane has rules of its own
        }
        let takes_body = matches!(ctx.route, Route::Node(_) | Route::Store(_));
        if !takes_body {
            self.pass_over_body(session).await;
        }
        if let Route::Redirect(status, to) = &ctx.route {
            let (status, to) = (*status, to.clone());
            redirect(session, ctx, status, &to).await?;
            return Ok(true);
        }
        let identified = self.identify(session, ctx);
        if !self.check_origin(session, ctx).await? {
            return Ok(true);
        }
        self.admit(session, ctx, identified).await?;
        if takes_body {
            return Ok(false);
        }
        if matches!(ctx.route, Route::Tags | Route::Models | Route::Model(_)) {
            self.stores.known.settled().await; // a change that was just answered shows
        }
        let Some(answer) = self.local(session, ctx)? else {
            return Ok(true);
        };
        respond(session, ctx, answer).await?;
        Ok(true)
    }

    /// What needs no node, from what is known of the fleet.
    fn local(&self, session: &Session, ctx: &RequestCtx) -> Result<Option<Local>> {
        if ctx.route.is_read() {
            return self.read(session, ctx).map(Some);
        }
        Ok(Some(match &ctx.route {
            Route::Root => Local::new(200, TEXT_UTF8, "Ollama is running"),
            Route::Blocked(path) => return Err(failure::rejected(Rejection::Blocked(path))),
            Route::Options(methods) | Route::WrongMethod(methods) => Local {
                allow: Some(methods),
                ..Local::new(405, TEXT, "405 method not allowed")
            },
            Route::NotFound => Local::new(404, TEXT, "404 page not found"),
            Route::Version
            | Route::Tags
            | Route::Ps
            | Route::Models
            | Route::Model(_)
            | Route::Node(_)
            | Route::Store(_)
            | Route::FrontDoor
            | Route::Redirect(..) => return Ok(None),
        }))
    }

    /// Ollama's Host and Origin rules; false where the request was answered.
    async fn check_origin(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
        let head = session.req_header();
        let text = |name| {
            head.headers
                .get(name)
                .and_then(|value: &http::HeaderValue| value.to_str().ok())
        };
        let host =
            text(header::HOST).or_else(|| head.uri.authority().map(http::uri::Authority::as_str));
        let (origin, options) = (text(header::ORIGIN), head.method == http::Method::OPTIONS);
        let has_key = ctx
            .caller
            .as_ref()
            .is_some_and(|caller| caller.grant.is_key());
        let host = host.unwrap_or("");
        let by_origin = self.origin.judge_origin(host, origin);
        let verdict = if has_key || (options && by_origin == Verdict::Cors) {
            by_origin
        } else {
            let over_tls = session
                .digest()
                .is_some_and(|digest| digest.ssl_digest.is_some());
            self.origin.judge(host, origin, &ctx.client, over_tls)
        };
        let allow = match ctx.route {
            Route::Options(methods) | Route::WrongMethod(methods) => Some(methods),
            _ => None,
        };
        match verdict {
            Verdict::Plain => return Ok(true),
            Verdict::Cors => ctx.origin = head.headers.get(header::ORIGIN).cloned(),
            Verdict::Forbidden => {
                ctx.outcome = Some("forbidden_origin");
                self.pass_over_body(session).await;
                respond(
                    session,
                    ctx,
                    Local {
                        allow,
                        ..Local::empty(403)
                    },
                )
                .await?;
                return Ok(false);
            }
        }
        if options {
            self.answer_preflight(session, ctx, allow).await?;
        }
        Ok(!options)
    }

    async fn answer_preflight(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        allow: Option<&'static str>,
    ) -> Result<()> {
        let origin = ctx.origin.as_ref().and_then(|origin| origin.to_str().ok());
        let pins = origin.is_some_and(|origin| self.origin.is_configured(origin));
        let answer = Local {
            allow,
            preflight: Some(Preflight { pins }),
            ..Local::empty(204)
        };
        respond(session, ctx, answer).await
    }

    /// Reads a short body that nobody asked for, as Go's server does before it answers. A longer
    /// one, and one that the client holds back until it is told to go on, end the connection.
    pub(super) async fn pass_over_body(&self, session: &mut Session) {
        let headers = &session.req_header().headers;
        let body = &session.downstream_session;
        let length = body.get_header(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        if headers.contains_key(header::EXPECT) || length.is_some_and(|n: usize| n > LEFT_OVER) {
            return;
        }
        let body = &mut session.downstream_session;
        let reading = async {
            let mut left = LEFT_OVER;
            while !body.is_body_done()
                && let Ok(Some(chunk)) = body.read_request_body().await
                && chunk.len() <= left
            {
                left -= chunk.len();
            }
        };
        // one that comes too slowly is left unread, and the connection ends
        let _ = tokio::time::timeout(self.timeouts.client, reading).await;
    }

    /// Reads the body as far as routing needs it, and learns what is demanded.
    pub(super) async fn read_body(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
    ) -> Result<()> {
        let route = ctx.node_route();
        let (read, found) = match body::read(session, route, &self.limits).await {
            Ok(read) => read,
            Err(error) => return Err(refused_body(session, error)),
        };
        keep_after_continue(session);
        ctx.body = read;
        ctx.resolved = Resolved::of(&found, route, &self.fleet.load());
        if ctx.resolved.demand.unheld.is_some() && self.stores.known.settled().await {
            ctx.resolved = Resolved::of(&found, route, &self.fleet.load());
        }
        ctx.found = Some(found);
        Ok(())
    }
}

/// A body that could not be taken, as the error that ends its request.
pub(super) fn refused_body(session: &mut Session, error: BodyError) -> Box<Error> {
    match error {
        BodyError::Rejected(rejection) => failure::rejected(rejection),
        BodyError::Client(error) if BAD_CHUNKS.contains(error.etype()) => {
            session.set_keepalive(None); // nobody can tell where the next request begins
            let text = "invalid byte in chunk length".to_owned(); // Go's words
            failure::rejected(Rejection::AsOllama(400, text))
        }
        BodyError::Client(error) => error.into_down(),
    }
}

/// Writing `100 Continue` before the body had come made Pingora give the connection up.
pub(super) fn keep_after_continue(session: &mut Session) {
    let head = session.req_header();
    if head.headers.contains_key(header::EXPECT) && head.version == http::Version::HTTP_11 {
        session.set_keepalive(Some(0)); // for as long as the client likes, if it does
    }
}

/// Answers a head that Go's server refuses, or that other servers may read differently, in Go's
/// way: at once, in plain text, and the connection ends. True where it did.
async fn refuse_faulty(session: &mut Session, ctx: &mut RequestCtx) -> Result<bool> {
    let head = session.req_header();
    let raw = session
        .downstream_session
        .as_http1()
        .map(HttpSession::get_headers_raw_bytes)
        .unwrap_or_default();
    let Some((status, reason)) = headers::fault(head, &raw) else {
        return Ok(false);
    };
    ctx.outcome = Some("bad_request");
    session.set_keepalive(None);
    let mut answer = ResponseHeader::build(status, Some(4))?;
    answer.set_reason_phrase(Some(reason))?;
    answer.insert_header(header::CONTENT_TYPE, TEXT_UTF8)?;
    headers::mark(&mut answer, &ctx.id_value, None)?;
    let body = format!("{status} {reason}");
    write(session, ctx, answer, body.into()).await?;
    Ok(true)
}

/// What a page is told that asks before it sends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Preflight {
    /// Whether it may name a node.
    pins: bool,
}

/// An answer of the proxy's own.
pub(super) struct Local {
    pub(super) status: u16,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Bytes,
    pub(super) allow: Option<&'static str>,
    pub(super) preflight: Option<Preflight>,
    pub(super) retry_after: Option<u64>,
    /// Whether the answer says how to present a key.
    pub(super) challenge: bool,
    /// The node whose work it tells of.
    pub(super) node: Option<Arc<Node>>,
}

impl Local {
    pub(super) fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            content_type: Some(content_type),
            body: body.into(),
            ..Self::empty(status)
        }
    }

    pub(super) fn json(body: String) -> Self {
        Self::new(200, JSON_UTF8, body)
    }

    pub(super) fn empty(status: u16) -> Self {
        Self {
            status,
            content_type: None,
            body: Bytes::new(),
            allow: None,
            preflight: None,
            retry_after: None,
            challenge: false,
            node: None,
        }
    }

    /// A rejection in the dialect of the path.
    pub(super) fn rejection(rejection: &Rejection, ctx: &RequestCtx) -> Self {
        let status = rejection.status().as_u16();
        let body = ctx
            .dialect
            .error_body(status, &rejection.to_string(), &ctx.id);
        Self {
            retry_after: rejection.retry_after(),
            challenge: status == 401,
            ..Self::new(status, JSON_UTF8, body)
        }
    }
}

/// Writes an answer of the proxy's own. Where a body of the request was not read, Pingora ends the
/// connection.
pub(super) async fn respond(
    session: &mut Session,
    ctx: &mut RequestCtx,
    answer: Local,
) -> Result<()> {
    ctx.open = None; // a client that has the answer may ask again at once
    let mut head = ResponseHeader::build(answer.status, Some(8))?;
    if let Some(origin) = &ctx.origin {
        headers::allow_origin(&mut head, origin)?;
    }
    if let Some(preflight) = answer.preflight {
        headers::preflight(&mut head, preflight.pins)?;
    }
    if let Some(allow) = answer.allow {
        head.insert_header("Allow", allow)?;
    }
    if let Some(content_type) = answer.content_type {
        head.insert_header(header::CONTENT_TYPE, content_type)?;
    }
    if answer.challenge {
        // not Basic, though it is taken: browsers would ask people for a password
        head.insert_header(header::WWW_AUTHENTICATE, "Bearer realm=\"aivonx\"")?;
    }
    if let Some(seconds) = answer.retry_after {
        head.insert_header("Retry-After", seconds)?;
    }
    head.insert_header(
        header::DATE,
        httpdate::fmt_http_date(std::time::SystemTime::now()),
    )?;
    if answer.status != 204 {
        head.insert_header(header::CONTENT_LENGTH, answer.body.len())?;
    }
    let node = answer.node.as_ref().map(|node| (node.name_value(), 1));
    headers::mark(&mut head, &ctx.id_value, node)?;
    write(session, ctx, head, answer.body).await
}

async fn write(
    session: &mut Session,
    ctx: &mut RequestCtx,
    mut head: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    if session.req_header().version == http::Version::HTTP_10 {
        head.set_version(http::Version::HTTP_10); // as Go answers (recording `transport-http10`)
    }
    let is_head = session.req_header().method == http::Method::HEAD;
    let bare = is_head || body.is_empty();
    session
        .write_response_header(Box::new(head), bare)
        .await
        .map_err(Error::into_down)?;
    if bare && session.is_http2() {
        // over HTTP/1 the head says so
        session.finish_body().await.map_err(Error::into_down)?;
    }
    if !bare {
        ctx.tail.total += body.len() as u64;
        session
            .write_response_body(Some(body), true)
            .await
            .map_err(Error::into_down)?;
    }
    Ok(())
}

/// Sends to the clean spelling of a path; the query stays. `GET` gets Go's small page, too.
async fn redirect(
    session: &mut Session,
    ctx: &mut RequestCtx,
    status: u16,
    path: &str,
) -> Result<()> {
    let head = session.req_header();
    let query = head
        .uri
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    let (to, is_get) = (format!("{path}{query}"), head.method == http::Method::GET);
    let mut answer = ResponseHeader::build(status, Some(6))?;
    let reason = if status == 301 {
        "Moved Permanently"
    } else {
        "Temporary Redirect"
    };
    let body = if is_get {
        format!("<a href=\"{}\">{reason}</a>.\n\n", escaped(&to))
    } else {
        String::new()
    };
    if is_get {
        answer.insert_header(header::CONTENT_TYPE, "text/html; charset=utf-8")?;
    }
    answer.insert_header("Location", to)?;
    answer.insert_header(
        header::DATE,
        httpdate::fmt_http_date(std::time::SystemTime::now()),
    )?;
    answer.insert_header(header::CONTENT_LENGTH, body.len())?;
    headers::mark(&mut answer, &ctx.id_value, None)?;
    write(session, ctx, answer, body.into()).await
}

/// Text within HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

/// An id as a header; ids are visible ASCII by construction.
fn header_value(id: &str) -> http::HeaderValue {
    http::HeaderValue::from_str(id).unwrap_or_else(|_| http::HeaderValue::from_static("invalid"))
}
