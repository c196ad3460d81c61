//! Changes of stores: which nodes a request goes to. To one it is relayed like any other, to
//! several the answer is ours (`transfer`). And what is known of a node after its store changed.

use std::sync::Arc;

use aivonx_shared::fleet_doc::{Cloud, WhenClientLeaves};
use bytes::Bytes;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::answer::{keep_after_continue, refused_body};
use super::ctx::RequestCtx;
use super::pin::{not_in_service, pinned, target};
use super::{Gateway, failure};
use crate::balance::Demand;
use crate::fleet::Node;
use crate::request::body;
use crate::request::permission;
use crate::request::rejection::Rejection;
use crate::request::route::StoreRoute;
use crate::store::asked::Asked;
use crate::store::sticky;
use crate::store::targets::{self, Target, Targets};
use crate::upstream::retry::Judgement;

impl Gateway {
    /// Takes a change to where it belongs; true where it was answered.
    pub(super) async fn change_store(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        route: StoreRoute,
    ) -> Result<bool> {
        let pin = pinned(session).map(str::to_owned);
        if route == StoreRoute::Blob {
            self.take_blob(session, ctx, pin.as_deref()).await?;
            return Ok(false);
        }
        let body = self.read_change(session, ctx).await?;
        let asked = Asked::read(&body);
        ctx.shown = asked
            .as_ref()
            .map(|asked| asked.shown(route))
            .unwrap_or_default();
        self.permit_change(ctx, route, asked.as_ref(), pin.as_deref())
            .map_err(failure::rejected)?;
        ctx.resolved.stream = asked
            .as_ref()
            .is_some_and(|asked| asked.streams(route.streams_by_default()));
        let targets = match (&pin, &asked) {
            (Some(name), _) => Targets::Each(vec![target(&self.fleet.load(), name)?]),
            (None, None) => Targets::Any,
            (None, Some(asked)) if route == StoreRoute::Create && asked.uses_blobs() => {
                Targets::OneOf(vec![self.sticky(ctx)?])
            }
            (None, Some(asked)) => self.targets(route, asked).await,
        };
        match targets {
            Targets::Any | Targets::Unheld => Ok(false),
            Targets::Forbidden(key) => {
                let model = key.display().to_owned();
                Err(failure::rejected(Rejection::NoTarget(model)))
            }
            Targets::Nobody => Err(failure::rejected(Rejection::NoNode)),
            Targets::OneOf(list) => relay_to(ctx, &list).map(|()| false),
            Targets::Each(list) => {
                let relayed =
                    self.is_relayed(route, asked.as_ref(), &list) && self.has_turn(ctx, route);
                match asked {
                    Some(asked) if !relayed => {
                        self.change_each(session, ctx, route, &asked, body, list)
                            .await
                    }
                    _ => relay_to(ctx, &list).map(|()| false),
                }
            }
        }
    }

    /// Holds every model that a change names against the caller's list and the house's rules.
    fn permit_change(
        &self,
        ctx: &RequestCtx,
        route: StoreRoute,
        asked: Option<&Asked>,
        pin: Option<&str>,
    ) -> Result<(), Rejection> {
        let caller = ctx.caller.as_ref().ok_or(Rejection::NoKey)?;
        // a body that only a node can read, or a Modelfile: what it names is not known here
        if asked.is_none_or(Asked::hides_models) && caller.grant.is_restricted() {
            return Err(Rejection::ModelUnclear);
        }
        let Some(asked) = asked else {
            return Ok(());
        };
        let brings = matches!(route, StoreRoute::Pull | StoreRoute::Create);
        let snapshot = self.fleet.load();
        let denies = brings && snapshot.cloud() == Cloud::Deny;
        for model in asked.models(route) {
            permission::check_change(&caller.grant, model, denies)?;
        }
        if denies && asked.is_remote() {
            return Err(Rejection::Cloud("a model of another host".into()));
        }
        match asked.spreads(route) {
            Some(model) if targets::spreads_cloud(&snapshot, model, pin) => {
                Err(Rejection::Cloud(format!("model '{model}'")))
            }
            _ => Ok(()),
        }
    }

    /// Whether one node answers for itself. A pull that must outlive its client, or whose client
    /// sees nothing of hours of progress, is ours even on one node.
    fn is_relayed(&self, route: StoreRoute, asked: Option<&Asked>, list: &[Target]) -> bool {
        let [target] = list else { return false };
        let outlives = self.fleet.load().pull().when_client_leaves == WhenClientLeaves::Continue;
        let shows_progress = asked.is_none_or(|asked| asked.streams(true));
        match route {
            StoreRoute::Pull if outlives || !shows_progress => false,
            StoreRoute::Push | StoreRoute::Blob => true,
            _ => not_in_service(target).is_none(),
        }
    }

    /// Whether a request may go to its one node now. One whose turn has not come is ours, so that
    /// its client can be told what it waits for.
    fn has_turn(&self, ctx: &mut RequestCtx, route: StoreRoute) -> bool {
        if matches!(route, StoreRoute::Pull | StoreRoute::Create) {
            ctx.turn = self.stores.turn_now();
            ctx.turn.is_some()
        } else {
            true
        }
    }

