//! The metrics of a data plane (design.md §5). Labels come from the fleet and from tables of this
//! program, never from a client's text (D9).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aivonx_shared::fleet_doc::Cloud;
use aivonx_shared::report::Counters;
use prometheus::core::Collector;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::series::{KeyCache, KeySeries, NodeSeries, Series, SeriesCache, SeriesKey};
use crate::fleet::Fleet;
use crate::upstream::usage::Tokens;

/// Bounds that tell a warm answer (milliseconds) from a cold load (minutes): up to 900 s.
const SECONDS: [f64; 19] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 900.0,
];
/// Tokens a second, from a CPU to a large GPU.
const SPEED: [f64; 11] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0,
];
/// From here on a load is a cold one: a warm model takes a few milliseconds (ollama-api.md §3.1).
const COLD: Duration = Duration::from_millis(100);

/// Every family of a data plane.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    first_byte: HistogramVec,
    inflight: IntGaugeVec,
    tokens: IntCounterVec,
    key_requests: IntCounterVec,
    key_tokens: IntCounterVec,
    speed: HistogramVec,
    retries: IntCounterVec,
    rejections: IntCounterVec,
    cold_loads: IntCounterVec,
    node_up: IntGaugeVec,
    node_signed_in: IntGaugeVec,
    node_slots: IntGaugeVec,
    revision: IntGauge,
    apply_seconds: Gauge,
    apply_failures: IntGauge,
    body_bytes: IntGauge,
    connections: IntGauge,
    store_jobs: IntGaugeVec,
    bus_connected: IntGaugeVec,
    bus_failures: IntCounterVec,
    usage_waiting: IntGauge,
    usage_lost: IntCounterVec,
    totals: Totals,
    series: SeriesCache,
    key_series: KeyCache,
}

/// Sums over all series, for reports: adding the series up twice a second would cost more.
#[derive(Default)]
struct Totals {
    requests: AtomicU64,
    rejected: AtomicU64,
    retries: AtomicU64,
    prompt: AtomicU64,
    output: AtomicU64,
}

/// One finished request.
pub(crate) struct Finished<'a> {
    /// What it counts under.
    pub(crate) key: SeriesKey,
    pub(crate) model: &'a str,
    pub(crate) node: &'a str,
    pub(crate) duration: Duration,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) tokens: Tokens,
}

