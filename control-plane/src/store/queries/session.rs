//! Sessions of the console.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::Conn;
use crate::store::StoreError;
use crate::store::schema::sessions::{self, dsl};
use crate::store::schema::{personal_tokens, refresh_tokens, usage_batches, users};
use crate::store::session::{NewSession, Session};
use crate::store::user::User;
use crate::store::value::Time;

pub(in crate::store) async fn insert(
    conn: &mut Conn,
    new: NewSession,
) -> Result<Session, StoreError> {
    let session = diesel::insert_into(sessions::table)
        .values((
            dsl::id.eq(new.id),
            dsl::user_id.eq(new.user_id),
            dsl::created_at.eq(new.created_at.naive()),
            dsl::last_seen_at.eq(new.created_at.naive()),
            dsl::expires_at.eq(new.expires_at.naive()),
            dsl::user_agent.eq(new.user_agent),
            dsl::address.eq(new.address),
        ))
        .returning(Session::as_returning())
        .get_result(conn)
        .await?;
    Ok(session)
}

pub(in crate::store) async fn get(
    conn: &mut Conn,
    id: String,
    now: Time,
) -> Result<(Session, User), StoreError> {
    let row = sessions::table
        .inner_join(users::table)
        .filter(dsl::id.eq(id))
        .filter(dsl::expires_at.gt(now.naive()))
        .select((Session::as_select(), User::as_select()));
    Ok(row.first(conn).await?)
}

pub(in crate::store) async fn touch(
    conn: &mut Conn,
    id: String,
    now: Time,
    expires_at: Time,
) -> Result<(), StoreError> {
    diesel::update(sessions::table.find(id))
        .set((
            dsl::last_seen_at.eq(now.naive()),
            dsl::expires_at.eq(expires_at.naive()),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

pub(in crate::store) async fn of_user(
    conn: &mut Conn,
    user_id: i64,
    now: Time,
) -> Result<Vec<Session>, StoreError> {
    let sessions = sessions::table
        .filter(dsl::user_id.eq(user_id))
        .filter(dsl::expires_at.gt(now.naive()))
        .order((dsl::last_seen_at.desc(), dsl::id.asc()))
        .select(Session::as_select());
    Ok(sessions.load(conn).await?)
}

pub(in crate::store) async fn delete(
    conn: &mut Conn,
    user_id: i64,
    id: String,
) -> Result<(), StoreError> {
    let session = sessions::table.find(id).filter(dsl::user_id.eq(user_id));
    match diesel::delete(session).execute(conn).await? {
        0 => Err(StoreError::NotFound),
        _ => Ok(()),
    }
}

pub(in crate::store) async fn delete_of(
    conn: &mut Conn,
    user_id: i64,
    keep: Option<String>,
) -> Result<usize, StoreError> {
    let others = sessions::table
        .filter(dsl::user_id.eq(user_id))
        .filter(dsl::id.ne(keep.unwrap_or_default()));
    Ok(diesel::delete(others).execute(conn).await?)
}

pub(in crate::store) async fn purge(
    conn: &mut Conn,
    now: Time,
    batches_before: Time,
) -> Result<usize, StoreError> {
    let now = now.naive();
    let sessions = sessions::table.filter(dsl::expires_at.le(now));
    let refresh = refresh_tokens::table.filter(refresh_tokens::expires_at.le(now));
    let personal = personal_tokens::table.filter(personal_tokens::expires_at.le(now));
    let batches =
        usage_batches::table.filter(usage_batches::received_at.lt(batches_before.naive()));
    let mut rows = diesel::delete(sessions).execute(conn).await?;
    rows += diesel::delete(refresh).execute(conn).await?;
    rows += diesel::delete(personal).execute(conn).await?;
    rows += diesel::delete(batches).execute(conn).await?;
    Ok(rows)
}