    /// Reads the whole body of a change: where it goes depends on all of it.
    async fn read_change(&self, session: &mut Session, ctx: &mut RequestCtx) -> Result<Bytes> {
        self.read_body(session, ctx).await?;
        ctx.resolved.demand = Demand::default();
        if ctx.resolved.alias.take().is_some() {
            ctx.resolved.entry = None; // stores know no aliases
        }
        let too_large = Rejection::StoreBodyTooLarge(self.limits.each);
        ctx.body
            .all(session)
            .ok_or_else(|| failure::rejected(too_large))
    }

    /// A blob goes to its caller's node as it comes.
    async fn take_blob(
        &self,
        session: &mut Session,
        ctx: &mut RequestCtx,
        pin: Option<&str>,
    ) -> Result<()> {
        let keeper = match pin {
            Some(name) => target(&self.fleet.load(), name)?,
            None => self.sticky(ctx)?,
        };
        relay_to(ctx, &[keeper])?;
        ctx.body = match body::opaque(session).await {
            Ok(body) => body,
            Err(error) => return Err(refused_body(session, error)),
        };
        keep_after_continue(session);
        Ok(())
    }

    /// The node that has the blobs of a request's caller.
    fn sticky(&self, ctx: &RequestCtx) -> Result<Target> {
        let node = sticky::node_of(&self.fleet.load(), &caller(ctx));
        let nobody = || failure::rejected(Rejection::NoHealthyNode(None));
        node.map(|node| Target::of(&node)).ok_or_else(nobody)
    }

    /// Where a change goes. Before it is said that nobody has a model, every node is asked again.
    async fn targets(&self, route: StoreRoute, asked: &Asked) -> Targets {
        let found = targets::of(route, &self.fleet.load(), asked, false);
        if !matches!(found, Targets::Unheld) {
            return found;
        }
        let snapshot = self.fleet.load_full();
        let up = snapshot
            .nodes()
            .iter()
            .filter(|node| Target::of(node).away.is_none());
        self.stores.known.read_all(up.map(Arc::clone)).await;
        targets::of(route, &self.fleet.load(), asked, true)
    }

    /// What the head of a relayed change means. No answer of a store speaks for or against a
    /// runner, and none is sought elsewhere.
    pub(super) fn note_change(ctx: &mut RequestCtx, judgement: Judgement, now: std::time::Instant) {
        if let Some(permit) = &mut ctx.permit {
            match judgement {
                Judgement::Good => permit.succeeded(false, now),
                Judgement::Stale => permit.node().state().stale.notify_one(),
                _ => {}
            }
        }
    }

    /// After a relayed copy or delete the fleet knows before the client does.
    pub(super) async fn make_known(&self, head: &ResponseHeader, ctx: &mut RequestCtx) {
        let changes = matches!(
            ctx.store_route(),
            Some(StoreRoute::Copy | StoreRoute::Delete)
        );
        if let (true, 200, Some(node)) = (changes, head.status.as_u16(), &ctx.node) {
            // boxed: else every answer would take this one's room, 10 KB of it
            Box::pin(self.stores.known.read(node)).await;
        }
    }

    /// The last line of a relayed pull or create is about to go to the client: from here on a
    /// request for a model that nobody seems to have waits until its node was read again.
    pub(super) fn begin_to_know(&self, ctx: &mut RequestCtx) {
        let changes = matches!(
            ctx.store_route(),
            Some(StoreRoute::Pull | StoreRoute::Create)
        );
        if changes
            && !ctx.is_known
            && ctx.tail.has_terminator()
            && let Some(node) = &ctx.node
        {
            ctx.is_known = true;
            self.stores.known.begin(node);
        }
    }
}

/// Lets only these take the request, as far as they are in service.
fn relay_to(ctx: &mut RequestCtx, list: &[Target]) -> Result<()> {
    let there = list
        .iter()
        .filter(|target| not_in_service(target).is_none());
    let serials: Arc<[u64]> = there.map(|target| target.node.serial()).collect();
    match list.first().and_then(not_in_service) {
        Some(rejection) if serials.is_empty() => Err(failure::rejected(rejection)),
        _ => {
            ctx.resolved.demand.only = Some(serials);
            Ok(())
        }
    }
}

/// Who calls, for what must come to one node: its key, else its address.
fn caller(ctx: &RequestCtx) -> String {
    let key = ctx.caller.as_ref().filter(|caller| caller.grant.is_key());
    match (key, ctx.client.ip) {
        (Some(caller), _) => format!("key {}", caller.grant.id),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => String::new(),
    }
}

/// The nodes of targets, by name; for the header of an answer that one node gave.
pub(super) fn only_node(list: &[Target]) -> Option<Arc<Node>> {
    match list {
        [target] => Some(Arc::clone(&target.node)),
        _ => None,
    }
}
