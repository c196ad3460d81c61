//! Asks data planes: they alone reach nodes (design.md D11). A data plane is found by its reports and asked
//! at its operations listener, with the token that both planes hold. `jobs` pulls through here, and the API
//! probes. No redirect is followed and no answer is read without a bound: the token goes to nobody else.

use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::bus::Bus;
use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::operations::{ProbeOrder, Probed, PullOrder, PullSeen};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::seen::Seen;

/// To connect.
const CONNECT: Duration = Duration::from_secs(2);
/// For an answer that waits for nothing.
const ANSWER: Duration = Duration::from_secs(5);
/// For the answers of nodes to a probe, all of which have their own, shorter time.
const PROBE: Duration = Duration::from_secs(30);
/// Longest answer, bytes: a probe of a thousand nodes with their models is below it.
const LONGEST: usize = 16 << 20;
/// How long an idle connection is kept.
const KEPT: Duration = Duration::from_secs(10);

/// Where a data plane is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plane {
    /// Which process.
    pub(crate) instance: String,
    /// Its operations listener, `host:port`.
    pub(crate) ops: String,
}

/// Why a data plane did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaneError {
    /// It cannot be reached, or broke off, or took too long.
    #[error("the data plane at {ops} does not answer: {cause}")]
    Silent {
        /// Where it was asked.
        ops: String,
        /// What happened.
        cause: String,
    },
    /// It answered with an error.
    #[error("the data plane at {ops} says {status}: {message}")]
    Refused {
        /// Where it was asked.
        ops: String,
        /// The status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// This control plane holds no token.
    #[error(
        "data planes are not asked without a token: set control_plane.operations_token, and proxy.operations_token to \
         the same"
    )]
    NoToken,
}

impl PlaneError {
    /// Whether another data plane would have to be told the same: the tokens differ.
    pub(crate) fn is_of_the_token(&self) -> bool {
        match self {
            Self::NoToken => true,
            Self::Refused { status, .. } => [401, 403].contains(status),
            Self::Silent { .. } => false,
        }
    }

    /// Whether what was asked for is not known there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// The way to the data planes.
pub(crate) struct Planes {
    bus: Arc<dyn Bus>,
    token: Option<Secret>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Planes {
    /// To the data planes that report on this bus, with the token that they hold.
    pub(crate) fn new(bus: Arc<dyn Bus>, token: Option<Secret>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(KEPT)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { bus, token, client }
    }

    /// Whether data planes can be asked at all.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Data planes that report now and are not on their way out.
    pub(crate) async fn live(&self) -> Vec<Plane> {
        let seen = Seen::over(&*self.bus).await;
        let live = seen
            .live()
            .filter(|report| !report.draining && !report.ops.is_empty());
        live.map(|report| Plane {
            instance: report.instance.clone(),
            ops: report.ops.clone(),
        })
        .collect()
    }

    /// The names of the nodes that an entry stands for, as the data planes know them.
    pub(crate) async fn names(&self, slug: &str, is_many: bool) -> Vec<String> {
        if !is_many {
            return vec![slug.to_owned()];
        }
        let names = Seen::over(&*self.bus).await.names(slug, is_many);
        names.into_iter().collect()
    }

    /// Probes nodes now.
    pub(crate) async fn probe(
        &self,
        plane: &Plane,
        order: &ProbeOrder,
    ) -> Result<Probed, PlaneError> {
        self.ask(plane, Method::POST, "/probe", json(order), PROBE)
            .await
    }

    /// Begins a pull, unless one of this id is known there.
    pub(crate) async fn put_pull(
        &self,
        plane: &Plane,
        id: &str,
        order: &PullOrder,
    ) -> Result<PullSeen, PlaneError> {
        let path = format!("/pulls/{id}");
        self.ask(plane, Method::PUT, &path, json(order), ANSWER)
            .await
    }

    /// How far a pull is.
    pub(crate) async fn pull(&self, plane: &Plane, id: &str) -> Result<PullSeen, PlaneError> {
        let path = format!("/pulls/{id}");
        self.ask(plane, Method::GET, &path, Bytes::new(), ANSWER)
            .await
    }

    /// Ends a pull.
    pub(crate) async fn end_pull(&self, plane: &Plane, id: &str) -> Result<PullSeen, PlaneError> {
        let path = format!("/pulls/{id}");
        self.ask(plane, Method::DELETE, &path, Bytes::new(), ANSWER)
            .await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        plane: &Plane,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Duration,
    ) -> Result<T, PlaneError> {
        let request = self.request(plane, method, path, body)?;
        let silent = |cause: String| PlaneError::Silent {
            ops: plane.ops.clone(),
            cause,
        };
        let answered = tokio::time::timeout(patience, self.exchange(request)).await;
        let (status, body) = answered
            .map_err(|_| silent("no answer in time".to_owned()))?
            .map_err(silent)?;
        if !status.is_success() {
            return Err(PlaneError::Refused {
                ops: plane.ops.clone(),
                status: status.as_u16(),
                message: words(&body),
            });
        }
        serde_json::from_slice(&body)
            .map_err(|error| silent(format!("its answer cannot be read: {error}")))
    }

    fn request(
        &self,
        plane: &Plane,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, PlaneError> {
        let token = self.token.as_ref().ok_or(PlaneError::NoToken)?;
        let bearer = format!("Bearer {}", token.reveal());
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", plane.ops))
            .header(header::AUTHORIZATION, bearer)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body));
        request.map_err(|_| PlaneError::Silent {
            ops: plane.ops.clone(),
            cause: "its address or the token has signs that HTTP has no place for".to_owned(),
        })
    }

    /// The whole answer, or why there is none.
    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| innermost(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| innermost(&*error))?;
        Ok((status, body.to_bytes()))
    }
}

fn json(order: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(order).expect("orders are texts, lists and flags");
    text.into()
}

/// What an error answer says, cut.
fn words(body: &[u8]) -> String {
    let told = serde_json::from_slice::<serde_json::Value>(body).ok();
    let told = told.and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
    let told = told.unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    told.chars().take(300).collect()
}

/// The cause at the bottom of an error: `connection refused` and not `client error (Connect)`.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
