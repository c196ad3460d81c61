//! Usage off the bus into the store. A batch is acknowledged once it is stored, so that one which this
//! control plane does not store comes again, here or at another one; its id keeps it from counting twice.
//! Any number of control planes may do this at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::bus::{Bus, BusError, Taken};
use aivonx_shared::usage_batch::{HOUR, UsageBatch, UsageEntry};
use chrono::{DateTime, TimeDelta, Utc};

use crate::store::{Db, StoreError, Time, UsageRow};
use crate::telemetry::UsageMetrics;

/// How often it is looked whether there is something.
const EVERY: Duration = Duration::from_secs(1);
/// Batches that are taken at once.
const MOST: usize = 64;
/// Counts beyond it are no counts: sums of them would leave what the database holds.
const MOST_COUNT: u64 = 1 << 53;
/// Between two times that ids are forgotten.
const SWEEP: Duration = Duration::from_secs(3600);
/// How long ids of stored batches are remembered: twice as long as a data plane keeps a batch.
const REMEMBERED: TimeDelta = TimeDelta::days(60);

/// Takes usage in. There is one in each control plane.
pub(crate) struct Intake {
    db: Db,
    bus: Arc<dyn Bus>,
    metrics: UsageMetrics,
    /// Taken and not acknowledged. What the database did not take is tried again from here.
    held: Vec<Taken>,
    swept: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
enum IntakeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What became of one batch.
enum Verdict {
    /// It is in the store, or can never be.
    Done,
    /// Not now; the others will fare no better.
    Later(StoreError),
    /// Not now, and nobody knows why: it comes again by itself.
    Skipped,
}

impl Intake {
    pub(crate) fn new(db: Db, bus: Arc<dyn Bus>, metrics: UsageMetrics) -> Self {
        Self {
            db,
            bus,
            metrics,
            held: Vec::new(),
            swept: None,
        }
    }

