//! Unloading needs `manage`, by whatever route and however long the body; work on the same routes
//! needs `infer`.

use aivonx_sim::{ModelSpec, NodeSpec, SimNode};

use super::{ask, bearer, key};
use crate::support::{Aivonx, Setup, post, until};

/// What is held of a body, bytes.
const HELD: usize = 1 << 20;

async fn house() -> (SimNode, Aivonx) {
    let embeds = ModelSpec::new("tiny").capabilities(["completion", "embedding"]);
    let node = SimNode::start(NodeSpec::new().model(embeds.context_length(1 << 30)))
        .await
        .unwrap();
    let document = format!(
        "anonymous: never\nkeys:\n{}{}{}",
        key("infer", ""),
        key("manage", ", scopes: [manage]"),
        key("both", ", scopes: [infer, manage]")
    );
    let aivonx = Setup::nodes_with(&[&node], "", &document)
        .set("BODY__BUFFER", "1MiB")
        .start()
        .await;
    (node, aivonx)
}

/// Loads the model beside the proxy, for good.
async fn load(node: &SimNode) {
    let body = r#"{"model":"tiny","keep_alive":-1}"#;
    assert_eq!(post(node.addr(), "/api/generate", body).await.status, 200);
    assert_eq!(node.resident().len(), 1);
}

async fn status(aivonx: &Aivonx, id: &str, path: &str, body: &str) -> u16 {
    ask(aivonx.addr, &bearer(id), "POST", path, body)
        .await
        .status
}

/// Nothing to do, as each route says it.
const IDLE: [(&str, &str); 9] = [
    ("/api/generate", ""),
    ("/api/generate", r#","prompt":"""#),
    ("/api/chat", ""),
    ("/api/chat", r#","messages":[]"#),
    ("/api/embed", ""),
    ("/api/embed", r#","input":"""#),
    ("/api/embed", r#","input":[]"#),
    ("/api/embeddings", ""),
    ("/api/embeddings", r#","prompt":"""#),
];

/// Work, as each route says it.
const WORK: [(&str, &str); 4] = [
    ("/api/generate", r#","prompt":"x""#),
    (
        "/api/chat",
        r#","messages":[{"role":"user","content":"x"}]"#,
    ),
    ("/api/embed", r#","input":["x"]"#),
    ("/api/embeddings", r#","prompt":"x""#),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unloading_is_for_who_may_manage_and_work_for_who_may_infer() {
    let (node, aivonx) = house().await;
    for (path, idle) in IDLE {
        let body = format!(r#"{{"model":"tiny"{idle},"keep_alive":0}}"#);
        load(&node).await;
        assert_eq!(status(&aivonx, "infer", path, &body).await, 403, "{body}");
        assert_eq!(node.resident().len(), 1, "{path} {body}");
        for id in ["manage", "both"] {
            load(&node).await;
            assert_eq!(status(&aivonx, id, path, &body).await, 200, "{id} {body}");
            until("it is unloaded", || async { node.resident().is_empty() }).await;
        }
        let loads = format!(r#"{{"model":"tiny"{idle},"keep_alive":60}}"#);
        assert_eq!(
            status(&aivonx, "manage", path, &loads).await,
            403,
            "{loads}"
        );
        assert_eq!(status(&aivonx, "infer", path, &loads).await, 200, "{loads}");
    }
    for (path, work) in WORK {
        for keep in ["", r#","keep_alive":0"#] {
            let body = format!(r#"{{"model":"tiny","options":{{"num_predict":1}}{work}{keep}}}"#);
            let before = node.count(path);
            assert_eq!(status(&aivonx, "manage", path, &body).await, 403, "{body}");
            assert_eq!(node.count(path), before, "{body}");
            assert_eq!(status(&aivonx, "infer", path, &body).await, 200, "{body}");
        }
    }
    let missing = r#"{"model":"tiny","prompt":"x"}"#;
    let refused = ask(
        aivonx.addr,
        &bearer("manage"),
        "POST",
        "/api/generate",
        missing,
    )
    .await;
    assert_eq!(
        refused.json()["error"],
        "this API key lacks the scope `infer`"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_cannot_smuggle_an_unloading() {
    let (node, aivonx) = house().await;
    load(&node).await;
    let junk = format!(r#""junk":"{}""#, "x".repeat(HELD + HELD / 2));
    for (path, idle) in IDLE {
        for body in [
            format!(r#"{{"model":"tiny"{idle},{junk},"keep_alive":0}}"#),
            format!(r#"{{"model":"tiny","keep_alive":0{idle},{junk}}}"#),
        ] {
            let before = node.count(path);
            let answer = ask(aivonx.addr, &bearer("infer"), "POST", path, &body).await;
            assert_eq!(answer.status, 413, "{path} {idle}: {}", answer.text());
            assert_eq!(
                answer.json()["error"],
                "request body too large: its prompt, messages or input must stand before what is long"
            );
            assert_eq!(status(&aivonx, "manage", path, &body).await, 403);
            assert_eq!(node.count(path), before);
        }
    }
    // work that stands in front may not be taken back behind what is long
    for ((path, work), idle) in WORK.into_iter().zip([1, 3, 5, 8]) {
        let idle = IDLE[idle].1;
        let body = format!(r#"{{"model":"tiny"{work},{junk}{idle},"keep_alive":0}}"#);
        let answer = ask(aivonx.addr, &bearer("infer"), "POST", path, &body).await;
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
    }
    assert_eq!(node.resident().len(), 1);
    aivonx
        .metric_is("aivonx_rejections_total{reason=\"late_work\"}", 22.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_work_passes() {
    let (_node, aivonx) = house().await;
    let long = "x".repeat(HELD + HELD / 2);
    for (path, work) in [
        ("/api/generate", format!(r#""prompt":"{long}""#)),
        (
            "/api/chat",
            format!(r#""messages":[{{"role":"user","content":"{long}"}}]"#),
        ),
        ("/api/embed", format!(r#""input":["{long}"]"#)),
        ("/api/embeddings", format!(r#""prompt":"{long}""#)),
    ] {
        let body = format!(
            r#"{{"model":"tiny","stream":false,"options":{{"num_predict":1}},{work},"keep_alive":60}}"#
        );
        assert_eq!(status(&aivonx, "infer", path, &body).await, 200, "{path}");
    }
    // who may do both may send it in any order
    let late = format!(r#"{{"model":"tiny","junk":"{long}","stream":false,"prompt":"x"}}"#);
    assert_eq!(status(&aivonx, "both", "/api/generate", &late).await, 200);
}
