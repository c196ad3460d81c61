//! Documents laid beside a fleet, and what is told of the difference.

use serde_json::json;

use super::*;
use crate::domain::fleet::Secrets;
use crate::domain::{Difference, fleet};

fn seal_key(byte: &str) -> SealKey {
    SealKey::parse(&byte.repeat(32)).unwrap()
}

fn beside(present: &WholeFleet, text: &str) -> Result<WholeFleet, Invalid> {
    let rules = ImportRules {
        addresses: &AddressRules::default(),
        key: &seal_key("07"),
    };
    present.with_document(text, rules)
}

/// A fleet with all that no document can say: a name of its own, a note, a disabled key.
fn lived_in() -> WholeFleet {
    let seal = |text: &str| sealed::seal(&seal_key("07"), text).ok();
    let rules = NodeRules {
        addresses: &AddressRules::default(),
        seal: &seal,
    };
    let node = |body| {
        draft::<NodeDraft>(body, &[])
            .unwrap()
            .create(rules)
            .unwrap()
    };
    let key = |body, digit: &str| {
        let key = draft::<ApiKeyDraft>(body, &[]).unwrap().create().unwrap();
        (key, Hidden::new(digit.repeat(64)))
    };
    let settings = json!({"strategy": "lowest_latency", "aliases": {"small": ["qwen3:8b"]}});
    WholeFleet {
        nodes: vec![
            node(json!({
                "name": "GPU (rack 2)", "address": "gpu", "port": 0, "bearer_token": "t0ken", "weight": 3,
                "headers": {"X-Team.a": "bl\\ue \"x\""}, "labels": {"zone": "a", "sealed": "no"},
                "models": {"exclude": ["llama3:70b"]}
            })),
            node(
                json!({"name": "tls", "url": "https://h", "tls": {"server_name": "ollama.internal"}, "enabled": false}),
            ),
        ],
        keys: vec![
            key(
                json!({"key_id": "webui", "note": "for the office", "rate": "600/m", "burst": 7,
                "expires_at": "2027-01-31T12:00:00+01:00", "user_header": "X-User", "scopes": ["infer", "manage"]}),
                "a",
            ),
            key(json!({"key_id": "off", "enabled": false}), "b"),
        ],
        settings: self::settings(&settings).unwrap(),
    }
}

fn export(fleet: &WholeFleet, secrets: Secrets) -> String {
    let keys = fleet
        .keys
        .iter()
        .map(|(key, sha256)| (key.clone(), sha256.reveal()));
    fleet::document(fleet.nodes.clone(), keys, &fleet.settings, secrets)
}

#[test]
fn an_export_taken_over_again_is_no_difference() {
    let present = lived_in();
    let texts = [Secrets::Sealed, Secrets::References].map(|secrets| {
        let json = export(&present, secrets);
        [aivonx_shared::fleet_doc::as_yaml(&json).unwrap(), json]
    });
    for text in texts.concat() {
        let wanted = beside(&present, &text).unwrap();
        let difference = Difference::between(&present, &wanted);
        assert_eq!(difference, Difference::default(), "{text}");
        assert_eq!(difference.to_string(), "no difference");
        assert_eq!(wanted.nodes, present.nodes);
        assert_eq!(wanted.keys, present.keys[..1]);
    }
}

