//! `cloud`: whether models that run at ollama.com may be asked for.

use crate::config::Reader;

/// What happens to requests for cloud models (design.md D8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cloud {
    /// They are refused.
    #[default]
    Deny,
    /// They go to nodes that are signed in.
    Allow,
}

pub(super) fn read_cloud(root: &Reader<'_>) -> Cloud {
    match root.get::<String>("cloud").as_deref() {
        None | Some("deny") => Cloud::Deny,
        Some("allow") => Cloud::Allow,
        Some(other) => {
            root.complain(
                "cloud",
                &format!("`{other}` is unknown; write deny or allow"),
            );
            Cloud::Deny
        }
    }
}
