//! The fleet in one consistent read: what the fleet document is built from.

use aivonx_shared::revision::Revision;

use super::api_key::ApiKey;
use super::node::Node;
use super::{Db, StoreError, run};
use crate::domain::fleet::Secrets;
use crate::domain::{self, Settings, WholeFleet};

/// The whole fleet at one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Which state it is.
    pub revision: Revision,
    /// All nodes, in the order of their creation.
    pub nodes: Vec<Node>,
    /// All keys, in the order of their creation.
    pub keys: Vec<ApiKey>,
    /// What is set.
    pub settings: Settings,
}

impl Fleet {
    /// The fleet document as data planes take it, JSON; secrets in it are sealed.
    pub fn document(&self) -> String {
        self.document_with(Secrets::Sealed)
    }

    /// The fleet document, JSON, with something in the place of secrets.
    pub fn document_with(&self, secrets: Secrets) -> String {
        domain::fleet::document(
            self.nodes.iter().map(Node::spec),
            self.keys
                .iter()
                .map(|key| (key.spec(), key.sha256.reveal())),
            &self.settings,
            secrets,
        )
    }

    /// What of it a document can say: what another one is laid beside.
    pub fn whole(&self) -> WholeFleet {
        let keys = self.keys.iter();
        WholeFleet {
            nodes: self.nodes.iter().map(Node::spec).collect(),
            keys: keys.map(|key| (key.spec(), key.sha256.clone())).collect(),
            settings: self.settings.clone(),
        }
    }
}

impl Db {
    /// The whole fleet, at one revision.
    pub async fn fleet(&self) -> Result<Fleet, StoreError> {
        run!(self, read, fleet::get())
    }
}
