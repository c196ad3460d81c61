//! The audit.

use aivonx_shared::revision::Revision;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::json;

use super::{Backend, Conn, revision};
use crate::store::StoreError;
use crate::store::audit::{AuditFilter, AuditRow};
use crate::store::change::{Change, Entry};
use crate::store::page::{Page, Rows};
use crate::store::schema::audit::{self, dsl};
use crate::store::value::Time;

/// Adds a row, in the transaction of its change.
pub(in crate::store) async fn write(
    conn: &mut Conn,
    change: &Change,
    entry: Entry,
) -> Result<(), StoreError> {
    let address = change.address.map(|ip| ip.to_string()).unwrap_or_default();
    diesel::insert_into(audit::table)
        .values((
            dsl::at.eq(change.now.naive()),
            dsl::actor_id.eq(change.actor.user_id),
            dsl::actor.eq(&change.actor.name),
            dsl::address.eq(address),
            dsl::action.eq(entry.action),
            dsl::kind.eq(entry.kind),
            dsl::object_id.eq(entry.object_id),
            dsl::object_name.eq(entry.object_name),
            dsl::before.eq(entry.before),
            dsl::after.eq(entry.after),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

pub(in crate::store) async fn note(
    conn: &mut Conn,
    change: Change,
    entry: Entry,
) -> Result<(), StoreError> {
    write(conn, &change, entry).await
}

pub(in crate::store) async fn list(
    conn: &mut Conn,
    filter: AuditFilter,
    page: Page,
) -> Result<Rows<AuditRow>, StoreError> {
    let count = filtered(&filter).count().get_result(conn).await?;
    let rows = filtered(&filter)
        .order(dsl::id.desc())
        .limit(page.limit())
        .offset(page.offset())
        .select(AuditRow::as_select())
        .load(conn)
        .await?;
    Ok(Rows { count, rows })
}

fn filtered(filter: &AuditFilter) -> audit::BoxedQuery<'static, Backend> {
    let mut query = audit::table.into_boxed::<Backend>();
    if let Some(actor) = &filter.actor {
        query = query.filter(dsl::actor.eq(actor.clone()));
    }
    if let Some(action) = &filter.action {
        query = query.filter(dsl::action.eq(action.clone()));
    }
    if let Some(kind) = &filter.kind {
        query = query.filter(dsl::kind.eq(kind.clone()));
    }
    if let Some(id) = &filter.object_id {
        query = query.filter(dsl::object_id.eq(id.clone()));
    }
    if let Some(from) = filter.from {
        query = query.filter(dsl::at.ge(from.naive()));
    }
    if let Some(to) = filter.to {
        query = query.filter(dsl::at.lt(to.naive()));
    }
    if !filter.kinds.is_empty() {
        query = query.filter(dsl::kind.eq_any(filter.kinds.clone()));
    }
    if let Some(id) = filter.after_id {
        query = query.filter(dsl::id.gt(id));
    }
    if let Some(id) = filter.before_id {
        query = query.filter(dsl::id.lt(id));
    }
    query
}

pub(in crate::store) async fn trim(conn: &mut Conn, before: Time) -> Result<usize, StoreError> {
    let old = audit::table.filter(dsl::at.lt(before.naive()));
    Ok(diesel::delete(old).execute(conn).await?)
}

pub(in crate::store) async fn new_epoch(
    conn: &mut Conn,
    change: Change,
    seen: Option<Revision>,
) -> Result<Revision, StoreError> {
    let revision = revision::next_epoch(conn, change.now, seen).await?;
    let entry = Entry {
        action: "new_epoch",
        kind: "revision",
        object_id: revision.to_string(),
        object_name: String::new(),
        before: None,
        after: Some(json!({"epoch": revision.epoch, "number": revision.number})),
    };
    write(conn, &change, entry).await?;
    Ok(revision)
}
