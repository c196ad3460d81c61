//! Pulls as jobs: what the predecessor's clients see, progress, the end of one, limits, and what dies
//! meanwhile.

use aivonx_sim::{ModelSpec, NodeSpec, Outcome, RegistrySpec, SimNode};
use serde_json::{Value, json};

use super::listen::Events;
use super::{house, on_both};
use crate::support::{Kind, Stack, Traffic, until};

on_both!(
    a_pull_is_answered_as_the_predecessor_did,
    who_does_not_wait_is_answered_at_once,
    what_cannot_be_pulled_is_refused_with_a_reason,
    progress_is_told_until_the_end,
    a_cancelled_job_ends_at_the_node,
    a_node_that_is_away_is_a_line_and_not_the_end,
    never_more_pulls_go_on_than_allowed,
);

/// Bytes of a model of the registry.
const SIZE: u64 = 1_000_000_000;

/// A node that has `tiny` and pulls `moa` and `kiwi` at so many bytes a second, tenfold.
async fn puller(speed: f64) -> SimNode {
    let models = ["moa", "kiwi"].map(|name| ModelSpec::new(name).size(SIZE));
    let registry = RegistrySpec::serving(models).speed(speed);
    let spec = NodeSpec::new()
        .model(ModelSpec::new("tiny"))
        .registry(registry);
    SimNode::start(spec).await.unwrap()
}

fn has(node: &SimNode, model: &str) -> bool {
    node.installed().contains(&format!("{model}:latest"))
}

/// Pulls that go on at a node.
fn open_pulls(node: &SimNode) -> usize {
    let seen = node.requests();
    let open = seen.iter().filter(|request| request.path == "/api/pull");
    open.filter(|request| request.outcome == Outcome::Open)
        .count()
}

async fn queue(stack: &Stack, body: Value) -> i64 {
    let made = stack.api("POST", "/api/proxy/jobs", body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(made["nodes"][0]["status"], "waiting", "{made}");
    made["id"].as_i64().unwrap()
}

async fn job(stack: &Stack, id: i64) -> Value {
    let path = format!("/api/proxy/jobs/{id}");
    stack.api("GET", &path, Value::Null).await.json()
}

async fn is_in_state(stack: &Stack, id: i64, state: &str) {
    until(&format!("the job is {state}"), || async {
        job(stack, id).await["state"] == state
    })
    .await;
}

async fn a_pull_is_answered_as_the_predecessor_did(kind: Kind) {
    let stack = Stack::start(kind).await;
    let nodes = [puller(f64::INFINITY).await, puller(f64::INFINITY).await];
    let a = stack.register("gpu a", &nodes[0]).await;
    let b = stack.register("gpu b", &nodes[1]).await;
    let answer = stack
        .api("POST", "/api/proxy/pull", json!({"model": "moa"}))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(
        (&answer["model"], &answer["total_nodes"]),
        (&json!("moa"), &json!(2))
    );
    let line = |id: i64, name: &str, node: &SimNode| {
        json!({"node_id": id, "node_name": name, "node_address": node.url(), "status": "success",
               "message": "Model pulled successfully"})
    };
    let expected = json!([line(a, "gpu a", &nodes[0]), line(b, "gpu b", &nodes[1])]);
    assert_eq!(answer["results"], expected);
    assert!(has(&nodes[0], "moa") && has(&nodes[1], "moa"));
    let made = job(&stack, answer["job_id"].as_i64().unwrap()).await;
    assert_eq!(
        (&made["state"], &made["requested_by"]),
        (&json!("done"), &json!("root"))
    );

    let one = json!({"model": "kiwi", "node_id": b, "insecure": true, "stream": false});
    let one = stack.api("POST", "/api/proxy/pull", one).await.json();
    assert_eq!(
        (&one["total_nodes"], &one["results"][0]["node_id"]),
        (&json!(1), &json!(b))
    );
    assert!(!has(&nodes[0], "kiwi") && has(&nodes[1], "kiwi"));

    // as the predecessor: 200 even where every node failed
    let unknown = stack
        .api("POST", "/api/proxy/pull", json!({"model": "nosuch"}))
        .await;
    assert_eq!(unknown.status, 200);
    let line = &unknown.json()["results"][0];
    assert_eq!(line["status"], "error");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("file does not exist"),
        "{line}"
    );
    let list = "/api/proxy/jobs?state=done&limit=1&fields=model";
    let list = stack.api("GET", list, Value::Null).await.json();
    assert_eq!(
        (&list["count"], &list["results"]),
        (&json!(2), &json!([{"model": "kiwi"}]))
    );
}

