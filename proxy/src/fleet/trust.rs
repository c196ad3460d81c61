//! Whom to believe of a node, where it is not the system's authorities: connections made under one
//! trust are never used under another.

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
    /// `None` where the system's authorities are asked; `group` must not have been used before.
    pub(super) fn of(tls: &NodeTls, group: u64) -> Option<Self> {
        let is_own = tls.ca.is_some() || tls.insecure;
        is_own.then(|| Self {
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
