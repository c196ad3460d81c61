//! Jobs: work that outlives a request and the process that began it. A `Runner` claims jobs in the
//! database and works on each in a task of its own, `work`; a pull at one node is `pull`, done by a data
//! plane (`planes`). What a job is at stands in its row, so another control plane goes on where one died:
//! a pull has an id of its own, under which data planes know it.

mod pull;
#[cfg(test)]
mod tests;
pub(crate) mod view;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::domain::turns::PullLimits;
use crate::planes::Planes;
use crate::store::{Db, Job, StoreError, Time};
use work::Work;

/// The only kind of jobs.
pub(crate) const PULL: &str = "pull";
/// Most jobs that one control plane works on; those beyond wait in the database.
const MOST: usize = 32;
/// How long jobs are kept after their end.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often those beyond are forgotten.
const TRIM: Duration = Duration::from_secs(3600);

/// Paces and patience.
#[derive(Debug, Clone)]
pub(crate) struct Timing {
    /// Between two looks for jobs.
    pub(crate) claim: Duration,
    /// Between two looks at a job that is worked on, and at a pull.
    pub(crate) look: Duration,
    /// Between two writes of a job's progress, unless a node's state changes.
    pub(crate) write: Duration,
    /// How long a claim holds. It is renewed in a third of that.
    pub(crate) lease: Duration,
    /// Before a pull that failed is tried again; after the last of them it has failed for good.
    pub(crate) retries: Vec<Duration>,
    /// How often a data plane may not answer for a pull before another one is asked.
    pub(crate) misses: u32,
    /// How long no data plane may be there before a pull has failed.
    pub(crate) alone: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            claim: Duration::from_secs(1),
            look: Duration::from_millis(500),
            write: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            retries: [1, 3, 9].map(Duration::from_secs).to_vec(),
            misses: 5,
            alone: Duration::from_secs(5 * 60),
        }
    }
}

/// Tells the runner of this process that there is something to do. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Wake(Arc<Notify>);

impl Wake {
    /// A job was queued or is to end.
    pub(crate) fn announce(&self) {
        self.0.notify_one();
    }
}

/// Works on jobs for as long as the process lives.
pub(crate) struct Runner {
    pub(crate) db: Db,
    pub(crate) planes: Arc<Planes>,
    pub(crate) limits: PullLimits,
    pub(crate) timing: Timing,
    pub(crate) wake: Wake,
    /// Another name after each start: a job that this process left is not taken for one it works on.
    pub(crate) worker: String,
    /// How often it tried to claim a job.
    pub(crate) claims: AtomicU64,
}

impl Runner {
    /// Claims jobs and has them worked on. An outage of the database is told once; jobs that are under way
    /// go on, and are written down when it is back.
    pub(crate) async fn run(self: Arc<Self>) {
        let (mut works, mut fails, mut trimmed) = (JoinSet::new(), false, None);
        loop {
            match self.round(&mut works, &mut trimmed).await {
                Ok(()) => fails = false,
                Err(error) if !fails => {
                    fails = true;
                    tracing::warn!(%error, "jobs cannot be claimed; those under way go on");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = self.wake.0.notified() => {}
                () = tokio::time::sleep(self.timing.claim) => {}
                Some(_) = works.join_next() => {}
            }
        }
    }

    async fn round(
        self: &Arc<Self>,
        works: &mut JoinSet<()>,
        trimmed: &mut Option<Instant>,
    ) -> Result<(), StoreError> {
        while works.try_join_next().is_some() {}
        while let Some(job) = self.claim(works.len() >= MOST).await? {
            tracing::info!(job.id = job.id, job.model = job.model, "a job is worked on");
            works.spawn(Work::new(Arc::clone(self), job).run());
        }
        if trimmed.is_none_or(|at| at.elapsed() >= TRIM) {
            let old = Time::now().utc() - KEPT;
            self.db.trim_jobs(old.into()).await?;
            *trimmed = Some(Instant::now());
        }
        Ok(())
    }

    async fn claim(&self, is_full: bool) -> Result<Option<Job>, StoreError> {
        let (now, until) = (Time::now(), self.lease_until());
        // another name each time: where a step of the clock ends the lease of a job that is worked on here, it
        // is taken over from there like from anybody else, and never worked on twice
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        let worker = format!("{}.{number}", self.worker);
        if is_full {
            self.db.reclaim_job(PULL, &worker, now, until).await
        } else {
            self.db.claim_job(PULL, &worker, now, until).await
        }
    }

    /// Until when a claim that is made or renewed now holds.
    fn lease_until(&self) -> Time {
        (Time::now().utc() + self.timing.lease).into()
    }
}
