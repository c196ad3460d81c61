//! How usage is brought from a data plane to the control plane.

use std::time::Duration;

use super::Reader;
use super::proxy::span;
use super::units::Size;

/// The least that may be kept, bytes: one batch has room in it.
const LEAST: u64 = 1 << 20;

/// How usage is brought to the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageConfig {
    /// Between two batches.
    pub interval: Duration,
    /// Batches that are kept until they are stored, bytes, in memory and on disk alike.
    pub keep: u64,
}

pub(super) fn read(at: &Reader<'_>) -> UsageConfig {
    let interval = span(at, "interval", 10);
    if interval > Duration::from_secs(3600) {
        at.complain("interval", "must be at most 1h");
    }
    let keep = at.get::<Size>("keep").map_or(16 << 20, |size| size.0);
    if keep < LEAST {
        at.complain("keep", "must be at least 1 MiB");
    }
    at.finish();
    UsageConfig { interval, keep }
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, ProxyConfig};

    #[test]
    fn what_would_keep_nothing_is_refused() {
        let read = |text: &str| ProxyConfig::from_yaml(text, &Overrides::default());
        let good = read("proxy: {usage: {interval: 250ms, keep: 2 MiB}}").unwrap();
        assert_eq!(good.usage.keep, 2 << 20);
        let bad = read("proxy: {usage: {interval: 2h, keep: 1 KiB, every: 1s}}").unwrap_err();
        let keys: Vec<_> = bad.iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "proxy.usage.interval",
                "proxy.usage.keep",
                "proxy.usage.every"
            ]
        );
    }
}
