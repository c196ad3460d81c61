//! Jobs: queued, claimed, worked on, left behind, ended.

use std::collections::BTreeMap;

use aivonx_control_plane::domain::turns::PullLimits;
use aivonx_control_plane::store::{
    Db, Job, JobFilter, JobState, JobUpdate, NewJob, NodeProgress, Outlook, Page, StoreError,
};

use crate::world::{World, at, change, change_at, on_both};

on_both!(
    a_job_is_claimed_by_one_worker_and_done,
    a_job_whose_worker_died_is_claimed_again_with_its_progress,
    a_clock_that_went_back_by_hours_leaves_no_job_behind,
    jobs_are_cancelled_at_once_or_by_their_worker,
    jobs_are_listed_newest_first,
    turns_hold_over_all_jobs_and_workers,
    what_a_dead_worker_left_comes_before_what_waits,
    ended_jobs_are_forgotten_in_time,
);

async fn queue(db: &Db, model: &str) -> Job {
    let new = NewJob {
        kind: "pull".to_owned(),
        model: model.to_owned(),
        insecure: false,
        node_ids: vec![1, 2],
        progress: BTreeMap::new(),
    };
    db.create_job(&change(), new).await.unwrap()
}

async fn claim(db: &Db, worker: &str, now: i64) -> Option<Job> {
    db.claim_job("pull", worker, at(now), at(now + 30))
        .await
        .unwrap()
}

fn progress(status: &str, completed: u64) -> BTreeMap<i64, NodeProgress> {
    let one = NodeProgress {
        status: status.to_owned(),
        completed,
        total: 100,
        ..NodeProgress::default()
    };
    BTreeMap::from([(1, one)])
}

async fn a_job_is_claimed_by_one_worker_and_done(world: World) {
    let (db, other) = (&world.db, world.another().await);
    let job = queue(db, "llama3").await;
    assert_eq!(
        (job.state, job.requested_by.as_str(), &*job.node_ids),
        (JobState::Queued, "ops", &vec![1, 2])
    );
    let (one, two) = tokio::join!(claim(db, "w1", 1), claim(&other, "w2", 1));
    let claimed: Vec<_> = [one, two].into_iter().flatten().collect();
    assert_eq!(claimed.len(), 1);
    let worker = claimed[0].worker.clone().unwrap();
    assert_eq!(
        (claimed[0].state, claimed[0].started_at),
        (JobState::Running, Some(at(1)))
    );

    let update = JobUpdate {
        progress: Some(progress("running", 7)),
        ..JobUpdate::default()
    };
    let not_mine = db.update_job(job.id, "w3", at(2), update.clone()).await;
    assert!(
        matches!(not_mine, Err(StoreError::Conflict { .. })),
        "{not_mine:?}"
    );
    let half = db.update_job(job.id, &worker, at(2), update).await.unwrap();
    assert_eq!((half.progress[&1].completed, half.finished_at), (7, None));
    let finish = JobUpdate {
        finished: Some((JobState::Done, None)),
        ..JobUpdate::default()
    };
    let done = db
        .update_job(job.id, &worker, at(3), finish.clone())
        .await
        .unwrap();
    assert_eq!(
        (done.state, done.finished_at, done.progress[&1].completed),
        (JobState::Done, Some(at(3)), 7)
    );
    assert!(db.update_job(job.id, &worker, at(4), finish).await.is_err());
    assert_eq!(claim(db, "w1", 999).await, None);
}

async fn a_job_whose_worker_died_is_claimed_again_with_its_progress(world: World) {
    let db = &world.db;
    let job = queue(db, "a").await;
    claim(db, "w1", 0).await.unwrap();
    let update = JobUpdate {
        progress: Some(progress("running", 50)),
        lease_until: Some(at(60)),
        ..JobUpdate::default()
    };
    db.update_job(job.id, "w1", at(10), update.clone())
        .await
        .unwrap();
    assert_eq!(claim(db, "w2", 59).await, None);
    let again = claim(db, "w2", 60).await.unwrap();
    assert_eq!(
        (again.id, again.progress[&1].completed, again.started_at),
        (job.id, 50, Some(at(0)))
    );
    let late = db.update_job(job.id, "w1", at(61), update).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
}

async fn a_clock_that_went_back_by_hours_leaves_no_job_behind(world: World) {
    let (db, hours) = (&world.db, 5 * 3600);
    let job = queue(db, "a").await;
    claim(db, "w1", hours).await.unwrap();
    // a clock that is a minute behind still believes the lease
    assert_eq!(claim(db, "w2", hours - 60).await, None);
    assert_eq!(claim(db, "w2", 0).await.unwrap().id, job.id);
    let mine = JobUpdate {
        lease_until: Some(at(30)),
        ..JobUpdate::default()
    };
    let lost = db.update_job(job.id, "w1", at(1), mine.clone()).await;
    assert!(matches!(lost, Err(StoreError::Conflict { .. })), "{lost:?}");
    db.update_job(job.id, "w2", at(1), mine).await.unwrap();
    assert_eq!(claim(db, "w3", 2).await, None);
}

