//! Refresh tokens.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::Conn;
use crate::domain::Hidden;
use crate::store::StoreError;
use crate::store::refresh_token::{NewRefreshToken, RefreshToken, Rotation};
use crate::store::schema::refresh_tokens::{self, dsl};
use crate::store::value::Time;

pub(in crate::store) async fn insert(
    conn: &mut Conn,
    user_id: i64,
    family: String,
    family_ends_at: Time,
    new: NewRefreshToken,
) -> Result<RefreshToken, StoreError> {
    // a token never outlives its family
    let expires_at = new.expires_at.min(family_ends_at);
    let token = diesel::insert_into(refresh_tokens::table)
        .values((
            dsl::id.eq(new.id),
            dsl::family.eq(family),
            dsl::user_id.eq(user_id),
            dsl::sha256.eq(new.sha256.reveal()),
            dsl::issued_at.eq(new.issued_at.naive()),
            dsl::expires_at.eq(expires_at.naive()),
            dsl::family_ends_at.eq(family_ends_at.naive()),
            dsl::user_agent.eq(new.user_agent),
            dsl::address.eq(new.address),
        ))
        .returning(RefreshToken::as_returning())
        .get_result(conn)
        .await?;
    Ok(token)
}

pub(in crate::store) async fn rotate(
    conn: &mut Conn,
    presented: Hidden,
    successor: NewRefreshToken,
) -> Result<Rotation, StoreError> {
    let now = successor.issued_at;
    let unused = refresh_tokens::table
        .filter(dsl::sha256.eq(presented.reveal()))
        .filter(dsl::used_at.is_null())
        .filter(dsl::revoked_at.is_null())
        .filter(dsl::expires_at.gt(now.naive()));
    // one statement: of two who present it at once, one finds it unused
    let used: Option<RefreshToken> = diesel::update(unused)
        .set(dsl::used_at.eq(now.naive()))
        .returning(RefreshToken::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    if let Some(used) = used {
        let successor = insert(
            conn,
            used.user_id,
            used.family,
            used.family_ends_at,
            successor,
        )
        .await?;
        return Ok(Rotation::Rotated(successor));
    }
    match by_digest(conn, presented).await {
        Err(StoreError::NotFound) => Ok(Rotation::Unknown),
        Err(error) => Err(error),
        Ok(token) if token.revoked_at.is_some() => Ok(Rotation::Revoked(token)),
        Ok(token) if token.used_at.is_some() => {
            revoke_family(conn, token.family.clone(), now).await?;
            Ok(Rotation::Replayed(token))
        }
        Ok(token) => Ok(Rotation::Expired(token)),
    }
}

pub(in crate::store) async fn by_digest(
    conn: &mut Conn,
    sha256: Hidden,
) -> Result<RefreshToken, StoreError> {
    let token = refresh_tokens::table.filter(dsl::sha256.eq(sha256.reveal()));
    let token = token.select(RefreshToken::as_select());
    Ok(token.first(conn).await?)
}

pub(in crate::store) async fn revoke_family(
    conn: &mut Conn,
    family: String,
    now: Time,
) -> Result<usize, StoreError> {
    let tokens = refresh_tokens::table
        .filter(dsl::family.eq(family))
        .filter(dsl::revoked_at.is_null());
    let revoke = diesel::update(tokens).set(dsl::revoked_at.eq(now.naive()));
    Ok(revoke.execute(conn).await?)
}

pub(in crate::store) async fn revoke_user(
    conn: &mut Conn,
    user_id: i64,
    now: Time,
) -> Result<usize, StoreError> {
    let tokens = refresh_tokens::table
        .filter(dsl::user_id.eq(user_id))
        .filter(dsl::revoked_at.is_null());
    let revoke = diesel::update(tokens).set(dsl::revoked_at.eq(now.naive()));
    Ok(revoke.execute(conn).await?)
}

pub(in crate::store) async fn of_user(
    conn: &mut Conn,
    user_id: i64,
    now: Time,
) -> Result<Vec<RefreshToken>, StoreError> {
    // a family has one token that is not used
    let tokens = refresh_tokens::table
        .filter(dsl::user_id.eq(user_id))
        .filter(dsl::used_at.is_null())
        .filter(dsl::revoked_at.is_null())
        .filter(dsl::expires_at.gt(now.naive()))
        .order((dsl::issued_at.desc(), dsl::id.asc()))
        .select(RefreshToken::as_select());
    Ok(tokens.load(conn).await?)
}
