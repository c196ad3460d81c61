//! Which nodes a change goes to, from what is known of the fleet at one moment.
//!
//! A pull goes to the nodes that hold the model, else where the document's `pull.to` says; delete
//! and copy to every holder, draining ones too, since what is left there would come back; create to
//! the holders of what it starts from, else where a pull would go, because nodes pull what they
//! lack. A node that is away stays among them: it is told of, not passed over. One that only passes
//! a model on to another host is no holder while cloud models are denied, but of what is deleted.

use std::sync::Arc;

use aivonx_shared::fleet_doc::{Cloud, PullTo};
use aivonx_shared::model_name::{ModelKey, ModelName};
use serde_json::Value;

use super::asked::Asked;
use crate::fleet::{Node, Snapshot};
use crate::request::route::StoreRoute;

/// A node that a change should reach.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) node: Arc<Node>,
    /// Why it cannot be asked now, where it cannot.
    pub(crate) away: Option<&'static str>,
}

impl Target {
    /// The node, whatever its document says but `enabled`: for one that was named.
    pub(crate) fn of(node: &Arc<Node>) -> Self {
        let away = if !node.doc().enabled {
            Some("disabled")
        } else if !node.state().health.is_up() {
            Some("down")
        } else {
            None
        };
        Self {
            node: Arc::clone(node),
            away,
        }
    }
}

/// Where a change goes.
pub(crate) enum Targets {
    /// To whichever node: only a node can say what is wrong with it.
    Any,
    /// To one of these.
    OneOf(Vec<Target>),
    /// To each of these; there is at least one.
    Each(Vec<Target>),
    /// Nobody has this model, as far as is known.
    Unheld,
    /// The document lets no node have it.
    Forbidden(ModelKey),
    /// There is no node that takes anything new.
    Nobody,
}

/// Where the change of `route` goes; `is_fresh` as in [`of_create`].
pub(crate) fn of(route: StoreRoute, snapshot: &Snapshot, asked: &Asked, is_fresh: bool) -> Targets {
    match route {
        StoreRoute::Pull => of_pull(snapshot, asked),
        StoreRoute::Push => of_push(snapshot, asked),
        StoreRoute::Create => of_create(snapshot, asked, is_fresh),
        StoreRoute::Copy => of_copy(snapshot, asked),
        StoreRoute::Delete => of_delete(snapshot, asked),
        StoreRoute::Blob => Targets::Any,
    }
}

/// Of `POST /api/pull`.
fn of_pull(snapshot: &Snapshot, asked: &Asked) -> Targets {
    let Ok(name) = ModelName::parse_for_store(asked.model()) else {
        return Targets::Any;
    };
    let may = |node: &Node| node.is_wanted() && is_own(snapshot, node, name.key());
    let holders = holders(snapshot, name.key(), may);
    if holders.is_empty() {
        chosen(snapshot, name.key(), name.key())
    } else {
        Targets::Each(holders)
    }
}

/// Of `DELETE /api/delete`.
fn of_delete(snapshot: &Snapshot, asked: &Asked) -> Targets {
    let name = ModelName::parse_for_store(asked.model());
    each_holder(snapshot, name.ok(), |_, _| true)
}

/// Of `POST /api/copy`.
fn of_copy(snapshot: &Snapshot, asked: &Asked) -> Targets {
    let name = ModelName::parse(&asked.source);
    each_holder(snapshot, name.ok(), |node, key| is_own(snapshot, node, key))
}

fn each_holder(
    snapshot: &Snapshot,
    name: Option<ModelName>,
    takes_part: impl Fn(&Node, &ModelKey) -> bool,
) -> Targets {
    let Some(name) = name else {
        return Targets::Any;
    };
    let holders = holders(snapshot, name.key(), |node| takes_part(node, name.key()));
    if holders.is_empty() {
        Targets::Unheld
    } else {
        Targets::Each(holders)
    }
}

/// Of `POST /api/push`.
fn of_push(snapshot: &Snapshot, asked: &Asked) -> Targets {
    let Ok(name) = ModelName::parse(asked.model()) else {
        return Targets::Any;
    };
    let holders = holders(snapshot, name.key(), Node::is_wanted);
    if holders.is_empty() {
        Targets::Unheld
    } else {
        Targets::OneOf(holders)
    }
}

