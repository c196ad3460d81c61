//! A node's own authority: connections made under one are never used under another.

use std::any::Any;
use std::sync::OnceLock;

use aivonx_shared::fleet_doc::NodeTls;

/// What vouches for one node, as long as its document says the same of it.
pub(crate) struct Trust {
    group: u64,
    /// The authority in the shape that connecting needs, made when it is first needed. That shape is
    /// of Pingora's, which the fleet does not know.
    made: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Trust {
    /// `None` where the system's authorities, or anything at all, will do; `group` must not have
    /// been used before.
    pub(super) fn of(tls: &NodeTls, group: u64) -> Option<Self> {
        tls.ca.as_ref().map(|_| Self {
            group,
            made: OnceLock::new(),
        })
    }

    /// Sets its connections apart from all others; never 0.
    pub(crate) fn group(&self) -> u64 {
        self.group
    }

    /// What `make` gave the first time.
    pub(crate) fn made<T: Any + Clone + Send + Sync>(&self, make: impl Fn() -> T) -> T {
        let kept = self.made.get_or_init(|| Box::new(make()));
        kept.downcast_ref::<T>().cloned().unwrap_or_else(make)
    }
}
