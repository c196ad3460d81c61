//! One job, from its claim to its end: begins at nodes whose turn it is, gathers how far they are, writes
//! that down and keeps the claim. Who loses the claim stops and leaves the rest to whoever has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::Runner;
use super::pull::{Pull, Stop};
use crate::store::{Job, JobState, JobUpdate, NodeFilter, NodeProgress, Page, StoreError, Time};

/// News of nodes that wait to be gathered.
const NEWS: usize = 64;

/// A job that this process works on.
pub(super) struct Work {
    runner: Arc<Runner>,
    job: Job,
    /// What is known here; the row follows.
    progress: BTreeMap<i64, NodeProgress>,
    pulls: JoinSet<()>,
    stops: HashMap<i64, watch::Sender<Option<Stop>>>,
    news: mpsc::Receiver<(i64, NodeProgress)>,
    tell: mpsc::Sender<(i64, NodeProgress)>,
    is_cancelled: bool,
    written: Written,
}

/// What the row does not show yet.
struct Written {
    at: Instant,
    is_old: bool,
    is_urgent: bool,
    /// When it was last looked whether the nodes are still there.
    nodes_seen: Instant,
}

/// Whether a job goes on here.
#[derive(PartialEq, Eq)]
enum Goes {
    On,
    NoMore,
}

impl Work {
    pub(super) fn new(runner: Arc<Runner>, job: Job) -> Self {
        let known = |id: &i64| job.progress.get(id).cloned();
        let progress = job
            .node_ids
            .iter()
            .map(|id| (*id, known(id).unwrap_or_else(NodeProgress::waiting)))
            .collect();
        let (tell, news) = mpsc::channel(NEWS);
        Self {
            is_cancelled: job.cancel_requested,
            runner,
            job,
            progress,
            pulls: JoinSet::new(),
            stops: HashMap::new(),
            news,
            tell,
            written: Written {
                at: Instant::now(),
                is_old: true,
                is_urgent: true,
                nodes_seen: Instant::now(),
            },
        }
    }

