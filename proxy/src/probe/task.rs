//! The task of one node: resolve, probe, read version, inventory and residency, each in its time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::Probes;
use super::client::Client;
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
                let node = Arc::clone(node);
                let watch = NodeWatch {
                    probes: Arc::clone(probes),
                    client: Client::new(),
                    node,
                };
                tokio::spawn(Box::pin(watch.run())) // boxed: its future is large
            });
        }
    }
}

struct NodeWatch {
    probes: Arc<Probes>,
    client: Client,
    node: Arc<Node>,
}

impl NodeWatch {
    /// Health, inventory and residency each loop on their own, so that none waits for another.
    async fn run(self) {
        let watch = Arc::new(self);
        let polls = [Arc::clone(&watch), Arc::clone(&watch)];
        let [inventory, residency] = polls;
        tokio::join!(
            watch.keep_health(),
            inventory.keep_inventory(),
            residency.keep_residency()
        );
    }

    async fn keep_health(&self) {
        loop {
            Box::pin(self.probe()).await;
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

    async fn probe(&self) {
        let config = &self.probes.probe;
        let began = Instant::now();
        let result = match self.resolve(config.timeout).await {
            Ok(address) => self
                .client
                .get(&self.node, address, "/", config.timeout)
                .await
                .map(|_| ())
                .map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        let (state, now) = (self.node.state(), Instant::now());
        if result.is_ok() {
            state.latency.seed(now - began, now);
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
                let cause = result.err().unwrap_or_default();
                tracing::warn!(node.name = self.node.name(), node.url = %self.node.doc().url, cause, requests.moved = moved, "node is down");
                self.probes.tell();
            }
            None => {}
        }
    }

    /// Host names are looked up with each probe, so that a moved node is found.
    async fn resolve(&self, patience: Duration) -> Result<SocketAddr, String> {
        let url = &self.node.doc().url;
        let look_up = tokio::net::lookup_host((url.host.as_str(), url.port));
        let found = match tokio::time::timeout(patience, look_up).await {
            Ok(Ok(mut addresses)) => addresses
                .next()
                .ok_or_else(|| "its name has no address".to_owned()),
            Ok(Err(error)) => Err(format!("its name cannot be resolved: {error}")),
            Err(_) => Err("its name was not resolved in time".to_owned()),
        };
        if let Ok(address) = found {
            self.node.state().set_address(address);
        }
        found
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

    async fn read_version(&self) {
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

    async fn read_inventory(&self) -> bool {
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
        match self.client.get(&self.node, address, path, patience).await {
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
