//! Fleet documents out and in: what an import would do, what it does, and what it refuses.

use serde_json::{Value, json};

use super::{house, node, on_both};
use crate::support::{Kind, Response, Stack, chat, until};

on_both!(
    an_export_taken_over_again_changes_nothing,
    a_dry_run_tells_the_difference_and_an_import_makes_it,
    what_is_no_document_changes_nothing,
);

const IMPORT: &str = "/api/proxy/fleet/import";

async fn send(stack: &Stack, path: &str, lines: &str, document: &str) -> Response {
    let kind = if lines.contains("Content-Type") {
        ""
    } else {
        "Content-Type: application/yaml\r\n"
    };
    let lines = format!("Authorization: Bearer {}\r\n{kind}{lines}", stack.token);
    stack.send("POST", path, &lines, document).await
}

async fn export(stack: &Stack) -> Response {
    let answer = stack
        .api("GET", "/api/proxy/fleet?format=yaml", Value::Null)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/yaml"));
    answer
}

async fn done(stack: &Stack, method: &str, path: &str, body: Value) -> Value {
    let answer = stack.api(method, path, body).await;
    assert!(answer.status < 300, "{path}: {}", answer.text());
    answer.json()
}

async fn an_export_taken_over_again_changes_nothing(kind: Kind) {
    let (sim, stack, id) = house(kind).await;
    let secrets = json!({"bearer_token": "hush-hush-hush", "headers": {"X-Team": "blue"}, "name": "GPU (rack 2)"});
    done(&stack, "PATCH", &format!("/api/proxy/nodes/{id}"), secrets).await;
    for draft in [
        json!({"key_id": "ci", "rate": "60/m"}),
        json!({"key_id": "off", "enabled": false}),
    ] {
        done(&stack, "POST", "/api/proxy/keys", draft).await;
    }
    done(
        &stack,
        "PATCH",
        "/api/proxy/settings",
        json!({"aliases": {"small": ["tiny"]}}),
    )
    .await;
    let exported = export(&stack).await;
    let document = exported.text();
    assert!(
        document.contains("GPU-rack-2") && !document.contains("hush"),
        "{document}"
    );
    assert!(
        document.contains("stored: GPU-rack-2/bearer_token") && !document.contains("v1."),
        "{document}"
    );
    let backup = "/api/proxy/fleet?format=yaml&secrets=sealed";
    let backup = stack.api("GET", backup, Value::Null).await.text();
    assert!(
        backup.contains("sealed: v1.") && !backup.contains("hush"),
        "{backup}"
    );
    let dry = format!("{IMPORT}?dry_run=true");
    for (path, document) in [(&dry[..], &document), (&dry, &backup), (IMPORT, &document)] {
        let answer = send(&stack, path, "", document).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = answer.json();
        assert_eq!(
            (&told["summary"], &told["applied"]),
            (&json!("no difference"), &json!(false)),
            "{told}"
        );
        assert_eq!(answer.header("etag"), exported.header("etag"));
    }
    assert_eq!(export(&stack).await.text(), document);
    let off = done(&stack, "GET", "/api/proxy/keys", Value::Null).await;
    assert_eq!(off["count"], 2);
    until("the node sees its token", || async {
        let lines = "Content-Type: application/json\r\n";
        stack
            .send("POST", "/api/chat", lines, &chat("tiny", 1, false))
            .await;
        sim.requests().iter().any(|request| {
            request.path == "/api/chat"
                && request.header("authorization") == Some("Bearer hush-hush-hush")
        })
    })
    .await;
}

