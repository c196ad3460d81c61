//! A job as it is shown, in the API and in events.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::store::{Db, Job, JobState, Node, NodeFilter, NodeProgress, Page, StoreError};

/// A job.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct JobView {
    pub(crate) id: i64,
    /// `pull`.
    kind: String,
    pub(crate) state: JobState,
    pub(crate) model: String,
    /// Whether the registry's certificate is not looked at.
    insecure: bool,
    /// Bytes that are there, over all nodes.
    completed: u64,
    /// Bytes altogether, as far as they are known.
    total: u64,
    /// How far it is at each node.
    pub(crate) nodes: Vec<JobNode>,
    /// Why it failed.
    error: Option<String>,
    /// Who asked for it.
    requested_by: String,
    /// Whether it shall stop.
    cancel_requested: bool,
    /// Grows with each change.
    version: i64,
    created_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
}

/// How far a job is at one node.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct JobNode {
    pub(crate) node_id: i64,
    /// None where the node was taken out since.
    pub(crate) node_name: Option<String>,
    /// Its URL.
    pub(crate) node_address: Option<String>,
    /// `waiting`, `running`, `success`, `error`, `cancelled`, or `skipped`: its `models` rules exclude the model.
    pub(crate) status: String,
    /// The node's last status line, or why it failed.
    pub(crate) message: String,
    completed: u64,
    total: u64,
}

/// What nodes are called, by id: name and URL.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(BTreeMap<i64, (String, String)>);

impl Names {
    /// Of all nodes.
    pub(crate) async fn read(db: &Db) -> Result<Self, StoreError> {
        let nodes = db.nodes(NodeFilter::default(), Page::ALL).await?.rows;
        Ok(Self::of(&nodes))
    }

    /// Of these.
    pub(crate) fn of(nodes: &[Node]) -> Self {
        let named = nodes
            .iter()
            .map(|node| (node.id, (node.name.clone(), node.url.clone())));
        Self(named.collect())
    }
}

impl JobView {
    /// A row as it is shown.
    pub(crate) fn of(job: &Job, names: &Names) -> Self {
        let nodes: Vec<_> = job
            .node_ids
            .iter()
            .map(|id| JobNode::of(job, *id, names))
            .collect();
        Self {
            id: job.id,
            kind: job.kind.clone(),
            state: job.state,
            model: job.model.clone(),
            insecure: job.insecure,
            completed: nodes.iter().map(|node| node.completed).sum(),
            total: nodes.iter().map(|node| node.total).sum(),
            nodes,
            error: job.error.clone(),
            requested_by: job.requested_by.clone(),
            cancel_requested: job.cancel_requested,
            version: job.version,
            created_at: job.created_at.to_string(),
            started_at: job.started_at.map(|at| at.to_string()),
            finished_at: job.finished_at.map(|at| at.to_string()),
        }
    }
}

impl JobNode {
    fn of(job: &Job, id: i64, names: &Names) -> Self {
        let progress = job.progress.get(&id).cloned().unwrap_or_else(|| {
            // one that was cancelled before anybody worked on it has no lines
            match job.state {
                JobState::Cancelled => NodeProgress::of(NodeProgress::CANCELLED, "cancelled"),
                _ => NodeProgress::waiting(),
            }
        });
        let (name, address) = names.0.get(&id).cloned().unzip();
        Self {
            node_id: id,
            node_name: name,
            node_address: address,
            status: progress.status,
            message: progress.message,
            completed: progress.completed,
            total: progress.total,
        }
    }
}
