//! What a document may say of the way to a node, and what it says when it may not.

use super::*;
use crate::config::Problems;
use crate::fleet_doc::{Cloud, FleetDoc, Outside};
use crate::sealed::{self, SealKey};

const SECRET: &str = "hush-hush-4711";

fn node(keys: &str) -> Result<NodeAccess, Problems> {
    let text = format!("nodes:\n  - {{name: a, url: \"https://gpu-1.example\", {keys}}}\n");
    FleetDoc::from_yaml(&text).map(|doc| doc.nodes[0].access.clone())
}

fn problem(keys: &str) -> String {
    node(keys).unwrap_err().to_string()
}

fn certificate() -> String {
    let signed = rcgen::generate_simple_self_signed(["gpu-1.example".to_owned()]).unwrap();
    signed.cert.pem()
}

#[test]
fn an_entry_without_them_has_no_credentials_and_checks_certificates() {
    assert_eq!(node("weight: 1").unwrap(), NodeAccess::default());
    let plain = "nodes: [{name: a, url: \"http://h:1\"}]";
    let doc = FleetDoc::from_yaml(plain).unwrap();
    assert_eq!(
        (&doc.nodes[0].access, doc.cloud),
        (&NodeAccess::default(), Cloud::Deny)
    );
}

#[test]
fn credentials_and_trust_are_read() {
    let access = node("bearer_token: abc, headers: {X-Team: blue, x-other: {env: OTHER}}, tls: {server_name: ollama.internal, ca_file: ca.pem}, discover: dns").unwrap();
    assert_eq!(access.bearer_token.unwrap().text(), Some("abc"));
    assert_eq!(access.headers["x-team"].text(), Some("blue"));
    assert_eq!(access.headers["x-other"], Given::Env("OTHER".into()));
    assert_eq!(access.tls.ca, Some(Given::File("ca.pem".into())));
    assert_eq!(access.tls.server_name.as_deref(), Some("ollama.internal"));
    assert_eq!(
        (access.discover, access.tls.insecure),
        (Discover::Dns, false)
    );
}

#[test]
fn what_stands_outside_is_fetched_and_its_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("token", &format!("{SECRET}\n"));
    write("ca.pem", &(certificate() + &certificate()));
    let text = "nodes: [{name: a, url: \"https://h\", bearer_token_file: token, tls: {ca_file: ca.pem}, headers: {x-a: {file: token}, x-b: {env: B}}}]";
    let outside = Outside::new(folder.path(), |name| (name == "B").then(|| "blue".into()));

    let doc = FleetDoc::from_yaml_with(text, &outside).unwrap();

    let access = &doc.nodes[0].access;
    assert_eq!(access.bearer_token.as_ref().unwrap().text(), Some(SECRET));
    assert_eq!(access.headers["x-a"].text(), Some(SECRET));
    assert_eq!(access.headers["x-b"].text(), Some("blue"));
    assert_eq!(access.tls.certificates().len(), 2);
    assert_eq!(outside.seen().len(), 3);
    assert!(!format!("{doc:?}").contains(SECRET), "{doc:?}");
}

#[test]
fn what_is_sealed_is_opened_with_the_key_and_stays_closed_without() {
    let key = SealKey::from_bytes(&[7; 32]);
    let sealed = |text| sealed::seal(&key, text).unwrap();
    let (token, header) = (sealed(SECRET), sealed("blue"));
    let text = format!(
        "nodes:\n  - name: a\n    url: https://h\n    bearer_token: {{sealed: {token}}}\n    headers: {{x-a: {{sealed: {header}}}}}\n"
    );
    let shape = FleetDoc::from_yaml(&text).unwrap();
    let access = &shape.nodes[0].access;
    assert_eq!(access.bearer_token, Some(Given::Sealed(token.clone())));
    assert_eq!(access.headers["x-a"].text(), None);

    let with = |key| FleetDoc::from_yaml_with(&text, &Outside::sealed_only(key));
    let doc = with(Some(key.clone())).unwrap();
    let access = &doc.nodes[0].access;
    assert_eq!(access.bearer_token.as_ref().unwrap().text(), Some(SECRET));
    assert_eq!(access.headers["x-a"].text(), Some("blue"));
    assert!(!format!("{doc:?}").contains(SECRET));

    let other = SealKey::from_bytes(&[8; 32]);
    for (key, words) in [(None, "there is no key"), (Some(other), "another key")] {
        let problems = with(key).unwrap_err().to_string();
        assert!(
            problems.contains("line 4: nodes[0].bearer_token"),
            "{problems}"
        );
        assert!(
            problems.contains(words) && !problems.contains(&token),
            "{problems}"
        );
    }
}

