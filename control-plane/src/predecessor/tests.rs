//! The predecessor's rows as ours: what is taken, what is not, and that both are told.

use serde_json::json;

use super::source::{FoundNode, FoundUser};
use super::*;
use crate::domain::Role;

const DEFAULT: &str =
    "pbkdf2_sha256$100000$changemeSalt$bLPXP7FXOHD3cNAUpsjqTqIQLaj7aVPopfhuvCUbnHI=";
const OTHER: &str =
    "pbkdf2_sha256$100000$qT3vXk0mBz7LwYc9$18c4UDVGPPuturxVxnXCJtArkuF806BmMdcTYUa6ciU=";

fn node(id: i64, name: &str, address: &str, port: i64) -> FoundNode {
    FoundNode {
        id,
        name: name.to_owned(),
        address: address.to_owned(),
        port,
        active: true,
        created_at: chrono::DateTime::UNIX_EPOCH,
    }
}

fn user(username: &str, password: &str, is_superuser: bool, is_staff: bool) -> FoundUser {
    FoundUser {
        username: username.to_owned(),
        email: String::new(),
        password: password.to_owned(),
        is_superuser,
        is_staff,
        is_active: true,
    }
}

fn options(inference: Inference) -> Options {
    Options {
        inference,
        addresses: AddressRules::default(),
        root_password: Some(Secret::new("correct horse")),
        dry_run: false,
    }
}

#[test]
fn nodes_get_urls_and_names_of_their_own() {
    let long = "x".repeat(100);
    let found = vec![
        node(3, "GPU", "ollama", 11434),
        node(4, "GPU", "https://gpu.example", 0),
        node(5, " GPU ", "10.0.0.1:8080", 11434),
        node(6, &long, "http://h/base", 11434),
        node(7, &long, "::1", 11434),
        node(8, "\u{7}", "httpfoo", 11434),
    ];
    let mut told = Part::default();
    let taken = nodes::take(found, &[], &AddressRules::default(), &mut told);
    let seen: Vec<_> = taken
        .iter()
        .map(|it| (it.id.unwrap(), it.node.name.as_str(), it.node.url.as_str()))
        .collect();
    let cut = format!("{} (2)", "x".repeat(96));
    assert_eq!(
        seen,
        [
            (3, "GPU", "http://ollama:11434"),
            (4, "GPU (2)", "https://gpu.example:443"),
            (5, "GPU (3)", "http://10.0.0.1:8080"),
            (6, long.as_str(), "http://h:11434/base"),
            (7, cut.as_str(), "http://[::1]:11434"),
            (8, "node 8", "http://httpfoo:11434"),
        ]
    );
    assert!(
        taken
            .iter()
            .all(|it| it.node.enabled && it.created_at.is_some())
    );
    assert!(
        told.taken[1].contains("it was called \"GPU\" there"),
        "{told:?}"
    );
    assert_eq!(told.left, Vec::<String>::new());
}

#[test]
fn what_cannot_be_a_node_is_left_and_told() {
    let mut off = node(1, "off", "h", 11434);
    off.active = false;
    let found = vec![
        off,
        node(2, "twice", "http://h:11434", 0),
        node(3, "port", "h", 99_999),
        node(4, "cloud", "169.254.169.254", 80),
        node(5, "none", "  ", 11434),
    ];
    let mut told = Part::default();
    let taken = nodes::take(found, &[], &AddressRules::default(), &mut told);
    assert_eq!(taken.len(), 1);
    assert!(told.taken[0].contains("it comes enabled"), "{told:?}");
    let reasons = [
        "\"off\" stands at",
        "port: must be",
        "link-local",
        "address: must be",
    ];
    for (line, reason) in told.left.iter().zip(reasons) {
        assert!(line.contains(reason), "{reason}: {told:?}");
    }
    assert_eq!(told.left.len(), reasons.len());
}

