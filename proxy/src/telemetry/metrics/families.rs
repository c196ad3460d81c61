//! The families of a data plane, by what they tell of, and how they are made and registered.

use prometheus::core::Collector;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Bounds that tell a warm answer (milliseconds) from a cold load (minutes): up to 900 s.
const SECONDS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 900.0,
];
/// Tokens a second, from a CPU to a large GPU.
const SPEED: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0,
];

/// What becomes of requests.
pub(super) struct Requests {
    pub(super) finished: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) first_byte: HistogramVec,
    pub(super) inflight: IntGaugeVec,
    pub(super) retries: IntCounterVec,
    pub(super) rejections: IntCounterVec,
    pub(super) by_key: IntCounterVec,
}

/// What nodes did for them.
pub(super) struct Work {
    pub(super) tokens: IntCounterVec,
    pub(super) key_tokens: IntCounterVec,
    pub(super) speed: HistogramVec,
    pub(super) cold_loads: IntCounterVec,
}

/// The nodes, as they are when somebody looks.
pub(super) struct Nodes {
    pub(super) up: IntGaugeVec,
    pub(super) signed_in: IntGaugeVec,
    pub(super) slots: IntGaugeVec,
}

/// The fleet document in force.
pub(super) struct Document {
    pub(super) revision: IntGauge,
    pub(super) apply_seconds: Gauge,
    pub(super) apply_failures: IntGauge,
}

/// What this process holds now.
pub(super) struct Held {
    pub(super) body_bytes: IntGauge,
    pub(super) connections: IntGauge,
    pub(super) store_jobs: IntGaugeVec,
}

/// The way to and from the control plane.
pub(super) struct Road {
    pub(super) bus_connected: IntGaugeVec,
    pub(super) bus_failures: IntCounterVec,
    pub(super) usage_waiting: IntGauge,
    pub(super) usage_lost: IntCounterVec,
}

impl Requests {
    /// Makes and registers them.
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            finished: families.counters(
                "requests_total",
                "Requests answered, by route, model, node and status.",
                &["route", "model", "node", "status"],
            )?,
            duration: families.histograms(
                "request_duration_seconds",
                "Seconds from the request's head to the last byte of its answer.",
                &["route", "model"],
                &SECONDS,
            )?,
            first_byte: families.histograms(
                "time_to_first_byte_seconds",
                "Seconds from the request's head to the first byte of a node's answer.",
                &["route", "model", "node"],
                &SECONDS,
            )?,
            inflight: families.gauges("inflight", "Requests with a node now.", &["node"])?,
            retries: families.counters(
                "retries_total",
                "Attempts sent to another node, by the reason of the first's failure.",
                &["reason"],
            )?,
            rejections: families.counters(
                "rejections_total",
                "Requests the proxy answered itself with an error.",
                &["reason"],
            )?,
            by_key: families.counters(
                "key_requests_total",
                "Requests by the id of their key or network; `anonymous` for others.",
                &["key"],
            )?,
        })
    }
}

impl Work {
    /// Makes and registers them.
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            tokens: families.counters(
                "tokens_total",
                "Tokens as the nodes counted them; kind is prompt or output.",
                &["model", "node", "kind"],
            )?,
            key_tokens: families.counters(
                "key_tokens_total",
                "Tokens by the id of their key or network; kind is prompt or output.",
                &["key", "kind"],
            )?,
            speed: families.histograms(
                "output_tokens_per_second",
                "Generated tokens a second of generation.",
                &["model", "node"],
                &SPEED,
            )?,
            cold_loads: families.counters(
                "cold_loads_total",
                "Answers for which a model was loaded.",
                &["model", "node"],
            )?,
        })
    }
}

impl Nodes {
    /// Makes and registers them.
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            up: families.gauges(
                "node_up",
                "1 where the node answers its probes.",
                &["node"],
            )?,
            signed_in: families.gauges(
                "node_signed_in",
                "1 where the node is signed in at ollama.com; only asked where cloud models are allowed.",
                &["node"],
            )?,
            slots: families.gauges(
                "node_slots",
                "Slots of a model on a node, as the fleet document says.",
                &["node", "model"],
            )?,
        })
    }
}

impl Document {
    /// Makes and registers them.
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            revision: families.gauge("fleet_revision", "Number of the fleet document in force.")?,
            apply_seconds: families.float(
                "fleet_apply_seconds",
                "Seconds the last change of the fleet took to come into force.",
            )?,
            apply_failures: families.gauge(
                "fleet_invalid",
                "1 while the newest fleet document is invalid and the one before is in force.",
            )?,
        })
    }
}

impl Held {
    /// Makes and registers them.
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            body_bytes: families.gauge(
                "request_body_bytes",
                "Bytes of large request bodies held in memory now.",
            )?,
            connections: families.gauge("connections", "Open connections of clients.")?,
            store_jobs: families.gauges(
                "store_jobs",
                "Changes of several nodes' stores that run now, also those whose client has left.",
                &["route"],
            )?,
        })
    }
}

impl Road {
    /// Makes and registers them.
    pub(super) fn register(families: &Families) -> prometheus::Result<Self> {
        Ok(Self {
            bus_connected: families.gauges(
                "bus_connected",
                "1 while the bus answers; without a series where the fleet is from a file.",
                &[],
            )?,
            bus_failures: families.counters(
                "bus_failures_total",
                "What could not be done on the way to or from the control plane: report, load, usage, keep.",
                &["what"],
            )?,
            usage_waiting: families.gauge(
                "usage_waiting_batches",
                "Batches of usage that the control plane has not stored yet, as far as is known.",
            )?,
            usage_lost: families.counters(
                "usage_lost_requests_total",
                "Requests in batches of usage that were given up before they were known to be stored.",
                &[],
            )?,
        })
    }
}

/// Makes families and registers them.
pub(super) struct Families(pub(super) Registry);

impl Families {
    fn add<C: Collector + Clone + 'static>(&self, family: C) -> prometheus::Result<C> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(
            Opts::new(format!("aivonx_{name}"), help),
            labels,
        )?)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(
            Opts::new(format!("aivonx_{name}"), help),
            labels,
        )?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(format!("aivonx_{name}"), help)?)
    }

    fn float(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.add(Gauge::new(format!("aivonx_{name}"), help)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(format!("aivonx_{name}"), help).buckets(buckets.to_vec());
        self.add(HistogramVec::new(opts, labels)?)
    }
}