#[test]
fn what_is_opened_is_judged_like_any_other_value() {
    let key = SealKey::from_bytes(&[7; 32]);
    let sealed = sealed::seal(&key, "two words").unwrap();
    let text =
        format!("nodes: [{{name: a, url: \"http://h\", bearer_token: {{sealed: {sealed}}}}}]");
    let problems = FleetDoc::from_yaml_with(&text, &Outside::sealed_only(Some(key))).unwrap_err();
    assert!(problems.to_string().contains("no spaces") && !problems.to_string().contains("two"));
}

#[test]
fn a_document_from_elsewhere_names_neither_files_nor_variables() {
    for given in ["{file: /etc/hostname}", "{env: PATH}"] {
        let text = format!("nodes: [{{name: a, url: \"http://h\", bearer_token: {given}}}]");
        let outside = Outside::sealed_only(None);
        let problems = FleetDoc::from_yaml_with(&text, &outside).unwrap_err();
        assert!(
            problems.to_string().contains("only a fleet file may"),
            "{problems}"
        );
        assert!(outside.seen().is_empty());
    }
}

#[test]
fn what_cannot_be_fetched_is_a_problem_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty"), " \n").unwrap();
    std::fs::write(
        folder.path().join("key.pem"),
        "-----BEGIN X-----\n-----END X-----\n",
    )
    .unwrap();
    let text = "nodes:\n  - name: a\n    url: https://h\n    bearer_token_file: gone\n    headers:\n      x-a: {file: empty}\n      x-b: {env: NOT_SET}\n    tls:\n      ca_file: key.pem\n";
    let outside = Outside::new(folder.path(), |_| None);
    let problems = FleetDoc::from_yaml_with(text, &outside).unwrap_err();
    let seen: Vec<_> = problems
        .iter()
        .map(|p| (p.key.as_str(), p.line.unwrap()))
        .collect();
    assert_eq!(
        seen,
        [
            ("nodes[0].bearer_token_file", 4),
            ("nodes[0].headers.x-a", 6),
            ("nodes[0].headers.x-b", 7),
            ("nodes[0].tls.ca_file", 9),
        ],
        "{problems}"
    );
    let text = problems.to_string();
    for words in [
        "gone: No such file",
        "empty is empty",
        "NOT_SET is not set",
        "holds no certificate",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn what_contradicts_itself_or_means_nothing_is_refused() {
    for (keys, words) in [
        ("insecure_tls: true, tls: {ca_file: x}", "keep one of them"),
        (
            "tls: {ca: x, ca_file: x}",
            "write `ca` or `ca_file`, not both",
        ),
        ("tls: {ca: nonsense}", "holds no certificate"),
        ("tls: {server_name: \"a b\"}", "must be a host name"),
        ("tls: {sni: x}", "unknown key"),
        ("headers: {Host: x}", "not for a document to set"),
        (
            "headers: {Transfer-Encoding: x}",
            "not for a document to set",
        ),
        ("headers: {x-aivonx-node: x}", "not for a document to set"),
        ("headers: {x-a: a, X-A: b}", "stands here already"),
        (
            "headers: {authorization: a}, bearer_token: b",
            "names that too",
        ),
        ("headers: [a]", "must be a mapping"),
        ("discover: srv", "write none, dns, dns4 or dns6"),
        ("bearer_token: {path: a}", "must be text, `{file: FILE}`"),
        (
            "bearer_token: {sealed: hush}",
            "must be text, `{file: FILE}`",
        ),
    ] {
        assert!(
            problem(keys).contains(words),
            "{words} in {}",
            problem(keys)
        );
    }
    let plain = |keys: &str| {
        let text = format!("nodes: [{{name: a, url: \"http://10.0.0.1\", {keys}}}]");
        FleetDoc::from_yaml(&text).unwrap_err().to_string()
    };
    assert!(plain("insecure_tls: true").contains("https://"));
    assert!(plain("tls: {server_name: a}").contains("https://"));
    assert!(plain("discover: dns").contains("needs a host name"));
}

#[test]
fn a_damaged_certificate_is_refused_before_it_can_do_harm() {
    let damaged = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n";
    let words = problem(&format!("tls: {{ca: \"{damaged}\"}}"));
    assert!(words.contains("certificate 1 in it is damaged"), "{words}");
}

#[test]
fn no_problem_repeats_a_secret() {
    for keys in [
        format!("bearer_token: \"{SECRET} {SECRET}\""),
        format!("bearer_token: [{SECRET}]"),
        format!("bearer_token: {{{SECRET}: {SECRET}}}"),
        format!("bearer_token:{SECRET}"),
        format!("headers: {{x-a: \"{SECRET}\\n\"}}"),
        format!("headers: {{x-a: [{SECRET}]}}"),
        format!("headers: {{\"x-a: {SECRET}\": b}}"),
        format!("headers: {{x-a:{SECRET}}}"),
        format!("headers: {SECRET}"),
        format!("tls: {{ca: {SECRET}}}"),
    ] {
        let text = problem(&keys);
        assert!(!text.contains(SECRET), "{keys}: {text}");
    }
}
