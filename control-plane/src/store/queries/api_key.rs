//! Keys of the data plane.

use aivonx_shared::revision::Revision;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Backend, Conn, audit, revision, settings};
use crate::domain::{Hidden, NewApiKey};
use crate::store::api_key::{ApiKey, ApiKeyFilter, ApiKeyValues};
use crate::store::change::{Change, Entry};
use crate::store::page::{Page, Rows, escaped};
use crate::store::schema::api_keys::{self, dsl};
use crate::store::{StoreError, at_version};

pub(in crate::store) async fn list(
    conn: &mut Conn,
    filter: ApiKeyFilter,
    page: Page,
) -> Result<Rows<ApiKey>, StoreError> {
    let count = filtered(&filter).count().get_result(conn).await?;
    let query = filtered(&filter);
    let query = if filter.descending {
        query.order(dsl::id.desc())
    } else {
        query.order(dsl::id.asc())
    };
    let rows = query
        .limit(page.limit())
        .offset(page.offset())
        .select(ApiKey::as_select())
        .load(conn)
        .await?;
    Ok(Rows { count, rows })
}

fn filtered(filter: &ApiKeyFilter) -> api_keys::BoxedQuery<'static, Backend> {
    let mut query = api_keys::table.into_boxed::<Backend>();
    if let Some(enabled) = filter.enabled {
        query = query.filter(dsl::enabled.eq(enabled));
    }
    if let Some(key_id) = &filter.key_id {
        query = query.filter(dsl::key_id.like(escaped(key_id)).escape('\\'));
    }
    query
}

pub(in crate::store) async fn get(conn: &mut Conn, id: i64) -> Result<ApiKey, StoreError> {
    let key = api_keys::table.find(id).select(ApiKey::as_select());
    Ok(key.first(conn).await?)
}

/// The first of these ids that a key has.
pub(in crate::store) async fn first_of(
    conn: &mut Conn,
    ids: Vec<String>,
) -> Result<Option<String>, StoreError> {
    let taken = api_keys::table
        .filter(dsl::key_id.eq_any(ids))
        .select(dsl::key_id)
        .order(dsl::key_id)
        .first(conn)
        .await;
    Ok(taken.optional()?)
}

/// Keys and the networks of `anonymous` share their ids: limits and usage are counted by them.
async fn not_a_network(conn: &mut Conn, key_id: &str) -> Result<(), StoreError> {
    let whole = settings::get(conn).await?;
    if whole.settings.network_ids().any(|id| id == key_id) {
        return Err(StoreError::Duplicate { field: "key_id" });
    }
    Ok(())
}

pub(in crate::store) async fn create(
    conn: &mut Conn,
    change: Change,
    new: NewApiKey,
    sha256: Hidden,
) -> Result<(ApiKey, Revision), StoreError> {
    let revision = revision::next(conn, change.now).await?;
    not_a_network(conn, &new.key_id).await?;
    let now = change.now.naive();
    let key: ApiKey = diesel::insert_into(api_keys::table)
        .values((
            ApiKeyValues::from(new),
            dsl::sha256.eq(sha256.reveal()),
            dsl::created_by.eq(&change.actor.name),
            dsl::version.eq(1),
            dsl::created_at.eq(now),
            dsl::updated_at.eq(now),
        ))
        .returning(ApiKey::as_returning())
        .get_result(conn)
        .await?;
    let entry = Entry::of(
        ("create", "api_key"),
        &key.id,
        &key.key_id,
        None,
        Some(&key),
    );
    audit::write(conn, &change, entry).await?;
    Ok((key, revision))
}

pub(in crate::store) async fn update(
    conn: &mut Conn,
    change: Change,
    id: i64,
    expected: Option<i64>,
    new: NewApiKey,
) -> Result<(ApiKey, Revision), StoreError> {
    revision::lock(conn).await?;
    let before = get(conn, id).await?;
    at_version(expected, before.version)?;
    if new == before.spec() {
        return Ok((before, revision::get(conn).await?));
    }
    not_a_network(conn, &new.key_id).await?;
    let revision = revision::next(conn, change.now).await?;
    let key: ApiKey = diesel::update(api_keys::table.find(id))
        .set((
            ApiKeyValues::from(new),
            dsl::version.eq(dsl::version + 1),
            dsl::updated_at.eq(change.now.naive()),
        ))
        .returning(ApiKey::as_returning())
        .get_result(conn)
        .await?;
    let rows = (Some(&before), Some(&key));
    let entry = Entry::of(("update", "api_key"), &id, &key.key_id, rows.0, rows.1);
    audit::write(conn, &change, entry).await?;
    Ok((key, revision))
}

pub(in crate::store) async fn rotate(
    conn: &mut Conn,
    change: Change,
    id: i64,
    expected: Option<i64>,
    sha256: Hidden,
) -> Result<(ApiKey, Revision), StoreError> {
    let revision = revision::next(conn, change.now).await?;
    let before = get(conn, id).await?;
    at_version(expected, before.version)?;
    let key: ApiKey = diesel::update(api_keys::table.find(id))
        .set((
            dsl::sha256.eq(sha256.reveal()),
            dsl::version.eq(dsl::version + 1),
            dsl::updated_at.eq(change.now.naive()),
        ))
        .returning(ApiKey::as_returning())
        .get_result(conn)
        .await?;
    let rows = (Some(&before), Some(&key));
    let entry = Entry::of(("rotate", "api_key"), &id, &key.key_id, rows.0, rows.1);
    audit::write(conn, &change, entry).await?;
    Ok((key, revision))
}

pub(in crate::store) async fn delete(
    conn: &mut Conn,
    change: Change,
    id: i64,
    expected: Option<i64>,
) -> Result<Revision, StoreError> {
    let revision = revision::next(conn, change.now).await?;
    let before = get(conn, id).await?;
    at_version(expected, before.version)?;
    diesel::delete(api_keys::table.find(id))
        .execute(conn)
        .await?;
    let entry = Entry::of(
        ("delete", "api_key"),
        &id,
        &before.key_id,
        Some(&before),
        None,
    );
    audit::write(conn, &change, entry).await?;
    Ok(revision)
}