async fn who_does_not_wait_is_answered_at_once(kind: Kind) {
    let (stack, node) = (Stack::start(kind).await, puller(1e3).await);
    stack.register("gpu-1", &node).await;
    let streamed = json!({"model": "moa", "stream": true});
    let streamed = stack.api("POST", "/api/proxy/pull", streamed).await;
    assert_eq!(streamed.status, 200, "{}", streamed.text());
    let line = streamed.json()["results"][0].clone();
    assert_eq!(
        (&line["status"], &line["message"]),
        (&json!("initiated"), &json!("Model pull initiated"))
    );
    let lines = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\nPrefer: respond-async\r\n",
        stack.token
    );
    let body = r#"{"model":"kiwi"}"#;
    let accepted = stack.send("POST", "/api/proxy/pull", &lines, body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let at = accepted.header("location").unwrap().to_owned();
    let made = stack.api("GET", &at, Value::Null).await.json();
    assert_eq!(
        (&made["id"], &made["model"]),
        (&accepted.json()["job_id"], &json!("kiwi"))
    );
    for id in [&streamed.json()["job_id"], &made["id"]] {
        let path = format!("/api/proxy/jobs/{id}/cancel");
        assert_eq!(stack.api("POST", &path, Value::Null).await.status, 200);
        is_in_state(&stack, id.as_i64().unwrap(), "cancelled").await;
    }
}

async fn what_cannot_be_pulled_is_refused_with_a_reason(kind: Kind) {
    let (stack, path) = (Stack::start(kind).await, "/api/proxy/pull");
    let nobody = stack.api("POST", path, json!({"model": "moa"})).await;
    assert_eq!(
        (nobody.status, &nobody.json()["error"]),
        (404, &json!("no active nodes available"))
    );
    let node = puller(f64::INFINITY).await;
    let id = stack.register("gpu-1", &node).await;
    for body in [json!({}), json!({"model": ""}), json!({"node_id": id})] {
        let missing = stack.api("POST", path, body).await;
        assert_eq!(missing.status, 400);
        let error = missing.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains("model name is required"), "{error}");
    }
    let unknown = json!({"model": "moa", "node_id": 99});
    let unknown = stack.api("POST", path, unknown).await;
    assert_eq!(
        (unknown.status, &unknown.json()["error"]),
        (404, &json!("node not found: 99"))
    );
    let disable = format!("/api/proxy/nodes/{id}/disable");
    assert_eq!(stack.api("POST", &disable, Value::Null).await.status, 200);
    let inactive = json!({"model": "moa", "node_id": id});
    assert_eq!(stack.api("POST", path, inactive).await.status, 404);
    for (body, field) in [
        (json!({"model": "moa", "node_id": "one"}), "node_id"),
        (json!({"model": "a b"}), "model"),
        (json!({"model": "moa", "nodes": [1]}), "nodes"),
        (json!({"model": "moa", "stream": "yes"}), "stream"),
    ] {
        let bad = stack.api("POST", path, body).await;
        assert_eq!(bad.status, 400, "{field}");
        assert!(bad.json()["errors"][field].is_array(), "{}", bad.text());
    }

    let user = json!({"name": "eye", "password": "a long enough one", "role": "viewer"});
    let made = stack.api("POST", "/api/account/users", user).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let login = json!({"username": "eye", "password": "a long enough one"});
    let login = stack.api_as("", "POST", "/api/account/login", login).await;
    let viewer = login.json()["access"].as_str().unwrap().to_owned();
    let body = json!({"model": "moa"});
    for (token, status) in [("", 401), (viewer.as_str(), 403)] {
        for path in [
            path,
            "/api/proxy/jobs",
            "/api/proxy/jobs/1/cancel",
            "/api/proxy/nodes/1/probe",
        ] {
            let refused = stack.api_as(token, "POST", path, body.clone()).await;
            assert_eq!(refused.status, status, "{path}: {}", refused.text());
        }
    }
    let seen = stack
        .api_as(&viewer, "GET", "/api/proxy/jobs", Value::Null)
        .await;
    assert_eq!((seen.status, &seen.json()["count"]), (200, &json!(0)));
    for path in [
        "/api/proxy/jobs",
        "/api/proxy/jobs/1",
        "/api/proxy/jobs/1/events",
        "/api/proxy/events",
    ] {
        assert_eq!(
            stack.api_as("", "GET", path, Value::Null).await.status,
            401,
            "{path}"
        );
    }
    assert_eq!(node.count("/api/pull"), 0);
}

