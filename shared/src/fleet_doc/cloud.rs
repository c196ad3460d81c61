//! Whether the fleet may send requests on to ollama.com.

use crate::config::Reader;

/// What becomes of requests for cloud models and web searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    /// Refused, before a node is asked: prompts stay in the house.
    #[default]
    Deny,
    /// Sent to nodes that are signed in to ollama.com.
    Allow,
}

/// Reads `cloud`.
pub(super) fn read_cloud(root: &Reader<'_>) -> Cloud {
    match root.get::<String>("cloud").as_deref() {
        None | Some("deny") => Cloud::Deny,
        Some("allow") => Cloud::Allow,
        Some(other) => {
            root.complain(
                "cloud",
                &format!("`{other}` is no choice; write deny or allow"),
            );
            Cloud::Deny
        }
    }
}
