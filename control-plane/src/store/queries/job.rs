//! Jobs.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Backend, Conn, audit, revision};
use crate::domain::turns::{self, Contender, PullLimits};
use crate::store::StoreError;
use crate::store::change::{Change, Entry};
use crate::store::job::{Job, JobFilter, JobState, JobUpdate, NewJob, NodeProgress, Outlook};
use crate::store::page::{Page, Rows};
use crate::store::schema::jobs::{self, dsl};
use crate::store::value::{Time, json};

pub(in crate::store) async fn create(
    conn: &mut Conn,
    change: Change,
    new: NewJob,
) -> Result<Job, StoreError> {
    revision::lock(conn).await?; // ids of audit rows that are followed appear in their order
    let job: Job = diesel::insert_into(jobs::table)
        .values((
            dsl::kind.eq(new.kind),
            dsl::state.eq(JobState::Queued.as_str()),
            dsl::model.eq(new.model),
            dsl::insecure.eq(new.insecure),
            dsl::node_ids.eq(json(&new.node_ids)),
            dsl::progress.eq(json(&new.progress)),
            dsl::requested_by.eq(&change.actor.name),
            dsl::cancel_requested.eq(false),
            dsl::version.eq(1),
            dsl::created_at.eq(change.now.naive()),
        ))
        .returning(Job::as_returning())
        .get_result(conn)
        .await?;
    let entry = Entry::of(("create", "job"), &job.id, &job.model, None, Some(&job));
    audit::write(conn, &change, entry).await?;
    Ok(job)
}

pub(in crate::store) async fn get(conn: &mut Conn, id: i64) -> Result<Job, StoreError> {
    let job = jobs::table.find(id).select(Job::as_select());
    Ok(job.first(conn).await?)
}

pub(in crate::store) async fn list(
    conn: &mut Conn,
    filter: JobFilter,
    page: Page,
) -> Result<Rows<Job>, StoreError> {
    let count = filtered(&filter).count().get_result(conn).await?;
    let rows = filtered(&filter)
        .order(dsl::id.desc())
        .limit(page.limit())
        .offset(page.offset())
        .select(Job::as_select())
        .load(conn)
        .await?;
    Ok(Rows { count, rows })
}

pub(in crate::store) async fn counts(conn: &mut Conn) -> Result<Vec<(JobState, i64)>, StoreError> {
    let rows = jobs::table
        .group_by(dsl::state)
        .select((dsl::state, diesel::dsl::count_star()))
        .load(conn)
        .await?;
    Ok(rows)
}

fn filtered(filter: &JobFilter) -> jobs::BoxedQuery<'static, Backend> {
    let mut query = jobs::table.into_boxed::<Backend>();
    if let Some(kind) = &filter.kind {
        query = query.filter(dsl::kind.eq(kind.clone()));
    }
    if let Some(model) = &filter.model {
        query = query.filter(dsl::model.eq(model.clone()));
    }
    if !filter.states.is_empty() {
        let states: Vec<_> = filter.states.iter().map(|state| state.as_str()).collect();
        query = query.filter(dsl::state.eq_any(states));
    }
    query
}

/// A lease that lasts longer was given by a clock that went back since, and counts as over. Leases are seconds;
/// the rest is for clocks that differ.
const LONGEST_LEASE: TimeDelta = TimeDelta::minutes(10);

/// Jobs of a kind that may be claimed: those left by their worker, and unless `left`, those that wait.
fn claimable(kind: String, now: Time, left: bool) -> jobs::BoxedQuery<'static, Backend> {
    let too_far = Time::from(now.utc() + LONGEST_LEASE);
    let is_over = dsl::lease_until
        .le(now.naive())
        .or(dsl::lease_until.gt(too_far.naive()));
    let is_left = dsl::state
        .eq(JobState::Running.as_str())
        .and(is_over)
        .assume_not_null();
    let of_kind = jobs::table
        .into_boxed::<Backend>()
        .filter(dsl::kind.eq(kind));
    if left {
        of_kind.filter(is_left)
    } else {
        of_kind.filter(dsl::state.eq(JobState::Queued.as_str()).or(is_left))
    }
}

pub(in crate::store) async fn is_claimable(
    conn: &mut Conn,
    kind: String,
    now: Time,
    left: bool,
) -> Result<bool, StoreError> {
    let one = claimable(kind, now, left).select(dsl::id).limit(1);
    Ok(one.first::<i64>(conn).await.optional()?.is_some())
}

pub(in crate::store) async fn claim(
    conn: &mut Conn,
    kind: String,
    worker: String,
    now: Time,
    lease_until: Time,
    left: bool,
) -> Result<Option<Job>, StoreError> {
    revision::lock(conn).await?; // of two who claim at once, each gets another job
    let next: Option<i64> = claimable(kind, now, left)
        .order((dsl::state.desc(), dsl::id)) // `running` before `queued`
        .select(dsl::id)
        .first(conn)
        .await
        .optional()?;
    let Some(id) = next else { return Ok(None) };
    let before = get(conn, id).await?;
    let job = diesel::update(jobs::table.find(id))
        .set((
            dsl::state.eq(JobState::Running.as_str()),
            dsl::worker.eq(worker),
            dsl::lease_until.eq(lease_until.naive()),
            dsl::started_at.eq(before.started_at.unwrap_or(now).naive()),
            dsl::version.eq(dsl::version + 1),
        ))
        .returning(Job::as_returning())
        .get_result(conn)
        .await?;
    Ok(Some(job))
}

