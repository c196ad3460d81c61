//! Nodes as registered.

use std::collections::BTreeMap;

use aivonx_shared::revision::Revision;
use diesel::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::change::Change;
use super::page::{Page, Rows};
use super::schema::nodes;
use super::value::{Json, Time, json};
use super::{Db, StoreError, run};
use crate::domain::{Hidden, NewNode};

/// A node. Serialized, its secrets are `***`.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Serialize)]
#[diesel(table_name = nodes)]
pub struct Node {
    /// Never given to another node.
    pub id: i64,
    /// As operators wrote it; unique.
    pub name: String,
    /// As the fleet document, metrics and reports name it; unique.
    pub slug: String,
    /// Where its Ollama listens, normalised.
    pub url: String,
    /// The predecessor's spelling of it, as it was given.
    pub address: String,
    /// The port beside `address`; 0 adds none.
    pub port: i32,
    /// Share of the work.
    pub weight: i32,
    /// Concurrent requests of one model.
    pub slots: i32,
    /// Free text for operators.
    pub labels: Json<BTreeMap<String, String>>,
    /// Admin intent: takes work.
    pub enabled: bool,
    /// Admin intent: takes nothing new.
    pub draining: bool,
    /// Patterns of models.
    pub models_include: Json<Vec<String>>,
    /// Patterns of models.
    pub models_exclude: Json<Vec<String>>,
    /// Certificates (PEM) that vouch for it.
    pub tls_ca: Option<String>,
    /// The name in its certificate.
    pub tls_server_name: Option<String>,
    /// Believe any certificate.
    pub tls_insecure: bool,
    /// Sealed.
    pub bearer_token: Option<Hidden>,
    /// Values are sealed.
    pub headers: Json<BTreeMap<String, Hidden>>,
    /// `none`, `dns`, `dns4` or `dns6`.
    pub discover: String,
    /// Grows with each change.
    pub version: i64,
    /// When it was registered.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// Which nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeFilter {
    /// Enabled ones, or the others.
    pub enabled: Option<bool>,
    /// Draining ones, or the others.
    pub draining: Option<bool>,
    /// The name contains this, whatever the case of its letters.
    pub name: Option<String>,
    /// Carries this label; any value where there is none.
    pub label: Option<(String, Option<String>)>,
    /// In which order.
    pub sort: NodeSort,
    /// The other way round.
    pub descending: bool,
}

/// The order of a list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NodeSort {
    /// Of creation.
    #[default]
    Id,
    /// By name.
    Name,
    /// By the instant of creation.
    CreatedAt,
}

impl Node {
    /// Everything of it that can be set: what a draft is laid over.
    pub fn spec(&self) -> NewNode {
        NewNode {
            name: self.name.clone(),
            slug: self.slug.clone(),
            url: self.url.clone(),
            address: self.address.clone(),
            port: self.port,
            weight: self.weight,
            slots: self.slots,
            labels: self.labels.0.clone(),
            enabled: self.enabled,
            draining: self.draining,
            models_include: self.models_include.0.clone(),
            models_exclude: self.models_exclude.0.clone(),
            tls_ca: self.tls_ca.clone(),
            tls_server_name: self.tls_server_name.clone(),
            tls_insecure: self.tls_insecure,
            bearer_token: self.bearer_token.clone(),
            headers: self.headers.0.clone(),
            discover: self.discover.clone(),
        }
    }
}

impl NodeFilter {
    pub(super) fn carries_label(&self, labels: &BTreeMap<String, String>) -> bool {
        self.label.as_ref().is_none_or(|(key, value)| {
            let found = labels.get(key);
            found.is_some() && (value.is_none() || found == value.as_ref())
        })
    }
}

/// What the columns get.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = nodes, treat_none_as_null = true)]
pub(super) struct NodeValues {
    name: String,
    name_key: String,
    slug: String,
    url: String,
    address: String,
    port: i32,
    weight: i32,
    slots: i32,
    labels: Value,
    enabled: bool,
    draining: bool,
    models_include: Value,
    models_exclude: Value,
    tls_ca: Option<String>,
    tls_server_name: Option<String>,
    tls_insecure: bool,
    bearer_token: Option<String>,
    headers: Value,
    discover: String,
}

impl From<NewNode> for NodeValues {
    fn from(node: NewNode) -> Self {
        let headers = node.headers.iter();
        let headers: BTreeMap<_, _> = headers
            .map(|(name, value)| (name, value.reveal()))
            .collect();
        Self {
            name_key: node.name.to_lowercase(),
            name: node.name,
            slug: node.slug,
            url: node.url,
            address: node.address,
            port: node.port,
            weight: node.weight,
            slots: node.slots,
            labels: json(&node.labels),
            enabled: node.enabled,
            draining: node.draining,
            models_include: json(&node.models_include),
            models_exclude: json(&node.models_exclude),
            tls_ca: node.tls_ca,
            tls_server_name: node.tls_server_name,
            tls_insecure: node.tls_insecure,
            bearer_token: node.bearer_token.map(|token| token.reveal().to_owned()),
            headers: json(&headers),
            discover: node.discover,
        }
    }
}

impl Db {
    /// Nodes that fit a filter.
    pub async fn nodes(&self, filter: NodeFilter, page: Page) -> Result<Rows<Node>, StoreError> {
        run!(self, read, node::list(filter, page))
    }

    /// One node.
    pub async fn node(&self, id: i64) -> Result<Node, StoreError> {
        run!(self, read, node::get(id))
    }

    /// Registers a node.
    pub async fn create_node(
        &self,
        change: &Change,
        new: NewNode,
    ) -> Result<(Node, Revision), StoreError> {
        let change = change.clone();
        run!(self, write, node::create(change, new))
    }

    /// Changes a node; one that is at another version than expected is a `Conflict`. What changes
    /// nothing leaves version, revision and audit as they are.
    pub async fn update_node(
        &self,
        change: &Change,
        id: i64,
        expected: Option<i64>,
        new: NewNode,
    ) -> Result<(Node, Revision), StoreError> {
        let change = change.clone();
        run!(self, write, node::update(change, id, expected, new))
    }

    /// Takes a node out.
    pub async fn delete_node(
        &self,
        change: &Change,
        id: i64,
        expected: Option<i64>,
    ) -> Result<Revision, StoreError> {
        let change = change.clone();
        run!(self, write, node::delete(change, id, expected))
    }
}
