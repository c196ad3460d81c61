//! Which nodes a pull of the fleet is for, and what is said of those it is not for.

use serde_json::{Value, json};

use super::super::on_both;
use super::{has, is_in_state, job, puller, queue};
use crate::support::{Kind, Stack, chat};

on_both!(
    a_node_whose_rules_exclude_the_model_is_skipped,
    a_fleet_without_nodes_says_that_there_is_none,
);

async fn a_node_whose_rules_exclude_the_model_is_skipped(kind: Kind) {
    let stack = Stack::start(kind).await;
    let (one, two) = (puller(f64::INFINITY).await, puller(f64::INFINITY).await);
    stack.register("gpu-1", &one).await;
    let id = stack.register("gpu-2", &two).await;
    let rules = json!({"models": {"exclude": ["moa:*"]}});
    let at = format!("/api/proxy/nodes/{id}");
    assert_eq!(stack.api("PATCH", &at, rules).await.status, 200);

    let all = json!({"model": "moa"});
    let answer = stack.api("POST", "/api/proxy/pull", all.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let line = &answer["results"][1];
    assert_eq!(
        (
            &answer["results"][0]["status"],
            &line["status"],
            &line["node_id"]
        ),
        (&json!("success"), &json!("skipped"), &json!(id)),
        "{answer}"
    );
    let words = line["message"].as_str().unwrap();
    assert!(
        words.starts_with("skipped: ") && words.contains("`models` rules"),
        "{words}"
    );
    assert!(has(&one, "moa"));
    assert_eq!(two.count("/api/pull"), 0);
    let end = job(&stack, answer["job_id"].as_i64().unwrap()).await;
    assert_eq!(
        (&end["state"], &end["error"], &end["nodes"][1]["status"]),
        (&json!("done"), &Value::Null, &json!("skipped")),
        "{end}"
    );
    let begun = json!({"model": "moa", "stream": true});
    let begun = stack.api("POST", "/api/proxy/pull", begun).await.json();
    let told = [0, 1].map(|at: usize| begun["results"][at]["status"].clone());
    assert_eq!(told, [json!("initiated"), json!("skipped")]);

    // who names it means it
    let named = queue(&stack, json!({"model": "moa", "node_ids": [id]})).await;
    is_in_state(&stack, named, "done").await;
    assert!(has(&two, "moa"));

    let disable = "/api/proxy/nodes/1/disable";
    assert_eq!(stack.api("POST", disable, Value::Null).await.status, 200);
    let nobody = stack.api("POST", "/api/proxy/pull", all).await;
    let words = nobody.json()["error"].as_str().unwrap().to_owned();
    assert!(
        nobody.status == 404 && words.contains("`models` rules"),
        "{words}"
    );
}

async fn a_fleet_without_nodes_says_that_there_is_none(kind: Kind) {
    let stack = Stack::start(kind).await;
    let lines = "Content-Type: application/json\r\n";
    let bodies = [
        ("/api/pull", r#"{"model":"moa"}"#.to_owned()),
        ("/api/pull", r#"{"model":"moa","stream":false}"#.to_owned()),
        ("/api/create", r#"{"model":"mine","from":"moa"}"#.to_owned()),
        ("/api/chat", chat("moa", 1, true)),
    ];
    for (path, body) in bodies {
        let answer = stack.send("POST", path, lines, &body).await;
        assert_eq!(
            (answer.status, answer.json()),
            (503, json!({"error": "no node is in service"})),
            "{path}"
        );
        assert!(answer.header("retry-after").is_some(), "{path}");
    }
    for path in ["/api/proxy/pull", "/api/proxy/jobs"] {
        let answer = stack.api("POST", path, json!({"model": "moa"})).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]),
            (404, &json!("no active nodes available")),
            "{path}"
        );
    }
}
