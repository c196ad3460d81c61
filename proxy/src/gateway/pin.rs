//! `x-aivonx-node: NAME`: the one node that a request is for. Its body may name none.

use std::sync::Arc;

use aivonx_shared::model_name::ModelKey;
use pingora::Result;
use pingora_proxy::Session;

use super::ctx::RequestCtx;
use super::{Gateway, failure};
use crate::fleet::Snapshot;
use crate::request::headers::NODE;
use crate::request::model_scan::{Found, Outcome};
use crate::request::rejection::Rejection;
use crate::store::targets::{Target, named};

/// The node that a request names. Whoever may not manage the fleet is
/// refused before (`admit`).
pub(super) fn pinned(session: &Session) -> Option<&str> {
    let value = session.req_header().headers.get(&NODE)?;
    // a name is ASCII: what is none names nobody
    Some(value.to_str().unwrap_or("?"))
}

/// The node of this name.
pub(super) fn target(snapshot: &Snapshot, name: &str) -> Result<Target> {
    named(snapshot, name).ok_or_else(|| failure::rejected(Rejection::UnknownNode(name.to_owned())))
}

/// Refuses the body of a native route that names a node, as far as it was read: a caller who wants one and
/// gets another would never know. What is no JSON is a node's to refuse.
pub(super) fn check_body(ctx: &RequestCtx) -> Result<(), Rejection> {
    let is_native = ctx.node_route().may_unload();
    let names = |found: &Found| found.node_id && found.outcome != Outcome::Broken;
    if is_native && ctx.found.as_ref().is_some_and(names) {
        return Err(Rejection::NodeIdInBody);
    }
    Ok(())
}

/// Why a node cannot get a request that is relayed.
pub(super) fn not_in_service(target: &Target) -> Option<Rejection> {
    let node = &target.node;
    let why = match target.away {
        Some(away) => away,
        None if node.in_service() => return None,
        None => "draining",
    };
    Some(Rejection::NodeAway(node.name().to_owned(), why))
}

impl Gateway {
    /// Lets only the named node take a request that asks for a model. Whether it has the model is
    /// for the node to say.
    pub(super) fn pin(&self, session: &Session, ctx: &mut RequestCtx) -> Result<()> {
        let Some(name) = pinned(session) else {
            return Ok(());
        };
        let target = target(&self.fleet.load(), name)?;
        if let Some(rejection) = not_in_service(&target) {
            return Err(failure::rejected(rejection));
        }
        let serial = target.node.serial();
        let demand = &mut ctx.resolved.demand;
        demand.only = Some(Arc::from([serial]));
        if let Some(entry) = &ctx.resolved.entry
            && !entry.holders.iter().any(|at| at.node.serial() == serial)
        {
            demand.model = None;
            demand.unheld = ModelKey::parse(&entry.label).ok();
        }
        Ok(())
    }
}
