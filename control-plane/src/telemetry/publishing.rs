//! The road to the data planes: whether the bus answers, which revision it should hold, and what became of
//! each document that was published.

use std::time::Duration;

use aivonx_shared::revision::Revision;
use prometheus::{Histogram, IntCounterVec, IntGauge};

use super::families::Families;

/// Seconds: within a process it takes microseconds, over a slow network a second.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
];

/// Counts what is published.
#[derive(Clone)]
pub struct PublishMetrics {
    bus_connected: IntGauge,
    revision: IntGauge,
    publishes: IntCounterVec,
    seconds: Histogram,
}

impl PublishMetrics {
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            bus_connected: families.gauge(
                "bus_connected",
                "1 while the bus to the data planes answers; asked every second.",
            )?,
            revision: families.gauge(
                "fleet_revision",
                "Number of the last change of the fleet that this control plane has seen.",
            )?,
            publishes: families.counters_of(
                "publishes_total",
                "Fleet documents handed to the bus: applied, stale (another control plane was first), failed.",
                ("result", &["applied", "stale", "failed"]),
            )?,
            seconds: families.histogram(
                "publish_seconds",
                "Seconds from reading the fleet to the bus's answer.",
                &SECONDS,
            )?,
        })
    }

    /// Whether the bus answered.
    pub fn bus_answers(&self, answers: bool) {
        self.bus_connected.set(i64::from(answers));
    }

    /// The database holds this revision.
    pub fn is_at(&self, revision: Revision) {
        self.revision.set(revision.number.cast_signed());
    }

    /// A document was handed to the bus, or could not be.
    pub fn published(&self, result: &'static str, took: Duration) {
        self.publishes.with_label_values(&[result]).inc();
        self.seconds.observe(took.as_secs_f64());
    }
}
