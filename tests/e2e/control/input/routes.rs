//! Every route of the API, from the document that the program serves, with everything that can be wrong
//! with a request: a client's fault is told as one, by a problem with words, and is never ours.

use serde_json::{Map, Value, json};

use super::super::{node, on_both};
use crate::support::{Client, Kind, Response, Stack};

on_both!(whatever_is_wrong_is_told_as_the_callers_fault);

/// What no field can be, and what some can be and others cannot.
fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(-1),
        json!(0),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!("x".repeat(5_000)),
        json!("a\u{0}b"),
        json!("\u{7}"),
        json!("\u{202e}<script>alert(1)</script>'; DROP TABLE users; --"),
        json!([]),
        json!({}),
        json!([null]),
        json!({"a": {"b": 1}}),
    ]
}

/// Bodies that are no draft at all, or a strange one.
fn odd_bodies() -> Vec<String> {
    let mut bodies = [
        "null",
        "[]",
        "\"x\"",
        "1",
        "{",
        "{\"a\":",
        "\u{0}",
        "{\"nosuch\":1}",
    ]
    .map(str::to_owned)
    .to_vec();
    bodies.push("{\"name\":1,\"name\":2}".to_owned());
    bodies.push("[".repeat(5_000));
    bodies.push(format!("{}1{}", "{\"a\":".repeat(300), "}".repeat(300)));
    bodies
}

/// What names nothing.
const ODD_IDS: [&str; 8] = [
    "0",
    "-1",
    "abc",
    "99999999999999999999",
    "9223372036854775807",
    "1'--",
    "%F0%9F%98%80",
    "nosuch:1",
];

/// Values of a query that some parameters cannot have.
const ODD_QUERIES: [&str; 10] = [
    "",
    "-1",
    "99999999999999999999",
    "abc",
    "%00",
    "%ff",
    "'%3BDROP%20TABLE",
    "1e9",
    "-,--",
    "null",
];

const JSON: &str = "Content-Type: application/json\r\n";

/// One operation of the API.
struct Operation {
    method: String,
    path: String,
    /// Names of its body's fields.
    fields: Vec<String>,
    /// Names in its query.
    query: Vec<String>,
    has_body: bool,
}

fn resolved<'a>(schema: &'a Value, part: &'a Value) -> &'a Value {
    match part["$ref"].as_str() {
        Some(reference) => {
            let name = reference.rsplit('/').next().unwrap();
            &schema["components"]["schemas"][name]
        }
        None => part,
    }
}

fn fields_of(schema: &Value, operation: &Value) -> Vec<String> {
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let parts = body["allOf"].as_array().cloned();
    let parts = parts.unwrap_or_else(|| vec![body.clone()]);
    let mut names: Vec<String> = parts
        .iter()
        .filter_map(|part| resolved(schema, part)["properties"].as_object())
        .flat_map(Map::keys)
        .cloned()
        .collect();
    names.sort();
    names.dedup();
    names
}

async fn operations(stack: &Stack) -> Vec<Operation> {
    let schema = stack
        .send("GET", "/api/schema?format=json", "", "")
        .await
        .json();
    let mut found = Vec::new();
    for (path, item) in schema["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().cloned();
            let query = parameters.unwrap_or_default();
            let query = query.iter().filter(|one| one["in"] == "query");
            found.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                fields: fields_of(&schema, operation),
                query: query
                    .map(|one| one["name"].as_str().unwrap().to_owned())
                    .collect(),
                has_body: !operation["requestBody"].is_null(),
            });
        }
    }
    found
}

/// Who sends all of it, on one connection.
struct Caller<'a> {
    stack: &'a Stack,
    client: Client,
    sent: u32,
}