#[test]
fn an_export_of_references_holds_no_secret_and_they_follow_a_new_name() {
    let present = lived_in();
    let text = export(&present, Secrets::References);
    assert!(!text.contains("v1."), "{text}");
    assert!(
        text.contains(r#"{"stored":"GPU-rack-2/bearer_token"}"#),
        "{text}"
    );
    assert!(
        text.contains(r#"{"stored":"GPU-rack-2/headers/x-team.a"}"#),
        "{text}"
    );
    let renamed = text.replace(r#""name":"GPU-rack-2""#, r#""name":"gpu-2""#);
    let wanted = beside(&present, &renamed).unwrap();
    assert_eq!(wanted.nodes[0].slug, "gpu-2");
    let token = wanted.nodes[0].bearer_token.as_ref().unwrap();
    assert_eq!(
        sealed::open(&seal_key("07"), token.reveal())
            .unwrap()
            .reveal(),
        "t0ken"
    );
    // elsewhere nothing is stored under these names: each is told
    let invalid = beside(&WholeFleet::default(), &text).unwrap_err();
    let fields: Vec<_> = invalid.fields.keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        ["nodes[0].bearer_token", "nodes[0].headers.x-team.a"]
    );
}

#[test]
fn an_open_secret_that_is_the_same_changes_nothing_either() {
    let present = lived_in();
    let text = export(&present, Secrets::Sealed);
    let sealed = present.nodes[0].bearer_token.as_ref().unwrap().reveal();
    let open = text.replace(&format!("{{\"sealed\":\"{sealed}\"}}"), "\"t0ken\"");
    assert_ne!(open, text);
    assert_eq!(beside(&present, &open).unwrap().nodes, present.nodes);
}

#[test]
fn the_difference_is_told_by_field_and_secrets_stay_hidden() {
    let present = lived_in();
    let digest = "c".repeat(64);
    let text = format!(
        "nodes:\n  - {{name: GPU-rack-2, url: \"http://gpu:80\", bearer_token: an0ther, labels: {{zone: b}}}}\n  \
         - {{name: new, url: \"http://n:1\"}}\nkeys: [{{id: webui, sha256: {digest}}}, {{id: off, sha256: {}}}]\n\
         cloud: allow\n",
        "b".repeat(64)
    );
    let wanted = beside(&present, &text).unwrap();
    assert_eq!(
        (
            wanted.nodes[0].name.as_str(),
            wanted.nodes[0].address.as_str()
        ),
        ("GPU (rack 2)", "gpu")
    );
    assert_eq!(wanted.keys[0].0.note, "for the office");
    let difference = Difference::between(&present, &wanted);
    assert_eq!(
        difference.to_string(),
        "nodes: 1 added, 1 changed, 1 removed; keys: 2 changed; settings: 3 changed"
    );
    let told = serde_json::to_value(&difference).unwrap();
    let node = &told["nodes"]["changed"][0];
    assert_eq!(node["name"], "GPU-rack-2");
    let fields = &node["fields"];
    assert_eq!(fields["weight"], json!({"before": 3, "after": 1}));
    assert_eq!(fields["labels.zone"], json!({"before": "a", "after": "b"}));
    assert_eq!(
        fields["bearer_token"],
        json!({"before": "***", "after": "***"})
    );
    assert_eq!(
        fields["headers.x-team.a"],
        json!({"before": "***", "after": null})
    );
    assert_eq!(fields["models.exclude"]["after"], json!([]));
    assert_eq!(
        told["keys"]["changed"][0]["fields"],
        json!({"enabled": {"before": false, "after": true}})
    );
    let webui = &told["keys"]["changed"][1]["fields"];
    assert_eq!(webui["sha256"], json!({"before": "***", "after": "***"}));
    assert_eq!(webui["rate"], json!({"before": "600/m", "after": null}));
    assert_eq!(
        told["settings"]["cloud"],
        json!({"before": null, "after": "allow"})
    );
    let text = told.to_string();
    for secret in ["an0ther", "t0ken", "v1.", &digest, "bl\\\\ue"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once_by_its_place() {
    let present = lived_in();
    let foreign = sealed::seal(&seal_key("08"), "t0ken").unwrap();
    let text = format!(
        "nodes:\n  - {{name: a, url: \"http://h:1\", bearer_token: {{sealed: {foreign}}}}}\n  \
         - {{name: b, url: \"http://h:2\", headers: {{x: {{file: /etc/passwd}}}}, wieght: 1}}\n"
    );
    let invalid = beside(&present, &text).unwrap_err();
    let fields: Vec<_> = invalid.fields.keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "nodes[0].bearer_token",
            "nodes[1].headers.x",
            "nodes[1].wieght"
        ]
    );
    assert!(
        invalid.fields["nodes[1].wieght"][0].starts_with("line 3: unknown key"),
        "{invalid}"
    );
    assert!(!invalid.to_string().contains(&foreign), "{invalid}");

    // what a data plane would take, and the rules of the house do not
    let long = "x".repeat(300);
    let text = format!(
        "nodes:\n  - {{name: a, url: \"http://169.254.169.254\"}}\n  \
         - {{name: b, url: \"http://h\", labels: {{k: {long}}}}}\n  - {{name: tls-2, url: \"http://h\"}}\n"
    );
    let mut named = present;
    named.nodes[1].name = "tls-2".to_owned();
    let invalid = beside(&named, &text).unwrap_err();
    let fields: Vec<_> = invalid.fields.keys().map(String::as_str).collect();
    assert_eq!(fields, ["nodes[0].url", "nodes[1].labels", "nodes[2].name"]);
}

#[test]
fn junk_is_refused_and_nothing_panics() {
    let present = lived_in();
    for text in [
        "",
        "[]",
        "nodes: 5",
        "nodes: [",
        "\u{0}",
        "nodes: [{name: [a]}]",
        "!a b",
        "? {a: b} : c",
        "- *x",
    ] {
        assert!(beside(&present, text).is_err(), "{text:?}");
    }
    let many = format!("nodes: [{}]", "{name: a, url: \"http://h\"}, ".repeat(5001));
    assert!(beside(&present, &many).is_err());
    let wanted = beside(&present, "nodes: []\nkeys: ~\nstrategy: ~\n").unwrap();
    assert_eq!(wanted, WholeFleet::default());
}
