//! The task of one node: resolve, probe, read version, inventory and residency, each in its time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aivonx_shared::fleet_doc::Cloud;
use tokio::task::JoinHandle;

use super::Probes;
use super::address::to_try;
use crate::fleet::Node;
use crate::fleet::health::HealthState;
use crate::fleet::inventory::parse_list;

/// Until the next probe after one that speaks against the state.
const IN_DOUBT: Duration = Duration::from_secs(1);

/// The tasks that run, by the node's serial.
#[derive(Default)]
pub(super) struct Running {
    tasks: HashMap<u64, JoinHandle<()>>,
}

impl Running {
    /// Starts what is missing and ends what is not wanted any more.
    pub(super) fn follow(&mut self, probes: &Arc<Probes>) {
        let snapshot = probes.fleet.load();
        let enabled = || snapshot.nodes().iter().filter(|node| node.doc().enabled);
        self.tasks.retain(|serial, task| {
            let stays = enabled().any(|node| node.serial() == *serial);
            if !stays {
                task.abort();
            }
            stays
        });
        for node in enabled() {
            self.tasks.entry(node.serial()).or_insert_with(|| {
                let watch = NodeWatch::new(probes, node);
                tokio::spawn(Box::pin(watch.run())) // boxed: its future is large
            });
        }
    }
}

/// What is asked of one node.
pub(super) struct NodeWatch {
    pub(super) probes: Arc<Probes>,
    node: Arc<Node>,
    /// Probes in a row that no address answered.
    failed: AtomicUsize,
}

impl NodeWatch {
    /// Of this node; nothing is asked yet.
    pub(super) fn new(probes: &Arc<Probes>, node: &Arc<Node>) -> Self {
        Self {
            probes: Arc::clone(probes),
            node: Arc::clone(node),
            failed: AtomicUsize::new(0),
        }
    }

    /// Health, inventory, residency and sign-in each loop on their own, so that none waits for
    /// another.
    async fn run(self) {
        let watch = Arc::new(self);
        let polls = [(); 3].map(|()| Arc::clone(&watch));
        let [inventory, residency, account] = polls;
        tokio::join!(
            watch.keep_health(),
            inventory.keep_inventory(),
            residency.keep_residency(),
            account.keep_sign_in()
        );
    }

    async fn keep_health(&self) {
        loop {
            // why it failed was told where that changed something
            let _ = Box::pin(self.probe()).await;
            let health = &self.node.state().health;
            // a first failure is looked into at once, not after a whole interval
            let interval = self.probes.probe.interval;
            let interval = if health.is_in_doubt() {
                interval.min(IN_DOUBT)
            } else {
                interval
            };
            tokio::select! {
                () = tokio::time::sleep(self.jittered(interval)) => {}
                () = self.node.state().refresh.notified() => {}
            }
        }
    }

    /// One probe, with all that follows from it; an error says why it failed.
    pub(super) async fn probe(&self) -> Result<(), String> {
        let config = &self.probes.probe;
        let _alone = self.node.state().probing.lock().await;
        let result = Box::pin(self.reach(config.timeout)).await;
        let (state, now) = (self.node.state(), Instant::now());
        if let Ok(took) = result {
            state.latency.seed(took, now);
            // it can be reached again: what was held against that is forgotten
            state.breaker.success();
        }
        if result.is_ok() && state.health.state() == HealthState::Unknown {
            // a new node takes requests once it is known what it has; one that comes back at once
            Box::pin(self.read_all()).await;
        }
        let was = state.health.state();
        match state
            .health
            .observe(result.is_ok(), config.healthy_after, config.unhealthy_after)
        {
            Some(HealthState::Up) => {
                tracing::info!(node.name = self.node.name(), node.url = %self.node.doc().url, "node is up");
                self.probes.tell();
                if was == HealthState::Down {
                    Box::pin(self.read_all()).await;
                    self.probes.tell();
                }
            }
            Some(_) => {
                let moved = state.waiting.node_is_down();
                let cause = result.as_ref().err().map_or("", String::as_str);
                tracing::warn!(node.name = self.node.name(), node.url = %self.node.doc().url, cause, requests.moved = moved, "node is down");
                self.probes.tell();
            }
            None => {}
        }
        result.map(|_| ())
    }

