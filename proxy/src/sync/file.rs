//! `fleet.yaml` as the source of the fleet. The file is looked at four times a second: that works
//! for editors that replace it, for mounted config maps and for network file systems alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aivonx_shared::config::Problems;
use aivonx_shared::fleet_doc::{FleetDoc, Outside, SeenFile};

use super::members::Members;
use super::warn_of_blind_trust;
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
    FleetDoc::from_yaml_with(&text, &outside(path)).map_err(|problems| FileError::Invalid {
        path: path.to_owned(),
        problems,
    })
}

/// What a fleet file may refer to: files beside it, and this process's environment.
fn outside(path: &Path) -> Outside {
    let folder = path.parent().unwrap_or(Path::new(""));
    Outside::new(folder, |name| std::env::var(name).ok())
}

/// The files that a document refers to, as they were when it was read.
#[derive(Default)]
struct Referred(Arc<Vec<SeenFile>>);

impl Referred {
    async fn have_changed(&self) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let files = Arc::clone(&self.0);
        let look = move || files.iter().any(SeenFile::has_changed);
        tokio::task::spawn_blocking(look).await.unwrap_or(false)
    }
}

/// A file that is followed.
pub(crate) struct FleetFile {
    pub(crate) path: PathBuf,
    pub(crate) members: Arc<Members>,
    pub(crate) metrics: Arc<Metrics>,
}

impl FleetFile {
    /// Takes a document into force.
    pub(crate) fn apply(&self, doc: FleetDoc) {
        let nodes = doc.nodes.len();
        warn_of_blind_trust(&doc);
        let revision = self.members.apply(doc, None);
        tracing::info!(fleet.revision = revision, fleet.nodes = nodes, fleet.file = %self.path.display(), "fleet is in force");
    }

    /// Follows the file until the process ends; `last` is the text in force.
    pub(crate) async fn follow(&self, mut last: Option<String>) {
        let mut referred = match &last {
            Some(text) => self.read(text).await.1,
            None => Referred::default(),
        };
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
            if text == last && !referred.have_changed().await {
                continue;
            }
            if let Some(text) = &text {
                referred = self.take(text).await;
            }
            last = text;
        }
    }

    /// Reads a text with what it refers to. On a thread of its own: those files may hang.
    async fn read(&self, text: &str) -> (Result<FleetDoc, String>, Referred) {
        let (path, text) = (self.path.clone(), text.to_owned());
        let read = move || {
            let outside = outside(&path);
            let doc = FleetDoc::from_yaml_with(&text, &outside);
            let doc = doc.map_err(|problems| problems.to_string());
            (doc, Referred(Arc::new(outside.seen())))
        };
        let done = tokio::task::spawn_blocking(read).await;
        done.unwrap_or_else(|error| (Err(error.to_string()), Referred::default()))
    }

    async fn take(&self, text: &str) -> Referred {
        let (doc, referred) = self.read(text).await;
        match doc {
            Ok(doc) => self.apply(doc),
            Err(problems) => self.refuse(&problems),
        }
        referred
    }

    fn refuse(&self, why: &str) {
        self.metrics.refused();
        tracing::error!(fleet.file = %self.path.display(), why, "fleet file is not taken; the fleet before stays in force");
    }
}
