//! Why the proxy answered a request itself, and with what. A `Rejection` rides as the cause of a
//! Pingora error and is found again where the answer is written.

use std::time::Duration;

use http::StatusCode;

/// An answer of the proxy's own that is no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    /// What Ollama would say of a request that no node is there to judge.
    #[error("{1}")]
    AsOllama(u16, String),
    /// Nodes are known for the model, none of them healthy.
    #[error("no healthy node {}", serves(.0.as_ref()))]
    NoHealthyNode(Option<String>),
    /// Every breaker is open.
    #[error("every node that could answer is failing; try again in {}s", seconds(*.0))]
    Failing(Duration),
    /// The document names no node that takes requests.
    #[error("no node is in service")]
    NoNode,
    /// The model was not found within the memory for one body.
    #[error("request body too large: its model must stand within the first {0} bytes")]
    BodyTooLarge(u64),
    /// The body is longer than the configuration lets any be.
    #[error("request body too large: at most {0} bytes are taken here")]
    BodyLimit(u64),
    /// The memory for all bodies is used up.
    #[error("too many large request bodies at once; try again")]
    BodyMemory,
    /// The client stopped sending.
    #[error("request body did not arrive in time")]
    BodyTimeout,
    /// A body beyond the memory named another model after it was already on its way.
    #[error("request names two models; a body of this size may name one")]
    SecondModel,
    /// A body beyond the memory brought a `keep_alive` that must be held to bounds too late for it.
    #[error("request body too large: its keep_alive must stand before what is long")]
    LateKeepAlive,
    /// A body beyond the memory of a caller that may not unload, whose work does not stand in front.
    #[error("request body too large: its prompt, messages or input must stand before what is long")]
    LateWork,
    /// Every attempt failed before a byte; the text is the last failure.
    #[error("{0}")]
    NodeFailed(String),
    /// No first byte in time.
    #[error("no answer from node {node} within {}s", seconds(*.waited))]
    FirstByteTimeout {
        /// The node.
        node: String,
        /// The timeout.
        waited: Duration,
    },
    /// The caller has no key, and without one it may not.
    #[error("an API key is needed: send it as `Authorization: Bearer` or `x-api-key`")]
    NoKey,
    /// The key of this id is out of date.
    #[error("the API key `{0}` has expired")]
    KeyExpired(String),
    /// The key was taken out while its request ran.
    #[error("the API key was revoked")]
    KeyRevoked,
    /// The key lacks a scope.
    #[error("this API key lacks the scope `{0}`")]
    NoScope(&'static str),
    /// The caller's list lacks the model.
    #[error("model '{0}' is not on the list of models that this caller may use")]
    ModelForbidden(String),
    /// The caller has a list, and the model cannot be told.
    #[error("this caller may use some models only, and the model of this request cannot be told")]
    ModelUnclear,
    /// A form's model could be overridden from the query.
    #[error("name the model in the form, not in the query")]
    ModelInQuery,
    /// The rate is used up.
    #[error("too many requests; try again in {}s", seconds(*.0).max(1))]
    RateLimit(Duration),
    /// As many requests as may be are open.
    #[error("too many requests at once: this caller may have {0} open")]
    Concurrency(u32),
    /// It would leave the house.
    #[error("ollama cloud is disabled here: {0} was not sent to any node")]
    Cloud(String),
    /// It may leave the house, and nobody can let it out.
    #[error("no node in service is signed in to ollama.com")]
    NotSignedIn,
    /// The identity of a node is for nobody.
    #[error("{0} is not offered: it concerns the identity of a single node")]
    Blocked(&'static str),
    /// `x-aivonx-node` names nobody.
    #[error("node '{0}' is not in the fleet")]
    UnknownNode(String),
    /// The body of a native route names a node. The words are those of aivonx' predecessor.
    #[error("specifying node_id is not allowed")]
    NodeIdInBody,
    /// The one node that could do it takes no requests: its name and why.
    #[error("node {0} is {1}")]
    NodeAway(String, &'static str),
    /// The fleet document lets no node have this model.
    #[error("no node may have model '{0}': the fleet's `models` rules and `pull.to` leave none")]
    NoTarget(String),
    /// The front door is open, and nobody answers behind it.
    #[error("the control plane does not answer")]
    ControlPlaneAway,
    /// As many requests as may be are with the control plane.
    #[error("too many requests for the control plane at once; try again")]
    ControlPlaneBusy,
    /// A change of a store whose body is too long to be read before it is sent.
    #[error("request body too large: {0} bytes at most")]
    StoreBodyTooLarge(u64),
}

fn serves(model: Option<&String>) -> String {
    model.map_or_else(
        || "is in service".into(),
        |model| format!("has model '{model}'"),
    )
}

/// Whole seconds, rounded up: a client told to come back early would fail again.
fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000) as u64
}

