use std::sync::Arc;

use aivonx_shared::config::ProxyConfig;
use aivonx_shared::fleet_doc::FleetDoc;
use serde_json::{Value, json};

use super::*;
use crate::fleet::Fleet;
use crate::fleet::inventory::parse_list;

fn fleet() -> Arc<Snapshot> {
    fleet_with("{}")
}

/// All of a fleet, for everybody.
fn all(snapshot: &Snapshot) -> View<'_> {
    View {
        snapshot,
        grant: None,
        node: None,
    }
}

fn fleet_with(aliases: &str) -> Arc<Snapshot> {
    let fleet = Fleet::new(ProxyConfig::defaults().breaker);
    let yaml = "nodes: [{name: a, url: \"http://h:1\"}, {name: b, url: \"http://h:2\"}, {name: sick, url: \"http://h:3\"}]";
    let yaml = format!("{yaml}\naliases: {aliases}");
    fleet.apply(FleetDoc::from_yaml(&yaml).unwrap());
    let tags = [
        // a is newer, though its text sorts lower
        r#"{"models":[{"name":"x:latest","modified_at":"2026-01-01T23:00:00Z","size":1,"digest":"new"},{"name":"only-a:latest","modified_at":"2025-01-01T00:00:00Z"}]}"#,
        r#"{"models":[{"name":"x:latest","modified_at":"2026-01-02T06:00:00+08:00","size":2,"digest":"old"}]}"#,
        r#"{"models":[{"name":"lost:latest","modified_at":"2026-01-03T00:00:00Z"}]}"#,
    ];
    for (index, node) in fleet.load().nodes().iter().enumerate() {
        node.state().health.observe(index < 2, 1, 1);
        node.state()
            .set_inventory(parse_list(tags[index].as_bytes(), "modified_at").unwrap());
        let ps = r#"{"models":[{"name":"x:latest","expires_at":"2026-01-01T00:00:00Z"}]}"#;
        node.state()
            .set_residency(parse_list(ps.as_bytes(), "expires_at").unwrap());
        node.state().version.store(Some(Arc::new(
            ["0.33.0", "0.5.1", "0.1.0"][index].to_owned(),
        )));
    }
    fleet.refresh();
    fleet.load_full()
}

#[test]
fn tags_keep_the_newest_entry_of_each_model_of_nodes_in_service() {
    let body: Value = serde_json::from_str(&tags(all(&fleet()))).unwrap();
    let seen: Vec<_> = body["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["name"].clone(), m["digest"].clone()))
        .collect();
    assert_eq!(
        seen,
        [
            (json!("x:latest"), json!("new")),
            (json!("only-a:latest"), Value::Null)
        ]
    );
}

#[test]
fn ps_says_where_a_model_runs() {
    let body: Value = serde_json::from_str(&ps(all(&fleet()))).unwrap();
    assert_eq!(body["models"][0]["running_on"], json!(["a", "b"]));
    assert_eq!(body["models"].as_array().unwrap().len(), 1);
}

#[test]
fn the_models_of_v1_have_openai_shape() {
    let body = models(all(&fleet()));
    assert!(body.ends_with("}\n"));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["data"][0],
        json!({"id":"x:latest","object":"model","created":1_767_308_400,"owned_by":"library"})
    );
    assert_eq!(
        model(all(&fleet()), "X").unwrap(),
        "{\"id\":\"X\",\"object\":\"model\",\"created\":1767308400,\"owned_by\":\"library\"}\n"
    );
    assert_eq!(model(all(&fleet()), "nosuch"), Err("nosuch:latest".into()));
    let empty = Fleet::new(ProxyConfig::defaults().breaker);
    assert_eq!(
        models(all(&empty.load_full())),
        "{\"object\":\"list\",\"data\":null}\n"
    );
}

#[test]
fn aliases_are_listed_as_the_model_that_would_be_served() {
    let fleet = fleet_with("{GPT: [nosuch, lost, x], gone: [nosuch], only-a: [x]}");
    let body: Value = serde_json::from_str(&tags(all(&fleet))).unwrap();
    let listed: Vec<_> = body["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["name"].clone(), m["digest"].clone()))
        .collect();
    // only-a is hidden: under its name stands x
    assert_eq!(
        listed,
        [
            (json!("x:latest"), json!("new")),
            (json!("GPT:latest"), json!("new")),
            (json!("only-a:latest"), json!("new")),
        ]
    );
    let body: Value = serde_json::from_str(&models(all(&fleet))).unwrap();
    let ids: Vec<_> = body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["id"].clone(), m["owned_by"].clone()))
        .collect();
    let library = || json!("library");
    assert_eq!(
        ids,
        [
            (json!("x:latest"), library()),
            (json!("GPT"), library()),
            (json!("only-a"), library())
        ]
    );
    let one: Value = serde_json::from_str(&model(all(&fleet), "gpt").unwrap()).unwrap();
    assert_eq!(
        (&one["id"], &one["created"]),
        (&json!("gpt"), &json!(1_767_308_400))
    );
    assert_eq!(model(all(&fleet), "gone"), Err("gone:latest".into()));
}

#[test]
fn the_version_is_the_lowest_in_service() {
    assert_eq!(lowest_version(all(&fleet())).as_deref(), Some("0.5.1"));
}

#[test]
fn of_one_node_is_shown_what_is_known_of_it_in_service_or_not() {
    let fleet = fleet();
    let of = |index: usize| View {
        node: Some(&fleet.nodes()[index]),
        ..all(&fleet)
    };
    let names = |body: String| {
        let body: Value = serde_json::from_str(&body).unwrap();
        let models = body["models"].as_array().unwrap().iter();
        models
            .map(|model| (model["name"].clone(), model["digest"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(tags(of(1))), [(json!("x:latest"), json!("old"))]);
    assert_eq!(names(tags(of(2))), [(json!("lost:latest"), Value::Null)]);
    let body: Value = serde_json::from_str(&ps(of(1))).unwrap();
    assert_eq!(body["models"][0]["running_on"], json!(["b"]));
    assert_eq!(model(of(1), "only-a"), Err("only-a:latest".into()));
    assert_eq!(lowest_version(of(2)).as_deref(), Some("0.1.0"));
}
