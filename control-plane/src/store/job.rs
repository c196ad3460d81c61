//! Jobs: work that outlives a request. A worker claims one for a while (its lease) and renews the
//! claim as it goes; of a worker that died the lease ends, and another goes on.

use std::collections::BTreeMap;

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::change::Change;
use super::page::{Page, Rows};
use super::schema::jobs;
use super::value::{Json, Time};
use super::{Db, StoreError, run};
use crate::domain::turns::PullLimits;

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = jobs)]
pub struct Job {
    /// Grows.
    pub id: i64,
    /// `pull`.
    pub kind: String,
    /// How far it is.
    pub state: JobState,
    /// The model.
    pub model: String,
    /// Whether the registry's certificate is not looked at.
    pub insecure: bool,
    /// The nodes it is for.
    pub node_ids: Json<Vec<i64>>,
    /// What became of it at each node, by id.
    pub progress: Json<BTreeMap<i64, NodeProgress>>,
    /// Why it failed.
    pub error: Option<String>,
    /// Who asked for it, by name.
    pub requested_by: String,
    /// Whoever works on it shall stop.
    pub cancel_requested: bool,
    /// Who works on it.
    pub worker: Option<String>,
    /// Until when, unless the worker says otherwise.
    pub lease_until: Option<Time>,
    /// Grows with each change.
    pub version: i64,
    /// When it was asked for.
    pub created_at: Time,
    /// When work began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Nobody works on it yet.
    Queued,
    /// Somebody does.
    Running,
    /// It ended well at every node.
    Done,
    /// It did not.
    Failed,
    /// It was ended before it was done.
    Cancelled,
}

/// What became of a job at one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct NodeProgress {
    /// `waiting`, `running`, `success`, `error`, `cancelled`, `skipped`.
    pub status: String,
    /// The node's own words.
    pub message: String,
    /// Bytes that are there.
    pub completed: u64,
    /// Bytes altogether, as far as they are known.
    pub total: u64,
}

impl NodeProgress {
    /// Not begun.
    pub const WAITING: &str = "waiting";
    /// Begun.
    pub const RUNNING: &str = "running";
    /// The node has the model.
    pub const SUCCESS: &str = "success";
    /// It will not have it.
    pub const ERROR: &str = "error";
    /// It was ended before it was done.
    pub const CANCELLED: &str = "cancelled";
    /// It may not have the model, and was never asked.
    pub const SKIPPED: &str = "skipped";

    /// One that has not begun.
    pub fn waiting() -> Self {
        Self::of(Self::WAITING, "")
    }

    /// One in this state, with these words.
    pub fn of(status: &str, message: impl Into<String>) -> Self {
        Self {
            status: status.to_owned(),
            message: message.into(),
            ..Self::default()
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(&self) -> bool {
        let ends = [Self::SUCCESS, Self::ERROR, Self::CANCELLED, Self::SKIPPED];
        ends.contains(&self.status.as_str())
    }
}

/// A job to queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// `pull`.
    pub kind: String,
    /// The model.
    pub model: String,
    /// Whether the registry's certificate is not looked at.
    pub insecure: bool,
    /// The nodes it is for.
    pub node_ids: Vec<i64>,
    /// What is known of them from the beginning: those that are skipped.
    pub progress: BTreeMap<i64, NodeProgress>,
}

/// Which jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Of this kind.
    pub kind: Option<String>,
    /// In one of these states; empty: all.
    pub states: Vec<JobState>,
    /// For this model.
    pub model: Option<String>,
}

/// What a worker sees when it looks at its job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlook {
    /// It shall stop.
    pub cancel_requested: bool,
    /// Nodes at which it may begin now.
    pub turns: Vec<i64>,
}

/// What a worker has to say of its job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobUpdate {
    /// How far it is at each node; `None` leaves what is known.
    pub progress: Option<BTreeMap<i64, NodeProgress>>,
    /// Until when the worker keeps it.
    pub lease_until: Option<Time>,
    /// How it ended, and why where it failed.
    pub finished: Option<(JobState, Option<String>)>,
}

