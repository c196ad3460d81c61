//! The predecessor's acceptance list (predecessor-api.md §10), without pages and logs, which come with the
//! console.

use serde_json::{Value, json};

use super::{house, node, on_both};
use crate::support::{Kind, Stack, chat, get, post, until};

on_both!(
    the_heartbeat_tells_how_the_fleet_is,
    nodes_are_made_read_changed_and_taken_out,
    lists_come_in_parts_and_with_the_wanted_fields,
    the_state_and_the_load_have_the_predecessors_keys,
    the_strategy_is_read_and_changed,
    a_login_takes_either_pair_of_names,
    inference_and_lists_go_on_as_before,
);

async fn the_heartbeat_tells_how_the_fleet_is(kind: Kind) {
    let stack = Stack::start(kind).await;
    let health = get(stack.aivonx.addr, "/api/health").await;
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok"}))
    );
    let none = get(stack.aivonx.addr, "/api/proxy").await;
    assert_eq!(
        (none.status, none.json()["error"].clone()),
        (503, json!("no proxy nodes configured"))
    );

    let sim = node().await;
    stack.register("gpu-1", &sim).await;
    until("the node is healthy", || async {
        get(stack.aivonx.addr, "/api/proxy").await.status == 200
    })
    .await;
    assert_eq!(
        get(stack.aivonx.addr, "/api/proxy").await.text(),
        "Ollama is running"
    );
    assert!(get(stack.aivonx.addr, "/api/version").await.json()["version"].is_string());

    sim.stop().await;
    until("its outage is seen", || async {
        get(stack.aivonx.addr, "/api/proxy").await.status == 404
    })
    .await;
    let down = get(stack.aivonx.addr, "/api/proxy").await;
    assert_eq!(down.json()["error"], "no healthy nodes available");
    // health is no intent: who reads and writes during an outage changes nothing
    let read = stack.api("GET", "/api/proxy/nodes/1", Value::Null).await;
    assert_eq!(
        (&read.json()["active"], &read.json()["health"]),
        (&json!(true), &json!("down"))
    );
    let written = stack.api("PUT", "/api/proxy/nodes/1", read.json()).await;
    assert_eq!(
        (written.status, &written.json()["version"]),
        (200, &json!(1)),
        "{}",
        written.text()
    );
}

