//! What the database could not do.

use prometheus::IntCounterVec;

use super::families::Families;
use crate::store::StoreError;

/// Counts failures of the database.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    errors: IntCounterVec,
}

impl StoreMetrics {
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        let errors = families.counters_of(
            "store_errors_total",
            "What the database could not do, by reason; what callers got wrong does not count.",
            (
                "reason",
                &["unavailable", "refused", "busy", "full", "internal"],
            ),
        )?;
        Ok(Self { errors })
    }

    /// Counts a failure, where it is one of the database.
    pub fn failed(&self, error: &StoreError) {
        let reason = match error {
            StoreError::Unavailable => "unavailable",
            StoreError::Refused(_) => "refused",
            StoreError::Busy => "busy",
            StoreError::Full => "full",
            StoreError::Newer { .. } | StoreError::Internal => "internal",
            StoreError::NotFound
            | StoreError::Duplicate { .. }
            | StoreError::Conflict { .. }
            | StoreError::Invalid(_) => return,
        };
        self.errors.with_label_values(&[reason]).inc();
    }
}
