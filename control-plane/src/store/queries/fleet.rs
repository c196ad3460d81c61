//! The fleet in one consistent read.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use super::{Conn, revision, settings};
use crate::store::StoreError;
use crate::store::api_key::ApiKey;
use crate::store::fleet::Fleet;
use crate::store::node::Node;
use crate::store::schema::{api_keys, nodes};

pub(in crate::store) async fn get(conn: &mut Conn) -> Result<Fleet, StoreError> {
    let revision = revision::get(conn).await?;
    let nodes = nodes::table
        .order(nodes::id)
        .select(Node::as_select())
        .load(conn)
        .await?;
    let keys = api_keys::table
        .order(api_keys::id)
        .select(ApiKey::as_select())
        .load(conn)
        .await?;
    Ok(Fleet {
        revision,
        nodes,
        keys,
        settings: settings::get(conn).await?.settings,
    })
}