    /// Works until the job has ended, or the claim is lost.
    pub(super) async fn run(mut self) {
        // what its last worker had begun goes on in a data plane, or is begun again
        let begun: Vec<i64> = self.nodes(NodeProgress::RUNNING);
        for node in begun {
            self.begin(node, true);
        }
        if self.is_cancelled {
            self.cancel();
        }
        let mut tick = tokio::time::interval(self.runner.timing.look);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                Some((node, progress)) = self.news.recv() => {
                    self.note(node, progress);
                    self.write().await
                }
                _ = tick.tick() => self.look().await,
            };
            match step {
                Ok(Goes::NoMore) => return,
                Err(StoreError::Conflict { .. } | StoreError::NotFound) => {
                    tracing::info!(
                        job.id = self.job.id,
                        "another control plane works on this job"
                    );
                    return;
                }
                // an error is told by the runner; what is under way goes on and is written down later
                Ok(Goes::On) | Err(_) => {}
            }
        }
    }

    fn nodes(&self, status: &str) -> Vec<i64> {
        let of_status = self
            .progress
            .iter()
            .filter(|(_, node)| node.status == status);
        of_status.map(|(id, _)| *id).collect()
    }

    fn begin(&mut self, node: i64, resumed: bool) {
        let (stop, stopped) = watch::channel(None);
        self.stops.insert(node, stop);
        let pull = Pull {
            runner: Arc::clone(&self.runner),
            id: format!(
                "job-{}-{:x}-node-{node}",
                self.job.id,
                self.job.created_at.utc().timestamp_micros()
            ),
            node,
            model: self.job.model.clone(),
            insecure: self.job.insecure,
            stopped,
            tell: self.tell.clone(),
            resumed,
            before: (0, 0),
        };
        self.pulls.spawn(pull.run());
    }

    fn note(&mut self, node: i64, mut progress: NodeProgress) {
        let Some(known) = self.progress.get_mut(&node) else {
            return;
        };
        if progress.total == 0 {
            (progress.completed, progress.total) = (known.completed, known.total);
        }
        if *known == progress || known.is_final() {
            return;
        }
        self.written.is_old = true;
        self.written.is_urgent |= known.status != progress.status;
        if progress.is_final() {
            self.stops.remove(&node);
        }
        *known = progress;
    }

    /// Nodes that wait have it behind them; those under way are told.
    fn cancel(&mut self) {
        self.is_cancelled = true;
        for stop in self.stops.values() {
            stop.send_replace(Some(Stop::Cancelled));
        }
        for node in self.nodes(NodeProgress::WAITING) {
            self.note(node, NodeProgress::of(NodeProgress::CANCELLED, "cancelled"));
        }
    }

    /// Looks whether it shall stop and where it may begin, and writes what is due.
    async fn look(&mut self) -> Result<Goes, StoreError> {
        if self.progress.values().all(NodeProgress::is_final) {
            return self.write().await;
        }
        let (id, limits) = (self.job.id, self.runner.limits);
        let outlook = self.runner.db.look_at_job(id, limits).await?;
        if outlook.cancel_requested && !self.is_cancelled {
            self.cancel();
        }
        if !self.is_cancelled && !outlook.turns.is_empty() {
            self.begin_where_it_may().await?;
        }
        if self.written.nodes_seen.elapsed() >= self.runner.timing.lease / 3 {
            self.miss_nodes().await?;
        }
        self.write().await
    }

    /// In whose name it was claimed.
    fn worker(&self) -> &str {
        self.job.worker.as_deref().unwrap_or_default()
    }

    async fn begin_where_it_may(&mut self) -> Result<(), StoreError> {
        let runner = Arc::clone(&self.runner);
        let begun = runner.db.begin_at_nodes(
            self.job.id,
            self.worker(),
            Time::now(),
            runner.limits,
            self.progress.clone(),
        );
        let (row, begun) = begun.await?;
        for node in begun {
            self.progress
                .insert(node, NodeProgress::of(NodeProgress::RUNNING, ""));
            self.begin(node, false);
        }
        self.job = row;
        Ok(())
    }

    /// Nodes that were taken out meanwhile are not waited for.
    async fn miss_nodes(&mut self) -> Result<(), StoreError> {
        let there = self.runner.db.nodes(NodeFilter::default(), Page::ALL);
        let there: Vec<i64> = there.await?.rows.iter().map(|node| node.id).collect();
        self.written.nodes_seen = Instant::now();
        let is_gone = |id: &&i64| !there.contains(id);
        let gone: Vec<i64> = self.progress.keys().filter(is_gone).copied().collect();
        for node in gone {
            if let Some(stop) = self.stops.get(&node) {
                stop.send_replace(Some(Stop::NodeGone));
            } else {
                self.note(node, Stop::NodeGone.progress());
            }
        }
        Ok(())
    }

    /// Writes what is due: the end, a node's new state, its bytes now and then, and the claim.
    async fn write(&mut self) -> Result<Goes, StoreError> {
        let timing = &self.runner.timing;
        let since = self.written.at.elapsed();
        let has_ended = self.progress.values().all(NodeProgress::is_final);
        let is_due = has_ended
            || self.written.is_urgent
            || (self.written.is_old && since >= timing.write)
            || since >= timing.lease / 3;
        if !is_due {
            return Ok(Goes::On);
        }
        let update = JobUpdate {
            progress: Some(self.progress.clone()),
            lease_until: Some(self.runner.lease_until()),
            finished: has_ended.then(|| self.end()),
        };
        let (db, worker) = (&self.runner.db, self.worker());
        self.job = db
            .update_job(self.job.id, worker, Time::now(), update)
            .await?;
        self.written.at = Instant::now();
        self.written.is_old = false;
        self.written.is_urgent = false;
        if !has_ended {
            return Ok(Goes::On);
        }
        tracing::info!(
            job.id = self.job.id,
            job.model = self.job.model,
            job.state = self.job.state.as_str(),
            "a job has ended"
        );
        Ok(Goes::NoMore)
    }

    /// How it ended, and why where it failed.
    fn end(&self) -> (JobState, Option<String>) {
        let all = self.progress.len() - self.nodes(NodeProgress::SKIPPED).len();
        let good = self.nodes(NodeProgress::SUCCESS).len();
        if good == all {
            return (JobState::Done, None);
        }
        if !self.nodes(NodeProgress::CANCELLED).is_empty() {
            return (JobState::Cancelled, Some("cancelled".to_owned()));
        }
        let failed = self
            .progress
            .values()
            .find(|node| !node.message.is_empty() && node.status == NodeProgress::ERROR);
        let first = failed.map_or("", |node| node.message.as_str());
        let words = format!("failed at {} of {all} nodes: {first}", all - good);
        (JobState::Failed, Some(words))
    }
}
