//! Usage.

use std::fmt::Write;

use diesel::prelude::*;
use diesel::sql_types::{Text, Timestamp};
use diesel::upsert::excluded;
use diesel_async::RunQueryDsl;

use super::{Backend, Conn};
use crate::store::StoreError;
use crate::store::schema::usage::{self, dsl};
use crate::store::schema::usage_batches;
use crate::store::usage::{UsageQuery, UsageRow, UsageSum};
use crate::store::value::Time;

pub(in crate::store) async fn add(
    conn: &mut Conn,
    id: String,
    instance: String,
    now: Time,
    mut rows: Vec<UsageRow>,
) -> Result<bool, StoreError> {
    // of two who bring the same batch, the second waits here until the first is done
    let is_new = diesel::insert_into(usage_batches::table)
        .values((
            usage_batches::id.eq(id),
            usage_batches::instance.eq(instance),
            usage_batches::received_at.eq(now.naive()),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    if is_new == 0 {
        return Ok(false);
    }
    // in one order, so that two batches never wait for each other
    rows.sort_by(|a, b| {
        let key = |row: &UsageRow| {
            (
                row.hour,
                row.key_id.clone(),
                row.model.clone(),
                row.node.clone(),
            )
        };
        key(a).cmp(&key(b))
    });
    for row in rows {
        add_row(conn, row).await?;
    }
    Ok(true)
}

async fn add_row(conn: &mut Conn, row: UsageRow) -> Result<(), StoreError> {
    diesel::insert_into(usage::table)
        .values((
            dsl::hour.eq(row.hour.naive()),
            dsl::key_id.eq(row.key_id),
            dsl::model.eq(row.model),
            dsl::node.eq(row.node),
            dsl::requests.eq(row.requests),
            dsl::prompt_tokens.eq(row.prompt_tokens),
            dsl::output_tokens.eq(row.output_tokens),
        ))
        .on_conflict((dsl::hour, dsl::key_id, dsl::model, dsl::node))
        .do_update()
        .set((
            dsl::requests.eq(usage::requests + excluded(dsl::requests)),
            dsl::prompt_tokens.eq(usage::prompt_tokens + excluded(dsl::prompt_tokens)),
            dsl::output_tokens.eq(usage::output_tokens + excluded(dsl::output_tokens)),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

pub(in crate::store) async fn forget_batches(
    conn: &mut Conn,
    before: Time,
) -> Result<(), StoreError> {
    let old = usage_batches::table.filter(usage_batches::received_at.lt(before.naive()));
    diesel::delete(old).execute(conn).await?;
    Ok(())
}

/// Which columns are told apart is known only now, so this one query is written as text; all that
/// callers give is bound. Both databases read `$1`.
pub(in crate::store) async fn sums(
    conn: &mut Conn,
    query: UsageQuery,
) -> Result<Vec<UsageSum>, StoreError> {
    let mut sql = format!(
        "SELECT {}, CAST(SUM(requests) AS BIGINT) AS requests, \
         CAST(SUM(prompt_tokens) AS BIGINT) AS prompt_tokens, \
         CAST(SUM(output_tokens) AS BIGINT) AS output_tokens \
         FROM usage WHERE hour >= $1 AND hour < $2",
        query.by.columns()
    );
    let filters = [
        ("key_id", query.key_id),
        ("model", query.model),
        ("node", query.node),
    ];
    let mut values = Vec::new();
    for (column, value) in filters {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(sql, " AND {column} = ${}", values.len() + 2); // a String takes everything
        }
    }
    sql.push_str(&query.by.grouping());
    let mut statement = diesel::sql_query(sql)
        .into_boxed::<Backend>()
        .bind::<Timestamp, _>(query.from.naive())
        .bind::<Timestamp, _>(query.to.naive());
    for value in values {
        statement = statement.bind::<Text, _>(value);
    }
    Ok(statement.load(conn).await?)
}
