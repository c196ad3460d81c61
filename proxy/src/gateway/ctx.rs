//! What one request carries from hook to hook.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aivonx_shared::error_body::Dialect;
use http::HeaderValue;

use super::Here;
use super::front_door::Relay;
use crate::fleet::Permit;
use crate::fleet::limiter::Open;
use crate::fleet::permit::Suspect;
use crate::request::auth::Caller;
use crate::request::body::Body;
use crate::request::client::ClientAddress;
use crate::request::demand::Resolved;
use crate::request::model_scan::Found;
use crate::request::route::{NodeRoute, Route, StoreRoute};
use crate::store::Turn;
use crate::store::asked::Shown;
use crate::upstream::attempt::Attempt;
use crate::upstream::connection::Connection;
use crate::upstream::retry::Judgement;
use crate::upstream::usage::Tail;
use crate::upstream::usage_filter::UsageFilter;

/// The state of one request. Dropping it gives everything back.
pub(crate) struct RequestCtx {
    pub(super) began: Instant,
    pub(super) id: String,
    /// The same, for headers.
    pub(super) id_value: HeaderValue,
    pub(super) route: Route,
    pub(super) dialect: Dialect,
    /// Where the client is.
    pub(super) client: ClientAddress,
    /// Who asks, where the fleet knows it.
    pub(super) caller: Option<Caller>,
    /// Its place among the caller's open requests, where these are limited.
    pub(super) open: Option<Open>,
    /// The origin that may read the answer, where it is another one.
    pub(super) origin: Option<HeaderValue>,
    /// What the body said.
    pub(super) found: Option<Found>,
    pub(super) resolved: Resolved,
    /// Whether it asks for nothing but to unload its model.
    pub(super) unloads: bool,
    pub(super) body: Body,
    pub(super) here: Option<Here>,

    /// The way to the control plane, for what goes through the front door.
    pub(super) front: Option<Box<Relay>>,

    /// Proof of the place on the present node.
    pub(super) permit: Option<Permit>,
    pub(super) prepared: Option<Arc<Connection>>,
    pub(super) attempt: Option<Arc<Attempt>>,
    pub(super) attempts: u32,
    /// Serials of nodes that will not be asked again.
    pub(super) tried: Vec<u64>,
    /// Those of them that are not asked for another model of an alias, either.
    pub(super) unreachable: Vec<u64>,
    /// A node that answered 500, while another one is asked.
    pub(super) suspect: Option<Suspect>,
    /// Whether a pooled connection that turned out closed was replaced on the same node.
    pub(super) reconnected: Option<u64>,
    /// What went wrong last, for the final answer.
    pub(super) last_failure: Option<String>,

    /// The name of the node whose answer is relayed.
    pub(super) node: Option<Arc<crate::fleet::Node>>,
    pub(super) judgement: Option<Judgement>,
    pub(super) first_byte: Option<Duration>,
    pub(super) tail: Tail,
    /// Whether the node was asked for counts that the client did not ask for.
    pub(super) asked_for_usage: bool,
    /// Takes them out again.
    pub(super) usage_filter: Option<Box<UsageFilter>>,
    /// The models that a change names, for logs.
    pub(super) shown: Shown,
    /// The turn of a pull or create that is relayed.
    pub(super) turn: Option<Turn>,
    /// Whether the node whose store this changed is being read again.
    pub(super) is_known: bool,
    /// What the access line says instead of what the status says.
    pub(super) outcome: Option<&'static str>,
}

impl RequestCtx {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            id: String::new(),
            id_value: HeaderValue::from_static(""),
            route: Route::NotFound,
            dialect: Dialect::Ollama,
            client: ClientAddress::default(),
            caller: None,
            open: None,
            origin: None,
            found: None,
            resolved: Resolved::default(),
            unloads: false,
            body: Body::default(),
            here: None,
            front: None,
            permit: None,
            prepared: None,
            attempt: None,
            attempts: 0,
            tried: Vec::new(),
            unreachable: Vec::new(),
            suspect: None,
            reconnected: None,
            last_failure: None,
            node: None,
            judgement: None,
            first_byte: None,
            tail: Tail::default(),
            asked_for_usage: false,
            usage_filter: None,
            shown: Shown::default(),
            turn: None,
            is_known: false,
            outcome: None,
        }
    }

    /// The route, where a node answers it.
    pub(super) fn node_route(&self) -> NodeRoute {
        match self.route {
            Route::Node(route) => route,
            _ => NodeRoute::Unknown,
        }
    }

    /// The route, where it changes stores.
    pub(super) fn store_route(&self) -> Option<StoreRoute> {
        match self.route {
            Route::Store(route) => Some(route),
            _ => None,
        }
    }

    /// A piece of the body goes to the node. Only of a blob it says that the node is not waited
    /// for yet: such a body may take hours. So may one to the control plane, by its length.
    pub(super) fn sends(&self, piece: Option<&[u8]>) {
        let is_long = self.store_route() == Some(StoreRoute::Blob) || self.front.is_some();
        if is_long && let (Some(_), Some(attempt)) = (piece, &self.attempt) {
            attempt.sent_piece(Instant::now());
        }
    }

    /// A piece of the answer passes to the client.
    pub(super) fn saw(&mut self, piece: &[u8]) {
        let now = Instant::now();
        if self.first_byte.is_none() {
            self.first_byte = Some(now - self.began);
        }
        if let Some(attempt) = &self.attempt {
            attempt.saw_byte(now);
        }
        if let Some(permit) = &self.permit {
            permit.saw_byte(now);
        }
        self.tail.push(piece);
    }
}