pub(in crate::store) async fn update(
    conn: &mut Conn,
    id: i64,
    worker: String,
    now: Time,
    update: JobUpdate,
) -> Result<Job, StoreError> {
    let own = jobs::table
        .find(id)
        .filter(dsl::worker.eq(worker))
        .filter(dsl::state.eq(JobState::Running.as_str()));
    let (state, error) = update.finished.clone().unzip();
    let changed = diesel::update(own)
        .set((
            update
                .progress
                .map(|progress| dsl::progress.eq(json(&progress))),
            update
                .lease_until
                .map(|until| dsl::lease_until.eq(until.naive())),
            state.map(|state| dsl::state.eq(state.as_str())),
            state.map(|_| dsl::finished_at.eq(now.naive())),
            error.map(|error| dsl::error.eq(error)),
            dsl::version.eq(dsl::version + 1),
        ))
        .returning(Job::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    match changed {
        Some(job) => Ok(job),
        None => Err(StoreError::Conflict {
            current: get(conn, id).await?.version,
        }),
    }
}

/// Jobs that somebody works on, or did until a moment ago: what they began may go on.
async fn running(conn: &mut Conn, kind: &str) -> Result<Vec<Job>, StoreError> {
    let rows = jobs::table
        .filter(dsl::kind.eq(kind.to_owned()))
        .filter(dsl::state.eq(JobState::Running.as_str()))
        .order(dsl::id)
        .select(Job::as_select());
    Ok(rows.load(conn).await?)
}

/// Where a job may begin now.
async fn turns_of(conn: &mut Conn, job: &Job, limits: PullLimits) -> Result<Vec<i64>, StoreError> {
    let others = running(conn, &job.kind).await?;
    let others = others.iter().filter(|other| other.id != job.id);
    let others: Vec<_> = others.map(contender).collect();
    Ok(turns::granted(&contender(job), &others, limits))
}

fn contender(job: &Job) -> Contender {
    let with = |status: &str| {
        let nodes = job.node_ids.iter().copied();
        let has = |id: &i64| match job.progress.get(id) {
            Some(progress) => progress.status == status,
            None => status == NodeProgress::WAITING,
        };
        nodes.filter(has).collect::<Vec<_>>()
    };
    Contender {
        running: with(NodeProgress::RUNNING),
        // who shall stop begins nowhere
        waiting: if job.cancel_requested {
            Vec::new()
        } else {
            with(NodeProgress::WAITING)
        },
    }
}

pub(in crate::store) async fn outlook(
    conn: &mut Conn,
    id: i64,
    limits: PullLimits,
) -> Result<Outlook, StoreError> {
    let job = get(conn, id).await?;
    Ok(Outlook {
        cancel_requested: job.cancel_requested,
        turns: turns_of(conn, &job, limits).await?,
    })
}

pub(in crate::store) async fn begin(
    conn: &mut Conn,
    id: i64,
    worker: String,
    now: Time,
    limits: PullLimits,
    progress: BTreeMap<i64, NodeProgress>,
) -> Result<(Job, Vec<i64>), StoreError> {
    revision::lock(conn).await?; // of two who begin at once, the second sees the first
    let known = JobUpdate {
        progress: Some(progress.clone()),
        ..JobUpdate::default()
    };
    let job = update(conn, id, worker.clone(), now, known).await?;
    let begun = turns_of(conn, &job, limits).await?;
    if begun.is_empty() {
        return Ok((job, begun));
    }
    let mut progress = progress;
    for node in &begun {
        let running = NodeProgress::of(NodeProgress::RUNNING, "");
        progress.insert(*node, running);
    }
    let with_begun = JobUpdate {
        progress: Some(progress),
        ..JobUpdate::default()
    };
    Ok((update(conn, id, worker, now, with_begun).await?, begun))
}

pub(in crate::store) async fn trim(conn: &mut Conn, before: Time) -> Result<usize, StoreError> {
    let old = jobs::table.filter(dsl::finished_at.lt(before.naive()));
    Ok(diesel::delete(old).execute(conn).await?)
}

pub(in crate::store) async fn cancel(
    conn: &mut Conn,
    change: Change,
    id: i64,
) -> Result<Job, StoreError> {
    revision::lock(conn).await?; // nobody claims it in the meantime
    let open = jobs::table.find(id).filter(dsl::finished_at.is_null());
    let asked: Option<Job> = diesel::update(open)
        .set((
            dsl::cancel_requested.eq(true),
            dsl::version.eq(dsl::version + 1),
        ))
        .returning(Job::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    let Some(mut job) = asked else {
        return get(conn, id).await;
    };
    if job.state == JobState::Queued {
        job = diesel::update(jobs::table.find(id))
            .set((
                dsl::state.eq(JobState::Cancelled.as_str()),
                dsl::finished_at.eq(change.now.naive()),
            ))
            .returning(Job::as_returning())
            .get_result(conn)
            .await?;
    }
    let entry = Entry::of(("cancel", "job"), &id, &job.model, None, Some(&job));
    audit::write(conn, &change, entry).await?;
    Ok(job)
}
