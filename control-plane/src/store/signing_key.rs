//! Keys that sign access tokens: one signs, those before it still verify until their tokens have
//! expired. All control planes on one database share them.

use diesel::prelude::*;
use serde::Serialize;

use super::change::Change;
use super::schema::signing_keys;
use super::value::Time;
use super::{Db, StoreError, run};
use crate::domain::Hidden;

/// A signing key.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = signing_keys)]
pub struct SigningKey {
    /// As tokens name it.
    pub kid: String,
    /// Sealed.
    pub secret: Hidden,
    /// When it was made.
    pub created_at: Time,
    /// When another took its place; `None`: it signs.
    pub retired_at: Option<Time>,
}

impl Db {
    /// All keys, the one that signs first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        run!(self, read, signing_key::list())
    }

    /// Adds the first key, unless one signs already; gives all. Of several control planes that start
    /// at once, one adds its own.
    pub async fn ensure_signing_key(
        &self,
        change: &Change,
        kid: &str,
        sealed: Hidden,
    ) -> Result<Vec<SigningKey>, StoreError> {
        let (change, kid) = (change.clone(), kid.to_owned());
        run!(self, write, signing_key::ensure(change, kid, sealed))
    }

    /// Lets another key sign from now on, and forgets those retired before `forget_before`; gives all.
    pub async fn rotate_signing_key(
        &self,
        change: &Change,
        kid: &str,
        sealed: Hidden,
        forget_before: Time,
    ) -> Result<Vec<SigningKey>, StoreError> {
        let (change, kid) = (change.clone(), kid.to_owned());
        run!(
            self,
            write,
            signing_key::rotate(change, kid, sealed, forget_before)
        )
    }
}