/// Of `POST /api/create` that uses no blobs. `is_fresh` says that every node was just asked what it
/// has, so that nobody holding the source means that nodes will pull it.
fn of_create(snapshot: &Snapshot, asked: &Asked, is_fresh: bool) -> Targets {
    let from = ModelName::parse_with_source(&asked.from).map(|(name, _)| name);
    let (Ok(from), Ok(name)) = (from, ModelName::parse(asked.model())) else {
        return Targets::Any;
    };
    let may = |node: &Node| {
        let allows = node.doc().models.allow(name.key());
        node.is_wanted() && allows && is_own(snapshot, node, from.key())
    };
    let holders = holders(snapshot, from.key(), may);
    if !holders.is_empty() {
        Targets::Each(holders)
    } else if is_fresh {
        chosen(snapshot, from.key(), name.key())
    } else {
        Targets::Unheld
    }
}

/// The node of this name.
pub(crate) fn named(snapshot: &Snapshot, name: &str) -> Option<Target> {
    let node = snapshot.nodes().iter().find(|node| node.name() == name)?;
    Some(Target::of(node))
}

/// Whether a change would spread a cloud model while these are denied: nodes list it as one that
/// they only pass on, and nobody, or not the one node that is `pinned`, has it in truth.
pub(crate) fn spreads_cloud(snapshot: &Snapshot, model: &str, pinned: Option<&str>) -> bool {
    if snapshot.cloud() == Cloud::Allow {
        return false;
    }
    let names = [
        ModelName::parse(model),
        ModelName::parse_for_store(model),
        ModelName::parse_with_source(model).map(|(name, _)| name),
    ];
    names.iter().flatten().any(|name| {
        let key = name.key();
        let listed = snapshot.nodes().iter().filter_map(|node| {
            let is_stub = lists(node, key)?;
            Some((is_stub, pinned == Some(node.name())))
        });
        let listed: Vec<_> = listed.collect();
        listed.contains(&(true, true))
            || (!listed.is_empty() && listed.iter().all(|(is_stub, _)| *is_stub))
    })
}

/// Whether a node that lists a model only passes it on to another host.
fn lists(node: &Node, key: &ModelKey) -> Option<bool> {
    let inventory = node.state().inventory();
    let listed = inventory.iter().find(|listed| listed.key == *key)?;
    Some(listed.is_stub())
}

/// Whether what a node has under this name may be spread.
fn is_own(snapshot: &Snapshot, node: &Node, key: &ModelKey) -> bool {
    snapshot.cloud() == Cloud::Allow || lists(node, key) != Some(true)
}

/// The nodes that have the model and may be sent it, as far as is known; only those that may take
/// part.
fn holders(snapshot: &Snapshot, key: &ModelKey, takes_part: impl Fn(&Node) -> bool) -> Vec<Target> {
    let holds = |node: &Node| lists(node, key).is_some() && node.doc().models.allow(key);
    let enabled = snapshot.nodes().iter().filter(|node| node.doc().enabled);
    enabled
        .filter(|node| takes_part(node) && holds(node))
        .map(Target::of)
        .collect()
}

/// The nodes of `pull.to` that may have both models.
fn chosen(snapshot: &Snapshot, from: &ModelKey, name: &ModelKey) -> Targets {
    let to = &snapshot.pull().to;
    let may = |node: &Node| {
        let rules = &node.doc().models;
        node.is_wanted() && rules.allow(from) && rules.allow(name) && to.fits(node.doc())
    };
    if !snapshot.nodes().iter().any(|node| node.is_wanted()) {
        return Targets::Nobody;
    }
    let nodes = snapshot.nodes().iter().filter(|node| may(node));
    let mut targets: Vec<Target> = nodes.map(Target::of).collect();
    if let PullTo::Count(count) = to {
        // a node that is there before one that is away, then the emptiest; equal ones by name
        targets.sort_by_cached_key(|target| {
            let bytes = installed_bytes(&target.node);
            (target.away.is_some(), bytes, target.node.name().to_owned())
        });
        targets.truncate(*count as usize);
    }
    if targets.is_empty() {
        Targets::Forbidden(name.clone())
    } else {
        Targets::Each(targets)
    }
}

