//! The audit: who did what, when and from where.

use diesel::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::change::{Change, Entry};
use super::page::{Page, Rows};
use super::schema::audit;
use super::value::Time;
use super::{Db, StoreError, run};

/// One change, or another event worth remembering.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable, Serialize)]
#[diesel(table_name = audit)]
pub struct AuditRow {
    /// Grows.
    pub id: i64,
    /// When.
    pub at: Time,
    /// The user; `None` for aivonx itself and for those who are none.
    pub actor_id: Option<i64>,
    /// Who, by name.
    pub actor: String,
    /// From where; empty on the machine itself.
    pub address: String,
    /// `create`, `update`, `delete`, `login`, …
    pub action: String,
    /// `node`, `api_key`, `user`, `settings`, …
    pub kind: String,
    /// The object.
    pub object_id: String,
    /// Its name then.
    pub object_name: String,
    /// As it was; secrets are `***`.
    pub before: Option<Value>,
    /// As it became; secrets are `***`.
    pub after: Option<Value>,
}

/// Which events.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// By whom, by name.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// To what kind of thing.
    pub kind: Option<String>,
    /// To which.
    pub object_id: Option<String>,
    /// Not before.
    pub from: Option<Time>,
    /// Before.
    pub to: Option<Time>,
    /// To one of these kinds of things; empty: to any.
    pub kinds: Vec<&'static str>,
    /// With a greater id: what came since.
    pub after_id: Option<i64>,
    /// With a smaller id: the next page of a list that grows at its head.
    pub before_id: Option<i64>,
}

impl Db {
    /// Events, newest first.
    pub async fn audit(
        &self,
        filter: AuditFilter,
        page: Page,
    ) -> Result<Rows<AuditRow>, StoreError> {
        run!(self, read, audit::list(filter, page))
    }

    /// Remembers an event that changes no row: a login, an export. `detail` must hold no secret.
    pub async fn note(
        &self,
        change: &Change,
        (action, kind): (&'static str, &'static str),
        (object_id, object_name): (String, String),
        detail: Option<Value>,
    ) -> Result<(), StoreError> {
        let change = change.clone();
        let entry = Entry {
            action,
            kind,
            object_id,
            object_name,
            before: None,
            after: detail,
        };
        run!(self, write, audit::note(change, entry))
    }

    /// Forgets events before an instant; gives how many.
    pub async fn trim_audit(&self, before: Time) -> Result<usize, StoreError> {
        run!(self, write, audit::trim(before))
    }
}
