//! The runner, with data planes that do as the test says, and a database of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use aivonx_shared::bus::memory::MemoryBus;
use aivonx_shared::fleet_doc::Secret;
use aivonx_shared::operations::PullState;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{PULL, Runner, Timing, Wake};
use crate::domain::turns::PullLimits;
use crate::domain::{AddressRules, NodeDraft, NodeRules};
use crate::planes::Planes;
use crate::planes::fake::FakePlane;
use crate::store::{Change, DatabaseUrl, Db, Job, JobState, NewJob};

const PATIENCE: Duration = Duration::from_secs(20);

fn quick() -> Timing {
    Timing {
        claim: Duration::from_millis(20),
        look: Duration::from_millis(10),
        write: Duration::from_millis(20),
        lease: Duration::from_millis(600),
        retries: vec![Duration::from_millis(10); 2],
        misses: 3,
        alone: Duration::from_millis(200),
    }
}

/// A database with nodes, and a bus.
struct World {
    db: Db,
    bus: Arc<MemoryBus>,
    nodes: Vec<i64>,
    limits: PullLimits,
    _folder: TempDir,
}

fn change() -> Change {
    Change::by_system("test")
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let all = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, all).await;
    assert!(in_time.is_ok(), "not in time: {what}");
}

impl World {
    /// With nodes of these names.
    async fn with(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(folder.path().join("aivonx.db"));
        let db = Db::open(&url).await.unwrap();
        let addresses = AddressRules::default();
        let rules = NodeRules {
            addresses: &addresses,
            seal: &|_| None,
        };
        let mut nodes = Vec::new();
        for name in names {
            let draft = NodeDraft {
                name: Some((*name).to_owned()),
                url: Some("http://10.0.0.1:11434".to_owned()),
                ..NodeDraft::default()
            };
            let new = draft.create(rules).unwrap();
            nodes.push(db.create_node(&change(), new).await.unwrap().0.id);
        }
        Self {
            db,
            bus: Arc::new(MemoryBus::new()),
            nodes,
            limits: PullLimits {
                per_node: 1,
                fleet: 3,
            },
            _folder: folder,
        }
    }

    fn start(&self, worker: &str, planes: Planes) -> JoinHandle<()> {
        let runner = Runner {
            db: self.db.clone(),
            planes: Arc::new(planes),
            limits: self.limits,
            timing: quick(),
            wake: Wake::default(),
            worker: worker.to_owned(),
            claims: AtomicU64::new(0),
        };
        tokio::spawn(Arc::new(runner).run())
    }

    async fn queue(&self, model: &str) -> i64 {
        let new = NewJob {
            kind: PULL.to_owned(),
            model: model.to_owned(),
            insecure: false,
            node_ids: self.nodes.clone(),
            progress: BTreeMap::new(),
        };
        self.db.create_job(&change(), new).await.unwrap().id
    }

    async fn job(&self, id: i64) -> Job {
        self.db.job(id).await.unwrap()
    }

    async fn ended(&self, id: i64) -> Job {
        until("the job ends", || async {
            self.job(id).await.state.is_final()
        })
        .await;
        self.job(id).await
    }
}