#[test]
fn users_get_roles_and_keep_their_passwords() {
    let mut away = user("away", OTHER, false, true);
    away.is_active = false;
    away.email = "nobody".to_owned();
    let found = vec![
        user("root", OTHER, true, true),
        away,
        user("Vera", "!unusable", false, false),
        user("vera", OTHER, false, false),
        user(&"x".repeat(150), OTHER, false, false),
    ];
    let mut told = Part::default();
    let taken = users::take(found, &[], &mut told);
    let rows: Vec<_> = taken.into_iter().map(users::Taken::into_parts).collect();
    let seen: Vec<_> = rows
        .iter()
        .map(|(user, hash)| (user.name.as_str(), user.role, user.is_active, hash.reveal()))
        .collect();
    assert_eq!(
        seen,
        [
            ("root", Role::Admin, true, OTHER),
            ("away", Role::Operator, false, OTHER),
            ("Vera", Role::Viewer, true, "!"),
        ]
    );
    assert!(
        told.taken[1].contains("disabled") && told.taken[1].contains("e-mail"),
        "{told:?}"
    );
    assert!(told.taken[2].contains("no password"), "{told:?}");
    assert_eq!(told.left.len(), 2, "{told:?}");
    assert!(!format!("{told:?}").contains("pbkdf2"), "{told:?}");
}

#[tokio::test]
async fn the_default_password_of_root_has_to_be_changed() {
    for (hash, must) in [(DEFAULT, true), (OTHER, false)] {
        let mut told = Part::default();
        let mut taken = users::take(vec![user("root", hash, true, true)], &[], &mut told);
        users::watch_default_password(&mut taken, &mut told)
            .await
            .unwrap();
        assert_eq!(told.notes.len(), usize::from(must));
        let (root, _) = taken.pop().unwrap().into_parts();
        assert_eq!(root.must_change_password, must);
    }
}

#[tokio::test]
async fn somebody_can_always_log_in_as_an_admin() {
    for (found, is_made) in [
        (vec![], true),
        (
            vec![
                user("root", "!", true, true),
                user("vera", OTHER, false, false),
            ],
            true,
        ),
        (vec![user("boss", OTHER, true, true)], false),
    ] {
        let mut told = Part::default();
        let mut taken = users::take(found, &[], &mut told);
        let options = options(Inference::Keys);
        let made_up = users::make_admin(&mut taken, &[], &options, &mut told)
            .await
            .unwrap();
        assert_eq!(made_up, None, "it was given");
        let rows: Vec<_> = taken.into_iter().map(users::Taken::into_parts).collect();
        let roots = rows.iter().filter(|(user, _)| user.name == "root");
        let hashes: Vec<_> = roots
            .map(|(_, hash)| hash.reveal().starts_with("$argon2id$"))
            .collect();
        assert_eq!(hashes, vec![true; usize::from(is_made)]);
    }
}

#[test]
fn inference_is_as_it_was_said_and_a_strategy_of_ours_stays() {
    let told = &mut Part::default();
    let open = settings(
        Some("lowest_latency"),
        &Settings::default(),
        &options(Inference::Open),
        told,
    );
    let wanted = SettingsPatch::parse(
        json!({"strategy": "lowest_latency", "anonymous": "always"}),
        &[],
    );
    let mut expected = Settings::default();
    for (key, value) in wanted.unwrap().into_parts() {
        expected.set(key, value);
    }
    assert_eq!(open, SettingsPatch::whole(&expected));

    let again = settings(
        Some("lowest_latency"),
        &expected,
        &options(Inference::Open),
        told,
    );
    assert_eq!(again, SettingsPatch::default());
    let keys = settings(Some("nonsense"), &expected, &options(Inference::Keys), told);
    assert_eq!(
        keys,
        SettingsPatch::whole(&{
            let mut closed = expected.clone();
            closed.set("anonymous".to_owned(), None);
            closed
        })
    );
    let other = settings(
        Some("least_active"),
        &expected,
        &options(Inference::Open),
        &mut Part::default(),
    );
    assert_eq!(other, SettingsPatch::default());
    assert!(
        told.left.iter().any(|line| line.contains("nonsense")),
        "{told:?}"
    );
}