    /// Asks the node at its address and, if that fails, at the others of its name; gives how long
    /// the answer took. From then on requests use the address that answered.
    async fn reach(&self, patience: Duration) -> Result<Duration, String> {
        let (addresses, unresolved) = self.addresses(patience).await?;
        // the first has its full time; all others together have as much again
        let end = Instant::now() + 2 * patience;
        let mut cause = String::new();
        for address in addresses {
            let began = Instant::now();
            let left = patience.min(end.saturating_duration_since(began));
            if left.is_zero() {
                break;
            }
            match self.probes.client.get(&self.node, address, "/", left).await {
                Ok(_) => {
                    self.settle_on(address);
                    self.failed.store(0, Ordering::Relaxed);
                    return Ok(began.elapsed());
                }
                Err(error) if cause.is_empty() => error.to_string().trim().clone_into(&mut cause),
                Err(_) => {} // the first is the one that requests use
            }
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        Err(unresolved.map_or(cause.clone(), |also| format!("{cause}; and {also}")))
    }

    fn settle_on(&self, address: SocketAddr) {
        let state = self.node.state();
        if let Some(from) = state.address().filter(|from| *from != address) {
            tracing::info!(node.name = self.node.name(), %from, to = %address, "node answers at another address of its name");
        }
        state.set_address(address);
    }

    /// The addresses to try, and why its name could not be resolved, if so: then the last one is
    /// tried all the same. Names are looked up with each probe, so that a moved node is found.
    async fn addresses(
        &self,
        patience: Duration,
    ) -> Result<(Vec<SocketAddr>, Option<String>), String> {
        let (doc, state) = (self.node.doc(), self.node.state());
        if let Some(address) = doc.access.address {
            return Ok((vec![SocketAddr::new(address, doc.url.port)], None));
        }
        let names = &self.probes.names;
        let answer = match names.look_up(&doc.url.host, doc.url.port, patience).await {
            Ok(answer) => answer,
            Err(cause) => {
                let last = state.address().ok_or_else(|| cause.clone())?;
                return Ok((vec![last], Some(cause)));
            }
        };
        let failed = self.failed.load(Ordering::Relaxed);
        let tries = to_try(&answer, state.address(), failed);
        let left = state.address().filter(|address| !answer.contains(address));
        if let (Some(from), Some(to)) = (left, tries.first()) {
            // it may be another's by now: nothing new is sent there
            state.set_address(*to);
            tracing::info!(node.name = self.node.name(), %from, %to, "node has moved; its name stands for another address");
        }
        Ok((tries, None))
    }

    async fn keep_inventory(&self) {
        loop {
            let pause = self.jittered(self.probes.inventory.interval);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.node.state().stale.notified() => {}
            }
            if self.node.state().health.is_up() {
                self.read_version().await;
                if self.read_inventory().await {
                    self.probes.tell();
                }
            }
        }
    }

    async fn keep_residency(&self) {
        loop {
            tokio::time::sleep(self.jittered(self.probes.residency.interval)).await;
            if self.node.state().health.is_up() {
                self.read_residency().await;
            }
        }
    }

    /// Asks whether the node is signed in at ollama.com: at once when that begins to matter, then
    /// with each inventory; never where cloud models are refused.
    async fn keep_sign_in(&self) {
        let mut changes = self.probes.changed.subscribe();
        let state = self.node.state();
        let mut due = None;
        loop {
            let is_allowed = self.probes.fleet.load().cloud() == Cloud::Allow;
            let now = Instant::now();
            if !is_allowed {
                due = None;
                state.set_signed_in(false);
            } else if state.health.is_up() && due.is_none_or(|due| due <= now) {
                if state.set_signed_in(Box::pin(self.is_signed_in()).await) {
                    self.probes.tell();
                }
                due = Some(now + self.jittered(self.probes.inventory.interval));
            }
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            // a node that is down is asked again when it comes up, which is told
            let pause = left.filter(|left| !left.is_zero());
            tokio::select! {
                () = tokio::time::sleep(pause.unwrap_or(self.probes.inventory.interval)) => {}
                _ = changes.changed() => {} // never an error: `probes` holds the sender
            }
        }
    }

    async fn is_signed_in(&self) -> bool {
        let Some(address) = self.node.state().address() else {
            return false;
        };
        let patience = self.probes.inventory.timeout;
        let asked = self
            .probes
            .client
            .post(&self.node, address, "/api/me", "{}", patience);
        // a node that is not signed in, or too old to know, says so with an error
        asked.await.is_ok()
    }

    /// Everything at once, when a node comes up: it takes requests when its inventory is known.
    async fn read_all(&self) {
        tokio::join!(self.read_version(), self.read_inventory());
        // the models must be known before it is said which of them are resident; a node whose
        // scheduler is busy is not waited for
        self.probes.fleet.refresh();
        let quick = self.probes.probe.timeout.min(Duration::from_millis(500));
        if tokio::time::timeout(quick, self.read_residency())
            .await
            .is_err()
        {
            tracing::debug!(node.name = self.node.name(), "residency is not known yet");
        }
    }

    pub(super) async fn read_version(&self) {
        if let Some(body) = self
            .ask("/api/version", self.probes.inventory.timeout)
            .await
        {
            let version = serde_json::from_slice::<serde_json::Value>(&body).ok();
            let version =
                version.and_then(|value| value.get("version")?.as_str().map(str::to_owned));
            self.node.state().version.store(version.map(Arc::new));
        }
    }

    /// True where it has others than before.
    pub(super) async fn read_inventory(&self) -> bool {
        let body = self.ask("/api/tags", self.probes.inventory.timeout).await;
        match body.and_then(|body| parse_list(&body, "modified_at")) {
            Some(list) => self.node.state().set_inventory(list),
            None => false,
        }
    }

    async fn read_residency(&self) {
        let body = self.ask("/api/ps", self.probes.residency.timeout).await;
        if let Some(list) = body.and_then(|body| parse_list(&body, "expires_at")) {
            self.node.state().set_residency(list);
        }
    }

    /// A read whose failure changes nothing: the last answer stays in force.
    async fn ask(&self, path: &str, patience: Duration) -> Option<Vec<u8>> {
        let address = self.node.state().address()?;
        match self
            .probes
            .client
            .get(&self.node, address, path, patience)
            .await
        {
            Ok(body) => Some(body),
            Err(error) => {
                tracing::warn!(node.name = self.node.name(), path, cause = %error, "node did not answer; what it said last stays in force");
                None
            }
        }
    }

    /// Moved by up to a tenth either way, so that probes of many nodes do not fall together.
    fn jittered(&self, interval: Duration) -> Duration {
        interval.mul_f64(0.9 + 0.2 * self.probes.dice.roll())
    }
}
