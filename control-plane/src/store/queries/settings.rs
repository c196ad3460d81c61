//! Settings: a row by key, the value `null` where one fell back to its default, so that versions grow.

use aivonx_shared::revision::Revision;
use chrono::NaiveDateTime;
use diesel::prelude::*;
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::{Conn, api_key, audit, revision};
use crate::domain::{Invalid, SettingsPatch};
use crate::store::change::{Change, Entry};
use crate::store::schema::settings::{self, dsl};
use crate::store::settings::SettingsRow;
use crate::store::{StoreError, at_version};

pub(in crate::store) async fn get(conn: &mut Conn) -> Result<SettingsRow, StoreError> {
    let rows: Vec<(String, Value, i64, NaiveDateTime)> = settings::table
        .select((dsl::key, dsl::value, dsl::version, dsl::updated_at))
        .order(dsl::key)
        .load(conn)
        .await?;
    let mut whole = SettingsRow::default();
    for (key, value, version, updated_at) in rows {
        whole.settings.set(key, Some(value));
        whole.version = whole.version.max(version);
        whole.updated_at = whole.updated_at.max(Some(updated_at.and_utc().into()));
    }
    Ok(whole)
}

pub(in crate::store) async fn set(
    conn: &mut Conn,
    change: Change,
    expected: Option<i64>,
    patch: SettingsPatch,
) -> Result<(SettingsRow, Revision), StoreError> {
    revision::lock(conn).await?;
    let before = get(conn).await?;
    at_version(expected, before.version)?;
    let mut wanted = before.settings.clone();
    let patch = patch.into_parts();
    for (key, value) in &patch {
        wanted.set(key.clone(), value.clone());
    }
    if wanted == before.settings {
        return Ok((before, revision::get(conn).await?));
    }
    let networks: Vec<String> = wanted.network_ids().map(str::to_owned).collect();
    if let Some(id) = api_key::first_of(conn, networks).await? {
        let words = format!("a network has the id `{id}`, which is a key's");
        return Err(Invalid::of("anonymous", words).into());
    }
    let revision = revision::next(conn, change.now).await?;
    for (key, value) in patch {
        put(conn, &change, (key, value), before.version + 1).await?;
    }
    let after = get(conn).await?;
    let rows = (Some(&before.settings), Some(&after.settings));
    let entry = Entry::of(("update", "settings"), &"fleet", "fleet", rows.0, rows.1);
    audit::write(conn, &change, entry).await?;
    Ok((after, revision))
}

async fn put(
    conn: &mut Conn,
    change: &Change,
    (key, value): (String, Option<Value>),
    version: i64,
) -> Result<(), StoreError> {
    diesel::insert_into(settings::table)
        .values((
            dsl::key.eq(key),
            dsl::value.eq(value.unwrap_or(Value::Null)),
            dsl::version.eq(version),
            dsl::updated_at.eq(change.now.naive()),
        ))
        .on_conflict(dsl::key)
        .do_update()
        .set((
            dsl::value.eq(excluded(dsl::value)),
            dsl::version.eq(excluded(dsl::version)),
            dsl::updated_at.eq(excluded(dsl::updated_at)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}
