//! The bus as the source of the fleet: takes what is newer than what is in force, keeps it on disk, and
//! starts from there while the bus is silent.

use std::sync::Arc;

use aivonx_shared::bus::Bus;
use aivonx_shared::fleet_doc::{FleetDoc, Outside};
use aivonx_shared::published::Published;
use aivonx_shared::revision::Revision;
use aivonx_shared::sealed::SealKey;
use parking_lot::Mutex;

use super::disk::Disk;
use super::members::Members;
use super::{has_callers, warn_of_blind_trust};
use crate::telemetry::metrics::Metrics;

/// Where the document in force came from, for the log.
const BUS: &str = "bus";
const DISK: &str = "disk";

/// What of the published documents is in force.
#[derive(Debug, Default)]
pub(crate) struct InForce(Mutex<Taken>);

#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    applied: Option<Revision>,
    refused: Option<Revision>,
}

impl InForce {
    /// The document in force; `None` where there is none yet.
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.0.lock().applied
    }

    /// Whether a newer document than the one in force was refused.
    pub(crate) fn is_behind(&self) -> bool {
        let taken = self.0.lock();
        taken.refused > taken.applied
    }
}

/// A bus that is followed.
pub(crate) struct FleetBus {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) disk: Option<Disk>,
    /// Opens what is sealed.
    pub(crate) key: Option<SealKey>,
    pub(crate) members: Arc<Members>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) in_force: Arc<InForce>,
    /// The listener beyond loopback, if there is one, as `proxy.listen is 0.0.0.0:8000`.
    pub(crate) exposed: Option<String>,
}

impl FleetBus {
    /// Takes what was kept on disk. To be called once, before anything is followed.
    pub(crate) fn start_from_disk(&self) {
        let Some(disk) = &self.disk else { return };
        let file = disk.path();
        match disk.read() {
            Ok(None) => tracing::info!(file = %file.display(), "no fleet is kept from before"),
            Ok(Some(published)) => match self.read(&published) {
                Ok(doc) => self.apply(doc, published.revision(), DISK),
                Err(why) => {
                    tracing::error!(file = %file.display(), why, "the fleet that was kept is not valid and is passed over");
                }
            },
            Err(why) => {
                tracing::error!(file = %file.display(), why, "the fleet that was kept cannot be read and is passed over");
            }
        }
    }

    /// Follows the bus until the process ends.
    pub(crate) async fn follow(&self) {
        tokio::join!(self.follow_documents(), self.follow_connection());
    }

    async fn follow_documents(&self) {
        let mut documents = self.bus.watch();
        loop {
            let newest = documents.borrow_and_update().clone();
            if let Some(published) = newest
                && Some(published.revision()) > self.in_force.revision()
            {
                self.take(published).await;
            }
            if documents.changed().await.is_err() {
                return;
            }
        }
    }

    async fn follow_connection(&self) {
        let mut connected = self.bus.connected();
        loop {
            let is_connected = *connected.borrow_and_update();
            self.metrics.bus_connected(is_connected);
            if connected.changed().await.is_err() {
                return;
            }
        }
    }

    async fn take(&self, published: Arc<Published>) {
        let revision = published.revision();
        match self.read(&published) {
            Ok(doc) => {
                self.apply(doc, revision, BUS);
                self.keep(published).await;
            }
            Err(why) => {
                self.in_force.0.lock().refused = Some(revision);
                self.metrics.refused();
                tracing::error!(%revision, why, "the published fleet is not taken; the fleet before stays in force");
            }
        }
    }

    fn read(&self, published: &Published) -> Result<FleetDoc, String> {
        let outside = Outside::sealed_only(self.key.clone());
        FleetDoc::from_yaml_with(published.document(), &outside).map_err(|why| why.to_string())
    }

    fn apply(&self, doc: FleetDoc, revision: Revision, from: &'static str) {
        let nodes = doc.nodes.len();
        warn_of_blind_trust(&doc);
        if let Some(listener) = self.exposed.as_ref().filter(|_| !has_callers(&doc)) {
            tracing::warn!(
                "{listener}, beyond loopback, and nobody there may use the fleet: it has no keys, and `anonymous` names no networks"
            );
        }
        self.members.apply(doc, Some(revision.number));
        self.in_force.0.lock().applied = Some(revision);
        tracing::info!(fleet.revision = %revision, fleet.nodes = nodes, from, "fleet is in force");
    }

    /// A disk that is full or gone does not keep a document from being in force.
    async fn keep(&self, published: Arc<Published>) {
        let Some(disk) = self.disk.clone() else {
            return;
        };
        let file = disk.path();
        let kept = tokio::task::spawn_blocking(move || disk.write(&published)).await;
        if let Ok(Err(error)) = kept {
            self.metrics.bus_failed("keep");
            tracing::error!(file = %file.display(), %error, "the fleet in force could not be kept on disk");
        }
    }
}
