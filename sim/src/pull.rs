//! Downloads from the simulated registry: shared between pulls of one blob, kept when nobody waits.

use std::sync::Arc;
use std::time::Duration;

use crate::node::Node;
use crate::spec::RegistrySpec;

/// Ollama cuts a blob into at most 16 parts of 100 MB to 1 GB, a connection each.
const PARTS: u64 = 16;
const MIN_PART: u64 = 100_000_000;
const MAX_PART: u64 = 1_000_000_000;

/// A download, running while somebody waits for it.
#[derive(Debug)]
pub(crate) struct Download {
    total: u64,
    /// Bytes on disk when it last stood still.
    kept: u64,
    /// Since when it runs, in node time.
    since: Option<Duration>,
    waiting: usize,
}

impl Download {
    fn completed(&self, now: Duration, registry: &RegistrySpec) -> u64 {
        let Some(since) = self.since else {
            return self.kept;
        };
        let rate = rate(self.total, registry);
        if rate.is_infinite() {
            return self.total;
        }
        let fresh = rate * now.saturating_sub(since).as_secs_f64();
        self.total.min(self.kept + fresh as u64)
    }
}

/// Bytes a second of one blob over its connections.
fn rate(total: u64, registry: &RegistrySpec) -> f64 {
    let part = (total / PARTS).clamp(MIN_PART, MAX_PART);
    let parts = total.div_ceil(part).clamp(1, PARTS);
    (registry.bytes_per_second * parts as f64).min(registry.total_bytes_per_second)
}

/// A pull's interest in a blob. When the last one is dropped the download stands still.
pub(crate) struct Watch {
    node: Arc<Node>,
    digest: String,
}

impl Watch {
    /// Joins the download of a blob, or begins it where it was left.
    pub(crate) fn join(node: &Arc<Node>, digest: &str, total: u64) -> Self {
        let now = node.clock.now();
        let mut downloads = node.downloads.lock();
        let download = downloads.entry(digest.to_owned()).or_insert(Download {
            total,
            kept: 0,
            since: None,
            waiting: 0,
        });
        if download.waiting == 0 {
            download.since = Some(now);
        }
        download.waiting += 1;
        drop(downloads);
        Self {
            node: Arc::clone(node),
            digest: digest.to_owned(),
        }
    }

    /// Bytes that are here, of how many.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let downloads = self.node.downloads.lock();
        downloads.get(&self.digest).map_or((0, 0), |d| {
            (
                d.completed(self.node.clock.now(), &self.node.spec.registry),
                d.total,
            )
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let now = self.node.clock.now();
        let mut downloads = self.node.downloads.lock();
        let Some(download) = downloads.get_mut(&self.digest) else {
            return;
        };
        download.waiting -= 1;
        if download.waiting > 0 {
            return;
        }
        download.kept = download.completed(now, &self.node.spec.registry);
        download.since = None;
        if download.kept >= download.total {
            downloads.remove(&self.digest);
        }
    }
}
