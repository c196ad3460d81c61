use std::time::{Duration, Instant};

use aivonx_shared::config::ProxyConfig;

use super::inventory::parse_list;
use super::*;

mod access;

fn fleet(yaml: &str) -> Fleet {
    let fleet = Fleet::new(ProxyConfig::defaults().breaker);
    fleet.apply(FleetDoc::from_yaml(yaml).unwrap());
    fleet
}

fn tags(names: &[&str]) -> Vec<inventory::Listed> {
    let items: Vec<_> = names
        .iter()
        .map(|name| format!(r#"{{"name":"{name}","digest":"{name}"}}"#))
        .collect();
    parse_list(
        format!(r#"{{"models":[{}]}}"#, items.join(",")).as_bytes(),
        "modified_at",
    )
    .unwrap()
}

#[test]
fn a_reload_keeps_the_state_of_nodes_that_stay() {
    let fleet = fleet("nodes: [{name: a, url: \"http://h:1\"}, {name: b, url: \"http://h:2\"}]");
    let before = fleet.load_full();
    let permit = Permit::reserve(&before.nodes()[0], None, Instant::now()).unwrap();

    fleet.apply(
        FleetDoc::from_yaml(
            "nodes: [{name: a, url: \"http://h:1\", weight: 2}, {name: b, url: \"http://h:3\"}]",
        )
        .unwrap(),
    );

    let after = fleet.load_full();
    assert_eq!(after.nodes()[0].state().in_flight(), 1, "same name and URL");
    assert_ne!(
        after.nodes()[0].serial(),
        before.nodes()[0].serial(),
        "but a new document"
    );
    assert!(
        !Arc::ptr_eq(after.nodes()[1].state(), before.nodes()[1].state()),
        "b moved"
    );
    drop(permit);
    assert_eq!(after.nodes()[0].state().in_flight(), 0);
}

#[test]
fn holders_are_the_wanted_nodes_that_have_the_model_and_may_get_it() {
    let fleet = fleet(
        "nodes:\n  - {name: a, url: \"http://h:1\"}\n  - {name: b, url: \"http://h:2\", models: {exclude: [big]}}\n  - {name: c, url: \"http://h:3\", draining: true}\n  - {name: d, url: \"http://h:4\", enabled: false}\n",
    );
    for node in fleet.load().nodes() {
        assert!(node.state().set_inventory(tags(&["big:latest", "small"])));
        assert!(
            !node.state().set_inventory(tags(&["big:latest", "small"])),
            "nothing new"
        );
    }
    fleet.refresh();
    let snapshot = fleet.load_full();
    let names = |key: &str| -> Vec<String> {
        snapshot
            .model(key)
            .unwrap()
            .holders
            .iter()
            .map(|holder| holder.node.name().to_owned())
            .collect()
    };
    assert_eq!(names("registry.ollama.ai/library/big:latest"), ["a"]);
    assert_eq!(names("registry.ollama.ai/library/small:latest"), ["a", "b"]);
    assert_eq!(snapshot.any().holders.len(), 2);
}

#[test]
fn model_ids_stay_when_the_inventory_changes() {
    let fleet = fleet("nodes: [{name: a, url: \"http://h:1\"}]");
    let key = "registry.ollama.ai/library/x:latest";
    fleet.load().nodes()[0]
        .state()
        .set_inventory(tags(&["x", "y"]));
    fleet.refresh();
    let id = fleet.load().model(key).unwrap().id;
    fleet.load().nodes()[0]
        .state()
        .set_inventory(tags(&["z", "x"]));
    fleet.refresh();
    assert_eq!(fleet.load().model(key).unwrap().id, id);
}

#[test]
fn a_copy_of_a_resident_model_is_resident_by_its_digest() {
    let fleet = fleet("nodes: [{name: a, url: \"http://h:1\"}]");
    let node = Arc::clone(&fleet.load().nodes()[0]);
    let list = br#"{"models":[{"name":"tiny","digest":"d1"},{"name":"copy","digest":"d1"},{"name":"other","digest":"d2"}]}"#;
    node.state()
        .set_inventory(parse_list(list, "modified_at").unwrap());
    fleet.refresh();
    let resident = |name: &str| {
        node.state()
            .model(&ModelKey::parse(name).unwrap())
            .is_resident()
    };
    node.state().set_residency(
        parse_list(
            br#"{"models":[{"name":"tiny","digest":"d1"}]}"#,
            "expires_at",
        )
        .unwrap(),
    );
    assert!(resident("tiny") && resident("copy") && !resident("other"));
    node.state().set_residency(Vec::new());
    assert!(!resident("tiny"));
}

#[test]
fn permits_never_leak_whatever_their_end() {
    let fleet = fleet("nodes: [{name: a, url: \"http://h:1\"}]");
    let node = Arc::clone(&fleet.load().nodes()[0]);
    let model = node.state().model(&ModelKey::parse("m").unwrap());
    let now = Instant::now();
    for end in 0..4 {
        let mut permit = Permit::reserve(&node, Some(&model), now).unwrap();
        assert_eq!((node.state().in_flight(), model.in_flight()), (1, 1));
        match end {
            0 => permit.succeeded(true, now),
            1 => permit.head_arrived(now + Duration::from_secs(1)),
            2 => {
                permit.runner_failed(now);
            }
            _ => {}
        }
        drop(permit);
        assert_eq!((node.state().in_flight(), model.in_flight()), (0, 0));
    }
}

#[test]
fn a_trial_whose_client_leaves_is_given_back() {
    let fleet = fleet("nodes: [{name: a, url: \"http://h:1\"}]");
    let node = Arc::clone(&fleet.load().nodes()[0]);
    let now = Instant::now();
    for _ in 0..3 {
        Permit::reserve(&node, None, now).unwrap().node_failed(now);
    }
    assert!(Permit::reserve(&node, None, now).is_none(), "open");
    let later = now + Duration::from_secs(2);
    let trial = Permit::reserve(&node, None, later).unwrap();
    assert!(
        Permit::reserve(&node, None, later).is_none(),
        "one trial at a time"
    );
    drop(trial);
    assert!(Permit::reserve(&node, None, later).is_some());
}

#[test]
fn common_spellings_are_found_without_parsing_and_mean_the_same() {
    let fleet = fleet("nodes: [{name: a, url: \"http://h:1\"}]");
    fleet.load().nodes()[0].state().set_inventory(tags(&[
        "tiny:latest",
        "qwen3:8b",
        "x-cloud:latest",
        "ns/m:latest",
    ]));
    fleet.refresh();
    let snapshot = fleet.load_full();
    for spelling in ["tiny", "tiny:latest", "qwen3:8b", "ns/m", "ns/m:latest"] {
        let mut scratch = String::new();
        let (key, _) = ModelKey::of(spelling, &mut scratch).unwrap();
        assert_eq!(
            snapshot.spelt(spelling).unwrap().id,
            snapshot.model(key).unwrap().id,
            "{spelling}"
        );
    }
    for other in ["TINY", "qwen3", "x-cloud", "", "tiny:local"] {
        let mut scratch = String::new();
        let plain = ModelKey::of(other, &mut scratch).is_ok_and(|(key, source)| {
            source == aivonx_shared::model_name::Source::Unspecified
                && snapshot.model(key).is_some()
        });
        assert!(snapshot.spelt(other).is_none() || plain, "{other}");
    }
}
