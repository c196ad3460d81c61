//! Sessions of the console: what a cookie stands for.

use diesel::prelude::*;
use serde::Serialize;

use super::schema::sessions;
use super::user::User;
use super::value::Time;
use super::{Db, StoreError, run};

/// A session. Its id is the digest of the cookie's value, so that it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = sessions)]
pub struct Session {
    /// SHA-256 of the cookie's value, hexadecimal.
    pub id: String,
    /// Whose it is.
    pub user_id: i64,
    /// When it began.
    pub created_at: Time,
    /// When it was last used.
    pub last_seen_at: Time,
    /// From then on it is worth nothing.
    pub expires_at: Time,
    /// What the browser called itself.
    pub user_agent: String,
    /// From where it began.
    pub address: String,
}

/// A session to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// SHA-256 of the cookie's value, hexadecimal.
    pub id: String,
    /// Whose it is.
    pub user_id: i64,
    /// When it begins.
    pub created_at: Time,
    /// From then on it is worth nothing.
    pub expires_at: Time,
    /// What the browser calls itself.
    pub user_agent: String,
    /// From where it begins.
    pub address: String,
}

impl Db {
    /// Begins a session.
    pub async fn insert_session(&self, new: NewSession) -> Result<Session, StoreError> {
        run!(self, write, session::insert(new))
    }

    /// The session of this id and its user. Expired ones are `NotFound`; whether the user is still
    /// active is the caller's to ask.
    pub async fn session(&self, id: &str, now: Time) -> Result<(Session, User), StoreError> {
        let id = id.to_owned();
        run!(self, read, session::get(id, now))
    }

    /// Remembers that a session was used, and until when it is valid.
    pub async fn touch_session(
        &self,
        id: &str,
        now: Time,
        expires_at: Time,
    ) -> Result<(), StoreError> {
        let id = id.to_owned();
        run!(self, write, session::touch(id, now, expires_at))
    }

    /// A user's sessions that still count, last used first.
    pub async fn sessions_of(&self, user_id: i64, now: Time) -> Result<Vec<Session>, StoreError> {
        run!(self, read, session::of_user(user_id, now))
    }

    /// Ends a session of a user; another's is `NotFound`.
    pub async fn delete_session(&self, user_id: i64, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        run!(self, write, session::delete(user_id, id))
    }

    /// Ends a user's sessions, but for one; gives how many.
    pub async fn delete_sessions_of(
        &self,
        user_id: i64,
        keep: Option<String>,
    ) -> Result<usize, StoreError> {
        run!(self, write, session::delete_of(user_id, keep))
    }
}