impl JobState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

impl Db {
    /// Queues a job.
    pub async fn create_job(&self, change: &Change, new: NewJob) -> Result<Job, StoreError> {
        let change = change.clone();
        run!(self, write, job::create(change, new))
    }

    /// One job.
    pub async fn job(&self, id: i64) -> Result<Job, StoreError> {
        run!(self, read, job::get(id))
    }

    /// Jobs, newest first.
    pub async fn jobs(&self, filter: JobFilter, page: Page) -> Result<Rows<Job>, StoreError> {
        run!(self, read, job::list(filter, page))
    }

    /// How many jobs there are in each state; a state without jobs is left out.
    pub async fn job_counts(&self) -> Result<Vec<(JobState, i64)>, StoreError> {
        run!(self, read, job::counts())
    }

    /// Claims a job whose worker is gone, or else the oldest that waits, until `lease_until`.
    pub async fn claim_job(
        &self,
        kind: &str,
        worker: &str,
        now: Time,
        lease_until: Time,
    ) -> Result<Option<Job>, StoreError> {
        self.claim(kind, worker, now, lease_until, false).await
    }

    /// Claims a job whose worker is gone, and none that waits: what it left holds the turns of others.
    pub async fn reclaim_job(
        &self,
        kind: &str,
        worker: &str,
        now: Time,
        lease_until: Time,
    ) -> Result<Option<Job>, StoreError> {
        self.claim(kind, worker, now, lease_until, true).await
    }

    async fn claim(
        &self,
        kind: &str,
        worker: &str,
        now: Time,
        lease_until: Time,
        left: bool,
    ) -> Result<Option<Job>, StoreError> {
        let (kind, worker) = (kind.to_owned(), worker.to_owned());
        let asked = kind.clone();
        // who waits for work asks every second, and a look is cheaper than the lock of all changes
        if !run!(self, read, job::is_claimable(asked, now, left))? {
            return Ok(None);
        }
        run!(
            self,
            write,
            job::claim(kind, worker, now, lease_until, left)
        )
    }

    /// What a worker has to know of its job: whether it shall stop, and where it may begin. Only a look:
    /// `begin_at_nodes` takes the turns.
    pub async fn look_at_job(&self, id: i64, limits: PullLimits) -> Result<Outlook, StoreError> {
        run!(self, read, job::outlook(id, limits))
    }

    /// Begins a job at those of its nodes where it may: they are `running` in the row that comes back,
    /// and are named beside it. `progress` is what the worker knows. Of all who do so at once each sees
    /// the others, so the limits hold over all control planes. A lost claim is `Conflict`.
    pub async fn begin_at_nodes(
        &self,
        id: i64,
        worker: &str,
        now: Time,
        limits: PullLimits,
        progress: BTreeMap<i64, NodeProgress>,
    ) -> Result<(Job, Vec<i64>), StoreError> {
        let worker = worker.to_owned();
        run!(self, write, job::begin(id, worker, now, limits, progress))
    }

    /// Says how far a job is. A worker that lost its claim, or whose job has ended, is told by
    /// `Conflict`. The row tells it whether it shall stop.
    pub async fn update_job(
        &self,
        id: i64,
        worker: &str,
        now: Time,
        update: JobUpdate,
    ) -> Result<Job, StoreError> {
        let worker = worker.to_owned();
        run!(self, write, job::update(id, worker, now, update))
    }

    /// Forgets jobs that ended before an instant; gives how many.
    pub async fn trim_jobs(&self, before: Time) -> Result<usize, StoreError> {
        run!(self, write, job::trim(before))
    }

    /// Asks for the end of a job: at once where nobody works on it, and soon where somebody does. One
    /// that has ended stays as it is.
    pub async fn cancel_job(&self, change: &Change, id: i64) -> Result<Job, StoreError> {
        let change = change.clone();
        run!(self, write, job::cancel(change, id))
    }
}
