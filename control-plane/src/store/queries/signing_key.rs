//! Keys that sign access tokens.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Conn, audit, revision};
use crate::domain::Hidden;
use crate::store::StoreError;
use crate::store::change::{Change, Entry};
use crate::store::schema::signing_keys::{self, dsl};
use crate::store::signing_key::SigningKey;
use crate::store::value::Time;

pub(in crate::store) async fn list(conn: &mut Conn) -> Result<Vec<SigningKey>, StoreError> {
    let keys = signing_keys::table
        .order((
            dsl::retired_at.is_not_null(),
            dsl::created_at.desc(),
            dsl::kid,
        ))
        .select(SigningKey::as_select());
    Ok(keys.load(conn).await?)
}

pub(in crate::store) async fn ensure(
    conn: &mut Conn,
    change: Change,
    kid: String,
    sealed: Hidden,
) -> Result<Vec<SigningKey>, StoreError> {
    revision::lock(conn).await?;
    let keys = list(conn).await?;
    if keys.iter().any(|key| key.retired_at.is_none()) {
        return Ok(keys);
    }
    insert(conn, &change, kid, sealed).await?;
    list(conn).await
}

pub(in crate::store) async fn rotate(
    conn: &mut Conn,
    change: Change,
    kid: String,
    sealed: Hidden,
    forget_before: Time,
) -> Result<Vec<SigningKey>, StoreError> {
    revision::lock(conn).await?;
    let old = signing_keys::table.filter(dsl::retired_at.lt(forget_before.naive()));
    diesel::delete(old).execute(conn).await?;
    diesel::update(signing_keys::table.filter(dsl::retired_at.is_null()))
        .set(dsl::retired_at.eq(change.now.naive()))
        .execute(conn)
        .await?;
    insert(conn, &change, kid, sealed).await?;
    list(conn).await
}

async fn insert(
    conn: &mut Conn,
    change: &Change,
    kid: String,
    sealed: Hidden,
) -> Result<(), StoreError> {
    let key: SigningKey = diesel::insert_into(signing_keys::table)
        .values((
            dsl::kid.eq(kid),
            dsl::secret.eq(sealed.reveal()),
            dsl::created_at.eq(change.now.naive()),
        ))
        .returning(SigningKey::as_returning())
        .get_result(conn)
        .await?;
    let what = ("create", "signing_key");
    let entry = Entry::of(what, &key.kid, "", None, Some(&key));
    audit::write(conn, change, entry).await
}