async fn jobs_are_cancelled_at_once_or_by_their_worker(world: World) {
    let db = &world.db;
    let (first, second) = (queue(db, "a").await, queue(db, "b").await);
    claim(db, "w", 0).await.unwrap();
    let asked = db.cancel_job(&change_at(1), first.id).await.unwrap();
    assert_eq!(
        (asked.state, asked.cancel_requested),
        (JobState::Running, true)
    );
    let ended = db.cancel_job(&change_at(1), second.id).await.unwrap();
    assert_eq!(
        (ended.state, ended.finished_at),
        (JobState::Cancelled, Some(at(1)))
    );
    let finished = Some((JobState::Failed, Some("cancelled".to_owned())));
    let told = db
        .update_job(
            first.id,
            "w",
            at(2),
            JobUpdate {
                finished,
                ..JobUpdate::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(
        (told.state, told.error.as_deref()),
        (JobState::Failed, Some("cancelled"))
    );
    let again = db.cancel_job(&change_at(3), first.id).await.unwrap();
    assert_eq!(again, told);
    assert_eq!(
        db.cancel_job(&change(), 999).await,
        Err(StoreError::NotFound)
    );
    let cancels = world
        .audit()
        .await
        .into_iter()
        .filter(|row| row.action == "cancel");
    assert_eq!(cancels.count(), 2);
}

async fn jobs_are_listed_newest_first(world: World) {
    let db = &world.db;
    for model in ["a", "b", "c"] {
        queue(db, model).await;
    }
    claim(db, "w", 0).await.unwrap();
    let list = async |filter: JobFilter| {
        let rows = db
            .jobs(
                filter,
                Page {
                    limit: 2,
                    offset: 0,
                },
            )
            .await
            .unwrap();
        let models: Vec<_> = rows.rows.into_iter().map(|job| job.model).collect();
        (rows.count, models.join(" "))
    };
    let all = JobFilter::default;
    assert_eq!(list(all()).await, (3, "c b".to_owned()));
    let running = JobFilter {
        states: vec![JobState::Running, JobState::Done],
        ..all()
    };
    assert_eq!(list(running).await, (1, "a".to_owned()));
    let of_b = JobFilter {
        model: Some("b".to_owned()),
        kind: Some("pull".to_owned()),
        ..all()
    };
    assert_eq!(list(of_b).await, (1, "b".to_owned()));
    let mut counts = db.job_counts().await.unwrap();
    counts.sort_by_key(|(state, _)| state.as_str());
    assert_eq!(counts, [(JobState::Queued, 2), (JobState::Running, 1)]);
}

async fn turns_hold_over_all_jobs_and_workers(world: World) {
    let (db, other) = (&world.db, world.another().await);
    let limits = PullLimits {
        per_node: 1,
        fleet: 2,
    };
    let (first, second) = (queue(db, "a").await, queue(db, "b").await);
    claim(db, "w1", 0).await.unwrap();
    claim(&other, "w2", 0).await.unwrap();
    let none = BTreeMap::new;
    let (one, two) = tokio::join!(
        db.begin_at_nodes(first.id, "w1", at(1), limits, none()),
        other.begin_at_nodes(second.id, "w2", at(1), limits, none()),
    );
    let ((one, begun), (two, also_begun)) = (one.unwrap(), two.unwrap());
    let mut nodes = [begun, also_begun].concat();
    nodes.sort_unstable();
    assert_eq!(nodes, [1, 2], "each job one node, and not the same");
    let running = |job: &Job| {
        job.progress
            .values()
            .filter(|node| node.status == "running")
            .count()
    };
    assert_eq!((running(&one), running(&two)), (1, 1));
    for id in [first.id, second.id] {
        let outlook = db.look_at_job(id, limits).await.unwrap();
        assert_eq!(outlook, Outlook::default(), "the fleet is busy");
    }

    let mine = *one.progress.keys().next().unwrap();
    let ended = BTreeMap::from([(mine, NodeProgress::of(NodeProgress::SUCCESS, ""))]);
    let (_, begun) = db
        .begin_at_nodes(first.id, "w1", at(2), limits, ended)
        .await
        .unwrap();
    assert!(
        begun.is_empty(),
        "the other node is busy with the other job"
    );
    assert_eq!(
        db.look_at_job(second.id, limits).await.unwrap().turns,
        [mine]
    );
    let stolen = db
        .begin_at_nodes(first.id, "w3", at(3), limits, none())
        .await;
    assert!(
        matches!(stolen, Err(StoreError::Conflict { .. })),
        "{stolen:?}"
    );
    db.cancel_job(&change(), second.id).await.unwrap();
    let outlook = db.look_at_job(second.id, limits).await.unwrap();
    assert_eq!((outlook.cancel_requested, outlook.turns), (true, vec![]));
}

async fn what_a_dead_worker_left_comes_before_what_waits(world: World) {
    let db = &world.db;
    let first = queue(db, "a").await;
    claim(db, "w1", 0).await.unwrap();
    let second = queue(db, "b").await;
    let reclaim = async |now: i64| {
        let claimed = db.reclaim_job("pull", "w2", at(now), at(now + 30)).await;
        claimed.unwrap().map(|job| job.id)
    };
    assert_eq!(reclaim(29).await, None);
    assert_eq!(reclaim(30).await, Some(first.id));
    assert_eq!(reclaim(31).await, None, "one that waits is none of these");
    assert_eq!(claim(db, "w2", 31).await.unwrap().id, second.id);
}

async fn ended_jobs_are_forgotten_in_time(world: World) {
    let db = &world.db;
    let (old, open) = (queue(db, "a").await, queue(db, "b").await);
    db.cancel_job(&change_at(1), old.id).await.unwrap();
    assert_eq!(db.trim_jobs(at(1)).await.unwrap(), 0);
    assert_eq!(db.trim_jobs(at(2)).await.unwrap(), 1);
    assert_eq!(db.job(old.id).await, Err(StoreError::NotFound));
    assert_eq!(db.job(open.id).await.unwrap().id, open.id);
}
