//! `least_active`: fewest requests in flight over weight. Counts are the node's over all models and all
//! data planes, because they share its hardware; what other data planes have is some milliseconds old.

use crate::fleet::snapshot::Holder;

/// In-flight requests for each unit of weight.
pub(super) fn score(holder: &Holder) -> f64 {
    f64::from(holder.node.state().anywhere()) / f64::from(holder.node.doc().weight)
}
