use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::{AddressRules, ApiKeyDraft, NodeDraft, NodeRules, SettingsPatch, draft};

fn node_of(body: Value) -> Result<NewNode, Invalid> {
    let rules = NodeRules {
        addresses: &AddressRules::default(),
        seal: &|text| Some(format!("v1.{}", text.len())),
    };
    draft::<NodeDraft>(body, &[])?.create(rules)
}

#[test]
fn an_empty_fleet_is_the_default_document() {
    let text = document([], [], &Settings::default(), Secrets::Sealed);
    assert_eq!(text, r#"{"keys":[],"nodes":[]}"#);
    assert_eq!(FleetDoc::from_yaml(&text).unwrap(), FleetDoc::default());
}

#[test]
fn secrets_stand_sealed_in_the_document_and_nowhere_else() {
    let made = node_of(json!({
        "name": "a", "url": "https://h", "bearer_token": "t0ken", "headers": {"X-A": "v4lue"}
    }))
    .unwrap();
    let entry = node(&made, Secrets::Sealed);
    assert_eq!(entry["bearer_token"], json!({"sealed": "v1.5"}));
    assert_eq!(entry["headers"], json!({"x-a": {"sealed": "v1.5"}}));
    let text = document([made], [], &Settings::default(), Secrets::Sealed);
    assert!(!text.contains("t0ken") && !text.contains("v4lue"), "{text}");
}

#[test]
fn letters_that_yaml_has_no_place_for_are_escaped() {
    let odd = "\u{7f}\u{85}\u{9f}\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}\u{0}\u{1b}\t\n\u{1f600}é";
    let value = json!({"nodes": [], "aliases": {odd: [odd]}});
    let problems = FleetDoc::from_yaml(&text(&value)).unwrap_err().to_string();
    assert!(!problems.contains("not valid YAML"), "{problems}");
}

proptest! {
    /// Whatever passes the drafts, data planes read, and read as it was meant.
    #[test]
    fn what_drafts_accept_data_planes_read(
        names in proptest::collection::btree_set(".{1,20}", 0..6),
        label in proptest::collection::btree_map(".{1,9}", ".{0,20}", 0..3),
        weight in 0u32..1100,
        flags in any::<(bool, bool)>(),
        key_ids in proptest::collection::btree_set("[a-z0-9._-]{1,9}", 0..4),
        models in proptest::collection::vec("[a-z*?:/.]{1,12}", 0..3),
        rate in proptest::option::of("[0-9]{1,3}/[smhdx]"),
        settings in proptest::collection::btree_map(
            prop_oneof![Just("aliases"), Just("cloud"), Just("strategy"), Just("pull")], ".{0,12}", 0..3),
    ) {
        let mut slugs = BTreeSet::new();
        let mut nodes = Vec::new();
        for name in names {
            let made = node_of(json!({
                "name": name, "address": "10.0.0.1", "port": 1, "weight": weight, "labels": label,
                "enabled": flags.0, "draining": flags.1, "models": {"exclude": models},
            }));
            if let Ok(made) = made && slugs.insert(made.slug.clone()) {
                nodes.push(made);
            }
        }
        let keys = key_ids.into_iter().filter_map(|id| {
            let body = json!({"key_id": id, "models": models, "rate": rate});
            draft::<ApiKeyDraft>(body, &[]).ok()?.create().ok()
        });
        let keys: Vec<_> = keys.collect();
        let digests: Vec<_> = (0..keys.len()).map(|index| format!("{index:064x}")).collect();
        let mut whole = Settings::default();
        if let Ok(patch) = SettingsPatch::parse(json!(settings), &[]) {
            for (key, value) in patch.into_parts() {
                whole.set(key, value);
            }
        }
        let pairs = keys.iter().cloned().zip(digests.iter().map(String::as_str));
        let doc = FleetDoc::from_yaml(&document(nodes.clone(), pairs, &whole, Secrets::Sealed)).unwrap();
        prop_assert_eq!(doc.nodes.len(), nodes.len());
        prop_assert_eq!(doc.keys.len(), keys.len());
        for (read, made) in doc.nodes.iter().zip(&nodes) {
            prop_assert_eq!(&read.name, &made.slug);
            prop_assert_eq!(&read.labels, &made.labels);
            prop_assert_eq!(read.url.to_string(), made.url.clone());
            prop_assert_eq!((read.enabled, read.draining), flags);
            prop_assert_eq!(read.weight, made.weight.cast_unsigned());
        }
    }
}
