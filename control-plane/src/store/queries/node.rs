//! Nodes.

use aivonx_shared::revision::Revision;
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Backend, Conn, audit, revision};
use crate::domain::{NewNode, numbered};
use crate::store::change::{Change, Entry};
use crate::store::import::ImportNode;
use crate::store::node::{Node, NodeFilter, NodeSort, NodeValues};
use crate::store::page::{Page, Rows, containing};
use crate::store::schema::nodes::{self, dsl};
use crate::store::value::Time;
use crate::store::{StoreError, at_version};

pub(in crate::store) async fn list(
    conn: &mut Conn,
    filter: NodeFilter,
    page: Page,
) -> Result<Rows<Node>, StoreError> {
    if filter.label.is_some() {
        return list_labelled(conn, &filter, page).await;
    }
    let count = filtered(&filter).count().get_result(conn).await?;
    let rows = sorted(filtered(&filter), &filter)
        .limit(page.limit())
        .offset(page.offset())
        .select(Node::as_select())
        .load(conn)
        .await?;
    Ok(Rows { count, rows })
}

/// Labels are JSON, which the two databases ask in different words: they are compared here. A fleet
/// is small enough.
async fn list_labelled(
    conn: &mut Conn,
    filter: &NodeFilter,
    page: Page,
) -> Result<Rows<Node>, StoreError> {
    let mut rows: Vec<Node> = sorted(filtered(filter), filter)
        .select(Node::as_select())
        .load(conn)
        .await?;
    rows.retain(|node| filter.carries_label(&node.labels));
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let rows = rows.into_iter().skip(page.offset as usize);
    let rows = rows.take(page.limit as usize).collect();
    Ok(Rows { count, rows })
}

fn filtered(filter: &NodeFilter) -> nodes::BoxedQuery<'static, Backend> {
    let mut query = nodes::table.into_boxed::<Backend>();
    if let Some(enabled) = filter.enabled {
        query = query.filter(dsl::enabled.eq(enabled));
    }
    if let Some(draining) = filter.draining {
        query = query.filter(dsl::draining.eq(draining));
    }
    if let Some(name) = &filter.name {
        query = query.filter(dsl::name_key.like(containing(name)).escape('\\'));
    }
    query
}

fn sorted<'a>(
    query: nodes::BoxedQuery<'a, Backend>,
    filter: &NodeFilter,
) -> nodes::BoxedQuery<'a, Backend> {
    match (filter.sort, filter.descending) {
        (NodeSort::Id, false) => query.order(dsl::id.asc()),
        (NodeSort::Id, true) => query.order(dsl::id.desc()),
        (NodeSort::Name, false) => query.order((dsl::name_key.asc(), dsl::id.asc())),
        (NodeSort::Name, true) => query.order((dsl::name_key.desc(), dsl::id.desc())),
        (NodeSort::CreatedAt, false) => query.order((dsl::created_at.asc(), dsl::id.asc())),
        (NodeSort::CreatedAt, true) => query.order((dsl::created_at.desc(), dsl::id.desc())),
    }
}

pub(in crate::store) async fn get(conn: &mut Conn, id: i64) -> Result<Node, StoreError> {
    let node = nodes::table.find(id).select(Node::as_select());
    Ok(node.first(conn).await?)
}

pub(in crate::store) async fn create(
    conn: &mut Conn,
    change: Change,
    node: NewNode,
) -> Result<(Node, Revision), StoreError> {
    let new = ImportNode {
        id: None,
        created_at: None,
        node,
    };
    insert(conn, change, new).await
}

/// Adds a node, with the id and the age that it had elsewhere; a free id is the caller's to see to.
pub(in crate::store) async fn insert(
    conn: &mut Conn,
    change: Change,
    mut new: ImportNode,
) -> Result<(Node, Revision), StoreError> {
    let revision = revision::next(conn, change.now).await?;
    new.node.slug = free_slug(conn, new.node.slug, None).await?;
    let now = change.now.naive();
    let node: Node = diesel::insert_into(nodes::table)
        .values((
            new.id.map(|id| dsl::id.eq(id)),
            NodeValues::from(new.node),
            dsl::version.eq(1),
            dsl::created_at.eq(new.created_at.map_or(now, Time::naive)),
            dsl::updated_at.eq(now),
        ))
        .returning(Node::as_returning())
        .get_result(conn)
        .await?;
    let entry = Entry::of(("create", "node"), &node.id, &node.name, None, Some(&node));
    audit::write(conn, &change, entry).await?;
    Ok((node, revision))
}

/// Whether no node has this id.
pub(in crate::store) async fn is_free(conn: &mut Conn, id: i64) -> Result<bool, StoreError> {
    let is_taken = diesel::select(exists(nodes::table.find(id)));
    Ok(!is_taken.get_result::<bool>(conn).await?)
}

pub(in crate::store) async fn update(
    conn: &mut Conn,
    change: Change,
    id: i64,
    expected: Option<i64>,
    mut new: NewNode,
) -> Result<(Node, Revision), StoreError> {
    revision::lock(conn).await?;
    let before = get(conn, id).await?;
    at_version(expected, before.version)?;
    if new == before.spec() {
        return Ok((before, revision::get(conn).await?));
    }
    if new.slug != before.slug {
        new.slug = free_slug(conn, new.slug, Some(id)).await?;
    }
    let revision = revision::next(conn, change.now).await?;
    let node: Node = diesel::update(nodes::table.find(id))
        .set((
            NodeValues::from(new),
            dsl::version.eq(dsl::version + 1),
            dsl::updated_at.eq(change.now.naive()),
        ))
        .returning(Node::as_returning())
        .get_result(conn)
        .await?;
    let rows = (Some(&before), Some(&node));
    let entry = Entry::of(("update", "node"), &id, &node.name, rows.0, rows.1);
    audit::write(conn, &change, entry).await?;
    Ok((node, revision))
}

pub(in crate::store) async fn delete(
    conn: &mut Conn,
    change: Change,
    id: i64,
    expected: Option<i64>,
) -> Result<Revision, StoreError> {
    let revision = revision::next(conn, change.now).await?;
    let before = get(conn, id).await?;
    at_version(expected, before.version)?;
    diesel::delete(nodes::table.find(id)).execute(conn).await?;
    let entry = Entry::of(("delete", "node"), &id, &before.name, Some(&before), None);
    audit::write(conn, &change, entry).await?;
    Ok(revision)
}

/// The slug, or the first of `slug-2`, `slug-3`, … that no other node has. The revision's lock is held.
async fn free_slug(conn: &mut Conn, slug: String, own: Option<i64>) -> Result<String, StoreError> {
    let mut candidate = slug.clone();
    for number in 2.. {
        let others = nodes::table
            .filter(dsl::slug.eq(candidate.clone()))
            .filter(dsl::id.ne(own.unwrap_or(-1)));
        let is_taken: bool = diesel::select(exists(others)).get_result(conn).await?;
        if !is_taken {
            break;
        }
        candidate = numbered(&slug, number);
    }
    Ok(candidate)
}
