//! Refresh tokens: each is used once and followed by another of its family; one that is used twice was
//! stolen, and its whole family is revoked.

use diesel::prelude::*;
use serde::Serialize;

use super::schema::refresh_tokens;
use super::value::Time;
use super::{Db, StoreError, run};
use crate::domain::Hidden;

/// A refresh token as it is kept: its digest.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = refresh_tokens)]
pub struct RefreshToken {
    /// Its `jti`.
    pub id: String,
    /// Shared by all that followed one login.
    pub family: String,
    /// Whose it is.
    pub user_id: i64,
    /// The digest of the token.
    pub sha256: Hidden,
    /// When it was issued.
    pub issued_at: Time,
    /// From then on it is worth nothing.
    pub expires_at: Time,
    /// When it was followed by another.
    pub used_at: Option<Time>,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
    /// What its holder called itself.
    pub user_agent: String,
    /// From where it was asked for.
    pub address: String,
    /// When its whole family is worth nothing: no exchange goes past it.
    pub family_ends_at: Time,
}

/// A refresh token to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRefreshToken {
    /// Its `jti`.
    pub id: String,
    /// The digest of the token.
    pub sha256: Hidden,
    /// When it is issued.
    pub issued_at: Time,
    /// From then on it is worth nothing; its family may end before.
    pub expires_at: Time,
    /// What its holder calls itself.
    pub user_agent: String,
    /// From where it is asked for.
    pub address: String,
}

/// What became of a token that was presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// It was used, and its successor is kept: this one.
    Rotated(RefreshToken),
    /// It had been used before: its whole family is revoked now.
    Replayed(RefreshToken),
    /// It, or its family, was revoked before.
    Revoked(RefreshToken),
    /// Its time is over.
    Expired(RefreshToken),
    /// There is none like it.
    Unknown,
}

impl Db {
    /// Keeps the first token of a family, after a login. The family ends then, whatever happens.
    pub async fn insert_refresh_token(
        &self,
        user_id: i64,
        family: &str,
        family_ends_at: Time,
        new: NewRefreshToken,
    ) -> Result<RefreshToken, StoreError> {
        let family = family.to_owned();
        run!(
            self,
            write,
            refresh_token::insert(user_id, family, family_ends_at, new)
        )
    }

    /// Uses the token of this digest and keeps its successor, in one transaction. `issued_at` of the
    /// successor is the present instant.
    pub async fn rotate_refresh_token(
        &self,
        presented_sha256: Hidden,
        successor: NewRefreshToken,
    ) -> Result<Rotation, StoreError> {
        run!(
            self,
            write,
            refresh_token::rotate(presented_sha256, successor)
        )
    }

    /// Revokes a family, as on logout; gives how many of its tokens were not revoked yet.
    pub async fn revoke_refresh_family(
        &self,
        family: &str,
        now: Time,
    ) -> Result<usize, StoreError> {
        let family = family.to_owned();
        run!(self, write, refresh_token::revoke_family(family, now))
    }

    /// Revokes all families of a user.
    pub async fn revoke_refresh_tokens_of(
        &self,
        user_id: i64,
        now: Time,
    ) -> Result<usize, StoreError> {
        run!(self, write, refresh_token::revoke_user(user_id, now))
    }

    /// The token of this digest.
    pub async fn refresh_token(&self, sha256: Hidden) -> Result<RefreshToken, StoreError> {
        run!(self, read, refresh_token::by_digest(sha256))
    }

    /// A user's tokens that still count, one by family, newest first.
    pub async fn refresh_tokens_of(
        &self,
        user_id: i64,
        now: Time,
    ) -> Result<Vec<RefreshToken>, StoreError> {
        run!(self, read, refresh_token::of_user(user_id, now))
    }

    /// Forgets tokens and sessions whose time is over, and ids of usage batches received before
    /// `batches_before`; gives how many rows.
    pub async fn purge(&self, now: Time, batches_before: Time) -> Result<usize, StoreError> {
        run!(self, write, session::purge(now, batches_before))
    }
}