    /// Takes usage in for as long as the process lives. An outage is told once when it begins and once
    /// when it ends.
    pub(crate) async fn run(mut self) {
        let mut fails = false;
        loop {
            match self.round().await {
                Ok(some) => {
                    if std::mem::take(&mut fails) {
                        tracing::info!("usage is stored again");
                    }
                    if some {
                        continue;
                    }
                }
                Err(error) if !fails => {
                    fails = true;
                    tracing::warn!(%error, "usage cannot be stored; it waits until it can be");
                }
                Err(_) => {}
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Stores what there is and acknowledges it; gives whether there was something.
    async fn round(&mut self) -> Result<bool, IntakeError> {
        self.sweep().await?;
        if self.held.is_empty() {
            self.held = self.bus.take_usage(MOST).await?;
        }
        if self.held.is_empty() {
            return Ok(false);
        }
        let mut failure = None;
        let mut done = Vec::new();
        for taken in std::mem::take(&mut self.held) {
            if failure.is_some() {
                self.held.push(taken);
                continue;
            }
            match self.store(&taken.batch).await {
                Verdict::Done => done.push(taken),
                Verdict::Skipped => {}
                Verdict::Later(error) => {
                    failure = Some(error);
                    self.held.push(taken);
                }
            }
        }
        if let Err(error) = self.bus.ack_usage(&done).await {
            // they are known by their ids when they come again from here
            self.held.extend(done);
            return Err(error.into());
        }
        failure.map_or(Ok(true), |error| Err(error.into()))
    }

    async fn store(&self, batch: &UsageBatch) -> Verdict {
        let rows: Vec<_> = batch.entries.iter().filter_map(row).collect();
        let dropped = batch.entries.len() - rows.len();
        if dropped > 0 {
            let id = &batch.id;
            tracing::error!(
                usage.batch = id,
                entries = dropped,
                "usage that makes no sense is dropped"
            );
        }
        let stored = self
            .db
            .add_usage(&batch.id, &batch.instance, Time::now(), rows);
        match stored.await {
            Ok(true) => {
                self.metrics.stored();
                Verdict::Done
            }
            Ok(false) => {
                self.metrics.repeated();
                Verdict::Done
            }
            Err(
                error @ (StoreError::Unavailable
                | StoreError::Refused(_)
                | StoreError::Busy
                | StoreError::Full),
            ) => {
                self.metrics.failed();
                Verdict::Later(error)
            }
            Err(error @ StoreError::Invalid(_)) => {
                tracing::error!(usage.batch = batch.id, %error, "usage that cannot be stored is dropped");
                Verdict::Done
            }
            Err(
                error @ (StoreError::NotFound
                | StoreError::Duplicate { .. }
                | StoreError::Conflict { .. }
                | StoreError::Newer { .. }
                | StoreError::Internal),
            ) => {
                tracing::error!(usage.batch = batch.id, %error, "usage could not be stored; it comes again");
                Verdict::Skipped
            }
        }
    }

    /// Forgets the ids of batches that no data plane has any more.
    async fn sweep(&mut self) -> Result<(), StoreError> {
        if self.swept.is_some_and(|at| at.elapsed() < SWEEP) {
            return Ok(());
        }
        self.db
            .forget_usage_batches((Utc::now() - REMEMBERED).into())
            .await?;
        self.swept = Some(Instant::now());
        Ok(())
    }
}

/// An entry as a row; `None` where it is no usage.
fn row(entry: &UsageEntry) -> Option<UsageRow> {
    let texts = [&entry.key, &entry.model, &entry.node];
    if texts.into_iter().any(|text| text.contains('\0')) {
        return None; // Postgres has no text for it
    }
    let count = |count: u64| (count <= MOST_COUNT).then_some(count.cast_signed());
    let hour = i64::try_from(entry.hour - entry.hour % HOUR).ok()?;
    Some(UsageRow {
        hour: DateTime::from_timestamp(hour, 0)?.into(),
        key_id: entry.key.clone(),
        model: entry.model.clone(),
        node: entry.node.clone(),
        requests: count(entry.requests)?,
        prompt_tokens: count(entry.prompt_tokens)?,
        output_tokens: count(entry.output_tokens)?,
    })
}

#[cfg(test)]
mod tests {
    use aivonx_shared::bus::memory::MemoryBus;

    use super::*;
    use crate::store::{DatabaseUrl, UsageGroup, UsageQuery};

    const NOW: u64 = 496_441 * HOUR;

    struct World {
        url: DatabaseUrl,
        bus: Arc<MemoryBus>,
        _folder: tempfile::TempDir,
    }

    impl World {
        /// With a bus that gives a batch to the next one at once where it is not acknowledged.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self {
                url: DatabaseUrl::Sqlite(folder.path().join("aivonx.db")),
                bus: Arc::new(MemoryBus::reclaiming_after(Duration::ZERO)),
                _folder: folder,
            }
        }

        async fn intake(&self) -> Intake {
            let db = Db::open(&self.url).await.unwrap();
            let metrics = crate::telemetry::Metrics::new().unwrap().usage;
            Intake::new(db, Arc::clone(&self.bus) as Arc<dyn Bus>, metrics)
        }

        async fn send(&self, id: &str, entries: Vec<UsageEntry>) {
            let batch = UsageBatch {
                id: id.to_owned(),
                instance: "gw-1".to_owned(),
                entries,
            };
            self.bus.send_usage(&batch).await.unwrap();
        }

        /// Of these batches those that the data plane hears to be stored.
        async fn stored(&self, ids: &[&str]) -> Vec<String> {
            let ids: Vec<_> = ids.iter().map(|id| (*id).to_owned()).collect();
            self.bus.stored_usage(&ids).await.unwrap()
        }
    }

    fn entry(requests: u64) -> UsageEntry {
        UsageEntry {
            hour: NOW,
            key: "team-a".to_owned(),
            model: "tiny:latest".to_owned(),
            node: "gpu-1".to_owned(),
            requests,
            prompt_tokens: 10 * requests,
            output_tokens: 100 * requests,
        }
    }

    async fn sums(db: &Db) -> (i64, i64, i64) {
        let at = |seconds: u64| {
            let at = DateTime::from_timestamp(seconds.cast_signed(), 0);
            Time::from(at.unwrap())
        };
        let query = UsageQuery {
            from: at(NOW),
            to: at(NOW + HOUR),
            key_id: None,
            model: None,
            node: None,
            by: UsageGroup::default(),
        };
        let sums = db.usage(query).await.unwrap();
        sums.first().map_or((0, 0, 0), |sum| {
            (sum.requests, sum.prompt_tokens, sum.output_tokens)
        })
    }

    #[tokio::test]
    async fn batches_are_stored_once_and_then_acknowledged() {
        let world = World::new();
        let mut intake = world.intake().await;
        assert!(!intake.round().await.unwrap(), "nothing is there");
        world.send("a", vec![entry(1)]).await;
        world.send("a", vec![entry(1)]).await;
        world.send("b", vec![entry(2), entry(4)]).await;
        assert!(intake.round().await.unwrap());
        assert_eq!(sums(&intake.db).await, (7, 70, 700));
        assert_eq!(world.stored(&["a", "b", "c"]).await, ["a", "b"]);
        assert!(!intake.round().await.unwrap());
        world.send("a", vec![entry(1)]).await;
        assert!(intake.round().await.unwrap());
        assert_eq!(sums(&intake.db).await, (7, 70, 700));
    }

    #[tokio::test]
    async fn a_control_plane_that_dies_before_it_acknowledges_counts_nothing_twice() {
        let world = World::new();
        world.send("a", vec![entry(1)]).await;
        let dying = world.intake().await;
        let taken = dying.bus.take_usage(MOST).await.unwrap();
        assert!(matches!(dying.store(&taken[0].batch).await, Verdict::Done));
        drop(dying);
        assert!(world.stored(&["a"]).await.is_empty());
        let mut other = world.intake().await;
        assert!(other.round().await.unwrap());
        assert_eq!(world.stored(&["a"]).await, ["a"]);
        assert_eq!(sums(&other.db).await, (1, 10, 100));
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_dropped_and_does_not_stop_the_rest() {
        let world = World::new();
        let mut intake = world.intake().await;
        let bad: [fn(&mut UsageEntry); 4] = [
            |entry| entry.hour = u64::MAX,
            |entry| entry.hour = 1 << 60,
            |entry| entry.output_tokens = u64::MAX,
            |entry| entry.model = "a\0b".to_owned(),
        ];
        for (number, spoil) in bad.into_iter().enumerate() {
            let mut spoilt = entry(1);
            spoil(&mut spoilt);
            world
                .send(&format!("bad-{number}"), vec![entry(1), spoilt])
                .await;
            world.send(&format!("good-{number}"), vec![entry(1)]).await;
        }
        assert!(intake.round().await.unwrap());
        assert_eq!(sums(&intake.db).await, (8, 80, 800));
        assert!(!intake.round().await.unwrap(), "nobody sends it again");
        assert_eq!(world.stored(&["bad-0", "bad-3"]).await.len(), 2);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn several_control_planes_share_the_work() {
        let world = World::new();
        for number in 0..200 {
            world.send(&format!("{}", number / 2), vec![entry(1)]).await;
        }
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let mut intake = world.intake().await;
            tasks.push(tokio::spawn(async move {
                while intake.round().await.unwrap() {}
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(sums(&world.intake().await.db).await, (100, 1000, 10_000));
    }

    #[tokio::test]
    async fn ids_are_forgotten_only_after_long() {
        let world = World::new();
        let intake = world.intake().await;
        let db = &intake.db;
        let days_ago = |days| Time::from(Utc::now() - TimeDelta::days(days));
        let add = async |id: &str, at: Time| {
            let rows = vec![row(&entry(1)).unwrap()];
            db.add_usage(id, "gw-1", at, rows).await.unwrap()
        };
        assert!(add("old", days_ago(61)).await && add("new", days_ago(59)).await);
        let mut sweeping = world.intake().await;
        sweeping.round().await.unwrap();
        assert!(!add("new", days_ago(0)).await, "it is still known");
        assert!(add("old", days_ago(0)).await);
    }
}
