//! `aivonx fleet export` and `import`: the document as people keep it in a file.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::super::{house, node, on_both};
use super::{Person, Said};
use crate::support::{Kind, Stack, last_chat, post, until};

on_both!(
    an_export_is_imported_again_without_a_change,
    a_document_is_shown_agreed_to_and_made,
    what_is_wrong_in_a_document_is_said_with_its_line,
);

const SECRET: &str = "hush-hush-hush";

/// A fleet whose one node wants a token, and somebody who is logged in.
async fn guarded(kind: Kind) -> (aivonx_sim::SimNode, Stack, Person) {
    let (sim, stack, id) = house(kind).await;
    let path = format!("/api/proxy/nodes/{id}");
    let token = json!({"bearer_token": SECRET});
    assert_eq!(stack.api("PATCH", &path, token).await.status, 200);
    let root = Person::root(&stack).await;
    (sim, stack, root)
}

impl Person {
    /// Writes a file of their own; gives its path.
    fn file_of(&self, name: &str, text: &str) -> String {
        let file = self.home.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    async fn import(&self, file: &str, more: &[&str]) -> Said {
        self.say(&[&["fleet", "import", file], more].concat(), "")
            .await
    }

    /// The fleet document as it is now.
    async fn export(&self) -> String {
        self.does(&["fleet", "export", "--json"]).await.out
    }
}

fn is_no_difference(said: &Said) {
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
    assert_eq!(said.err, "no difference\n", "{said:?}");
}

async fn an_export_is_imported_again_without_a_change(kind: Kind) {
    let (sim, stack, root) = guarded(kind).await;
    let file = root.home.path().join("fleet.json");
    let file = file.to_str().unwrap().to_owned();
    root.does(&["fleet", "export", &file]).await;
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let document = std::fs::read_to_string(&file).unwrap();
    assert!(
        !document.contains(SECRET) && !document.contains("v1."),
        "{document}"
    );
    let written: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(
        written["nodes"][0]["bearer_token"],
        json!({"stored": "gpu-1/bearer_token"})
    );
    // a second one replaces the first whole
    std::fs::write(&file, document.repeat(2)).unwrap();
    root.does(&["fleet", "export", &file]).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), document);

    is_no_difference(&root.import(&file, &["--dry-run"]).await);
    // there is nothing to be asked
    is_no_difference(&root.import(&file, &[]).await);
    let from_input = root.say(&["fleet", "import", "-"], &document).await;
    is_no_difference(&from_input);
    let sealed = root.file_of("sealed.json", "");
    root.does(&["fleet", "export", "--sealed", &sealed]).await;
    let backup = std::fs::read_to_string(&sealed).unwrap();
    assert!(
        backup.contains("v1.") && !backup.contains(SECRET),
        "{backup}"
    );
    is_no_difference(&root.import(&sealed, &["--yes"]).await);
    assert_eq!(root.export().await, document);

    // as people keep it
    let yaml = root.file_of("fleet.yaml", "");
    root.does(&["fleet", "export", &yaml]).await;
    let document = std::fs::read_to_string(&yaml).unwrap();
    let reference = "  bearer_token:\n    stored: gpu-1/bearer_token\n";
    assert!(
        document.contains("nodes:\n- name: gpu-1\n") && document.contains(reference),
        "{document}"
    );
    assert_eq!(root.does(&["fleet", "export"]).await.out, document);
    is_no_difference(&root.import(&yaml, &["--yes"]).await);

    until("the node is told its token", || async {
        let body = crate::support::chat("tiny", 1, false);
        post(stack.aivonx.addr, "/api/chat", &body).await.status == 200
            && last_chat(&sim).header("authorization") == Some("Bearer hush-hush-hush")
    })
    .await;
}

