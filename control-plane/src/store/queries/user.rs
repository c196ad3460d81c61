//! Users of the control plane.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Backend, Conn, audit, refresh_token, revision, session};
use crate::domain::{Hidden, Invalid, NewUser, Role};
use crate::store::change::{Change, Entry};
use crate::store::page::{Page, Rows, containing};
use crate::store::schema::users::{self, dsl};
use crate::store::user::{User, UserFilter, UserValues, name_key};
use crate::store::value::Time;
use crate::store::{StoreError, at_version};

pub(in crate::store) async fn list(
    conn: &mut Conn,
    filter: UserFilter,
    page: Page,
) -> Result<Rows<User>, StoreError> {
    let count = filtered(&filter).count().get_result(conn).await?;
    let rows = filtered(&filter)
        .order(dsl::id.asc())
        .limit(page.limit())
        .offset(page.offset())
        .select(User::as_select())
        .load(conn)
        .await?;
    Ok(Rows { count, rows })
}

fn filtered(filter: &UserFilter) -> users::BoxedQuery<'static, Backend> {
    let mut query = users::table.into_boxed::<Backend>();
    if let Some(name) = &filter.name {
        query = query.filter(dsl::name_key.like(containing(name)).escape('\\'));
    }
    if let Some(role) = filter.role {
        query = query.filter(dsl::role.eq(role.as_str()));
    }
    if let Some(is_active) = filter.is_active {
        query = query.filter(dsl::is_active.eq(is_active));
    }
    query
}

pub(in crate::store) async fn get(conn: &mut Conn, id: i64) -> Result<User, StoreError> {
    let user = users::table.find(id).select(User::as_select());
    Ok(user.first(conn).await?)
}

pub(in crate::store) async fn by_name(conn: &mut Conn, name: String) -> Result<User, StoreError> {
    let user = users::table.filter(dsl::name_key.eq(name_key(&name)));
    Ok(user.select(User::as_select()).first(conn).await?)
}

pub(in crate::store) async fn create(
    conn: &mut Conn,
    change: Change,
    new: NewUser,
    password_hash: Hidden,
) -> Result<User, StoreError> {
    revision::lock(conn).await?;
    insert(conn, &change, new, &password_hash).await
}

pub(in crate::store) async fn create_first(
    conn: &mut Conn,
    change: Change,
    new: NewUser,
    password_hash: Hidden,
) -> Result<Option<User>, StoreError> {
    revision::lock(conn).await?;
    let count: i64 = users::table.count().get_result(conn).await?;
    if count > 0 {
        return Ok(None);
    }
    insert(conn, &change, new, &password_hash).await.map(Some)
}

async fn insert(
    conn: &mut Conn,
    change: &Change,
    new: NewUser,
    password_hash: &Hidden,
) -> Result<User, StoreError> {
    let now = change.now.naive();
    let user: User = diesel::insert_into(users::table)
        .values((
            UserValues::from(new),
            dsl::password_hash.eq(password_hash.reveal()),
            dsl::password_changed_at.eq(now),
            dsl::version.eq(1),
            dsl::created_at.eq(now),
            dsl::updated_at.eq(now),
        ))
        .returning(User::as_returning())
        .get_result(conn)
        .await?;
    let entry = Entry::of(("create", "user"), &user.id, &user.name, None, Some(&user));
    audit::write(conn, change, entry).await?;
    Ok(user)
}

pub(in crate::store) async fn update(
    conn: &mut Conn,
    change: Change,
    id: i64,
    expected: Option<i64>,
    new: NewUser,
) -> Result<User, StoreError> {
    revision::lock(conn).await?;
    let before = get(conn, id).await?;
    at_version(expected, before.version)?;
    if new == before.spec() {
        return Ok(before);
    }
    let user: User = diesel::update(users::table.find(id))
        .set((
            UserValues::from(new),
            dsl::version.eq(dsl::version + 1),
            dsl::updated_at.eq(change.now.naive()),
        ))
        .returning(User::as_returning())
        .get_result(conn)
        .await?;
    an_admin_is_left(conn, &before).await?;
    if !user.is_active {
        end_logins(conn, id, change.now, None).await?;
    }
    let rows = (Some(&before), Some(&user));
    let entry = Entry::of(("update", "user"), &id, &user.name, rows.0, rows.1);
    audit::write(conn, &change, entry).await?;
    Ok(user)
}

/// The lock is held, so that of two admins who demote each other one stays.
async fn an_admin_is_left(conn: &mut Conn, before: &User) -> Result<(), StoreError> {
    if before.role != Role::Admin || !before.is_active {
        return Ok(());
    }
    let admins = users::table
        .filter(dsl::role.eq(Role::Admin.as_str()))
        .filter(dsl::is_active.eq(true));
    let count: i64 = admins.count().get_result(conn).await?;
    if count == 0 {
        let words = "is the last active admin; make another one first";
        return Err(Invalid::of("role", words).into());
    }
    Ok(())
}

async fn end_logins(
    conn: &mut Conn,
    user_id: i64,
    now: Time,
    keep_session: Option<String>,
) -> Result<(), StoreError> {
    refresh_token::revoke_user(conn, user_id, now).await?;
    session::delete_of(conn, user_id, keep_session).await?;
    Ok(())
}

pub(in crate::store) async fn set_password(
    conn: &mut Conn,
    change: Change,
    id: i64,
    password_hash: Hidden,
    must_change: bool,
    keep_session: Option<String>,
) -> Result<User, StoreError> {
    revision::lock(conn).await?;
    let now = change.now.naive();
    let user: User = diesel::update(users::table.find(id))
        .set((
            dsl::password_hash.eq(password_hash.reveal()),
            dsl::must_change_password.eq(must_change),
            dsl::password_changed_at.eq(now),
            dsl::version.eq(dsl::version + 1),
            dsl::updated_at.eq(now),
        ))
        .returning(User::as_returning())
        .get_result(conn)
        .await?;
    end_logins(conn, id, change.now, keep_session).await?;
    let entry = Entry::of(("password", "user"), &id, &user.name, None, Some(&user));
    audit::write(conn, &change, entry).await?;
    Ok(user)
}

pub(in crate::store) async fn rehash(
    conn: &mut Conn,
    id: i64,
    old: Hidden,
    new: Hidden,
) -> Result<(), StoreError> {
    // a password that was changed in the meantime stays
    let same = users::table
        .find(id)
        .filter(dsl::password_hash.eq(old.reveal()));
    diesel::update(same)
        .set(dsl::password_hash.eq(new.reveal()))
        .execute(conn)
        .await?;
    Ok(())
}

pub(in crate::store) async fn touch_login(
    conn: &mut Conn,
    id: i64,
    now: Time,
) -> Result<(), StoreError> {
    diesel::update(users::table.find(id))
        .set(dsl::last_login_at.eq(now.naive()))
        .execute(conn)
        .await?;
    Ok(())
}

pub(in crate::store) async fn delete(
    conn: &mut Conn,
    change: Change,
    id: i64,
    expected: Option<i64>,
) -> Result<(), StoreError> {
    revision::lock(conn).await?;
    let before = get(conn, id).await?;
    at_version(expected, before.version)?;
    diesel::delete(users::table.find(id)).execute(conn).await?;
    an_admin_is_left(conn, &before).await?;
    let entry = Entry::of(("delete", "user"), &id, &before.name, Some(&before), None);
    audit::write(conn, &change, entry).await
}
