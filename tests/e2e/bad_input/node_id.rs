//! A body that names a node, on the paths that aivonx' predecessor had: refused, as it was there.

use serde_json::json;

use super::House;
use crate::support::post;

/// The paths, and what each needs beside the model.
const PATHS: [(&str, &str); 4] = [
    ("/api/generate", r#""prompt":"Hi""#),
    (
        "/api/chat",
        r#""messages":[{"role":"user","content":"Hi"}]"#,
    ),
    ("/api/embed", r#""input":"Hi""#),
    ("/api/embeddings", r#""prompt":"Hi""#),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_may_not_name_a_node() {
    let house = House::with(&[]).await;
    let ask = async |path: &str, body: String| post(house.addr(), path, &body).await;
    for (path, needs) in PATHS {
        for body in [
            format!(r#"{{"model":"tiny",{needs},"node_id":1,"stream":false}}"#),
            format!(r#"{{"node_id":"1","model":"tiny",{needs}}}"#),
            format!(r#"{{"model":"nosuch",{needs},"node_id":1}}"#),
            r#"{"model":"tiny","keep_alive":0,"node_id":0}"#.to_owned(),
            r#"{"node_id":false}"#.to_owned(),
        ] {
            let answer = ask(path, body.clone()).await;
            assert_eq!(answer.status, 400, "{path} {body}");
            let error = json!({"error": "specifying node_id is not allowed"});
            assert_eq!(answer.json(), error, "{path} {body}");
        }
        // longer than what is kept for another try, and read whole all the same
        let long = "x".repeat(1 << 20);
        let body = format!(r#"{{"model":"tiny","x":"{long}",{needs},"node_id":1}}"#);
        assert_eq!(ask(path, body).await.status, 400, "{path}");
    }
    assert!(house.relayed().is_empty(), "nothing of it came to the node");
    for (path, needs) in PATHS {
        for id in ["null", "7,\"node_id\":null"] {
            let body = format!(
                r#"{{"model":"tiny",{needs},"node_id":{id},"stream":false,"options":{{"num_predict":1,"node_id":7}}}}"#
            );
            let answer = ask(path, body).await;
            assert_ne!(answer.status, 400, "{path}: {}", answer.text());
        }
        let broken = format!(r#"{{"model":"tiny",{needs},"node_id":1"#);
        let answer = ask(path, broken + "}}").await;
        assert!(
            answer.status == 400 && answer.text().contains("node_id"),
            "what follows is passed over"
        );
    }
    let others = [
        ("/api/show", r#"{"model":"tiny","node_id":1}"#),
        (
            "/v1/chat/completions",
            r#"{"model":"tiny","messages":[{"role":"user","content":"Hi"}],"node_id":1,"max_tokens":1}"#,
        ),
    ];
    for (path, body) in others {
        let answer = ask(path, body.to_owned()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    house.still_serves().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_memory_is_judged_as_far_as_it_is_read() {
    let house = House::with(&[("BODY__BUFFER", "64 KiB")]).await;
    let long = "x".repeat(300 << 10);
    for (path, needs) in PATHS {
        let early = format!(r#"{{"model":"tiny","node_id":1,{needs},"x":"{long}"}}"#);
        let answer = post(house.addr(), path, &early).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    assert!(house.relayed().is_empty());
    let late = format!(
        r#"{{"model":"tiny",{},"stream":false,"x":"{long}","node_id":1}}"#,
        PATHS[1].1
    );
    let answer = post(house.addr(), "/api/chat", &late).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    house.still_serves().await;
}