async fn a_document_is_shown_agreed_to_and_made(kind: Kind) {
    let (sim, stack, root) = guarded(kind).await;
    let second = node().await;
    let document = format!(
        "strategy: lowest_latency\nnodes:\n  \
         - name: gpu-1\n    url: \"{}\"\n    weight: 3\n    bearer_token: {{stored: gpu-1/bearer_token}}\n  \
         - {{name: gpu-2, url: \"{}\", bearer_token: another-secret}}\n",
        sim.url(),
        second.url()
    );
    let file = root.file_of("fleet.yaml", &document);
    let before = root.export().await;
    let dry = root.import(&file, &["--dry-run"]).await;
    let changes = format!(
        "+ node gpu-2\n    bearer_token: ***\n    discover: none\n    draining: false\n    enabled: true\n    \
         models.exclude: []\n    models.include: []\n    slots: 1\n    url: {}\n    weight: 1\n\
         ~ node gpu-1\n    weight: 1 -> 3\n~ setting strategy: lowest_latency\n",
        second.url()
    );
    let summary = "nodes: 1 added, 1 changed; settings: 1 changed";
    assert_eq!((dry.code, &dry.out), (0, &changes), "{dry:?}");
    assert_eq!(dry.err, format!("{summary}\n"));
    let told = root.import(&file, &["--dry-run", "--json"]).await.json();
    assert_eq!(
        (&told["dry_run"], &told["applied"], &told["summary"]),
        (&json!(true), &json!(false), &json!(summary))
    );
    // a script that does not say yes is shown the same, and nothing happens
    let unsaid = root.import(&file, &[]).await;
    assert_eq!((unsaid.code, &unsaid.out), (2, &changes), "{unsaid:?}");
    assert!(
        unsaid.err.contains(summary) && unsaid.err.contains("--yes"),
        "{unsaid:?}"
    );
    assert_eq!(root.export().await, before);

    let done = root.import(&file, &["--yes"]).await;
    assert_eq!((done.code, &done.out), (0, &changes), "{done:?}");
    assert!(
        done.err
            .starts_with(&format!("{summary}; the fleet is at revision ")),
        "{done:?}"
    );
    let list = root.does(&["node", "list"]).await;
    assert!(
        !list.row("gpu-1").is_empty() && !list.row("gpu-2").is_empty(),
        "{list:?}"
    );
    let after = root.export().await;
    assert!(
        !after.contains("another-secret") && !after.contains(SECRET),
        "{after}"
    );
    let after: Value = serde_json::from_str(&after).unwrap();
    assert_eq!(
        after["nodes"][1]["bearer_token"],
        json!({"stored": "gpu-2/bearer_token"})
    );
    for (name, sim, token) in [
        ("gpu-1", &sim, "Bearer hush-hush-hush"),
        ("gpu-2", &second, "Bearer another-secret"),
    ] {
        until(&format!("{name} is told its token"), || async {
            let lines = format!("Content-Type: application/json\r\nx-aivonx-node: {name}\r\n");
            let body = crate::support::chat("tiny", 1, false);
            let answer = stack.send("POST", "/api/chat", &lines, &body).await;
            answer.status == 200 && last_chat(sim).header("authorization") == Some(token)
        })
        .await;
    }
    let again = root.file_of("again.json", &root.export().await);
    is_no_difference(&root.import(&again, &["--yes"]).await);
}

async fn what_is_wrong_in_a_document_is_said_with_its_line(kind: Kind) {
    let (_sim, _stack, root) = guarded(kind).await;
    let before = root.export().await;
    let good = "nodes:\n  - {name: a, url: \"http://h:1\"}\n";
    for (document, words) in [
        (
            "strategy: fastest\nnodes:\n  - name: a\n    url: \"http://h:1\"\n    wieght: 2\n"
                .to_owned(),
            &["line 1: `fastest` is no strategy", "line 5", "wieght"][..],
        ),
        (
            format!(
                "{good}  - {{name: b, url: \"http://h:2\", bearer_token: {{stored: b/bearer_token}}}}\n"
            ),
            &["line 3", "b/bearer_token"],
        ),
        ("nodes: [\n".to_owned(), &["not valid YAML"]),
        (String::new(), &["needs `nodes`"]),
    ] {
        let file = root.file_of("wrong.yaml", &document);
        for more in [&["--dry-run"][..], &["--yes"]] {
            let said = root.import(&file, more).await;
            assert_eq!((said.code, said.out.as_str()), (1, ""), "{said:?}");
            for word in words {
                assert!(said.err.contains(word), "{word}: {said:?}");
            }
        }
    }
    let nowhere = root.import("/no/such/file.yaml", &["--yes"]).await;
    assert!(
        nowhere.code == 66 && nowhere.err.contains("/no/such/file.yaml"),
        "{nowhere:?}"
    );
    assert_eq!(root.export().await, before);
}
