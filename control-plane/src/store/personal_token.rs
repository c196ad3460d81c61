//! Personal access tokens: automation that acts as a user, with that user's role or less.

use diesel::prelude::*;
use serde::Serialize;

use super::change::Change;
use super::schema::personal_tokens;
use super::user::User;
use super::value::Time;
use super::{Db, StoreError, run};
use crate::domain::{Hidden, Role};

/// A token. Serialized, its digest is `***`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = personal_tokens)]
pub struct PersonalToken {
    /// Never given to another token.
    pub id: i64,
    /// Whose it is.
    pub user_id: i64,
    /// Unique among the user's.
    pub name: String,
    /// The digest of the token.
    pub sha256: Hidden,
    /// What it may do at most: the user's own role may be less by now.
    pub role: Role,
    /// From then on it is worth nothing.
    pub expires_at: Option<Time>,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
}

/// A token to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPersonalToken {
    /// Whose it is.
    pub user_id: i64,
    /// Unique among the user's.
    pub name: String,
    /// The digest of the token.
    pub sha256: Hidden,
    /// What it may do at most.
    pub role: Role,
    /// From then on it is worth nothing.
    pub expires_at: Option<Time>,
}

impl Db {
    /// Keeps a token.
    pub async fn create_personal_token(
        &self,
        change: &Change,
        new: NewPersonalToken,
    ) -> Result<PersonalToken, StoreError> {
        let change = change.clone();
        run!(self, write, personal_token::create(change, new))
    }

    /// A user's tokens, in the order of their creation.
    pub async fn personal_tokens_of(&self, user_id: i64) -> Result<Vec<PersonalToken>, StoreError> {
        run!(self, read, personal_token::of_user(user_id))
    }

    /// The token of this digest and its user. Expired ones are `NotFound`; whether the user is still
    /// active is the caller's to ask.
    pub async fn personal_token(
        &self,
        sha256: Hidden,
        now: Time,
    ) -> Result<(PersonalToken, User), StoreError> {
        run!(self, read, personal_token::by_digest(sha256, now))
    }

    /// Remembers that a token was used. Once a minute is enough.
    pub async fn touch_personal_token(&self, id: i64, now: Time) -> Result<(), StoreError> {
        run!(self, write, personal_token::touch(id, now))
    }

    /// Revokes a token of a user; another's is `NotFound`.
    pub async fn delete_personal_token(
        &self,
        change: &Change,
        user_id: i64,
        id: i64,
    ) -> Result<(), StoreError> {
        let change = change.clone();
        run!(self, write, personal_token::delete(change, user_id, id))
    }
}
