//! `fleet.yaml` as the source of the fleet. The file is looked at four times a second: that works
//! for editors that replace it, for mounted config maps and for network file systems alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::config::Problems;
use aivonx_shared::fleet_doc::FleetDoc;
use tokio::sync::watch;

use crate::fleet::Fleet;
use crate::telemetry::metrics::Metrics;

const EVERY: Duration = Duration::from_millis(250);

/// Why a fleet file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// It is not valid.
    #[error("{path}:\n{problems}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        problems: Problems,
    },
}

/// Reads a fleet file once.
pub fn read(path: &Path) -> Result<FleetDoc, FileError> {
    let text = std::fs::read_to_string(path).map_err(|error| FileError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    FleetDoc::from_yaml(&text).map_err(|problems| FileError::Invalid {
        path: path.to_owned(),
        problems,
    })
}

/// A file that is followed.
pub(crate) struct FleetFile {
    pub(crate) path: PathBuf,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) metrics: Arc<Metrics>,
    /// Told after each change that came into force.
    pub(crate) changed: watch::Sender<u64>,
}

impl FleetFile {
    /// Takes a document into force.
    pub(crate) fn apply(&self, doc: FleetDoc) {
        let began = Instant::now();
        let nodes = doc.nodes.len();
        self.fleet.apply(doc);
        let revision = self.fleet.load().revision();
        self.metrics.applied(revision, began.elapsed());
        self.changed.send_modify(|count| *count += 1);
        tracing::info!(fleet.revision = revision, fleet.nodes = nodes, fleet.file = %self.path.display(), "fleet is in force");
    }

    /// Follows the file until the process ends; `last` is the text in force.
    pub(crate) async fn follow(&self, mut last: Option<String>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let text = match tokio::fs::read_to_string(&self.path).await {
                Ok(text) => Some(text),
                Err(error) => {
                    if last.is_some() {
                        self.refuse(&error.to_string());
                    }
                    None
                }
            };
            if text == last {
                continue;
            }
            if let Some(text) = &text {
                self.take(text);
            }
            last = text;
        }
    }

    fn take(&self, text: &str) {
        match FleetDoc::from_yaml(text) {
            Ok(doc) => self.apply(doc),
            Err(problems) => self.refuse(&problems.to_string()),
        }
    }

    fn refuse(&self, why: &str) {
        self.metrics.refused();
        tracing::error!(fleet.file = %self.path.display(), why, "fleet file is not taken; the fleet before stays in force");
    }
}