async fn nodes_are_made_read_changed_and_taken_out(kind: Kind) {
    let (sim, stack) = (node().await, Stack::start(kind).await);
    let (host, port) = (sim.addr().ip().to_string(), sim.addr().port());
    let draft = json!({"name": "CPU", "address": host, "port": port, "active": true});
    let made = stack.api("POST", "/api/proxy/nodes", draft).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    for key in ["id", "name", "address", "port", "active", "created_at"] {
        assert!(!made[key].is_null(), "{key}: {made}");
    }
    let path = format!("/api/proxy/nodes/{}", made["id"]);
    let read = stack.api("GET", &path, Value::Null).await;
    assert_eq!((read.status, &read.json()["port"]), (200, &json!(port)));
    let etag = read.header("etag").unwrap().to_owned();

    let changed = stack.api("PATCH", &path, json!({"weight": 3})).await;
    assert_eq!(
        (changed.status, &changed.json()["weight"]),
        (200, &json!(3))
    );
    // who read it before may not undo what happened since
    let lines = format!(
        "Authorization: Bearer {}\r\nContent-Type: application/json\r\nIf-Match: {etag}\r\n",
        stack.token
    );
    let late = stack.send("PATCH", &path, &lines, r#"{"weight":9}"#).await;
    assert_eq!(late.status, 412, "{}", late.text());
    assert_eq!(
        stack.api("GET", &path, Value::Null).await.json()["weight"],
        3
    );

    let put = json!({"name": "CPU 2", "address": format!("{host}:{port}"), "port": 0});
    let put = stack.api("PUT", &path, put).await;
    assert_eq!(
        (put.status, &put.json()["name"]),
        (200, &json!("CPU 2")),
        "{}",
        put.text()
    );
    assert_eq!(stack.api("DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(stack.api("GET", &path, Value::Null).await.status, 404);
    assert_eq!(
        stack
            .api_as("", "GET", "/api/proxy/nodes", Value::Null)
            .await
            .status,
        401
    );
    let audit = stack
        .api("GET", "/api/proxy/audit?kind=node", Value::Null)
        .await
        .json();
    let actions: Vec<_> = audit["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].clone())
        .collect();
    assert_eq!(actions, ["delete", "update", "update", "create"]);
}

async fn lists_come_in_parts_and_with_the_wanted_fields(kind: Kind) {
    let stack = Stack::start(kind).await;
    for number in 0..3 {
        let draft =
            json!({"name": format!("n{number}"), "address": "127.0.0.1", "port": 9 + number});
        assert_eq!(
            stack.api("POST", "/api/proxy/nodes", draft).await.status,
            201
        );
    }
    let part = stack
        .api(
            "GET",
            "/api/proxy/nodes?limit=2&fields=id,name,nosuch",
            Value::Null,
        )
        .await
        .json();
    assert_eq!(part["count"], 3);
    assert_eq!(part["results"][0].as_object().unwrap().len(), 2);
    assert_eq!(part["previous"], Value::Null);
    let next = part["next"].as_str().unwrap();
    let path = &next[next.find("/api").unwrap()..];
    let rest = stack.api("GET", path, Value::Null).await.json();
    assert_eq!(
        (&rest["results"][0]["name"], &rest["next"]),
        (&json!("n2"), &Value::Null)
    );
    let sorted = stack
        .api("GET", "/api/proxy/nodes?sort=-name&name=N", Value::Null)
        .await
        .json();
    assert_eq!(sorted["results"][0]["name"], "n2");
}

async fn the_state_and_the_load_have_the_predecessors_keys(kind: Kind) {
    let (sim, stack, id) = house(kind).await;
    until("the data plane reports the node", || async {
        let state = stack
            .api("GET", "/api/proxy/state", Value::Null)
            .await
            .json();
        state["active"] == json!([sim.url()])
            && state["models"][sim.url()] == json!(["tiny:latest"])
    })
    .await;
    let state = stack
        .api("GET", "/api/proxy/state", Value::Null)
        .await
        .json();
    for key in [
        "active",
        "standby",
        "node_id_map",
        "latencies",
        "active_counts",
        "models",
    ] {
        assert!(!state[key].is_null(), "{key}: {state}");
    }
    assert_eq!(state["planes"][0]["stale"], false);
    let load = stack
        .api(
            "GET",
            &format!("/api/proxy/active-requests?node_id={id}"),
            Value::Null,
        )
        .await
        .json();
    let node = &load["nodes"][0];
    assert_eq!(
        (&node["status"], &node["active_requests"]),
        (&json!("active"), &json!(0)),
        "{load}"
    );
    assert_eq!(load["total_active_requests"], 0);
    let bad = stack
        .api("GET", "/api/proxy/active-requests?node_id=x", Value::Null)
        .await;
    assert_eq!(
        (bad.status, &bad.json()["error"]),
        (400, &json!("invalid node_id: must be an integer"))
    );
    let unknown = stack
        .api("GET", "/api/proxy/active-requests?node_id=99", Value::Null)
        .await;
    assert_eq!(
        (unknown.status, &unknown.json()["error"]),
        (404, &json!("node not found: 99"))
    );
    for path in [
        "/api/proxy/state",
        "/api/proxy/active-requests",
        "/api/proxy/models",
        "/api/proxy/planes",
    ] {
        assert_eq!(
            stack.api_as("", "GET", path, Value::Null).await.status,
            401,
            "{path}"
        );
    }
}

async fn the_strategy_is_read_and_changed(kind: Kind) {
    let stack = Stack::start(kind).await;
    let path = "/api/proxy/config";
    assert_eq!(
        stack.api("GET", path, Value::Null).await.json()["strategy"],
        "least_active"
    );
    let put = stack
        .api("PUT", path, json!({"strategy": "lowest_latency"}))
        .await;
    assert_eq!(
        (put.status, &put.json()["strategy"]),
        (200, &json!("lowest_latency"))
    );
    assert_eq!(
        stack.api("GET", path, Value::Null).await.json()["strategy"],
        "lowest_latency"
    );
    let bad = stack
        .api("PATCH", path, json!({"strategy": "fastest"}))
        .await;
    assert_eq!(
        (bad.status, bad.json()["strategy"].is_array()),
        (400, true),
        "{}",
        bad.text()
    );
    assert_eq!(stack.api("PUT", path, json!({})).await.status, 200);
    assert_eq!(stack.api_as("", "GET", path, Value::Null).await.status, 401);
}

async fn a_login_takes_either_pair_of_names(kind: Kind) {
    let stack = Stack::start(kind).await;
    let path = "/api/account/login";
    let old = json!({"account": "root", "passwd": "correct horse battery"});
    let old = stack.api_as("", "POST", path, old).await;
    assert!(
        old.json()["access"].is_string() && old.json()["refresh"].is_string(),
        "{}",
        old.text()
    );
    let form = "username=root&password=correct+horse+battery";
    let lines = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(stack.send("POST", path, lines, form).await.status, 200);
    let missing = stack
        .api_as("", "POST", path, json!({"username": "root"}))
        .await;
    assert_eq!(
        (missing.status, &missing.json()["detail"]),
        (400, &json!("Missing credentials."))
    );
    let wrong = stack
        .api_as(
            "",
            "POST",
            path,
            json!({"username": "root", "password": "guess"}),
        )
        .await;
    assert_eq!(
        (wrong.status, &wrong.json()["detail"]),
        (401, &json!("Invalid credentials."))
    );
}

async fn inference_and_lists_go_on_as_before(kind: Kind) {
    let (sim, stack, _) = house(kind).await;
    for path in ["/api/generate", "/api/chat"] {
        let answer = post(stack.aivonx.addr, path, &chat("tiny", 3, false)).await;
        assert_eq!(
            (answer.status, answer.node()),
            (200, "gpu-1"),
            "{path}: {}",
            answer.text()
        );
    }
    assert_eq!(
        get(stack.aivonx.addr, "/api/tags").await.json()["models"][0]["name"],
        "tiny:latest"
    );
    drop(sim);
}
