//! Many rows at once: a fleet document, or what a predecessor's database held.

use aivonx_shared::revision::Revision;
use serde::Serialize;

use super::change::Change;
use super::value::Time;
use super::{Db, StoreError, run};
use crate::domain::{Hidden, NewApiKey, NewNode, NewUser, SettingsPatch};

/// What is to be taken over. Rows that are there already (nodes and users by name, keys by id) become
/// what is imported; users keep their password then.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Nodes.
    pub nodes: Vec<ImportNode>,
    /// Keys, with their digests.
    pub keys: Vec<(NewApiKey, Hidden)>,
    /// Users, with their passwords' hashes.
    pub users: Vec<(NewUser, Hidden)>,
    /// Settings.
    pub settings: SettingsPatch,
    /// Takes nodes and keys out that are not imported. Users stay, and so do keys that are disabled.
    pub replace: bool,
    /// Refused as `Conflict` at another revision: what a dry run showed is what happens.
    pub expected: Option<Revision>,
}

/// A node to take over.
#[derive(Debug, Clone)]
pub struct ImportNode {
    /// The id that it had, where it shall keep it and the id is free.
    pub id: Option<i64>,
    /// When it was made, where that is known.
    pub created_at: Option<Time>,
    /// The node.
    pub node: NewNode,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Imported {
    /// Rows that were added.
    pub created: usize,
    /// Rows that were there and are others now.
    pub updated: usize,
    /// Rows that were taken out.
    pub deleted: usize,
}

impl Db {
    /// Takes an import over, all of it or nothing, and begins a new epoch. The audit names each row.
    pub async fn import(
        &self,
        change: &Change,
        import: Import,
    ) -> Result<(Imported, Revision), StoreError> {
        let change = change.clone();
        run!(self, write, import::import(change, import))
    }
}
