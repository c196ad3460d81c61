//! Personal access tokens.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Conn, audit};
use crate::domain::Hidden;
use crate::store::StoreError;
use crate::store::change::{Change, Entry};
use crate::store::personal_token::{NewPersonalToken, PersonalToken};
use crate::store::schema::personal_tokens::{self, dsl};
use crate::store::schema::users;
use crate::store::user::User;
use crate::store::value::Time;

pub(in crate::store) async fn create(
    conn: &mut Conn,
    change: Change,
    new: NewPersonalToken,
) -> Result<PersonalToken, StoreError> {
    let token: PersonalToken = diesel::insert_into(personal_tokens::table)
        .values((
            dsl::user_id.eq(new.user_id),
            dsl::name.eq(new.name),
            dsl::sha256.eq(new.sha256.reveal()),
            dsl::role.eq(new.role.as_str()),
            dsl::expires_at.eq(new.expires_at.map(Time::naive)),
            dsl::created_at.eq(change.now.naive()),
        ))
        .returning(PersonalToken::as_returning())
        .get_result(conn)
        .await?;
    let what = ("create", "personal_token");
    let entry = Entry::of(what, &token.id, &token.name, None, Some(&token));
    audit::write(conn, &change, entry).await?;
    Ok(token)
}

pub(in crate::store) async fn of_user(
    conn: &mut Conn,
    user_id: i64,
) -> Result<Vec<PersonalToken>, StoreError> {
    let tokens = personal_tokens::table
        .filter(dsl::user_id.eq(user_id))
        .order(dsl::id)
        .select(PersonalToken::as_select());
    Ok(tokens.load(conn).await?)
}

pub(in crate::store) async fn by_digest(
    conn: &mut Conn,
    sha256: Hidden,
    now: Time,
) -> Result<(PersonalToken, User), StoreError> {
    let row = personal_tokens::table
        .inner_join(users::table)
        .filter(dsl::sha256.eq(sha256.reveal()))
        .filter(
            dsl::expires_at
                .is_null()
                .or(dsl::expires_at.gt(now.naive())),
        )
        .select((PersonalToken::as_select(), User::as_select()));
    Ok(row.first(conn).await?)
}

pub(in crate::store) async fn touch(conn: &mut Conn, id: i64, now: Time) -> Result<(), StoreError> {
    diesel::update(personal_tokens::table.find(id))
        .set(dsl::last_used_at.eq(now.naive()))
        .execute(conn)
        .await?;
    Ok(())
}

pub(in crate::store) async fn delete(
    conn: &mut Conn,
    change: Change,
    user_id: i64,
    id: i64,
) -> Result<(), StoreError> {
    let token = personal_tokens::table
        .find(id)
        .filter(dsl::user_id.eq(user_id));
    let before: PersonalToken = diesel::delete(token)
        .returning(PersonalToken::as_returning())
        .get_result(conn)
        .await?;
    let what = ("delete", "personal_token");
    let entry = Entry::of(what, &id, &before.name, Some(&before), None);
    audit::write(conn, &change, entry).await
}
