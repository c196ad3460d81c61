//! What is asked of the nodes without a client: `GET /` for health, and version, inventory and
//! residency on clocks and patience of their own, because a slow `/api/ps` is not ill health
//! (ollama-api.md §6). One task a node, so that no node waits for another.

mod address;
mod client;
mod now;
mod task;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::fleet::health::HealthState;
use crate::names::Names;
use aivonx_shared::config::{PollConfig, ProbeConfig};

pub(crate) use client::Client;

/// How often it is looked for requests and runners that take too long.
const SWEEP: std::time::Duration = std::time::Duration::from_millis(500);

/// Everything the probes need.
pub(crate) struct Probes {
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) dice: Dice,
    pub(crate) names: Arc<Names>,
    pub(crate) client: Client,
    pub(crate) probe: ProbeConfig,
    pub(crate) inventory: PollConfig,
    pub(crate) residency: PollConfig,
    /// Rises with each change of health or inventory, and with each new document: what requests
    /// look at is then built again (`app`).
    pub(crate) changed: watch::Sender<u64>,
}

impl Probes {
    /// Keeps one task for each enabled node until the process ends.
    pub(crate) async fn run(self: Arc<Self>, mut fleet_changed: watch::Receiver<u64>) {
        let mut running = task::Running::default();
        let mut tick = tokio::time::interval(SWEEP);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            running.follow(&self);
            tokio::select! {
                told = fleet_changed.changed() => if told.is_err() { return },
                _ = tick.tick() => self.sweep(Instant::now()),
            }
        }
    }

    /// Whether every enabled node was probed once.
    pub(crate) fn all_probed(&self) -> bool {
        let snapshot = self.fleet.load();
        let mut enabled = snapshot.nodes().iter().filter(|node| node.doc().enabled);
        enabled.all(|node| node.state().health.state() != HealthState::Unknown)
    }

    /// Ends what lasted too long, and leaves runners alone that hold work and show nothing.
    fn sweep(&self, now: Instant) {
        self.fleet.tidy();
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
