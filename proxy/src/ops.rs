//! The operations listener: `/metrics`, `/healthz`, `/readyz`, and what a control plane asks for (`orders`). It
//! stands apart from the clients' listener, because metrics tell what clients should not know (design.md D8).

mod orders;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use http::{Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::fleet::Fleet;
use crate::request::body::BodyLimits;
use crate::telemetry::metrics::Metrics;

pub(crate) use orders::{Orders, Token};
/// Metrics of somebody else in this process, as text; no name may be one of ours.
pub type MoreMetrics = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

/// Answers operators and their probes.
pub(crate) struct Ops {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Arc<BodyLimits>,
    /// Whether every node was probed once and what was found is in force.
    pub(crate) first_round: Arc<std::sync::atomic::AtomicBool>,
    /// Whether the process is on its way out.
    pub(crate) draining: Arc<std::sync::atomic::AtomicBool>,
    pub(crate) orders: Orders,
    /// Shown behind our own metrics.
    pub(crate) more: Option<MoreMetrics>,
}

#[async_trait]
impl ServeHttp for Ops {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        if Orders::takes(head.uri.path()) {
            return self.orders.answer(session).await;
        }
        if head.method != http::Method::GET && head.method != http::Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET here\n");
        }
        match head.uri.path() {
            "/metrics" => self.metrics().await,
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            _ => text(
                StatusCode::NOT_FOUND,
                "here are /metrics, /healthz and /readyz\n",
            ),
        }
    }
}

impl Ops {
    async fn metrics(&self) -> Response<Vec<u8>> {
        match self.metrics.render(&self.fleet, self.limits.budget.used()) {
            Ok(mut body) => {
                if let Some(more) = &self.more {
                    body.push_str(&more().await);
                }
                answer(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    body.into_bytes(),
                )
            }
            Err(error) => {
                tracing::error!(%error, "metrics could not be written");
                text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "metrics could not be written\n",
                )
            }
        }
    }

    /// Ready once every enabled node was probed once: whatever is not known yet cannot be routed.
    fn ready(&self) -> Response<Vec<u8>> {
        if self.draining.load(std::sync::atomic::Ordering::Acquire) {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        let snapshot = self.fleet.load();
        if snapshot.revision() == 0 {
            return text(StatusCode::SERVICE_UNAVAILABLE, "no fleet yet\n");
        }
        let enabled = || snapshot.nodes().iter().filter(|node| node.doc().enabled);
        if !self.first_round.load(std::sync::atomic::Ordering::Acquire) {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "not every node was probed yet\n",
            );
        }
        let up = enabled().filter(|node| node.state().health.is_up()).count();
        text(
            StatusCode::OK,
            &format!("ready; {up} of {} nodes are up\n", enabled().count()),
        )
    }
}

fn text(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    answer(
        status,
        "text/plain; charset=utf-8",
        body.as_bytes().to_vec(),
    )
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let length = response.body().len();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static(content_type),
    );
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.into());
    response
}