impl Metrics {
    /// Registers every family; a name taken twice is a bug here.
    #[expect(clippy::too_many_lines, reason = "a catalogue: one entry a family")]
    pub(crate) fn new() -> prometheus::Result<Self> {
        let families = Families(Registry::new());
        families
            .gauges(
                "build_info",
                "Always 1; the label says which version runs.",
                &["version"],
            )?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        Ok(Self {
            requests: families.counters(
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
            tokens: families.counters(
                "tokens_total",
                "Tokens as the nodes counted them; kind is prompt or output.",
                &["model", "node", "kind"],
            )?,
            key_requests: families.counters(
                "key_requests_total",
                "Requests by the id of their key or network; `anonymous` for others.",
                &["key"],
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
            cold_loads: families.counters(
                "cold_loads_total",
                "Answers for which a model was loaded.",
                &["model", "node"],
            )?,
            node_up: families.gauges(
                "node_up",
                "1 where the node answers its probes.",
                &["node"],
            )?,
            node_signed_in: families.gauges(
                "node_signed_in",
                "1 where the node is signed in at ollama.com; only asked where cloud models are allowed.",
                &["node"],
            )?,
            node_slots: families.gauges(
                "node_slots",
                "Slots of a model on a node, as the fleet document says.",
                &["node", "model"],
            )?,
            revision: families.gauge("fleet_revision", "Number of the fleet document in force.")?,
            apply_seconds: families.float(
                "fleet_apply_seconds",
                "Seconds the last change of the fleet took to come into force.",
            )?,
            apply_failures: families.gauge(
                "fleet_invalid",
                "1 while the newest fleet document is invalid and the one before is in force.",
            )?,
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
            totals: Totals::default(),
            registry: families.0,
            series: SeriesCache::default(),
            key_series: KeyCache::default(),
        })
    }

    /// Counts a finished request.
    pub(crate) fn finished(&self, done: &Finished<'_>) {
        let series = self.series.get(done.key, || self.make_series(done));
        series.requests.inc();
        self.totals.requests.fetch_add(1, Ordering::Relaxed);
        series.duration.observe(done.duration.as_secs_f64());
        let Some(node) = &series.node else { return };
        if let Some(after) = done.first_byte {
            node.first_byte.observe(after.as_secs_f64());
        }
        let Tokens {
            prompt,
            output,
            output_nanos,
            load_nanos,
        } = done.tokens;
        let (prompt_tokens, output_tokens) = (prompt.unwrap_or(0), output.unwrap_or(0));
        node.prompt.inc_by(prompt_tokens);
        node.output.inc_by(output_tokens);
        let totals = &self.totals;
        totals.prompt.fetch_add(prompt_tokens, Ordering::Relaxed);
        totals.output.fetch_add(output_tokens, Ordering::Relaxed);
        if let (Some(count), Some(nanos @ 1..)) = (output, output_nanos) {
            node.speed
                .observe(count as f64 / Duration::from_nanos(nanos).as_secs_f64());
        }
        if load_nanos.is_some_and(|nanos| Duration::from_nanos(nanos) >= COLD) {
            node.cold_loads.inc();
        }
    }

    fn make_series(&self, done: &Finished<'_>) -> Series {
        let (route, model, node) = (done.key.route, done.model, done.node);
        let status = done.key.status.to_string();
        Series {
            requests: self
                .requests
                .with_label_values(&[route, model, node, &status]),
            duration: self.duration.with_label_values(&[route, model]),
            node: (!node.is_empty()).then(|| NodeSeries {
                first_byte: self.first_byte.with_label_values(&[route, model, node]),
                prompt: self.tokens.with_label_values(&[model, node, "prompt"]),
                output: self.tokens.with_label_values(&[model, node, "output"]),
                speed: self.speed.with_label_values(&[model, node]),
                cold_loads: self.cold_loads.with_label_values(&[model, node]),
            }),
        }
    }

    /// Counts a finished request under its caller's id.
    pub(crate) fn called(&self, key: &str, tokens: Tokens) {
        let series = self.key_series.get(key, || KeySeries {
            requests: self.key_requests.with_label_values(&[key]),
            prompt: self.key_tokens.with_label_values(&[key, "prompt"]),
            output: self.key_tokens.with_label_values(&[key, "output"]),
        });
        series.requests.inc();
        series.prompt.inc_by(tokens.prompt.unwrap_or(0));
        series.output.inc_by(tokens.output.unwrap_or(0));
    }

    /// Counts an attempt that goes to another node.
    pub(crate) fn retried(&self, reason: &'static str) {
        self.totals.retries.fetch_add(1, Ordering::Relaxed);
        self.retries.with_label_values(&[reason]).inc();
    }

    /// Counts an answer of the proxy's own.
    pub(crate) fn rejected(&self, reason: &'static str) {
        self.totals.rejected.fetch_add(1, Ordering::Relaxed);
        self.rejections.with_label_values(&[reason]).inc();
    }

    /// Moves with every connection of a client.
    pub(crate) fn connections(&self) -> IntGauge {
        self.connections.clone()
    }

    /// Counts a change of several stores for as long as it is held.
    pub(crate) fn store_job(&self, route: &'static str) -> StoreJob {
        let running = self.store_jobs.with_label_values(&[route]);
        running.inc();
        StoreJob(running)
    }

    /// Whether the bus answers.
    pub(crate) fn bus_connected(&self, connected: bool) {
        let gauge = self.bus_connected.with_label_values::<&str>(&[]);
        gauge.set(i64::from(connected));
    }

    /// Something on the bus failed.
    pub(crate) fn bus_failed(&self, what: &'static str) {
        self.bus_failures.with_label_values(&[what]).inc();
    }

    /// So many batches of usage wait to be stored.
    pub(crate) fn usage_waits(&self, batches: usize) {
        self.usage_waiting.set(batches.cast_signed() as i64);
    }

    /// Usage of so many requests was given up.
    pub(crate) fn usage_lost(&self, requests: u64) {
        let lost = self.usage_lost.with_label_values::<&str>(&[]);
        lost.inc_by(requests);
    }

    /// What was counted since the start, over all.
    pub(crate) fn totals(&self) -> Counters {
        let of = |total: &AtomicU64| total.load(Ordering::Relaxed);
        Counters {
            requests: of(&self.totals.requests),
            rejected: of(&self.totals.rejected),
            retries: of(&self.totals.retries),
            prompt_tokens: of(&self.totals.prompt),
            output_tokens: of(&self.totals.output),
        }
    }

    /// A document came into force.
    pub(crate) fn applied(&self, revision: u64, took: Duration) {
        self.revision.set(revision.cast_signed());
        self.apply_seconds.set(took.as_secs_f64());
        self.apply_failures.set(0);
    }

    /// A document was refused.
    pub(crate) fn refused(&self) {
        self.apply_failures.set(1);
    }

    /// Everything as text, with what is read at this moment.
    pub(crate) fn render(&self, fleet: &Fleet, body_bytes: u64) -> prometheus::Result<String> {
        self.body_bytes.set(body_bytes.cast_signed());
        self.inflight.reset();
        self.node_up.reset();
        self.node_signed_in.reset();
        self.node_slots.reset();
        let snapshot = fleet.load_full();
        for node in snapshot.nodes() {
            let name = node.name();
            self.inflight
                .with_label_values(&[name])
                .set(i64::from(node.state().in_flight()));
            self.node_up
                .with_label_values(&[name])
                .set(i64::from(node.state().health.is_up()));
            if snapshot.cloud() == Cloud::Allow {
                self.node_signed_in
                    .with_label_values(&[name])
                    .set(i64::from(node.state().signed_in()));
            }
        }
        for (_, entry) in snapshot.models() {
            for holder in &entry.holders {
                let slots = i64::from(holder.node.doc().slots);
                self.node_slots
                    .with_label_values(&[holder.node.name(), &entry.label])
                    .set(slots);
            }
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// One change of several stores that runs.
pub(crate) struct StoreJob(IntGauge);

impl Drop for StoreJob {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes families and registers them.
struct Families(Registry);

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

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_register_once_and_count() {
        let metrics = Metrics::new().unwrap();
        metrics.finished(&Finished {
            key: SeriesKey {
                route: "/api/chat",
                model: 0,
                node: 1,
                status: 200,
            },
            model: "m:latest",
            node: "a",
            duration: Duration::from_secs(2),
            first_byte: Some(Duration::from_secs(1)),
            tokens: Tokens {
                prompt: Some(15),
                output: Some(6),
                output_nanos: Some(1_000_000_000),
                load_nanos: Some(2_000_000_000),
            },
        });
        let fleet = Fleet::new(aivonx_shared::config::ProxyConfig::defaults().breaker);
        let text = metrics.render(&fleet, 0).unwrap();
        for line in [
            r#"aivonx_requests_total{model="m:latest",node="a",route="/api/chat",status="200"} 1"#,
            r#"aivonx_tokens_total{kind="output",model="m:latest",node="a"} 6"#,
            r#"aivonx_cold_loads_total{model="m:latest",node="a"} 1"#,
            r#"aivonx_time_to_first_byte_seconds_bucket{model="m:latest",node="a",route="/api/chat",le="900"} 1"#,
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