impl Caller<'_> {
    async fn send(&mut self, operation: &Operation, path: &str, kind: &str, body: &str) {
        let (method, length) = (&operation.method, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{kind}Content-Length: {length}\r\n\r\n{body}",
            self.stack.token
        );
        self.client.send(request).await;
        let Some(answer) = self.client.response_to(method).await else {
            panic!("no answer: {method} {path} {}", cut(body));
        };
        self.sent += 1;
        judge(&answer, &format!("{method} {path} {kind}{}", cut(body)));
        let closes = answer.header("connection").is_some_and(|it| it == "close");
        if closes || answer.status == 413 {
            self.client = Client::connect(self.stack.aivonx.addr).await;
        }
    }
}

fn cut(body: &str) -> String {
    body.chars().take(120).collect()
}

/// Done, or refused with words. A 503 says that a data plane cannot be asked, or that no node is there.
fn judge(answer: &Response, what: &str) {
    assert!(
        answer.status < 500 || answer.status == 503,
        "{what}: {} {}",
        answer.status,
        answer.text()
    );
    let is_problem = answer.header("content-type") == Some("application/problem+json");
    if answer.status < 400 || !is_problem {
        // the front door's own 404 is Ollama's
        let is_known = answer.status < 404 || matches!(answer.status, 404 | 503);
        assert!(is_known, "{what}: {} {}", answer.status, answer.text());
        return;
    }
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{what}");
    for key in ["title", "detail", "error"] {
        let words = problem[key].as_str().unwrap_or_default();
        assert!(!words.is_empty(), "{what}: {problem}");
    }
}

/// What ends or hides the caller itself, and what never ends.
fn is_left_out(operation: &Operation) -> bool {
    operation.path.ends_with("/events") || operation.path == "/api/account/logout"
}

async fn whatever_is_wrong_is_told_as_the_callers_fault(kind: Kind) {
    let (sim, stack) = (node().await, Stack::start(kind).await);
    stack.register("gpu-1", &sim).await;
    for (path, draft) in [
        ("/api/proxy/keys", json!({"key_id": "ci"})),
        (
            "/api/account/users",
            json!({"name": "vera", "password": "correct horse two"}),
        ),
    ] {
        assert_eq!(stack.api("POST", path, draft).await.status, 201);
    }
    let client = Client::connect(stack.aivonx.addr).await;
    let mut caller = Caller {
        stack: &stack,
        client,
        sent: 0,
    };
    for operation in operations(&stack).await {
        if is_left_out(&operation) {
            continue;
        }
        // root is user 1 and has to stay who it is
        let mine = if operation.path.contains("users") {
            "2"
        } else {
            "1"
        };
        let path = operation.path.replace("{id}", mine);
        if operation.path.contains("{id}") {
            for id in ODD_IDS {
                let path = operation.path.replace("{id}", id);
                let body = if operation.has_body { "{}" } else { "" };
                caller.send(&operation, &path, JSON, body).await;
            }
        }
        for name in operation.query.iter().map(String::as_str).chain(["nosuch"]) {
            for value in ODD_QUERIES {
                // a job that is made waits for nobody, but a pull does
                if operation.method == "GET" {
                    let path = format!("{path}?{name}={value}");
                    caller.send(&operation, &path, "", "").await;
                }
            }
        }
        if !operation.has_body {
            continue;
        }
        for body in odd_bodies() {
            caller.send(&operation, &path, JSON, &body).await;
        }
        for kind in ["", "Content-Type: text/csv\r\n"] {
            caller.send(&operation, &path, kind, "{}").await;
        }
        let long = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
        caller.send(&operation, &path, JSON, &long).await;
        if operation.path.ends_with("/login") || operation.path.ends_with("/session") {
            continue; // throttled after a few; first_start and accounts hold it to its words
        }
        for field in &operation.fields {
            for value in odd_values() {
                let body = json!({ field.as_str(): value }).to_string();
                caller.send(&operation, &path, JSON, &body).await;
            }
        }
    }
    assert!(caller.sent > 1_500, "only {} were sent", caller.sent);
    let log = stack.aivonx.log();
    assert!(
        !log.contains("\"ERROR\"") && !log.contains("panicked"),
        "{log}"
    );
}