async fn a_dry_run_tells_the_difference_and_an_import_makes_it(kind: Kind) {
    let (_first, stack, id) = house(kind).await;
    let second = node().await;
    let key = done(&stack, "POST", "/api/proxy/keys", json!({"key_id": "old"})).await;
    let digest = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"; // of "password"
    let before = export(&stack).await;
    let document = format!(
        "nodes:\n  - {{name: gpu-2, url: \"{}\", bearer_token: hush-hush-hush}}\n\
         keys:\n  - {{id: new, sha256: {digest}}}\nanonymous: never\n",
        second.url()
    );
    let told = send(&stack, &format!("{IMPORT}?dry_run=true"), "", &document).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let told_json = told.json();
    assert_eq!(
        told_json["summary"],
        "nodes: 1 added, 1 removed; keys: 1 added, 1 removed; settings: 1 changed"
    );
    assert_eq!(
        told_json["difference"]["nodes"]["added"][0]["fields"]["bearer_token"]["after"],
        "***"
    );
    assert!(
        !told.text().contains("hush") && !told.text().contains(digest),
        "{}",
        told.text()
    );
    assert_eq!(export(&stack).await.text(), before.text());

    // what was told is what happens, or nothing
    let revision = told.header("etag").unwrap().to_owned();
    done(
        &stack,
        "PATCH",
        &format!("/api/proxy/nodes/{id}"),
        json!({"weight": 2}),
    )
    .await;
    let stale = send(
        &stack,
        IMPORT,
        &format!("If-Match: {revision}\r\n"),
        &document,
    )
    .await;
    assert_eq!(stale.status, 412, "{}", stale.text());
    let now = stale.header("etag").unwrap().to_owned();
    assert_ne!(now, revision);
    let made = send(&stack, IMPORT, &format!("If-Match: {now}\r\n"), &document).await;
    assert_eq!(
        (made.status, &made.json()["applied"]),
        (200, &json!(true)),
        "{}",
        made.text()
    );
    let epoch = |tag: &str| {
        tag.trim_matches('"')
            .split('.')
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(
        epoch(made.header("etag").unwrap()) > epoch(&now),
        "a new epoch"
    );

    let ask = |key: String| {
        let stack = &stack;
        async move {
            let lines =
                format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
            stack
                .send("POST", "/api/chat", &lines, &chat("tiny", 1, false))
                .await
        }
    };
    until("the new node serves the new key", || async {
        let answer = ask("password".to_owned()).await;
        answer.status == 200 && answer.node() == "gpu-2"
    })
    .await;
    assert_eq!(
        crate::support::last_chat(&second).header("authorization"),
        Some("Bearer hush-hush-hush")
    );
    assert_eq!(
        ask(key["key"].as_str().unwrap().to_owned()).await.status,
        401
    );
    assert_eq!(ask("none".to_owned()).await.status, 401);
    let audit = stack
        .api("GET", "/api/proxy/audit?actor=root", Value::Null)
        .await;
    for row in ["new_epoch", "gpu-2", "gpu-1", "delete"] {
        assert!(audit.text().contains(row), "{row}: {}", audit.text());
    }
    assert!(!audit.text().contains("hush"), "{}", audit.text());
}

async fn what_is_no_document_changes_nothing(kind: Kind) {
    let (_sim, stack, _) = house(kind).await;
    let before = export(&stack).await.text();
    let laughs = format!(
        "a: &a [{}]\nnodes: [{}]\n",
        "x, ".repeat(5_000),
        "*a, ".repeat(5_000)
    );
    let deep = "[".repeat(1_000_000);
    let long = format!("nodes: []\n# {}", "x".repeat(1 << 20));
    let outside = "nodes:\n  - {name: a, url: \"http://h:1\", bearer_token: {env: PATH}}\n";
    let forbidden = "nodes: [{name: a, url: \"http://169.254.169.254\"}]";
    for (path, lines, document, status, words) in [
        (IMPORT, "", "", 400, "needs `nodes`"),
        (
            IMPORT,
            "",
            "nodes: {a: b}\nstrategy: fastest\n",
            400,
            "line 2: `fastest` is no strategy",
        ),
        (IMPORT, "", "{\"nodes\": [", 400, "not valid YAML"),
        (IMPORT, "", &laughs, 400, "aliases"),
        (IMPORT, "", &deep, 400, "nested too deeply"),
        (IMPORT, "", &long, 413, "1 MiB"),
        (IMPORT, "", outside, 400, "only a fleet file may"),
        (IMPORT, "", forbidden, 400, "link-local"),
        (
            IMPORT,
            "Content-Type: text/html\r\n",
            "nodes: []",
            415,
            "application/yaml",
        ),
        (
            IMPORT,
            "If-Match: \"x\"\r\n",
            "nodes: []",
            400,
            "must be a revision",
        ),
        (
            IMPORT,
            "If-Match: \"1.2\"\r\n",
            "nodes: []",
            412,
            "is at revision",
        ),
        (
            "/api/proxy/fleet/import?dryrun=true",
            "",
            "nodes: []",
            400,
            "query",
        ),
        (
            "/api/proxy/fleet/import?dry_run=yes",
            "",
            "nodes: []",
            400,
            "query",
        ),
    ] {
        let answer = send(&stack, path, lines, document).await;
        let text = answer.text();
        assert_eq!(answer.status, status, "{words}: {text}");
        assert!(text.contains(words), "{words}: {text}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    assert_eq!(export(&stack).await.text(), before);
}
