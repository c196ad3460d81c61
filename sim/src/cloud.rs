//! The node's account at ollama.com, and the models that run there: a stand-in for the passthrough
//! of `:cloud` names and of stubs in the store (ollama-api.md §5.6). Nothing is ever dialled.

use std::sync::Arc;

use serde::Deserialize;

use crate::answer::ApiError;
use crate::node::Node;
use crate::spec::ModelSpec;
use crate::store::Installed;

/// How the node stands with ollama.com.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// It cannot reach it, as the recorded server.
    #[default]
    Unreachable,
    /// It can, and is not signed in.
    SignedOut,
    /// It is signed in: every cloud model answers.
    SignedIn,
}

/// Where a stub's model runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSpec {
    /// Its name there.
    pub model: String,
    /// The server, as `https://ollama.com:443`.
    pub host: String,
}

/// Where a node that is signed out is sent.
pub(crate) const SIGNIN_URL: &str = "https://ollama.com/connect?name=sim&key=c2lt";

/// Lets a request for a cloud model through, or says why not.
pub(crate) fn admit(node: &Node, path: &str) -> Result<(), ApiError> {
    match *node.account.lock() {
        Account::SignedIn => Ok(()),
        Account::SignedOut => Err(ApiError::new(401, "unauthorized")),
        Account::Unreachable => Err(unreachable(node, path)),
    }
}

/// A model that is not in the store and runs there. Its answers name no remote: they come as they
/// are.
pub(crate) fn passed_through(node: &Node, name: &str) -> Option<Arc<Installed>> {
    let spec = ModelSpec::new(name).remote("", "");
    Installed::new(spec, node.clock.wall()).map(Arc::new)
}

fn unreachable(node: &Node, path: &str) -> ApiError {
    let (stamp, server) = (node.clock.wall().timestamp(), &node.spec.name_server);
    let text = format!(
        "Post \"https://ollama.com:443{path}?ts={stamp}\": dial tcp: lookup ollama.com on {server}: no such host"
    );
    ApiError::new(502, text)
}
