//! A running node: what [`crate::SimNode`] holds, shared by its connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::cloud::Account;
use crate::fault::Faults;
use crate::pull::Download;
use crate::sched::{KeepAlive, Limits, Sched};
use crate::seen::Seen;
use crate::spec::NodeSpec;
use crate::store::Store;

/// The state of one node. Nothing outside of it is shared between nodes.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) spec: NodeSpec,
    pub(crate) clock: Clock,
    /// Guards the models and blobs; held for look-ups and changes.
    pub(crate) store: Mutex<Store>,
    pub(crate) sched: Arc<Sched>,
    pub(crate) faults: Faults,
    pub(crate) seen: Seen,
    /// How it stands with ollama.com now.
    pub(crate) account: Mutex<Account>,
    /// Downloads that were begun, by digest; also those nobody waits for now.
    pub(crate) downloads: Mutex<HashMap<String, Download>>,
    in_flight: AtomicUsize,
    pub(crate) connections: AtomicU64,
    /// Ids and lengths of answers; texts have their own generators.
    rng: Mutex<fastrand::Rng>,
}

impl Node {
    pub(crate) fn new(spec: NodeSpec) -> Arc<Self> {
        let clock = Clock::new(spec.time_scale);
        let limits = Limits {
            num_parallel: spec.num_parallel,
            max_queue: spec.max_queue,
            max_loaded: if spec.max_loaded_models == 0 {
                3
            } else {
                spec.max_loaded_models
            },
            memory: spec.memory,
            keep_alive: spec.keep_alive.map_or(KeepAlive::Forever, KeepAlive::For),
        };
        Arc::new(Self {
            store: Mutex::new(Store::new(&spec, clock.wall())),
            sched: Sched::new(limits, clock.clone()),
            faults: Faults::new(),
            seen: Seen::new(spec.remember),
            account: Mutex::new(spec.account),
            downloads: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
            rng: Mutex::new(fastrand::Rng::with_seed(spec.seed)),
            clock,
            spec,
        })
    }

    /// A random number below `n`.
    pub(crate) fn draw(&self, n: u64) -> u64 {
        self.rng.lock().u64(..n.max(1))
    }

    /// Random bits for an id.
    pub(crate) fn id(&self) -> u128 {
        self.rng.lock().u128(..)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(&self.in_flight)
    }
}

/// One inference request being worked on.
pub(crate) struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
