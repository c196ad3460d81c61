//! Many rows at once.

use std::collections::HashSet;

use aivonx_shared::revision::Revision;
use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Conn, api_key, audit, node, reset_ids, revision, settings, user};
use crate::domain::{Hidden, NewApiKey, NewUser};
use crate::store::StoreError;
use crate::store::change::Change;
use crate::store::import::{Import, ImportNode, Imported};
use crate::store::schema::{api_keys, nodes};

pub(in crate::store) async fn import(
    conn: &mut Conn,
    change: Change,
    import: Import,
) -> Result<(Imported, Revision), StoreError> {
    revision::lock(conn).await?;
    let now = revision::get(conn).await?;
    if import.expected.is_some_and(|expected| expected != now) {
        return Err(StoreError::Conflict {
            current: now.number.cast_signed(),
        });
    }
    let mut done = Imported::default();
    if import.replace {
        done.deleted = take_out_others(conn, &change, &import).await?;
    }
    for one in import.nodes {
        put_node(conn, &change, one, &mut done).await?;
    }
    // before the keys: an id that was a network's may be a key's now
    settings::set(conn, change.clone(), None, import.settings).await?;
    for (key, sha256) in import.keys {
        put_key(conn, &change, (key, sha256), &mut done).await?;
    }
    for (user, hash) in import.users {
        put_user(conn, &change, (user, hash), &mut done).await?;
    }
    let revision = audit::new_epoch(conn, change, None).await?;
    Ok((done, revision))
}

async fn take_out_others(
    conn: &mut Conn,
    change: &Change,
    import: &Import,
) -> Result<usize, StoreError> {
    let names: HashSet<_> = import.nodes.iter().map(|one| &one.node.name).collect();
    let present: Vec<(i64, String)> = nodes::table
        .select((nodes::id, nodes::name))
        .order(nodes::id)
        .load(conn)
        .await?;
    let mut deleted = 0;
    for (id, _) in present.iter().filter(|(_, name)| !names.contains(name)) {
        node::delete(conn, change.clone(), *id, None).await?;
        deleted += 1;
    }
    let ids: HashSet<_> = import.keys.iter().map(|(key, _)| &key.key_id).collect();
    // disabled ones are in no fleet document: that they are missing says nothing
    let present: Vec<(i64, String)> = api_keys::table
        .filter(api_keys::enabled.eq(true))
        .select((api_keys::id, api_keys::key_id))
        .order(api_keys::id)
        .load(conn)
        .await?;
    for (id, _) in present.iter().filter(|(_, key_id)| !ids.contains(key_id)) {
        api_key::delete(conn, change.clone(), *id, None).await?;
        deleted += 1;
    }
    Ok(deleted)
}

async fn put_node(
    conn: &mut Conn,
    change: &Change,
    mut import: ImportNode,
    done: &mut Imported,
) -> Result<(), StoreError> {
    let present: Option<(i64, i64)> = nodes::table
        .filter(nodes::name.eq(import.node.name.clone()))
        .select((nodes::id, nodes::version))
        .first(conn)
        .await
        .optional()?;
    let Some((id, version)) = present else {
        if let Some(id) = import.id
            && (id < 1 || !node::is_free(conn, id).await?)
        {
            import.id = None;
        }
        node::insert(conn, change.clone(), import).await?;
        // before the next one gets an id by itself
        reset_ids(conn).await?;
        done.created += 1;
        return Ok(());
    };
    let mut wanted = import.node;
    let before = node::get(conn, id).await?;
    if before.name == wanted.name {
        wanted.slug = before.slug; // with the number that it got
    }
    let (after, _) = node::update(conn, change.clone(), id, None, wanted).await?;
    done.updated += usize::from(after.version != version);
    Ok(())
}

async fn put_key(
    conn: &mut Conn,
    change: &Change,
    (wanted, sha256): (NewApiKey, Hidden),
    done: &mut Imported,
) -> Result<(), StoreError> {
    let present: Option<i64> = api_keys::table
        .filter(api_keys::key_id.eq(wanted.key_id.clone()))
        .select(api_keys::id)
        .first(conn)
        .await
        .optional()?;
    let Some(id) = present else {
        api_key::create(conn, change.clone(), wanted, sha256).await?;
        done.created += 1;
        return Ok(());
    };
    let before = api_key::get(conn, id).await?;
    let (after, _) = api_key::update(conn, change.clone(), id, None, wanted).await?;
    let is_rotated = before.sha256 != sha256;
    if is_rotated {
        api_key::rotate(conn, change.clone(), id, None, sha256).await?;
    }
    done.updated += usize::from(is_rotated || after.version != before.version);
    Ok(())
}

async fn put_user(
    conn: &mut Conn,
    change: &Change,
    (wanted, hash): (NewUser, Hidden),
    done: &mut Imported,
) -> Result<(), StoreError> {
    match user::by_name(conn, wanted.name.clone()).await {
        Err(StoreError::NotFound) => {
            user::create(conn, change.clone(), wanted, hash).await?;
            done.created += 1;
        }
        Err(error) => return Err(error),
        Ok(before) => {
            let after = user::update(conn, change.clone(), before.id, None, wanted).await?;
            done.updated += usize::from(after.version != before.version);
        }
    }
    Ok(())
}
