//! What was used, by hour, key, model and node. Batches come from data planes, perhaps more than once:
//! each is stored once.

use diesel::prelude::*;
use serde::Serialize;

use super::value::Time;
use super::{Db, StoreError, run};

/// What one hour, key, model and node used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The beginning of the hour.
    pub hour: Time,
    /// The key's id, or a network's; `anonymous` for others.
    pub key_id: String,
    /// The model.
    pub model: String,
    /// The node, as the fleet document names it.
    pub node: String,
    /// Requests answered.
    pub requests: i64,
    /// Tokens of their prompts.
    pub prompt_tokens: i64,
    /// Tokens generated.
    pub output_tokens: i64,
}

/// Which usage, and summed over what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// Hours from here on.
    pub from: Time,
    /// Hours before this.
    pub to: Time,
    /// Of this key.
    pub key_id: Option<String>,
    /// Of this model.
    pub model: Option<String>,
    /// Of this node.
    pub node: Option<String>,
    /// What is told apart; the rest is summed.
    pub by: UsageGroup,
}

/// What is told apart in sums of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "any of the four may be told apart, or none"
)]
pub struct UsageGroup {
    /// Hours.
    pub hour: bool,
    /// Keys.
    pub key: bool,
    /// Models.
    pub model: bool,
    /// Nodes.
    pub node: bool,
}

/// A sum of usage; `None` where it is over all.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName, Serialize)]
pub struct UsageSum {
    /// The hour.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Timestamp>)]
    pub hour: Option<Time>,
    /// The key.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
    pub key_id: Option<String>,
    /// The model.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
    pub model: Option<String>,
    /// The node.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
    pub node: Option<String>,
    /// Requests answered.
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub requests: i64,
    /// Tokens of their prompts.
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub prompt_tokens: i64,
    /// Tokens generated.
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    pub output_tokens: i64,
}

impl Db {
    /// Stores a batch, unless it was stored before; gives whether it was new.
    pub async fn add_usage(
        &self,
        batch_id: &str,
        instance: &str,
        now: Time,
        rows: Vec<UsageRow>,
    ) -> Result<bool, StoreError> {
        let (id, instance) = (batch_id.to_owned(), instance.to_owned());
        run!(self, write, usage::add(id, instance, now, rows))
    }

    /// Forgets which batches were stored before an instant: nobody brings them again.
    pub async fn forget_usage_batches(&self, before: Time) -> Result<(), StoreError> {
        run!(self, write, usage::forget_batches(before))
    }

    /// Sums of usage, in the order of hour, key, model and node.
    pub async fn usage(&self, query: UsageQuery) -> Result<Vec<UsageSum>, StoreError> {
        run!(self, read, usage::sums(query))
    }
}

impl UsageGroup {
    fn parts(self) -> [(bool, &'static str, &'static str); 4] {
        [
            (self.hour, "hour", "TIMESTAMP"),
            (self.key, "key_id", "TEXT"),
            (self.model, "model", "TEXT"),
            (self.node, "node", "TEXT"),
        ]
    }

    /// The columns of a query: those that are told apart, and nothing for the others.
    pub(super) fn columns(self) -> String {
        let column = |(is_told, name, kind): (bool, &str, &str)| {
            if is_told {
                name.to_owned()
            } else {
                format!("CAST(NULL AS {kind}) AS {name}")
            }
        };
        self.parts().map(column).join(", ")
    }

    /// Its end. A sum over everything has no row where nothing was used.
    pub(super) fn grouping(self) -> String {
        let told: Vec<_> = self.parts().into_iter().filter(|part| part.0).collect();
        let names: Vec<_> = told.iter().map(|part| part.1).collect();
        if names.is_empty() {
            return " HAVING COUNT(*) > 0".to_owned();
        }
        let names = names.join(", ");
        format!(" GROUP BY {names} ORDER BY {names}")
    }
}
