//! Makes families and registers them.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// In front of every name.
const PREFIX: &str = "aivonx_control_plane_";

/// A registry that is being filled.
pub(super) struct Families(Registry);

impl Families {
    pub(super) fn new() -> Self {
        Self(Registry::new())
    }

    pub(super) fn into_registry(self) -> Registry {
        self.0
    }

    fn add<C: Collector + Clone + 'static>(&self, family: C) -> prometheus::Result<C> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(opts(name, help), labels)?)
    }

    /// Counters by one label whose values are known: each is there from the start, at 0.
    pub(super) fn counters_of(
        &self,
        name: &str,
        help: &str,
        (label, values): (&str, &[&str]),
    ) -> prometheus::Result<IntCounterVec> {
        let family = self.counters(name, help, &[label])?;
        for value in values {
            family.with_label_values(&[value]);
        }
        Ok(family)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(opts(name, help), labels)?)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::with_opts(opts(name, help))?)
    }

    pub(super) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        self.add(HistogramVec::new(bounded(name, help, buckets), labels)?)
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> prometheus::Result<Histogram> {
        self.add(Histogram::with_opts(bounded(name, help, buckets))?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("{PREFIX}{name}"), help)
}

fn bounded(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(format!("{PREFIX}{name}"), help).buckets(buckets.to_vec())
}
