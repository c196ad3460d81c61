//! What a control plane asks of a data plane at its operations listener (design.md D11: only data planes reach
//! nodes): to probe nodes now, and to pull a model at one node. Each request carries
//! `Authorization: Bearer <operations_token>`, which both planes hold.
//!
//! | request | answer |
//! |---|---|
//! | `POST /probe` with a `ProbeOrder` | 200 and a `Probed`, once every node was asked |
//! | `PUT /pulls/{id}` with a `PullOrder` | 200 and a `PullSeen`; begins the pull unless this id is known |
//! | `GET /pulls/{id}` | 200 and a `PullSeen`; 404 where the id is not known |
//! | `DELETE /pulls/{id}` | 200 and a `PullSeen`; ends the pull if it still goes on |
//!
//! The id is the asker's. A pull goes on while nobody asks for it, and how it ended stays known for
//! `ENDED_KEPT`; so an asker that was started again goes on with the same id.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::report::HealthSeen;

/// How long it stays known how a pull ended.
pub const ENDED_KEPT: Duration = Duration::from_secs(10 * 60);

/// Which nodes to probe now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeOrder {
    /// By name; none of them: all that are enabled.
    pub nodes: Vec<String>,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Probed {
    /// By the node's name; those that this data plane does not know are left out.
    pub nodes: BTreeMap<String, NodeProbed>,
}

/// What a probe found at one node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeProbed {
    /// The health that follows from this probe and those before it.
    pub health: HealthSeen,
    /// Why this probe failed; `None` where it did not.
    pub error: Option<String>,
    /// Its Ollama's version.
    pub version: Option<String>,
    /// The models that it has installed, as `llama3:latest`.
    pub models: Vec<String>,
}

/// A model to pull at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullOrder {
    /// The model.
    pub model: String,
    /// The node's name.
    pub node: String,
    /// Whether the registry's certificate is not looked at.
    #[serde(default)]
    pub insecure: bool,
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PullSeen {
    /// Whether it goes on, and how it ended.
    pub state: PullState,
    /// The node's last status line, or why it failed.
    pub message: String,
    /// Bytes that are there, over all layers.
    pub completed: u64,
    /// Bytes altogether, as far as they are known.
    pub total: u64,
}

/// Whether a pull goes on, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullState {
    /// It goes on.
    #[default]
    Running,
    /// The node has the model.
    Success,
    /// It failed.
    Error,
    /// It was ended from outside.
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_answers_are_written_and_read_alike() {
        let text = r#"{"model":"llama3:latest","node":"gpu-1","insecure":false}"#;
        let order: PullOrder = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&order).unwrap(), text);
        let text = r#"{"state":"cancelled","message":"m","completed":1,"total":2}"#;
        let seen: PullSeen = serde_json::from_str(text).unwrap();
        assert_eq!(seen.state, PullState::Cancelled);
        assert_eq!(serde_json::to_string(&seen).unwrap(), text);
        serde_json::from_str::<PullOrder>(r#"{"model":"m","node":"n","nodes":[]}"#).unwrap_err();
        assert_eq!(
            serde_json::from_str::<Probed>(r#"{"later":1}"#).unwrap(),
            Probed::default()
        );
    }
}
