//! How the fleet document reaches a data plane: from a `file` of its own, or over the `bus` from a
//! control plane, with the last good one on `disk`. An invalid document leaves the one in force.
//! `discover` turns entries that stand for a whole name into nodes; `report` says what became of it all,
//! and `usage` what was used.

use std::path::PathBuf;
use std::sync::Arc;

use aivonx_shared::bus::Bus;
use aivonx_shared::fleet_doc::{Anonymous, FleetDoc};
use aivonx_shared::sealed::SealKey;

pub(crate) mod bus;
mod discover;
pub(crate) mod disk;
pub(crate) mod file;
pub(crate) mod members;
pub(crate) mod report;
pub(crate) mod usage;

/// Where a data plane has its fleet from.
#[derive(Debug)]
pub enum FleetSource {
    /// A file that is followed.
    File {
        /// Where it is.
        path: PathBuf,
        /// What it holds.
        doc: FleetDoc,
    },
    /// A control plane.
    Bus {
        /// The road to it.
        bus: Arc<dyn Bus>,
        /// Where the last good document is kept; without one a start needs the bus.
        folder: Option<PathBuf>,
        /// Opens the secrets in it.
        key: Option<SealKey>,
    },
}

/// The source of the fleet, followed.
pub(crate) enum Source {
    File {
        file: Arc<file::FleetFile>,
        /// What it held when it was read first.
        text: Option<String>,
    },
    Bus(Arc<bus::FleetBus>),
}

impl Source {
    /// Follows it until the process ends.
    pub(crate) async fn follow(&self) {
        match self {
            Self::File { file, text } => file.follow(text.clone()).await,
            Self::Bus(bus) => bus.follow().await,
        }
    }
}

/// Whether a document lets anybody beyond this machine use the fleet.
pub(crate) fn has_callers(doc: &FleetDoc) -> bool {
    let anonymous = match &doc.anonymous {
        Anonymous::Always => true,
        Anonymous::Networks(networks) => !networks.is_empty(),
        Anonymous::Loopback | Anonymous::Never => false,
    };
    anonymous || !doc.keys.is_empty()
}

fn warn_of_blind_trust(doc: &FleetDoc) {
    let blind = doc.nodes.iter().filter(|node| node.access.tls.insecure);
    let names: Vec<_> = blind.map(|node| node.name.as_str()).collect();
    if !names.is_empty() {
        tracing::warn!(
            nodes = names.join(", "),
            "insecure_tls: any certificate of these nodes is believed"
        );
    }
}
