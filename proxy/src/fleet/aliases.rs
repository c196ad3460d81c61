//! Other names for models: what a snapshot knows of the fleet document's `aliases`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use aivonx_shared::fleet_doc::AliasDoc;
use aivonx_shared::model_name::ModelKey;
use http::HeaderValue;

use super::ModelEntry;
use super::access::Grant;
use super::snapshot::spellings;

/// The aliases of a snapshot. Nearly always there are none: asking costs nothing then.
#[derive(Default)]
pub(crate) struct Aliases {
    list: Vec<Arc<Alias>>,
    by_key: HashMap<ModelKey, Arc<Alias>>,
    /// By the spellings that clients use most, so that these need no parsing.
    by_spelling: HashMap<Box<str>, Arc<Alias>>,
}

/// One alias.
pub(crate) struct Alias {
    /// Its identity.
    pub(crate) key: ModelKey,
    /// As the document spells it.
    pub(crate) written: Box<str>,
    /// With its tag, as Ollama shows names.
    pub(crate) display: Box<str>,
    /// What may be served, best first.
    pub(crate) chain: Vec<Link>,
}

/// A model that an alias may lead to.
pub(crate) struct Link {
    key: ModelKey,
    /// What nodes are asked for.
    pub(crate) name: Arc<str>,
    /// The same, for headers.
    pub(crate) name_value: HeaderValue,
    /// `None` where no node holds it.
    pub(crate) entry: Option<Arc<ModelEntry>>,
}

impl Aliases {
    pub(super) fn build(docs: &[AliasDoc], models: &HashMap<ModelKey, Arc<ModelEntry>>) -> Self {
        let mut aliases = Self::default();
        for doc in docs {
            let chain = doc.models.iter().map(|model| Link {
                key: model.key().clone(),
                name: model.display().into(),
                name_value: HeaderValue::from_str(model.display())
                    .unwrap_or_else(|_| HeaderValue::from_static("")), // names are plain ASCII
                entry: models.get(model.key()).cloned(),
            });
            let alias = Arc::new(Alias {
                key: doc.name.key().clone(),
                written: doc.written.as_str().into(),
                display: doc.name.display().into(),
                chain: chain.collect(),
            });
            for spelling in spellings(&alias.key).chain([&*doc.written]) {
                aliases
                    .by_spelling
                    .insert(spelling.into(), Arc::clone(&alias));
            }
            aliases.by_key.insert(alias.key.clone(), Arc::clone(&alias));
            aliases.list.push(alias);
        }
        aliases
    }

    /// In the document's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Alias>> {
        self.list.iter()
    }

    /// The alias of a name spelt as clients mostly do.
    pub(crate) fn spelt(&self, text: &str) -> Option<&Arc<Alias>> {
        if self.list.is_empty() {
            return None;
        }
        self.by_spelling.get(text)
    }

    /// The alias of this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Alias>> {
        self.by_key.get(key)
    }
}

impl Alias {
    /// Whether a caller may use it: its list names the alias, or all that it may lead to.
    pub(crate) fn is_open_to(&self, grant: &Grant) -> bool {
        grant.allows(&self.key) || self.chain.iter().all(|link| grant.allows(&link.key))
    }

    /// Which model of the chain is served now: the first with a live candidate, else the first
    /// that any node holds.
    pub(crate) fn serving(&self, now: Instant) -> Option<usize> {
        let held = |link: &Link| link.entry.is_some();
        self.next(0, &[], now)
            .or_else(|| self.chain.iter().position(held))
    }

    /// The first model from place `from` on with a live candidate whose node is not `tried`.
    pub(crate) fn next(&self, from: usize, tried: &[u64], now: Instant) -> Option<usize> {
        (from..self.chain.len()).find(|&at| {
            let entry = self.chain[at].entry.as_ref();
            entry.is_some_and(|entry| entry.is_live(tried, now))
        })
    }
}

