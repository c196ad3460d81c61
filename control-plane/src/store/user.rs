//! Users of the control plane.

use diesel::prelude::*;
use serde::Serialize;

use super::change::Change;
use super::page::{Page, Rows};
use super::schema::users;
use super::value::Time;
use super::{Db, StoreError, run};
use crate::domain::{Hidden, NewUser, Role};

/// A user. Serialized, its password's hash is `***`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = users)]
pub struct User {
    /// Never given to another user.
    pub id: i64,
    /// Unique, whatever the case of its letters.
    pub name: String,
    /// May be empty.
    pub email: String,
    /// argon2id, or the predecessor's until the first login.
    pub password_hash: Hidden,
    /// What it may do.
    pub role: Role,
    /// Whether it can log in.
    pub is_active: bool,
    /// Has to choose another password before anything else.
    pub must_change_password: bool,
    /// Tokens issued before are worth nothing.
    pub password_changed_at: Time,
    /// When it last logged in.
    pub last_login_at: Option<Time>,
    /// Grows with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// Which users.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserFilter {
    /// The name contains this, whatever the case of its letters.
    pub name: Option<String>,
    /// Of this role.
    pub role: Option<Role>,
    /// Active ones, or the others.
    pub is_active: Option<bool>,
}

impl User {
    /// Everything of it that can be set: what a draft is laid over.
    pub fn spec(&self) -> NewUser {
        NewUser {
            name: self.name.clone(),
            email: self.email.clone(),
            role: self.role,
            is_active: self.is_active,
            must_change_password: self.must_change_password,
        }
    }

    /// Tells its passwords apart, as access tokens do.
    pub fn password_stamp(&self) -> i64 {
        self.password_changed_at.utc().timestamp_micros()
    }
}

/// What the columns get.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = users)]
pub(super) struct UserValues {
    name: String,
    name_key: String,
    email: String,
    role: &'static str,
    is_active: bool,
    must_change_password: bool,
}

impl From<NewUser> for UserValues {
    fn from(user: NewUser) -> Self {
        Self {
            name_key: name_key(&user.name),
            name: user.name,
            email: user.email,
            role: user.role.as_str(),
            is_active: user.is_active,
            must_change_password: user.must_change_password,
        }
    }
}

/// What names of users are compared by.
pub(super) fn name_key(name: &str) -> String {
    name.to_lowercase()
}

impl Db {
    /// Users that fit a filter, in the order of their creation.
    pub async fn users(&self, filter: UserFilter, page: Page) -> Result<Rows<User>, StoreError> {
        run!(self, read, user::list(filter, page))
    }

    /// One user.
    pub async fn user(&self, id: i64) -> Result<User, StoreError> {
        run!(self, read, user::get(id))
    }

    /// The user of this name, whatever the case of its letters.
    pub async fn user_by_name(&self, name: &str) -> Result<User, StoreError> {
        let name = name.to_owned();
        run!(self, read, user::by_name(name))
    }

    /// Adds a user.
    pub async fn create_user(
        &self,
        change: &Change,
        new: NewUser,
        password_hash: Hidden,
    ) -> Result<User, StoreError> {
        let change = change.clone();
        run!(self, write, user::create(change, new, password_hash))
    }

    /// Adds a user if there is none at all; `None` where there is one. Of several control planes that
    /// start at once, one adds it.
    pub async fn create_first_user(
        &self,
        change: &Change,
        new: NewUser,
        password_hash: Hidden,
    ) -> Result<Option<User>, StoreError> {
        let change = change.clone();
        run!(self, write, user::create_first(change, new, password_hash))
    }

    /// Changes a user. One that is no longer active loses its sessions and refresh tokens. The last
    /// active admin stays one: otherwise `Invalid`.
    pub async fn update_user(
        &self,
        change: &Change,
        id: i64,
        expected: Option<i64>,
        new: NewUser,
    ) -> Result<User, StoreError> {
        let change = change.clone();
        run!(self, write, user::update(change, id, expected, new))
    }

    /// Sets another password. All refresh tokens and sessions of the user end, but for `keep_session`.
    pub async fn set_password(
        &self,
        change: &Change,
        id: i64,
        password_hash: Hidden,
        must_change: bool,
        keep_session: Option<String>,
    ) -> Result<User, StoreError> {
        let change = change.clone();
        run!(
            self,
            write,
            user::set_password(change, id, password_hash, must_change, keep_session)
        )
    }

    /// Puts a better hash of the same password in the place of another: no change that anybody sees.
    pub async fn rehash_password(
        &self,
        id: i64,
        old: Hidden,
        new: Hidden,
    ) -> Result<(), StoreError> {
        run!(self, write, user::rehash(id, old, new))
    }

    /// Remembers when a user logged in; beside `note` for the audit.
    pub async fn touch_login(&self, id: i64, now: Time) -> Result<(), StoreError> {
        run!(self, write, user::touch_login(id, now))
    }

    /// Takes a user out, with all tokens and sessions. The last active admin stays: `Invalid`.
    pub async fn delete_user(
        &self,
        change: &Change,
        id: i64,
        expected: Option<i64>,
    ) -> Result<(), StoreError> {
        let change = change.clone();
        run!(self, write, user::delete(change, id, expected))
    }
}
