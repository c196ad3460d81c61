//! What was found in a body → what is demanded of a node.

use std::sync::Arc;
use std::time::Instant;

use aivonx_shared::model_name::{ModelKey, Source};
use http::HeaderValue;

use super::model_scan::{Field, Found};
use super::route::NodeRoute;
use crate::balance::Demand;
use crate::fleet::aliases::{Alias, Link};
use crate::fleet::{ModelEntry, Snapshot};

/// The demand of one request.
#[derive(Default)]
pub(crate) struct Resolved {
    /// For the balancer.
    pub(crate) demand: Demand,
    /// The model, where any node holds it: for metrics and logs.
    pub(crate) entry: Option<Arc<ModelEntry>>,
    /// The name as the client wrote it, for error texts.
    pub(crate) asked: String,
    /// Whether the answer should come as a stream.
    pub(crate) stream: bool,
    /// Where the name is an alias.
    pub(crate) alias: Option<Aliased>,
}

/// An alias, and which model of its chain is served.
pub(crate) struct Aliased {
    pub(crate) alias: Arc<Alias>,
    /// `None` where no model of the chain is held: the request is refused as for an unknown model.
    pub(crate) at: Option<usize>,
}

impl Resolved {
    /// Reads what was found by the rules of `route` (ollama-api.md §2 and §7). Names that are none,
    /// and models that nobody holds are left to any healthy node: only a node can judge them, and
    /// its words are the right ones. Cloud models go to nodes that are signed in.
    pub(crate) fn of(found: &Found, route: NodeRoute, snapshot: &Snapshot) -> Self {
        let stream =
            route.may_stream() && found.stream.unwrap_or_else(|| route.streams_by_default());
        let asked = asked(found, route);
        let mut resolved = Self {
            stream,
            asked: asked.to_owned(),
            ..Self::default()
        };
        resolved.demand.cloud = route == NodeRoute::WebTool;
        if let Some(alias) = snapshot.aliases().spelt(asked) {
            resolved.go_through(alias);
            return resolved;
        }
        if let Some(entry) = snapshot.spelt(asked) {
            resolved.hold(entry);
            return resolved;
        }
        let mut scratch = String::new();
        match ModelKey::of(asked, &mut scratch) {
            Ok((key, source @ (Source::Unspecified | Source::Local))) => {
                let alias = snapshot.aliases().get(key);
                match (alias, snapshot.model(key)) {
                    // `:local` asks for what a node has under that name
                    (Some(alias), _) if source == Source::Unspecified => resolved.go_through(alias),
                    (_, Some(entry)) => resolved.hold(entry),
                    (_, None) => resolved.demand.unheld = ModelKey::parse(key).ok(),
                }
            }
            Ok((_, Source::Cloud)) => resolved.demand.cloud = true,
            Err(_) => {}
        }
        resolved
    }

    fn hold(&mut self, entry: &Arc<ModelEntry>) {
        self.demand.model = Some(entry.id);
        self.entry = Some(Arc::clone(entry));
    }

    /// Whether only nodes that are signed in to ollama.com can serve it.
    pub(crate) fn leaves_the_house(&self) -> bool {
        let stub = |entry: &Arc<ModelEntry>| entry.holders.iter().all(|holder| holder.is_stub);
        self.demand.cloud || self.entry.as_ref().is_some_and(stub)
    }

    fn go_through(&mut self, alias: &Arc<Alias>) {
        let at = alias.serving(Instant::now());
        self.alias = Some(Aliased {
            alias: Arc::clone(alias),
            at: None,
        });
        match at {
            Some(at) => self.serve(at),
            None => self.demand.unheld = Some(alias.key.clone()),
        }
    }

    /// Serves this model of the alias's chain.
    pub(crate) fn serve(&mut self, at: usize) {
        let Some(aliased) = &mut self.alias else {
            return;
        };
        aliased.at = Some(at);
        if let Some(entry) = aliased.alias.chain[at].entry.clone() {
            self.hold(&entry);
        }
    }

    /// Whether the name is an alias of which nothing is held.
    pub(crate) fn is_unserved(&self) -> bool {
        self.alias.as_ref().is_some_and(|alias| alias.at.is_none())
    }

    fn link(&self) -> Option<&Link> {
        let aliased = self.alias.as_ref()?;
        aliased.alias.chain.get(aliased.at?)
    }

    /// What the body shall name in place of an alias.
    pub(crate) fn rewritten(&self) -> Option<Arc<str>> {
        self.link().map(|link| Arc::clone(&link.name))
    }

    /// The same, for `x-aivonx-model`.
    pub(crate) fn served(&self) -> Option<&HeaderValue> {
        self.link().map(|link| &link.name_value)
    }

    /// The alias as the fleet document spells it, for logs.
    pub(crate) fn alias_label(&self) -> Option<&str> {
        self.alias.as_ref().map(|aliased| &*aliased.alias.written)
    }

    /// The model in metrics and logs.
    pub(crate) fn label(&self) -> &str {
        self.entry.as_ref().map_or("", |entry| &entry.label)
    }
}

/// The name that counts; empty where there is none.
fn asked(found: &Found, route: NodeRoute) -> &str {
    match &found.model {
        Field::Text(model) if !model.is_empty() => model,
        Field::Text(_) | Field::Absent if route.reads_name() => found.name.text().unwrap_or(""),
        _ => "",
    }
}
