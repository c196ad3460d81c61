//! `least_active`: fewest requests in flight over weight. Counts are the node's over all models,
//! because models of one node share its hardware.

use crate::fleet::snapshot::Holder;

/// In-flight requests for each unit of weight.
pub(super) fn score(holder: &Holder) -> f64 {
    f64::from(holder.node.state().in_flight()) / f64::from(holder.node.doc().weight)
}