fn statuses(job: &Job) -> Vec<&str> {
    job.progress
        .values()
        .map(|node| node.status.as_str())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_done_when_every_node_has_the_model() {
    let world = World::with(&["a", "b"]).await;
    let fake = FakePlane::start(&world.bus, "p1").await;
    fake.set("a", PullState::Success, "success");
    let _runner = world.start("w1", fake.planes());
    let id = world.queue("llama3").await;
    until("one is done and the other goes on", || async {
        let job = world.job(id).await;
        statuses(&job) == ["success", "running"] && fake.running("b").len() == 1
    })
    .await;
    let job = world.job(id).await;
    let bytes = &job.progress[&world.nodes[0]];
    assert_eq!((bytes.completed, bytes.total), (50, 100));
    assert_eq!(job.state, JobState::Running);
    fake.set("b", PullState::Success, "success");
    let job = world.ended(id).await;
    assert_eq!((job.state, &job.error), (JobState::Done, &None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_away_is_tried_again_and_is_then_a_line_and_not_the_end() {
    let world = World::with(&["a", "b"]).await;
    let fake = FakePlane::start(&world.bus, "p1").await;
    fake.set("a", PullState::Error, "connection refused");
    fake.set("b", PullState::Success, "success");
    let _runner = world.start("w1", fake.planes());
    let id = world.queue("llama3").await;
    let job = world.ended(id).await;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(statuses(&job), ["error", "success"]);
    assert_eq!(
        job.error.as_deref(),
        Some("failed at 1 of 2 nodes: connection refused")
    );
    assert_eq!(fake.states("a").len(), 3, "a try and two more");

    // what no try would change is not tried again
    fake.set(
        "a",
        PullState::Error,
        "pull model manifest: file does not exist",
    );
    let before = fake.states("a").len();
    let id = world.queue("nosuch").await;
    assert_eq!(world.ended(id).await.state, JobState::Failed);
    assert_eq!(fake.states("a").len(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_ends_its_pulls() {
    let mut world = World::with(&["a", "b"]).await;
    world.limits.fleet = 1;
    let fake = FakePlane::start(&world.bus, "p1").await;
    let _runner = world.start("w1", fake.planes());
    let id = world.queue("llama3").await;
    until("it goes on", || async { fake.running("a").len() == 1 }).await;
    world.db.cancel_job(&change(), id).await.unwrap();
    let job = world.ended(id).await;
    assert_eq!(job.state, JobState::Cancelled);
    assert_eq!(statuses(&job), ["cancelled", "cancelled"]);
    assert_eq!(fake.states("a"), [PullState::Cancelled]);
    assert_eq!(fake.known(), 1, "the other node was never asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_worker_goes_on_with_the_same_pull() {
    let world = World::with(&["a"]).await;
    let fake = FakePlane::start(&world.bus, "p1").await;
    let runner = world.start("w1", fake.planes());
    let id = world.queue("llama3").await;
    until("it goes on", || async { fake.running("a").len() == 1 }).await;
    let begun = fake.running("a");
    runner.abort();
    let _ = runner.await;
    let _other = world.start("w2", fake.planes());
    until("another one has it", || async {
        let worker = world.job(id).await.worker;
        worker.is_some_and(|worker| worker.starts_with("w2"))
    })
    .await;
    fake.set("a", PullState::Success, "success");
    assert_eq!(world.ended(id).await.state, JobState::Done);
    assert_eq!((begun.len(), fake.known()), (1, 1), "it was begun once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_cancelled_while_nobody_worked_on_it_is_ended_by_the_next() {
    let world = World::with(&["a"]).await;
    let fake = FakePlane::start(&world.bus, "p1").await;
    let runner = world.start("w1", fake.planes());
    let id = world.queue("llama3").await;
    until("it goes on", || async { fake.running("a").len() == 1 }).await;
    runner.abort();
    let _ = runner.await;
    world.db.cancel_job(&change(), id).await.unwrap();
    let _other = world.start("w2", fake.planes());
    assert_eq!(world.ended(id).await.state, JobState::Cancelled);
    assert_eq!(fake.states("a"), [PullState::Cancelled]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_moves_when_its_data_plane_goes() {
    let world = World::with(&["a"]).await;
    let first = FakePlane::start(&world.bus, "p1").await;
    let _runner = world.start("w1", first.planes());
    let id = world.queue("llama3").await;
    until("it goes on", || async { first.running("a").len() == 1 }).await;
    let second = FakePlane::start(&world.bus, "p2").await;
    second.set("a", PullState::Success, "success");
    first.stop().await;
    assert_eq!(world.ended(id).await.state, JobState::Done);
    assert_eq!(second.known(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_data_plane_or_the_right_token_the_reason_is_told() {
    let world = World::with(&["a"]).await;
    let bus = world.bus.clone();
    let nobody = world.start("w1", Planes::new(bus.clone(), Some(Secret::new("x"))));
    let job = world.ended(world.queue("llama3").await).await;
    let error = job.error.unwrap();
    assert!(error.contains("no data plane"), "{error}");
    nobody.abort();

    let _fake = FakePlane::start(&world.bus, "p1").await;
    let wrong = world.start("w2", Planes::new(bus.clone(), Some(Secret::new("wrong"))));
    let job = world.ended(world.queue("llama3").await).await;
    let error = job.error.unwrap();
    assert!(error.contains("control_plane.operations_token"), "{error}");
    wrong.abort();

    let _none = world.start("w3", Planes::new(bus, None));
    let job = world.ended(world.queue("llama3").await).await;
    assert!(
        job.error
            .unwrap()
            .contains("set control_plane.operations_token")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_taken_out_is_not_waited_for() {
    let world = World::with(&["a", "b"]).await;
    let fake = FakePlane::start(&world.bus, "p1").await;
    fake.set("b", PullState::Success, "success");
    let _runner = world.start("w1", fake.planes());
    let id = world.queue("llama3").await;
    until("it goes on", || async { fake.running("a").len() == 1 }).await;
    world
        .db
        .delete_node(&change(), world.nodes[0], None)
        .await
        .unwrap();
    let job = world.ended(id).await;
    assert_eq!(statuses(&job), ["error", "success"]);
    assert_eq!(
        job.progress[&world.nodes[0]].message,
        "the node was taken out"
    );
    assert_eq!(fake.states("a"), [PullState::Cancelled]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_keep_the_limits_together() {
    let mut world = World::with(&["a", "b", "c", "d"]).await;
    world.limits.fleet = 2;
    let fake = FakePlane::start(&world.bus, "p1").await;
    let _runners = [
        world.start("w1", fake.planes()),
        world.start("w2", fake.planes()),
    ];
    let ids = [world.queue("x").await, world.queue("y").await];
    let ends = async || {
        let (one, two) = (world.job(ids[0]).await, world.job(ids[1]).await);
        one.state.is_final() && two.state.is_final()
    };
    while !ends().await {
        until("some pull goes on, or all have ended", || async {
            let running = ["a", "b", "c", "d"].map(|node| fake.running(node).len());
            running.iter().sum::<usize>() > 0 || ends().await
        })
        .await;
        fake.finish_running();
    }
    for id in ids {
        assert_eq!(world.job(id).await.state, JobState::Done);
    }
    assert_eq!(fake.known(), 8, "each model at each node");
    let (at_one, all) = fake.most();
    assert!(
        at_one <= 1 && all <= 2,
        "{at_one} at one node, {all} in all"
    );
}