fn installed_bytes(node: &Node) -> u64 {
    let inventory = node.state().inventory();
    let sizes = inventory
        .iter()
        .filter_map(|listed| listed.entry.get("size").and_then(Value::as_u64));
    sizes.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use aivonx_shared::config::ProxyConfig;
    use aivonx_shared::fleet_doc::FleetDoc;

    use super::*;
    use crate::fleet::Fleet;
    use crate::fleet::inventory::parse_list;

    /// Nodes a, b, c…; of each what it holds, as `name size`, with `@` where it only passes it on,
    /// and `down` where it is away.
    fn fleet(document: &str, each: &[(&str, &[&str])]) -> Fleet {
        let fleet = Fleet::new(ProxyConfig::defaults().breaker);
        let list: Vec<_> = ('a'..)
            .zip(each)
            .map(|(name, (extra, _))| format!("{{name: {name}, url: \"http://{name}:1\"{extra}}}"))
            .collect();
        let doc = format!("{document}\nnodes: [{}]", list.join(", "));
        fleet.apply(FleetDoc::from_yaml(&doc).unwrap());
        for (node, (_, models)) in fleet.load().nodes().iter().zip(each) {
            let state = node.state();
            state.health.observe(!models.contains(&"down"), 1, 1);
            let models = models.iter().filter_map(|model| model.split_once(' '));
            let list: Vec<_> = models
                .map(|(name, size)| match size.strip_suffix('@') {
                    None => format!("{{\"name\":\"{name}\",\"size\":{size}}}"),
                    Some(size) => format!(
                        "{{\"name\":\"{name}\",\"size\":{size},\"remote_host\":\"https://h\"}}"
                    ),
                })
                .collect();
            let body = format!("{{\"models\":[{}]}}", list.join(","));
            state.set_inventory(parse_list(body.as_bytes(), "modified_at").unwrap());
        }
        fleet.refresh();
        fleet
    }

    /// Names, a `!` behind those that are away.
    fn shown(targets: &Targets) -> String {
        match targets {
            Targets::Any => "any".into(),
            Targets::Unheld => "unheld".into(),
            Targets::Nobody => "nobody".into(),
            Targets::Forbidden(key) => format!("forbidden {}", key.display()),
            Targets::OneOf(list) | Targets::Each(list) => {
                let names = list.iter().map(|target| {
                    let away = if target.away.is_some() { "!" } else { "" };
                    format!("{}{away}", target.node.name())
                });
                names.collect::<Vec<_>>().join(" ")
            }
        }
    }

    fn asked(body: &str) -> Asked {
        Asked::read(body.as_bytes()).unwrap()
    }

    fn pull(fleet: &Fleet, model: &str) -> String {
        let asked = asked(&format!("{{\"model\":\"{model}\"}}"));
        shown(&of_pull(&fleet.load(), &asked))
    }

    #[test]
    fn a_pull_goes_to_the_holders_else_where_the_document_says() {
        let nodes: [(&str, &[&str]); 4] = [
            (", labels: {gpu: big}", &["m 5"]),
            (", draining: true", &["m 5"]),
            (", models: {exclude: [n]}", &["down", "m 5"]),
            (", enabled: false", &["m 5"]),
        ];
        let all = fleet("", &nodes);
        assert_eq!(pull(&all, "M:latest"), "a c!", "holders that take work");
        assert_eq!(pull(&all, "n"), "a", "c may not have it");
        assert_eq!(pull(&all, "new"), "a c!");
        assert_eq!(pull(&all, "a//b"), "any");
        let labels = fleet("pull: {to: {labels: {gpu: big}}}", &nodes);
        assert_eq!(pull(&labels, "new"), "a");
        assert_eq!(pull(&labels, "m"), "a c!", "holders come first");
        let none = fleet("pull: {to: {labels: {gpu: none}}}", &nodes);
        assert_eq!(pull(&none, "new"), "forbidden new:latest");
        let away: [(&str, &[&str]); 2] =
            [(", draining: true", &["m 5"]), (", enabled: false", &[])];
        assert_eq!(pull(&fleet("", &away), "new"), "nobody");
        assert_eq!(pull(&fleet("", &[]), "new"), "nobody");
    }

    #[test]
    fn a_count_takes_the_emptiest_that_are_there() {
        let nodes: [(&str, &[&str]); 4] = [
            ("", &["x 50"]),
            ("", &["down"]),
            ("", &["x 20", "y 10"]),
            ("", &["x 40"]),
        ];
        let two = fleet("pull: {to: {count: 2}}", &nodes);
        assert_eq!(pull(&two, "new"), "c d");
        let many = fleet("pull: {to: {count: 9}}", &nodes);
        assert_eq!(pull(&many, "new"), "c d a b!");
    }

    #[test]
    fn delete_and_copy_go_to_every_holder() {
        let fleet = fleet(
            "",
            &[
                ("", &["m 5"]),
                (", draining: true", &["m 5"]),
                ("", &["down", "m 5"]),
                (", models: {exclude: [m]}", &["m 5"]),
                ("", &[]),
            ],
        );
        let snapshot = fleet.load();
        let delete = |name: &str| {
            let asked = asked(&format!("{{\"name\":\"{name}\"}}"));
            shown(&of_delete(&snapshot, &asked))
        };
        assert_eq!(delete("m"), "a b c!");
        assert_eq!(delete("none"), "unheld");
        assert_eq!(delete(""), "any");
        let copy = asked(r#"{"source":"m","destination":"n"}"#);
        assert_eq!(shown(&of_copy(&snapshot, &copy)), "a b c!");
        assert_eq!(
            shown(&of_push(&snapshot, &asked(r#"{"model":"m"}"#))),
            "a c!"
        );
    }

    #[test]
    fn what_a_node_only_passes_on_is_not_spread_while_cloud_models_are_denied() {
        let nodes: [(&str, &[&str]); 3] = [
            ("", &["m 5", "stub 1@"]),
            ("", &["m 1@"]),
            (", draining: true", &["far 1@"]),
        ];
        let spreads = |document: &str, model: &str, pinned: Option<&str>| {
            spreads_cloud(&fleet(document, &nodes).load(), model, pinned)
        };
        for model in ["stub", "STUB:latest", "far", "stub:local"] {
            assert!(spreads("", model, None), "{model}");
            assert!(!spreads("cloud: allow", model, None), "{model}");
        }
        assert!(!spreads("", "m", None) && !spreads("", "new", None));
        assert!(spreads("", "m", Some("b")) && !spreads("", "m", Some("a")));
        let deny = fleet("", &nodes);
        let snapshot = deny.load();
        let copy = asked(r#"{"source":"m","destination":"n"}"#);
        let create = asked(r#"{"model":"n","from":"m"}"#);
        assert_eq!(pull(&deny, "m"), "a");
        assert_eq!(shown(&of_copy(&snapshot, &copy)), "a");
        assert_eq!(shown(&of_create(&snapshot, &create, true)), "a");
        let delete = asked(r#"{"model":"m"}"#);
        assert_eq!(shown(&of_delete(&snapshot, &delete)), "a b");
        let allow = fleet("cloud: allow", &nodes);
        assert_eq!(pull(&allow, "m"), "a b");
    }

    #[test]
    fn create_goes_to_the_holders_of_its_source_else_where_a_pull_would() {
        let fleet = fleet(
            "",
            &[
                ("", &["m 5"]),
                ("", &[]),
                (", models: {exclude: [mine]}", &["m 5"]),
            ],
        );
        let create = |body: &str| shown(&of_create(&fleet.load(), &asked(body), true));
        assert_eq!(create(r#"{"model":"mine","from":"m"}"#), "a");
        assert_eq!(create(r#"{"model":"ours","from":"m"}"#), "a c");
        assert_eq!(create(r#"{"model":"mine","from":"new"}"#), "a b");
        let stale = asked(r#"{"model":"mine","from":"new"}"#);
        assert_eq!(shown(&of_create(&fleet.load(), &stale, false)), "unheld");
        assert_eq!(
            create(r#"{"model":"mine"}"#),
            "any",
            "neither from nor files"
        );
    }
}
