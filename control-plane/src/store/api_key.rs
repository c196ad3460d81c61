//! Keys of the data plane. The store knows their digests, never the keys.

use aivonx_shared::revision::Revision;
use diesel::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::change::Change;
use super::page::{Page, Rows};
use super::schema::api_keys;
use super::value::{Json, Time, json};
use super::{Db, StoreError, run};
use crate::domain::{Hidden, NewApiKey};

/// A key. Serialized, its digest is `***`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = api_keys)]
pub struct ApiKey {
    /// Never given to another key.
    pub id: i64,
    /// As metrics, logs and usage name it; unique.
    pub key_id: String,
    /// For operators.
    pub note: String,
    /// The digest of the key, 64 hexadecimal digits.
    pub sha256: Hidden,
    /// `infer`, `manage`.
    pub scopes: Json<Vec<String>>,
    /// Patterns of models; empty: all.
    pub models: Json<Vec<String>>,
    /// As `600/m`.
    pub rate: Option<String>,
    /// Requests at once.
    pub burst: Option<i32>,
    /// Requests at the same time.
    pub max_concurrent: Option<i32>,
    /// From then on it is refused.
    pub expires_at: Option<Time>,
    /// The header in which its holder names its users.
    pub user_header: Option<String>,
    /// Whether the fleet document holds it.
    pub enabled: bool,
    /// Who made it, by name.
    pub created_by: String,
    /// Grows with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiKeyFilter {
    /// Enabled ones, or the others.
    pub enabled: Option<bool>,
    /// The id contains this, in these letters.
    pub key_id: Option<String>,
    /// Newest first.
    pub descending: bool,
}

impl ApiKey {
    /// Everything of it that can be set: what a draft is laid over.
    pub fn spec(&self) -> NewApiKey {
        NewApiKey {
            key_id: self.key_id.clone(),
            note: self.note.clone(),
            scopes: self.scopes.0.clone(),
            models: self.models.0.clone(),
            rate: self.rate.clone(),
            burst: self.burst,
            max_concurrent: self.max_concurrent,
            expires_at: self.expires_at.map(Time::utc),
            user_header: self.user_header.clone(),
            enabled: self.enabled,
        }
    }
}

/// What the columns get.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = api_keys, treat_none_as_null = true)]
pub(super) struct ApiKeyValues {
    key_id: String,
    note: String,
    scopes: Value,
    models: Value,
    rate: Option<String>,
    burst: Option<i32>,
    max_concurrent: Option<i32>,
    expires_at: Option<chrono::NaiveDateTime>,
    user_header: Option<String>,
    enabled: bool,
}

impl From<NewApiKey> for ApiKeyValues {
    fn from(key: NewApiKey) -> Self {
        Self {
            key_id: key.key_id,
            note: key.note,
            scopes: json(&key.scopes),
            models: json(&key.models),
            rate: key.rate,
            burst: key.burst,
            max_concurrent: key.max_concurrent,
            expires_at: key.expires_at.map(|at| Time::from(at).naive()),
            user_header: key.user_header,
            enabled: key.enabled,
        }
    }
}

impl Db {
    /// Keys that fit a filter, in the order of their creation.
    pub async fn api_keys(
        &self,
        filter: ApiKeyFilter,
        page: Page,
    ) -> Result<Rows<ApiKey>, StoreError> {
        run!(self, read, api_key::list(filter, page))
    }

    /// One key.
    pub async fn api_key(&self, id: i64) -> Result<ApiKey, StoreError> {
        run!(self, read, api_key::get(id))
    }

    /// Adds a key by its digest (64 hexadecimal digits). The id of a network of `anonymous` is
    /// `Duplicate`.
    pub async fn create_api_key(
        &self,
        change: &Change,
        new: NewApiKey,
        sha256: Hidden,
    ) -> Result<(ApiKey, Revision), StoreError> {
        let change = change.clone();
        run!(self, write, api_key::create(change, new, sha256))
    }

    /// Changes what a key may do.
    pub async fn update_api_key(
        &self,
        change: &Change,
        id: i64,
        expected: Option<i64>,
        new: NewApiKey,
    ) -> Result<(ApiKey, Revision), StoreError> {
        let change = change.clone();
        run!(self, write, api_key::update(change, id, expected, new))
    }

    /// Puts another key in its place: the old one is refused from then on.
    pub async fn rotate_api_key(
        &self,
        change: &Change,
        id: i64,
        expected: Option<i64>,
        sha256: Hidden,
    ) -> Result<(ApiKey, Revision), StoreError> {
        let change = change.clone();
        run!(self, write, api_key::rotate(change, id, expected, sha256))
    }

    /// Revokes a key for good. Its usage stays.
    pub async fn delete_api_key(
        &self,
        change: &Change,
        id: i64,
        expected: Option<i64>,
    ) -> Result<Revision, StoreError> {
        let change = change.clone();
        run!(self, write, api_key::delete(change, id, expected))
    }
}