impl Rejection {
    /// Exhaustive, so that a new variant must choose its status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::AsOllama(status, _) => {
                StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_REQUEST)
            }
            Self::NoHealthyNode(_)
            | Self::Failing(_)
            | Self::NoNode
            | Self::NotSignedIn
            | Self::NodeAway(..)
            | Self::ControlPlaneAway
            | Self::ControlPlaneBusy
            | Self::BodyMemory => StatusCode::SERVICE_UNAVAILABLE,
            Self::BodyTooLarge(_)
            | Self::BodyLimit(_)
            | Self::StoreBodyTooLarge(_)
            | Self::LateKeepAlive
            | Self::LateWork => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownNode(_) => StatusCode::NOT_FOUND,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::SecondModel | Self::ModelInQuery | Self::NodeIdInBody => StatusCode::BAD_REQUEST,
            Self::NoKey | Self::KeyExpired(_) | Self::KeyRevoked => StatusCode::UNAUTHORIZED,
            Self::NoScope(_)
            | Self::NoTarget(_)
            | Self::ModelForbidden(_)
            | Self::ModelUnclear
            | Self::Cloud(_)
            | Self::Blocked(_) => StatusCode::FORBIDDEN,
            Self::RateLimit(_) | Self::Concurrency(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NodeFailed(_) => StatusCode::BAD_GATEWAY,
            Self::FirstByteTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Seconds for `Retry-After`, on every 429 and 503.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Failing(wait) | Self::RateLimit(wait) => Some(seconds(*wait).max(1)),
            Self::NoHealthyNode(_)
            | Self::NoNode
            | Self::NotSignedIn
            | Self::NodeAway(..)
            | Self::ControlPlaneAway => Some(5),
            Self::BodyMemory | Self::Concurrency(_) | Self::ControlPlaneBusy => Some(1),
            _ => None,
        }
    }

    /// The value of `rejections_total{reason}` and of the access line's outcome.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::AsOllama(..) => "bad_request",
            Self::NoHealthyNode(_) => "no_healthy_node",
            Self::Failing(_) => "breaker_open",
            Self::NoNode => "no_node",
            Self::BodyLimit(_) => "body_limit",
            Self::BodyTooLarge(_) | Self::StoreBodyTooLarge(_) => "body_too_large",
            Self::UnknownNode(_) => "unknown_node",
            Self::NodeIdInBody => "node_id",
            Self::NodeAway(..) => "node_away",
            Self::NoTarget(_) => "no_target",
            Self::ControlPlaneAway => "control_plane_away",
            Self::ControlPlaneBusy => "control_plane_busy",
            Self::BodyMemory => "body_memory",
            Self::BodyTimeout => "body_timeout",
            Self::SecondModel => "second_model",
            Self::LateKeepAlive => "late_keep_alive",
            Self::LateWork => "late_work",
            Self::NodeFailed(_) => "node_failed",
            Self::FirstByteTimeout { .. } => "first_byte_timeout",
            Self::NoKey => "no_key",
            Self::KeyExpired(_) => "key_expired",
            Self::KeyRevoked => "key_revoked",
            Self::NoScope(_) => "no_scope",
            Self::ModelForbidden(_) | Self::ModelUnclear | Self::ModelInQuery => "model_forbidden",
            Self::RateLimit(_) => "rate_limit",
            Self::Concurrency(_) => "concurrency",
            Self::Cloud(_) => "cloud",
            Self::NotSignedIn => "not_signed_in",
            Self::Blocked(_) => "blocked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_429_and_503_says_when_to_come_back() {
        for rejection in [
            Rejection::RateLimit(Duration::from_millis(1)),
            Rejection::Concurrency(1),
        ] {
            assert_eq!(rejection.status(), 429);
            assert!(rejection.retry_after().unwrap() >= 1);
        }
        for rejection in [
            Rejection::NoHealthyNode(Some("m".into())),
            Rejection::Failing(Duration::from_millis(1)),
            Rejection::NoNode,
            Rejection::ControlPlaneAway,
            Rejection::ControlPlaneBusy,
            Rejection::BodyMemory,
        ] {
            assert_eq!(rejection.status(), 503);
            assert!(rejection.retry_after().unwrap() >= 1);
        }
        assert_eq!(
            Rejection::Failing(Duration::from_millis(1200)).retry_after(),
            Some(2)
        );
        assert_eq!(
            Rejection::NoHealthyNode(Some("m".into())).to_string(),
            "no healthy node has model 'm'"
        );
    }
}
