//! `lowest_latency`: lowest expected time to first byte, taking into account what already waits.
//!
//! Expected cost = peak-EWMA × (in flight + 1) / weight, as in Finagle's and linkerd's peak-EWMA
//! balancer: the in-flight factor keeps requests of one moment from herding onto the fastest node.
//! A node that nothing is known of counts as the typical one, not as its ping: a ping says nothing
//! of a model, and a node that looks a thousand times faster would draw everything.

use std::time::Instant;

use crate::fleet::snapshot::Holder;

/// Added to a probe's round trip where no answer was seen anywhere, so that pings of a millisecond
/// more or less do not decide alone.
const FLOOR_SECONDS: f64 = 0.05;

/// So many holders are enough to say what is typical.
const ENOUGH: usize = 32;

/// What a node without a history is expected to take: the mean of those with one.
pub(super) fn typical(holders: &[Holder], now: Instant) -> f64 {
    let (mut sum, mut count) = (0.0, 0u32);
    for holder in holders.iter().take(ENOUGH) {
        if let Some(seconds) = holder
            .model
            .as_ref()
            .and_then(|model| model.latency.seconds(now))
        {
            sum += seconds;
            count += 1;
        }
    }
    if count == 0 {
        FLOOR_SECONDS
    } else {
        sum / f64::from(count)
    }
}

/// Expected cost in seconds over weight.
pub(super) fn score(holder: &Holder, typical: f64, now: Instant) -> f64 {
    let state = holder.node.state();
    let known = holder
        .model
        .as_ref()
        .and_then(|model| model.latency.seconds(now));
    let expected =
        known.unwrap_or_else(|| typical + state.latency.seconds(now).unwrap_or(0.0).min(typical));
    expected * (f64::from(state.anywhere()) + 1.0) / f64::from(holder.node.doc().weight)
}
