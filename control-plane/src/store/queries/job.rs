//! Jobs.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Backend, Conn, audit, revision};
use crate::store::StoreError;
use crate::store::change::{Change, Entry};
use crate::store::job::{Job, JobFilter, JobState, JobUpdate, NewJob};
use crate::store::page::{Page, Rows};
use crate::store::schema::jobs::{self, dsl};
use crate::store::value::{Time, json};

pub(in crate::store) async fn create(
    conn: &mut Conn,
    change: Change,
    new: NewJob,
) -> Result<Job, StoreError> {
    let job: Job = diesel::insert_into(jobs::table)
        .values((
            dsl::kind.eq(new.kind),
            dsl::state.eq(JobState::Queued.as_str()),
            dsl::model.eq(new.model),
            dsl::insecure.eq(new.insecure),
            dsl::node_ids.eq(json(&new.node_ids)),
            dsl::progress.eq(serde_json::json!({})),
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

pub(in crate::store) async fn claim(
    conn: &mut Conn,
    kind: String,
    worker: String,
    now: Time,
    lease_until: Time,
) -> Result<Option<Job>, StoreError> {
    revision::lock(conn).await?; // of two who claim at once, each gets another job
    let is_left = dsl::state
        .eq(JobState::Running.as_str())
        .and(dsl::lease_until.le(now.naive()));
    let next: Option<i64> = jobs::table
        .filter(dsl::kind.eq(kind))
        .filter(
            dsl::state
                .eq(JobState::Queued.as_str())
                .or(is_left.assume_not_null()),
        )
        .order(dsl::id)
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
