//! What is asked of the nodes without a client: `GET /` for health, and version, inventory and
//! residency on clocks and patience of their own, because a slow `/api/ps` is not ill health
//! (ollama-api.md §6). One task a node, so that no node waits for another.

mod client;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use crate::balance::{Balancer, Dice};
use crate::fleet::Fleet;
use crate::fleet::health::HealthState;
use aivonx_shared::config::{PollConfig, ProbeConfig};

/// Everything the probes need.
pub(crate) struct Probes {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) balancer: Arc<Balancer>,
    pub(crate) dice: Dice,
    pub(crate) probe: ProbeConfig,
    pub(crate) inventory: PollConfig,
    pub(crate) residency: PollConfig,
    /// How many rounds of changes were told; rises with each change of the fleet.
    pub(crate) changed: watch::Sender<u64>,
    /// Set once every enabled node was probed and what was found is in force. Stays set.
    pub(crate) first_round: Arc<AtomicBool>,
}

impl Probes {
    /// Keeps one task for each enabled node until the process ends. `fleet_changed` tells of new
    /// documents.
    pub(crate) async fn run(self: Arc<Self>, mut fleet_changed: watch::Receiver<u64>) {
        let mut running = task::Running::default();
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(500));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changes = self.changed.subscribe();
        self.note_first_round(&changes); // a fleet without nodes is known at once
        loop {
            running.follow(&self);
            tokio::select! {
                _ = fleet_changed.changed() => self.balancer.sync().await,
                _ = changes.changed() => {
                    self.fleet.refresh();
                    self.balancer.sync().await;
                    self.note_first_round(&changes);
                }
                _ = tick.tick() => self.sweep(Instant::now()),
            }
        }
    }

    /// Nothing was told since, so all that is known is in force.
    fn note_first_round(&self, changes: &watch::Receiver<u64>) {
        let snapshot = self.fleet.load();
        let mut enabled = snapshot.nodes().iter().filter(|node| node.doc().enabled);
        let probed = enabled.all(|node| node.state().health.state() != HealthState::Unknown);
        if probed && !changes.has_changed().unwrap_or(true) {
            self.first_round.store(true, Ordering::Release);
        }
    }

    /// Ends what lasted too long, and leaves runners alone that hold work and show nothing.
    fn sweep(&self, now: Instant) {
        for node in self.fleet.load().nodes() {
            node.state().waiting.sweep(now);
            for (key, model) in node.state().models() {
                if model.is_stuck(now) && model.breaker.trip(now) {
                    tracing::warn!(
                        node.name = node.name(),
                        model = key.display(),
                        "runner holds work and shows no byte; its breaker opens"
                    );
                }
            }
        }
    }

    /// Tells that health or an inventory changed.
    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}
