//! Who may change what nodes store and have loaded, and choose a node by name.

use aivonx_sim::SimNode;

use super::{ask, bearer, key, node};
use crate::support::{Aivonx, Setup};

async fn house() -> (SimNode, Aivonx) {
    let node = node(&["tiny", "small"]).await;
    let document = format!(
        "anonymous: never\nkeys:\n{}{}{}",
        key("infer", ""),
        key("manage", ", scopes: [infer, manage]"),
        key("some", ", scopes: [infer, manage], models: [\"tiny*\"]")
    );
    let aivonx = Setup::nodes_with(&[&node], "", &document).start().await;
    (node, aivonx)
}

/// Every request that changes a store, as a client would send it.
const CHANGES: [(&str, &str, &str); 7] = [
    ("POST", "/api/pull", r#"{"model":"tiny"}"#),
    ("POST", "/api/push", r#"{"model":"tiny"}"#),
    ("POST", "/api/create", r#"{"model":"tiny2","from":"tiny"}"#),
    (
        "POST",
        "/api/copy",
        r#"{"source":"tiny","destination":"tiny2"}"#,
    ),
    ("DELETE", "/api/delete", r#"{"model":"tiny"}"#),
    ("POST", "/api/blobs/sha256:ab", "blob"),
    ("HEAD", "/api/blobs/sha256:ab", ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_a_store_needs_the_scope_for_it() {
    let (node, aivonx) = house().await;
    for (method, path, body) in CHANGES {
        let nobody = ask(aivonx.addr, "", method, path, body).await;
        assert_eq!(nobody.status, 401, "{method} {path}");
        let infer = ask(aivonx.addr, &bearer("infer"), method, path, body).await;
        assert_eq!(infer.status, 403, "{method} {path}");
        assert_eq!(node.count(path), 0, "{method} {path}");
    }
    for (method, path, body) in CHANGES {
        let answer = ask(aivonx.addr, &bearer("manage"), method, path, body).await;
        assert!(
            ![401, 403].contains(&answer.status),
            "{method} {path} {answer:?}"
        );
        assert!(node.count(path) >= 1, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unloading_and_choosing_a_node_need_the_scope_too() {
    let (_node, aivonx) = house().await;
    let unload = r#"{"model":"tiny","keep_alive":0}"#;
    let work = r#"{"model":"tiny","prompt":"hi","keep_alive":0,"options":{"num_predict":2}}"#;
    let status = async |id: &str, headers: &str, body: &str| {
        let headers = format!("{}{headers}", bearer(id));
        ask(aivonx.addr, &headers, "POST", "/api/generate", body)
            .await
            .status
    };
    assert_eq!(status("infer", "", unload).await, 403);
    assert_eq!(
        status(
            "infer",
            "",
            r#"{"model":"tiny","Keep_Alive":"0s","prompt":""}"#
        )
        .await,
        403
    );
    assert_eq!(
        status("infer", "", work).await,
        200,
        "it is work that unloads afterwards"
    );
    assert_eq!(status("manage", "", unload).await, 200);
    let pin = "X-Aivonx-Node: n0\r\n";
    assert_eq!(status("infer", pin, work).await, 403);
    assert_eq!(status("manage", pin, work).await, 200);
    assert_eq!(status("manage", "X-Aivonx-Node: n9\r\n", work).await, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_model_that_a_change_names_is_held_against_the_list() {
    let (node, aivonx) = house().await;
    for (method, path, body) in [
        ("DELETE", "/api/delete", r#"{"model":"small"}"#),
        (
            "DELETE",
            "/api/delete",
            r#"{"model":"tiny","Model":"small"}"#,
        ),
        ("DELETE", "/api/delete", r#"{"model":"","name":"small"}"#),
        ("POST", "/api/pull", r#"{"name":"small"}"#),
        ("POST", "/api/push", r#"{"model":"small"}"#),
        ("POST", "/api/create", r#"{"model":"tiny2","from":"small"}"#),
        ("POST", "/api/create", r#"{"model":"small2","from":"tiny"}"#),
        (
            "POST",
            "/api/copy",
            r#"{"source":"small","destination":"tiny2"}"#,
        ),
        (
            "POST",
            "/api/copy",
            r#"{"source":"tiny","destination":"small2"}"#,
        ),
        (
            "POST",
            "/api/copy",
            "{\"source\":\"tiny\",\"\u{17F}ource\":\"small\",\"destination\":\"tiny2\"}",
        ),
        (
            "POST",
            "/api/create",
            r#"{"model":"tiny2","from":"tiny","modelfile":"FROM small"}"#,
        ),
        ("DELETE", "/api/delete", "nonsense"),
        ("DELETE", "/api/delete", r#"{"model":5}"#),
        ("DELETE", "/api/delete", ""),
    ] {
        let before = node.count(path);
        let answer = ask(aivonx.addr, &bearer("some"), method, path, body).await;
        assert_eq!(answer.status, 403, "{path} {body}: {}", answer.text());
        assert_eq!(node.count(path), before, "{path} {body}");
    }
    let copied = ask(
        aivonx.addr,
        &bearer("some"),
        "POST",
        "/api/copy",
        r#"{"source":"tiny","destination":"tiny2"}"#,
    )
    .await;
    assert_eq!(copied.status, 200, "{}", copied.text());
    assert_eq!(node.installed().len(), 3, "{:?}", node.installed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_model_is_not_brought_in_while_nothing_may_leave() {
    let (node, aivonx) = house().await;
    for (path, body) in [
        ("/api/pull", r#"{"model":"gpt-oss:120b-cloud"}"#),
        ("/api/pull", r#"{"model":"qwen3:cloud"}"#),
        ("/api/create", r#"{"model":"mine","from":"qwen3:cloud"}"#),
    ] {
        let answer = ask(aivonx.addr, &bearer("manage"), "POST", path, body).await;
        assert_eq!(answer.status, 403, "{body}: {}", answer.text());
        assert!(
            answer.text().contains("ollama cloud is disabled"),
            "{}",
            answer.text()
        );
        assert_eq!(node.count(path), 0);
    }
}
