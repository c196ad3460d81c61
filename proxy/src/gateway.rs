//! The way of a request through the data plane: Pingora's hooks, each naming steps that stand in
//! the modules below. `ctx` is what one request carries, `admit` says who may, `answer` what the
//! proxy answers itself, `attempt` one try at one node, `editing` what is changed on the way,
//! `failure` what an error means, `finish` the last account; `front_door` what goes to the control plane.

mod admit;
mod answer;
mod attempt;
mod ctx;
mod editing;
mod failure;
mod finish;
mod front_door;
mod pin;
mod read;
mod store;
mod transfer;
mod unload;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aivonx_shared::config::TimeoutConfig;
use async_trait::async_trait;
use bytes::Bytes;
use ipnet::IpNet;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, HttpPeer};
use pingora::protocols::Digest;
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::balance::Balancer;
use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::request::body::BodyLimits;
use crate::request::origin::OriginPolicy;
use crate::request::route::Route;
use crate::store::Stores;
use crate::telemetry::access_log::AccessLogger;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::usage::UsageCounts;
use crate::upstream::connection::Connections;
use crate::upstream::control::ControlPlane;
use ctx::RequestCtx;

/// The proxy service. Everything it uses is passed in.
pub(crate) struct Gateway {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) limits: Arc<BodyLimits>,
    pub(crate) origin: OriginPolicy,
    /// Whose word on a client's address counts.
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLogger,
    /// Usage for a control plane; `None` where there is none.
    pub(crate) usage: Option<Arc<UsageCounts>>,
    pub(crate) timeouts: TimeoutConfig,
    pub(crate) max_attempts: u32,
    pub(crate) version: Option<String>,
    pub(crate) dice: Dice,
    pub(crate) stores: Arc<Stores>,
    /// Where the control plane's paths are relayed to; `None` where the front door is closed.
    pub(crate) front_door: Option<Arc<ControlPlane>>,
    /// Requests being answered; what a drain waits for.
    pub(crate) active: Arc<Active>,
}

/// The number of requests being answered.
#[derive(Debug, Default)]
pub(crate) struct Active(AtomicUsize);

impl Active {
    /// Requests now.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn enter(self: &Arc<Self>) -> Here {
        self.0.fetch_add(1, Ordering::AcqRel);
        Here(Arc::clone(self))
    }
}

/// One request being answered.
pub(crate) struct Here(Arc<Active>);

impl Drop for Here {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: Pingora moves it from future to future, and each of them would hold its size.
    type CTX = Box<RequestCtx>;

    fn new_ctx(&self) -> Box<RequestCtx> {
        Box::new(RequestCtx::new())
    }

    /// No modules: answers are never compressed, and streams must not be held up.
    fn init_downstream_modules(&self, _: &mut pingora::modules::http::HttpModules) {}

    async fn request_filter(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestCtx>,
    ) -> Result<bool> {
        self.begin(session, ctx);
        if self.answer_by_route(session, ctx).await? {
            return Ok(true);
        }
        if ctx.route == Route::FrontDoor {
            return self.open_front_door(session, ctx).await;
        }
        if let Some(route) = ctx.store_route() {
            return self.change_store(session, ctx, route).await;
        }
        self.read_body(session, ctx).await?;
        Self::judge_work(session, ctx).await?;
        self.permit(session, ctx)?;
        self.pin(session, ctx)?;
        if self.unload(session, ctx).await? {
            return Ok(true);
        }
        self.edit_body(session, ctx)?;
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Box<RequestCtx>,
    ) -> Result<Box<HttpPeer>> {
        if ctx.front.is_some() {
            return self.control_peer(ctx);
        }
        ctx.permit = None; // a retry must not hold two slots
        ctx.body.begin_attempt(session);
        self.acquire(ctx)?;
        self.connect(ctx)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        fd: std::os::unix::io::RawFd,
        _: Option<&Digest>,
        ctx: &mut Box<RequestCtx>,
    ) -> Result<()> {
        self.connected(ctx, fd, reused);
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Box<RequestCtx>,
    ) -> Result<()> {
        self.to_node(head, ctx)
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<RequestCtx>,
    ) -> Result<()> {
        ctx.sends(body.as_deref());
        ctx.count_for_control(body.as_deref(), &self.limits)?;
        ctx.body.outgoing(body, end).map_err(failure::rejected)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<RequestCtx>,
    ) -> Result<()> {
        self.judge(session, head, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Box<RequestCtx>,
    ) -> Result<()> {
        self.make_known(head, ctx).await;
        Self::mark(session, head, ctx)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<RequestCtx>,
    ) -> Result<Option<Duration>> {
        if let Some(piece) = body.as_deref().filter(|piece| !piece.is_empty()) {
            ctx.saw(piece);
            self.begin_to_know(ctx);
        }
        ctx.relay(body, end);
        if end {
            ctx.open = None; // a client that has it all may ask again at once
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        ctx: &mut Box<RequestCtx>,
        error: Box<Error>,
    ) -> Box<Error> {
        self.not_connected(session, ctx, error)
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Box<RequestCtx>,
        client_reused: bool,
    ) -> Box<Error> {
        self.broken(session, ctx, error, client_reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Box<RequestCtx>,
    ) -> FailToProxy {
        self.answer_failure(session, error, ctx).await
    }

    async fn logging(
        &self,
        session: &mut Session,
        error: Option<&Error>,
        ctx: &mut Box<RequestCtx>,
    ) {
        self.account(session, error, ctx);
    }

    /// Errors are told once, in the access line.
    fn suppress_error_log(&self, _: &Session, _: &Box<RequestCtx>, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Box<RequestCtx>,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
