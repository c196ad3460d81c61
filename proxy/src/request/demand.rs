//! What was found in a body → what is demanded of a node.

use std::sync::Arc;

use aivonx_shared::model_name::{ModelKey, Source};

use super::model_scan::{Field, Found};
use super::route::NodeRoute;
use crate::balance::Demand;
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
        if let Some(entry) = snapshot.spelt(asked) {
            resolved.hold(entry);
            return resolved;
        }
        let mut scratch = String::new();
        match ModelKey::of(asked, &mut scratch) {
            Ok((key, Source::Unspecified | Source::Local)) => match snapshot.model(key) {
                Some(entry) => resolved.hold(entry),
                None => resolved.demand.unheld = ModelKey::parse(key).ok(),
            },
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
