//! Whether the caller asked too much of late; the counting itself is the fleet's (`fleet/limiter`),
//! since it outlives a document.

use std::time::Instant;

use super::auth::Caller;
use super::rejection::Rejection;
use crate::fleet::limiter::{Open, TooMuch};

/// Counts one request of `caller` in; what is given back counts it out again when dropped.
pub(crate) fn enter(caller: &Caller, now: Instant) -> Result<Option<Open>, Rejection> {
    let grant = &caller.grant;
    let entered = grant
        .limiter
        .enter(&grant.limits, caller.share.as_deref(), now);
    entered.map_err(|too_much| match too_much {
        TooMuch::Rate(wait) => Rejection::RateLimit(wait),
        TooMuch::Concurrent => {
            Rejection::Concurrency(grant.limits.max_concurrent.unwrap_or_default())
        }
    })
}
