//! The revision, whose row is the lock of all changes.

use aivonx_shared::revision::Revision;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::Conn;
use crate::store::StoreError;
use crate::store::schema::revision::dsl::{epoch, number, revision, updated_at};
use crate::store::value::Time;

pub(in crate::store) async fn ping(conn: &mut Conn) -> Result<(), StoreError> {
    get(conn).await.map(drop)
}

pub(in crate::store) async fn get(conn: &mut Conn) -> Result<Revision, StoreError> {
    let row = revision.select((epoch, number)).first(conn).await?;
    Ok(read(row))
}

/// Takes the lock without a new revision: for changes that the fleet document does not show. What is
/// read from here on is what all changes before this one left.
pub(in crate::store) async fn lock(conn: &mut Conn) -> Result<(), StoreError> {
    diesel::update(revision)
        .set(number.eq(number))
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes the lock and the next revision. It comes first in its transaction; if that fails, the number
/// falls back and nobody saw it.
pub(in crate::store) async fn next(conn: &mut Conn, now: Time) -> Result<Revision, StoreError> {
    let row = diesel::update(revision)
        .set((number.eq(number + 1), updated_at.eq(now.naive())))
        .returning((epoch, number))
        .get_result(conn)
        .await?;
    Ok(read(row))
}

/// Takes the lock and begins a new epoch: at the clock's seconds, or one after the last, here and
/// among those that were seen elsewhere, where the clock is behind.
pub(in crate::store) async fn next_epoch(
    conn: &mut Conn,
    now: Time,
    seen: Option<Revision>,
) -> Result<Revision, StoreError> {
    let last = next(conn, now).await?.max(seen.unwrap_or_default());
    let later = i64::try_from(last.epoch.saturating_add(1)).unwrap_or(i64::MAX);
    let row = diesel::update(revision)
        .set(epoch.eq(later.max(now.utc().timestamp())))
        .returning((epoch, number))
        .get_result(conn)
        .await?;
    Ok(read(row))
}

fn read((in_epoch, at_number): (i64, i64)) -> Revision {
    Revision::new(in_epoch.cast_unsigned(), at_number.cast_unsigned())
}
