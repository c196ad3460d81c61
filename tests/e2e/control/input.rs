//! Bad input: a reason and the right status, never a 500.

mod routes;
mod texts;

use serde_json::{Value, json};

use super::on_both;
use crate::support::{Kind, Stack};

on_both!(bad_bodies_are_answered_by_field, forged_tokens_open_nothing,);

async fn bad_bodies_are_answered_by_field(kind: Kind) {
    let stack = Stack::start(kind).await;
    let nodes = "/api/proxy/nodes";
    for (body, field) in [
        (json!({"name": "a"}), "address"),
        (json!({"url": "http://h:1"}), "name"),
        (json!({"name": 5, "url": "http://h:1"}), "name"),
        (json!({"name": "a", "url": "ftp://h"}), "url"),
        (
            json!({"name": "a", "url": "http://h:1", "colour": "red"}),
            "colour",
        ),
        (
            json!({"name": "x".repeat(500), "url": "http://h:1"}),
            "name",
        ),
        (
            json!({"name": "a", "url": "http://h:1", "weight": 0}),
            "weight",
        ),
        (json!({"name": "a", "address": "h", "port": 70000}), "port"),
        (json!([1]), "non_field_errors"),
    ] {
        let answer = stack.api("POST", nodes, body.clone()).await;
        assert_eq!(
            (answer.status, answer.json()[field].is_array()),
            (400, true),
            "{body}: {}",
            answer.text()
        );
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    let hostile = "<script>alert(1)</script>'; DROP TABLE nodes; --";
    let made = stack
        .api("POST", nodes, json!({"name": hostile, "url": "http://h:1"}))
        .await;
    assert_eq!(
        (made.status, &made.json()["name"]),
        (201, &json!(hostile)),
        "{}",
        made.text()
    );
    let twice = stack
        .api("POST", nodes, json!({"name": hostile, "url": "http://h:2"}))
        .await;
    assert_eq!(
        (twice.status, twice.json()["name"].is_array()),
        (409, true),
        "{}",
        twice.text()
    );

    let bearer = format!("Authorization: Bearer {}\r\n", stack.token);
    let json = format!("{bearer}Content-Type: application/json\r\n");
    for (lines, body, status) in [
        (json.as_str(), "{\"name\":", 400),
        (json.as_str(), "\u{0}", 400),
        (&format!("{bearer}Content-Type: text/plain\r\n"), "{}", 415),
    ] {
        let answer = stack.send("POST", nodes, lines, body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    let long = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(stack.send("POST", nodes, &json, &long).await.status, 413);
    for path in [
        "/api/proxy/nodes/abc",
        "/api/proxy/nodes/99999999999999999999",
        "/api/proxy/nodes/-1",
        "/api/proxy/nosuch",
    ] {
        assert_eq!(
            stack.api("GET", path, Value::Null).await.status,
            404,
            "{path}"
        );
    }
    assert_eq!(
        stack
            .api("GET", "/api/proxy/nodes?enabled=perhaps", Value::Null)
            .await
            .status,
        400
    );
    assert_eq!(stack.api("PATCH", nodes, json!({})).await.status, 405);
}

async fn forged_tokens_open_nothing(kind: Kind) {
    let stack = Stack::start(kind).await;
    let parts: Vec<&str> = stack.token.split('.').collect();
    let none = "eyJhbGciOiJub25lIn0"; // {"alg":"none"}
    for forged in [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(43)),
        parts[0].to_owned(),
        "avp_".to_owned() + &"A".repeat(43),
        "ollama".to_owned(),
    ] {
        let answer = stack
            .api_as(&forged, "GET", "/api/proxy/nodes", Value::Null)
            .await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (401, &json!("token_not_valid")),
            "{forged}"
        );
        assert!(answer.header("www-authenticate").is_some());
    }
}