async fn progress_is_told_until_the_end(kind: Kind) {
    let (stack, node) = (Stack::start(kind).await, puller(30e6).await);
    stack.register("gpu-1", &node).await;
    let id = queue(&stack, json!({"model": "moa"})).await;
    let path = format!("/api/proxy/jobs/{id}/events");
    let mut events = Events::open(&stack, &stack.token, &path, None).await;
    let (mut seen, mut last) = (Vec::new(), None);
    while let Some(event) = events.next().await {
        assert_eq!(
            (event.name.as_str(), &event.data["id"]),
            ("job", &json!(id))
        );
        assert!(event.id > last, "each is newer: {event:?}");
        last = event.id;
        seen.push(event.data);
    }
    let end = seen.last().unwrap();
    assert_eq!(
        (&end["state"], &end["nodes"][0]["status"]),
        (&json!("done"), &json!("success")),
        "{end}"
    );
    let bytes: Vec<_> = seen
        .iter()
        .map(|job| job["completed"].as_u64().unwrap())
        .collect();
    assert!(bytes.is_sorted(), "{bytes:?}");
    let some = bytes.iter().filter(|bytes| **bytes > 0 && **bytes < SIZE);
    assert!(some.count() >= 1, "progress on the way: {bytes:?}");

    // who has seen the end is told to stay away
    let lines = format!(
        "Authorization: Bearer {}\r\nLast-Event-ID: {}\r\n",
        stack.token,
        last.unwrap()
    );
    assert_eq!(stack.send("GET", &path, &lines, "").await.status, 204);
}

async fn a_cancelled_job_ends_at_the_node(kind: Kind) {
    let (stack, node) = (Stack::start(kind).await, puller(1e3).await);
    stack.register("gpu-1", &node).await;
    let id = queue(&stack, json!({"model": "moa"})).await;
    until("the node pulls", || async { open_pulls(&node) == 1 }).await;
    let path = format!("/api/proxy/jobs/{id}/cancel");
    let asked = stack.api("POST", &path, Value::Null).await;
    assert_eq!(
        (asked.status, &asked.json()["cancel_requested"]),
        (200, &json!(true))
    );
    is_in_state(&stack, id, "cancelled").await;
    until("the node has stopped", || async { open_pulls(&node) == 0 }).await;
    assert!(!has(&node, "moa"));
    let end = job(&stack, id).await;
    assert_eq!(end["nodes"][0]["status"], "cancelled", "{end}");
    let again = stack.api("POST", &path, Value::Null).await.json();
    assert_eq!(
        again["version"], end["version"],
        "an ended job stays as it is"
    );
}

async fn a_node_that_is_away_is_a_line_and_not_the_end(kind: Kind) {
    let stack = Stack::start(kind).await;
    let (good, away) = (puller(f64::INFINITY).await, puller(f64::INFINITY).await);
    stack.register("good", &good).await;
    stack.register("away", &away).await;
    away.stop().await;
    let answer = stack
        .api("POST", "/api/proxy/pull", json!({"model": "moa"}))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let results = answer.json()["results"].clone();
    assert_eq!(
        (&results[0]["status"], &results[1]["status"]),
        (&json!("success"), &json!("error")),
        "{results}"
    );
    assert_ne!(results[1]["message"], "", "{results}");
    let id = answer.json()["job_id"].as_i64().unwrap();
    let end = job(&stack, id).await;
    assert_eq!(end["state"], "failed");
    assert!(
        end["error"]
            .as_str()
            .unwrap()
            .starts_with("failed at 1 of 2 nodes: "),
        "{end}"
    );
}

async fn never_more_pulls_go_on_than_allowed(kind: Kind) {
    let stack = Stack::start(kind).await;
    let mut nodes = Vec::new();
    for number in 0..4 {
        let node = puller(80e6).await;
        stack.register(&format!("gpu-{number}"), &node).await;
        nodes.push(node);
    }
    let jobs = [
        queue(&stack, json!({"model": "moa"})).await,
        queue(&stack, json!({"model": "kiwi"})).await,
    ];
    let mut most = 0;
    until("both have ended", || {
        let open: Vec<_> = nodes.iter().map(open_pulls).collect();
        let all: usize = open.iter().sum();
        assert!(open.iter().all(|at_one| *at_one <= 1), "{open:?}");
        assert!(all <= 3, "{open:?}");
        most = most.max(all);
        async {
            let (one, two) = (job(&stack, jobs[0]).await, job(&stack, jobs[1]).await);
            one["state"] == "done" && two["state"] == "done"
        }
    })
    .await;
    assert!(most >= 2, "several went on at once");
    for node in &nodes {
        assert!(has(node, "moa") && has(node, "kiwi"));
    }
}

#[tokio::test]
async fn a_job_goes_on_when_the_control_plane_dies_and_comes_back_and_no_request_fails() {
    let (_other, mut stack, _) = house(Kind::Many).await;
    let node = puller(20e6).await;
    stack.register("gpu-2", &node).await;
    let traffic = Traffic::start(stack.aivonx.addr);
    let id = queue(&stack, json!({"model": "moa", "node_ids": [2]})).await;
    until("the node pulls", || async { open_pulls(&node) == 1 }).await;
    stack.apart.as_mut().unwrap().kill_control();
    traffic.flows().await;
    let apart = stack.apart.as_mut().unwrap();
    apart.restart_control();
    traffic.flows().await;
    is_in_state(&stack, id, "done").await;
    assert!(has(&node, "moa"));
    assert_eq!(
        node.count("/api/pull"),
        1,
        "it went on without the control plane"
    );
    traffic.end().await;
}
