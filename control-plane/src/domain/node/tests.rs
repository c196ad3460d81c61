use super::*;
use crate::domain::draft;

fn with(check: impl FnOnce(NodeRules<'_>) -> Result<NewNode, Invalid>) -> Result<NewNode, Invalid> {
    check(NodeRules {
        addresses: &AddressRules::default(),
        seal: &|text| (text != "unsealable").then(|| format!("v1.{text}")),
    })
}

fn create(body: Value) -> Result<NewNode, Invalid> {
    with(|rules| draft::<NodeDraft>(body, &[])?.create(rules))
}

fn patch(present: &NewNode, body: Value) -> Result<NewNode, Invalid> {
    with(|rules| draft::<NodeDraft>(body, &[])?.patch(present.clone(), rules))
}

fn fields(result: Result<NewNode, Invalid>) -> Vec<String> {
    result.unwrap_err().fields.into_keys().collect()
}

fn place(node: &NewNode) -> (&str, &str, i32) {
    (&node.url, &node.address, node.port)
}

#[test]
fn the_predecessors_body_makes_a_node_and_is_given_back_as_it_was_put() {
    let node =
        create(json!({"name": " CPU node ", "address": "ollama", "port": "11434", "active": true}));
    let node = node.unwrap();
    assert_eq!(
        (node.name.as_str(), node.slug.as_str()),
        ("CPU node", "CPU-node")
    );
    assert_eq!(place(&node), ("http://ollama:11434", "ollama", 11434));
    assert!(node.enabled && !node.draining);
    let url = create(json!({"name": "a", "address": "https://h/base", "port": 0})).unwrap();
    assert_eq!(place(&url), ("https://h:443/base", "https://h/base", 0));
}

#[test]
fn a_url_is_told_in_the_predecessors_words_too() {
    let node = create(json!({"name": "a", "url": "http://10.0.0.1:8080"})).unwrap();
    assert_eq!(place(&node), ("http://10.0.0.1:8080", "10.0.0.1", 8080));
    let node = create(json!({"name": "a", "url": "https://h/team/"})).unwrap();
    assert_eq!(
        place(&node),
        ("https://h:443/team", "https://h:443/team", 0)
    );
    // and what is told comes back as the same place
    let again = patch(&node, json!({"address": node.address, "port": node.port})).unwrap();
    assert_eq!(again, node);
}

#[test]
fn of_two_spellings_sent_back_the_one_that_differs_is_the_change() {
    let node = create(json!({"name": "a", "address": "h", "port": 1})).unwrap();
    let body =
        |url: &str, address: &str, port: i32| json!({"url": url, "address": address, "port": port});
    assert_eq!(patch(&node, body("http://h:1", "h", 1)).unwrap(), node);
    let moved = patch(&node, body("http://other:2", "h", 1)).unwrap();
    assert_eq!(place(&moved), ("http://other:2", "other", 2));
    let moved = patch(&node, body("http://h:1", "other", 3)).unwrap();
    assert_eq!(place(&moved), ("http://other:3", "other", 3));
    assert_eq!(fields(patch(&node, body("http://b:1", "c", 1))), ["url"]);
    // the port alone, and the address alone
    assert_eq!(
        place(&patch(&node, json!({"port": 9})).unwrap()),
        ("http://h:9", "h", 9)
    );
    assert_eq!(
        place(&patch(&node, json!({"address": "i"})).unwrap()),
        ("http://i:1", "i", 1)
    );
    let off = patch(&node, json!({"enabled": true, "active": false})).unwrap();
    assert!(!off.enabled);
}

#[test]
fn every_problem_is_told_by_its_field() {
    let body = json!({
        "name": "a\u{7}b", "address": "169.254.169.254", "port": 70000, "weight": 0, "slots": 99999,
        "labels": {"k": "\u{85}"}, "discover": "maybe", "models": {"include": ["a b"]},
        "headers": {"Host": "x"}, "bearer_token": "a b"
    });
    assert_eq!(fields(create(body)), ["labels", "name", "port"]);
    let body = json!({
        "name": "a", "address": "h", "weight": 0, "slots": 99999, "discover": "maybe",
        "models": {"include": ["a b"]}, "headers": {"Host": "x"}, "bearer_token": "a b",
        "insecure_tls": true
    });
    let expected = [
        "bearer_token",
        "discover",
        "headers.host",
        "insecure_tls",
        "models.include",
        "slots",
        "weight",
    ];
    assert_eq!(fields(create(body)), expected);
    assert_eq!(fields(create(json!({}))), ["address", "name"]);
    assert_eq!(
        fields(create(json!({"name": " ", "url": "ftp://h"}))),
        ["name", "url"]
    );
    assert_eq!(
        fields(create(json!({"name": "x".repeat(101), "address": "h"}))),
        ["name"]
    );
    assert_eq!(
        fields(create(
            json!({"name": "a", "url": "http://169.254.169.254/"})
        )),
        ["url"]
    );
    assert_eq!(
        fields(create(json!({"name": "a", "address": "[fe80::1]"}))),
        ["address"]
    );
    assert_eq!(
        fields(create(json!({"name": 1, "port": [], "colour": 1}))),
        ["colour", "name", "port"]
    );
    assert_eq!(
        fields(create(
            json!({"name": "a", "url": "https://h", "tls": {"ca": "none"}})
        )),
        ["tls.ca"]
    );
}

#[test]
fn secrets_are_judged_sealed_kept_and_removed() {
    let node = create(json!({
        "name": "a", "address": "h", "bearer_token": "one", "headers": {"X-A": "two", "X-B": "three"}
    }))
    .unwrap();
    assert_eq!(node.bearer_token.as_ref().unwrap().reveal(), "v1.one");
    let kept = patch(&node, json!({"weight": 2})).unwrap();
    assert_eq!(
        (&kept.bearer_token, &kept.headers),
        (&node.bearer_token, &node.headers)
    );
    let changed = patch(
        &node,
        json!({"bearer_token": null, "headers": {"x-a": null, "X-C": "four"}}),
    );
    let changed = changed.unwrap();
    assert_eq!(changed.bearer_token, None);
    let headers: Vec<_> = changed
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.reveal()))
        .collect();
    assert_eq!(headers, [("x-a", "v1.two"), ("x-c", "v1.four")]);
    assert!(
        patch(&node, json!({"headers": null}))
            .unwrap()
            .headers
            .is_empty()
    );
    assert_eq!(
        fields(patch(&node, json!({"headers": {"X-D": null}}))),
        ["headers"]
    );
    assert_eq!(
        fields(patch(&node, json!({"headers": {"x-a": "1", "X-A": "2"}}))),
        ["headers"]
    );
    assert_eq!(
        fields(patch(&node, json!({"bearer_token": "unsealable"}))),
        ["bearer_token"]
    );
    let shown = format!("{node:?}");
    assert!(!shown.contains("v1."), "{shown}");
}

#[test]
fn put_needs_name_and_address_and_keeps_what_the_predecessors_clients_do_not_know() {
    let node =
        create(json!({"name": "a", "address": "h", "port": 1, "weight": 7, "bearer_token": "t"}));
    let node = node.unwrap();
    let put = |body| with(|rules| draft::<NodeDraft>(body, &[])?.replace(node.clone(), rules));
    let read_back = put(json!({"name": "b", "address": "h", "port": 1, "active": true})).unwrap();
    assert_eq!(
        (
            read_back.weight,
            read_back.name.as_str(),
            read_back.slug.as_str()
        ),
        (7, "b", "b")
    );
    assert_eq!(read_back.bearer_token, node.bearer_token);
    assert_eq!(fields(put(json!({"weight": 1}))), ["address", "name"]);
}
