//! Batches of usage from the data planes, counted by whoever stores them.

use prometheus::IntCounterVec;

use super::families::Families;

/// Counts batches of usage.
#[derive(Clone)]
pub struct UsageMetrics {
    batches: IntCounterVec,
}

impl UsageMetrics {
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        let batches = families.counters_of(
            "usage_batches_total",
            "Batches of usage: stored, repeated (stored before), failed (to be tried again).",
            ("result", &["stored", "repeated", "failed"]),
        )?;
        Ok(Self { batches })
    }

    /// A batch was stored.
    pub fn stored(&self) {
        self.batches.with_label_values(&["stored"]).inc();
    }

    /// A batch came once more; it was stored before.
    pub fn repeated(&self) {
        self.batches.with_label_values(&["repeated"]).inc();
    }

    /// A batch could not be stored; it comes again.
    pub fn failed(&self) {
        self.batches.with_label_values(&["failed"]).inc();
    }
}
