//! Which models are loaded, who waits for a load, who holds a slot: Ollama's `server/sched.go`.
//!
//! Requests for a loaded model go straight to its slots and wait there without bound. All others
//! go through one bounded queue that a single loader works off, one load after the other; while it
//! loads, or waits for a victim to fall idle, everybody behind it waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

mod loader;
mod runner;

pub(crate) use loader::run_loader;
pub(crate) use runner::{RunnerRef, Slot};

use crate::answer::ApiError;
use crate::clock::Clock;
use crate::store::Installed;
use runner::Runner;

/// The text of the 503 when the queue is full.
pub(crate) const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";

/// What a request wants of a runner; a loaded one with other load options is loaded anew.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) model: Arc<Installed>,
    pub(crate) load: LoadOptions,
    /// `None` leaves what the runner has.
    pub(crate) keep_alive: Option<KeepAlive>,
}

/// Options that take effect when a model is loaded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoadOptions {
    pub(crate) num_ctx: u64,
    /// The others that were given, by name.
    pub(crate) others: Vec<(String, String)>,
}

/// How long a runner stays after it has fallen idle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum KeepAlive {
    For(Duration),
    Forever,
}

impl KeepAlive {
    /// Seconds, negative for ever.
    pub(crate) fn from_seconds(seconds: f64) -> Self {
        if seconds < 0.0 {
            return Self::Forever;
        }
        Self::For(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4))
    }

    fn is_zero(self) -> bool {
        self == Self::For(Duration::ZERO)
    }

    /// For ordering victims: the shortest goes first.
    fn length(self) -> Duration {
        match self {
            Self::For(d) => d,
            Self::Forever => Duration::MAX,
        }
    }
}

/// The limits of a node.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) num_parallel: usize,
    pub(crate) max_queue: usize,
    pub(crate) max_loaded: usize,
    pub(crate) memory: u64,
    pub(crate) keep_alive: KeepAlive,
}

/// The scheduler of one node.
#[derive(Debug)]
pub(crate) struct Sched {
    limits: Limits,
    clock: Clock,
    inner: Mutex<Inner>,
    /// A request joined the queue.
    arrived: Notify,
    /// A runner fell idle or was unloaded.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    runners: Vec<Arc<Runner>>,
    queue: VecDeque<Pending>,
    /// Weights being loaded now, and how to kill that load.
    loading: Option<(String, Arc<Notify>)>,
}

/// A request that needs a load.
#[derive(Debug)]
struct Pending {
    demand: Demand,
    /// Closed when the client has left.
    reply: oneshot::Sender<Result<RunnerRef, ApiError>>,
}

/// A row of `/api/ps`.
pub(crate) struct Resident {
    pub(crate) model: Arc<Installed>,
    pub(crate) num_ctx: u64,
    pub(crate) expires_at: Duration,
}

impl Sched {
    pub(crate) fn new(limits: Limits, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            limits,
            clock,
            inner: Mutex::default(),
            arrived: Notify::new(),
            changed: Notify::new(),
        })
    }

    /// A loaded runner for this demand: at once, or after a turn in the queue and a load.
    pub(crate) async fn acquire(self: &Arc<Self>, demand: Demand) -> Result<RunnerRef, ApiError> {
        let answer = {
            let mut inner = self.inner.lock();
            if let Some(runner) = inner.find(&demand).filter(|r| !r.needs_reload(&demand)) {
                return Ok(RunnerRef::new(self, runner, &demand));
            }
            if inner.queue.len() >= self.limits.max_queue {
                return Err(ApiError::new(503, BUSY));
            }
            let (reply, answer) = oneshot::channel();
            inner.queue.push_back(Pending { demand, reply });
            answer
        };
        self.arrived.notify_one();
        answer.await.unwrap_or_else(|_| {
            Err(ApiError::new(
                500,
                "llama-server process has terminated: signal: killed",
            ))
        })
    }

    /// Lets a model go as soon as it is idle.
    pub(crate) fn expire(&self, weights: &str) {
        let runner = self
            .inner
            .lock()
            .runners
            .iter()
            .find(|r| r.weights() == weights)
            .cloned();
        if let Some(runner) = runner {
            self.expire_runner(&runner);
        }
    }

    fn expire_runner(&self, runner: &Arc<Runner>) {
        let idle = {
            let mut life = runner.life.lock();
            life.keep_alive = KeepAlive::For(Duration::ZERO);
            life.users == 0
        };
        if idle {
            self.remove(runner);
        }
    }

    /// Kills the processes of a model, loaded or loading.
    pub(crate) fn kill(&self, weights: &str) {
        let killed = {
            let mut inner = self.inner.lock();
            if let Some((_, load)) = inner.loading.as_ref().filter(|(w, _)| w == weights) {
                load.notify_one();
            }
            let at = inner.runners.iter().position(|r| r.weights() == weights);
            at.map(|at| inner.runners.remove(at))
        };
        if let Some(runner) = killed {
            runner.kill();
            self.changed.notify_waiters();
        }
    }

    /// Forgets everything, as a process that ends does.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.queue.clear();
        for runner in inner.runners.drain(..) {
            runner.kill();
        }
    }

    fn remove(&self, runner: &Arc<Runner>) {
        self.inner
            .lock()
            .runners
            .retain(|r| !Arc::ptr_eq(r, runner));
        self.changed.notify_waiters();
    }

    /// What is loaded, the latest to expire first.
    pub(crate) fn residents(&self) -> Vec<Resident> {
        let now = self.clock.now();
        let mut list: Vec<Resident> = self
            .inner
            .lock()
            .runners
            .iter()
            .map(|r| r.resident(now))
            .collect();
        list.sort_by_key(|r| std::cmp::Reverse(r.expires_at));
        list
    }
}

impl Inner {
    fn find(&self, demand: &Demand) -> Option<Arc<Runner>> {
        let weights = &demand.model.spec.weights_digest;
        self.runners
            .iter()
            .find(|r| r.weights() == weights)
            .cloned()
    }
}
