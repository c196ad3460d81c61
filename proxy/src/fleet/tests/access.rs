//! What a changed document means for trust, credentials and what is known of a node.

use aivonx_shared::fleet_doc::FleetDoc;

use super::{Fleet, fleet};

fn one(keys: &str) -> String {
    format!("nodes: [{{name: a, url: \"https://h:1\"{keys}}}]")
}

fn apply(fleet: &Fleet, keys: &str) {
    fleet.apply(FleetDoc::from_yaml(&one(keys)).unwrap());
}

fn group(fleet: &Fleet) -> Option<u64> {
    fleet.load().nodes()[0]
        .trust()
        .map(super::trust::Trust::group)
}

#[test]
fn a_trust_lives_as_long_as_the_document_says_the_same_of_it() {
    let fleet = fleet(&one(""));
    assert_eq!(group(&fleet), None, "the system's authorities");
    apply(&fleet, ", tls: {ca_file: a.pem}");
    let first = group(&fleet).unwrap();
    apply(&fleet, ", tls: {ca_file: a.pem}, weight: 2");
    assert_eq!(group(&fleet), Some(first), "its connections stay in use");
    apply(&fleet, ", tls: {ca_file: b.pem}");
    let second = group(&fleet).unwrap();
    assert_ne!(second, first);
    apply(&fleet, ", tls: {ca_file: a.pem}");
    assert_ne!(group(&fleet), Some(first), "never the same again");
    apply(&fleet, ", insecure_tls: true");
    assert!(group(&fleet).is_some_and(|group| group != first && group != second));
}

#[test]
fn credentials_are_headers_that_nothing_prints() {
    let fleet = fleet(&one(", bearer_token: hush, headers: {X-A: also-hush}"));
    let snapshot = fleet.load_full();
    let sent: Vec<_> = snapshot.nodes()[0]
        .credentials()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        sent,
        [("authorization", "Bearer hush"), ("x-a", "also-hush")]
    );
    let printed = format!("{:?}", snapshot.nodes()[0].credentials());
    assert!(!printed.contains("hush"), "{printed}");
}

#[test]
fn a_node_at_another_address_is_another_node() {
    let at = |address: &str| {
        let mut doc = FleetDoc::from_yaml(&one("")).unwrap();
        doc.nodes[0].access.address = Some(address.parse().unwrap());
        doc
    };
    let fleet = fleet(&one(""));
    fleet.apply(at("10.0.0.1"));
    let first = fleet.load_full();
    let state = first.nodes()[0].state();
    assert_eq!(state.address(), Some("10.0.0.1:1".parse().unwrap()));
    fleet.apply(at("10.0.0.1"));
    assert!(std::ptr::eq(
        fleet.load().nodes()[0].as_ref(),
        first.nodes()[0].as_ref()
    ));
    fleet.apply(at("10.0.0.2"));
    let second = fleet.load_full();
    assert!(!std::sync::Arc::ptr_eq(second.nodes()[0].state(), state));
    assert_eq!(
        second.nodes()[0].state().address(),
        Some("10.0.0.2:1".parse().unwrap())
    );
}