impl ModelEntry {
    /// Whether a node that is not `tried` (serials) could serve the model: in service, breakers
    /// closed.
    fn is_live(&self, tried: &[u64], now: Instant) -> bool {
        self.holders.iter().any(|holder| {
            let (node, model) = (&holder.node, &holder.model);
            !tried.contains(&node.serial())
                && node.in_service()
                && node.state().breaker.would_pass(now)
                && model
                    .as_ref()
                    .is_none_or(|model| model.breaker.would_pass(now))
        })
    }
}

#[cfg(test)]
mod tests {
    use aivonx_shared::config::ProxyConfig;
    use aivonx_shared::fleet_doc::FleetDoc;

    use super::*;
    use crate::fleet::inventory::parse_list;
    use crate::fleet::{Fleet, Snapshot};

    /// Two nodes in service: a holds x and y, b holds z and small.
    fn fleet(aliases: &str) -> Fleet {
        let fleet = Fleet::new(ProxyConfig::defaults().breaker);
        let yaml = format!(
            "nodes: [{{name: a, url: \"http://h:1\"}}, {{name: b, url: \"http://h:2\"}}]\naliases: {aliases}"
        );
        fleet.apply(FleetDoc::from_yaml(&yaml).unwrap());
        for (node, models) in fleet
            .load()
            .nodes()
            .iter()
            .zip([["x", "y"], ["z", "small"]])
        {
            let list = models.map(|model| format!("{{\"name\":\"{model}:latest\"}}"));
            let tags = format!("{{\"models\":[{}]}}", list.join(","));
            node.state().health.observe(true, 1, 1);
            node.state()
                .set_inventory(parse_list(tags.as_bytes(), "modified_at").unwrap());
        }
        fleet.refresh();
        fleet
    }

    fn served(snapshot: &Snapshot, alias: &str) -> Option<String> {
        let alias = snapshot.aliases().spelt(alias)?;
        let link = &alias.chain[alias.serving(Instant::now())?];
        Some(link.name.to_string())
    }

    #[test]
    fn the_first_model_with_a_live_candidate_is_served() {
        let fleet = fleet("{Fast: [none, x, z], gone: [none]}");
        let snapshot = fleet.load_full();
        for spelling in ["Fast", "fast", "fast:latest"] {
            assert_eq!(served(&snapshot, spelling).as_deref(), Some("x:latest"));
        }
        assert_eq!(served(&snapshot, "gone"), None);
        assert!(snapshot.aliases().spelt("x").is_none());

        snapshot.nodes()[0].state().health.observe(false, 1, 1);
        assert_eq!(served(&snapshot, "fast").as_deref(), Some("z:latest"));
        // with nobody alive: the first that is held
        snapshot.nodes()[1].state().health.observe(false, 1, 1);
        assert_eq!(served(&snapshot, "fast").as_deref(), Some("x:latest"));
    }

    #[test]
    fn the_chain_goes_on_without_the_nodes_that_were_tried() {
        let fleet = fleet("{fast: [x, y, z]}");
        let snapshot = fleet.load_full();
        let alias = snapshot.aliases().spelt("fast").unwrap();
        let tried = [snapshot.nodes()[0].serial()];
        assert_eq!(alias.next(1, &[], Instant::now()), Some(1));
        assert_eq!(alias.next(1, &tried, Instant::now()), Some(2));
        assert_eq!(alias.next(3, &tried, Instant::now()), None);
    }

    #[test]
    fn an_alias_hides_an_installed_model() {
        let fleet = fleet("{small: [x], z: [z, y]}");
        let snapshot = fleet.load_full();
        for hidden in ["small", "small:latest"] {
            assert!(snapshot.spelt(hidden).is_none());
            assert_eq!(served(&snapshot, hidden).as_deref(), Some("x:latest"));
        }
        assert_eq!(served(&snapshot, "z").as_deref(), Some("z:latest"));
        assert!(snapshot.spelt("y").is_some());
    }
}
