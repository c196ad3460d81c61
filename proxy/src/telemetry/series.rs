//! The series of one kind of request, found once: looking each of them up by its labels for every
//! request costs more than counting.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::{Histogram, IntCounter};

/// From here on the whole cache is dropped: models and nodes that left must not stay for ever.
const MOST: usize = 10_000;

/// What makes two requests count in the same series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SeriesKey {
    pub(crate) route: &'static str,
    /// Number of the model, `u32::MAX` without one.
    pub(crate) model: u32,
    /// Serial of the node, 0 without one.
    pub(crate) node: u64,
    pub(crate) status: u16,
}

/// The series that a request counts in.
pub(super) struct Series {
    pub(super) requests: IntCounter,
    pub(super) duration: Histogram,
    /// With a node only, so that answers of the proxy's own make no empty series.
    pub(super) node: Option<NodeSeries>,
}

/// The series of an answer by a node.
pub(super) struct NodeSeries {
    pub(super) first_byte: Histogram,
    pub(super) prompt: IntCounter,
    pub(super) output: IntCounter,
    pub(super) speed: Histogram,
    pub(super) cold_loads: IntCounter,
}

/// The series of one caller.
pub(super) struct KeySeries {
    pub(super) requests: IntCounter,
    pub(super) prompt: IntCounter,
    pub(super) output: IntCounter,
}

/// Series by the caller's id; ids come from the fleet document, so there are few.
#[derive(Default)]
pub(super) struct KeyCache(RwLock<HashMap<Box<str>, Arc<KeySeries>>>);

impl KeyCache {
    /// The series of `key`, made by `make` when it is met first.
    pub(super) fn get(&self, key: &str, make: impl FnOnce() -> KeySeries) -> Arc<KeySeries> {
        if let Some(series) = self.0.read().get(key) {
            return Arc::clone(series);
        }
        let mut all = self.0.write();
        Arc::clone(all.entry(key.into()).or_insert_with(|| Arc::new(make())))
    }
}

/// Series by key.
#[derive(Default)]
pub(super) struct SeriesCache(RwLock<HashMap<SeriesKey, Arc<Series>>>);

impl SeriesCache {
    /// The series of `key`, made by `make` when it is met first.
    pub(super) fn get(&self, key: SeriesKey, make: impl FnOnce() -> Series) -> Arc<Series> {
        if let Some(series) = self.0.read().get(&key) {
            return Arc::clone(series);
        }
        let mut all = self.0.write();
        if all.len() >= MOST {
            all.clear();
        }
        Arc::clone(all.entry(key).or_insert_with(|| Arc::new(make())))
    }
}
