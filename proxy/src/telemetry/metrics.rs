//! The metrics of a data plane (design.md §5). Labels come from the fleet and from tables of this
//! program, never from a client's text (D9).

mod families;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aivonx_shared::fleet_doc::Cloud;
use aivonx_shared::report::Counters;
use prometheus::{IntGauge, Registry, TextEncoder};

use self::families::{Document, Families, Held, Nodes, Requests, Road, Work};
use super::series::{KeyCache, KeySeries, NodeSeries, Series, SeriesCache, SeriesKey};
use crate::fleet::Fleet;
use crate::upstream::usage::Tokens;

/// From here on a load is a cold one: a warm model takes a few milliseconds (ollama-api.md §3.1).
const COLD: Duration = Duration::from_millis(100);

/// Every family of a data plane.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Requests,
    work: Work,
    nodes: Nodes,
    document: Document,
    held: Held,
    road: Road,
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
            requests: Requests::register(&families)?,
            work: Work::register(&families)?,
            nodes: Nodes::register(&families)?,
            document: Document::register(&families)?,
            held: Held::register(&families)?,
            road: Road::register(&families)?,
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
                .finished
                .with_label_values(&[route, model, node, &status]),
            duration: self.requests.duration.with_label_values(&[route, model]),
            node: (!node.is_empty()).then(|| NodeSeries {
                first_byte: self
                    .requests
                    .first_byte
                    .with_label_values(&[route, model, node]),
                prompt: self.work.tokens.with_label_values(&[model, node, "prompt"]),
                output: self.work.tokens.with_label_values(&[model, node, "output"]),
                speed: self.work.speed.with_label_values(&[model, node]),
                cold_loads: self.work.cold_loads.with_label_values(&[model, node]),
            }),
        }
    }

    /// Counts a finished request under its caller's id.
    pub(crate) fn called(&self, key: &str, tokens: Tokens) {
        let series = self.key_series.get(key, || KeySeries {
            requests: self.requests.by_key.with_label_values(&[key]),
            prompt: self.work.key_tokens.with_label_values(&[key, "prompt"]),
            output: self.work.key_tokens.with_label_values(&[key, "output"]),
        });
        series.requests.inc();
        series.prompt.inc_by(tokens.prompt.unwrap_or(0));
        series.output.inc_by(tokens.output.unwrap_or(0));
    }

    /// Counts an attempt that goes to another node.
    pub(crate) fn retried(&self, reason: &'static str) {
        self.totals.retries.fetch_add(1, Ordering::Relaxed);
        self.requests.retries.with_label_values(&[reason]).inc();
    }

    /// Counts an answer of the proxy's own.
    pub(crate) fn rejected(&self, reason: &'static str) {
        self.totals.rejected.fetch_add(1, Ordering::Relaxed);
        self.requests.rejections.with_label_values(&[reason]).inc();
    }

    /// Moves with every connection of a client.
    pub(crate) fn connections(&self) -> IntGauge {
        self.held.connections.clone()
    }

    /// Counts a change of several stores for as long as it is held.
    pub(crate) fn store_job(&self, route: &'static str) -> StoreJob {
        let running = self.held.store_jobs.with_label_values(&[route]);
        running.inc();
        StoreJob(running)
    }

    /// Whether the bus answers.
    pub(crate) fn bus_connected(&self, connected: bool) {
        let gauge = self.road.bus_connected.with_label_values::<&str>(&[]);
        gauge.set(i64::from(connected));
    }

    /// Something on the bus failed.
    pub(crate) fn bus_failed(&self, what: &'static str) {
        self.road.bus_failures.with_label_values(&[what]).inc();
    }

    /// So many batches of usage wait to be stored.
    pub(crate) fn usage_waits(&self, batches: usize) {
        self.road.usage_waiting.set(batches.cast_signed() as i64);
    }

    /// Usage of so many requests was given up.
    pub(crate) fn usage_lost(&self, requests: u64) {
        let lost = self.road.usage_lost.with_label_values::<&str>(&[]);
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
        self.document.revision.set(revision.cast_signed());
        self.document.apply_seconds.set(took.as_secs_f64());
        self.document.apply_failures.set(0);
    }

    /// A document was refused.
    pub(crate) fn refused(&self) {
        self.document.apply_failures.set(1);
    }

    /// Everything as text, with what is read at this moment.
    pub(crate) fn render(&self, fleet: &Fleet, body_bytes: u64) -> prometheus::Result<String> {
        self.held.body_bytes.set(body_bytes.cast_signed());
        self.requests.inflight.reset();
        self.nodes.up.reset();
        self.nodes.signed_in.reset();
        self.nodes.slots.reset();
        let snapshot = fleet.load_full();
        for node in snapshot.nodes() {
            let name = node.name();
            self.requests
                .inflight
                .with_label_values(&[name])
                .set(i64::from(node.state().in_flight()));
            self.nodes
                .up
                .with_label_values(&[name])
                .set(i64::from(node.state().health.is_up()));
            if snapshot.cloud() == Cloud::Allow {
                self.nodes
                    .signed_in
                    .with_label_values(&[name])
                    .set(i64::from(node.state().signed_in()));
            }
        }
        for (_, entry) in snapshot.models() {
            for holder in &entry.holders {
                let slots = i64::from(holder.node.doc().slots);
                self.nodes
                    .slots
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
