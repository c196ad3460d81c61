//! Who changes what: what every change tells its audit row.

use std::fmt::Display;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::value::{Time, json};

/// Who makes a change, from where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub actor: Actor,
    /// The client's address, as the front door hands it over; `None` on the machine itself.
    pub address: Option<IpAddr>,
    /// When: passed in, so that tests own the clock.
    pub now: Time,
}

/// Who makes a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user; `None` for aivonx itself.
    pub user_id: Option<i64>,
    /// The user's name, or what of aivonx acts: `startup`, `import`.
    pub name: String,
}

impl Change {
    /// A change by a user.
    pub fn by_user(user_id: i64, name: impl Into<String>, address: Option<IpAddr>) -> Self {
        let actor = Actor {
            user_id: Some(user_id),
            name: name.into(),
        };
        Self {
            actor,
            address,
            now: Time::now(),
        }
    }

    /// A change by aivonx itself.
    pub fn by_system(name: impl Into<String>) -> Self {
        let actor = Actor {
            user_id: None,
            name: name.into(),
        };
        Self {
            actor,
            address: None,
            now: Time::now(),
        }
    }
}

/// One row of the audit, as queries write it.
#[derive(Debug)]
pub(super) struct Entry {
    /// `create`, `update`, `delete`, and words of their own for special changes.
    pub(super) action: &'static str,
    /// `node`, `api_key`, `user`, …
    pub(super) kind: &'static str,
    pub(super) object_id: String,
    pub(super) object_name: String,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

impl Entry {
    /// What became of a row. Rows hide their secrets when they are serialized.
    pub(super) fn of<T: Serialize>(
        (action, kind): (&'static str, &'static str),
        id: &impl Display,
        name: &str,
        before: Option<&T>,
        after: Option<&T>,
    ) -> Self {
        Self {
            action,
            kind,
            object_id: id.to_string(),
            object_name: name.to_owned(),
            before: before.map(|row| json(row)),
            after: after.map(|row| json(row)),
        }
    }
}
